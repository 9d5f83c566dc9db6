package timeout

import (
	"fmt"
	"time"

	"github.com/earnorm/poolstack/pool/settings"
)

// The defaults for a Limit of 0. defaultTotal holds for callers without a deadline. defaultAttempt
// is the minimum for an attempt.
const (
	defaultTotal   = 10 * time.Second
	defaultAttempt = 3 * time.Second
)

// Config holds the settings of a [Timeout]. The zero Config is valid.
type Config struct {
	// For NewTotal, Limit is the maximum time of a use, including waits and pauses. For NewAttempt,
	// Limit is the maximum time of an attempt, counted from the acquisition of the resource. In a
	// two-step use, Limit bounds the acquisition. Negative: only the deadline of the context holds.
	//
	// 0 means a default that depends on the caller. For NewTotal, the default is the deadline of the
	// caller's context, or 10 s without a deadline. For NewAttempt, the default is 3 s, or half of the
	// time until the caller's deadline if this is more. The default for NewAttempt holds only for
	// operations known to be quick. An attempt of any other operation has all of the remaining time of
	// the use. See Slow operations in the documentation of this package.
	Limit time.Duration

	// MinLeft is the minimum time until the deadline of the context at the beginning of the use or
	// attempt. With less time, the layer returns [ErrNoTime] at once, before a resource is acquired. 0
	// means that only a passed deadline is rejected. MinLeft must be less than Limit, if Limit is
	// positive.
	MinLeft time.Duration
}

// The lists of the settings of both layers, and of a Config without a layer.
var (
	configSpec  = newSpec("timeout", "a default that depends on the caller")
	totalSpec   = newSpec("timeout.total", "the deadline of the caller, or 10s without a deadline")
	attemptSpec = newSpec("timeout.attempt", "half of the time until the deadline of the caller, at least 3s, and no limit for slow operations")
)

// newSpec lists the settings of a layer. zero says what a Limit of 0 means.
func newSpec(layer, zero string) *settings.Spec[Config] {
	return &settings.Spec[Config]{Layer: layer, Fields: []settings.Entry[Config]{
		settings.Duration(func(c *Config) *time.Duration { return &c.Limit }, settings.Field{
			Go: "Limit", Allowed: "negative (off), 0 (automatic) or more", Zero: zero, ZeroText: "automatic", Off: "only the deadline of the caller holds",
			Help: "The maximum time.",
		}),
		settings.Duration(func(c *Config) *time.Duration { return &c.MinLeft }, settings.Field{
			Go: "MinLeft", Allowed: "0 (any time left will do) or more, and less than Limit", Off: "any time left will do", OffIsZero: true,
			Help: "The minimum time until the deadline of the caller at the beginning. With less time the use is refused.",
		}),
	}}
}

// Validate returns an error naming each invalid field, its value and the allowed values. Validate
// returns nil if all fields are valid. The error joins a *[settings.FieldError] for each field.
func (c Config) Validate() error { return c.validate(configSpec) }

// validate implements Validate. The errors begin with the name in spec.
func (c Config) validate(spec *settings.Spec[Config]) error {
	return spec.Validate(c, settings.Rule{
		Field: "MinLeft", OK: c.Limit <= 0 || c.MinLeft < c.Limit, Allowed: fmt.Sprintf("less than Limit, which is %v", c.Limit),
	})
}
