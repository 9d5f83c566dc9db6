package timeout

import (
	"errors"
	"fmt"
	"time"
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
	// means that only a passed deadline is rejected.
	MinLeft time.Duration
}

// Validate returns an error naming each invalid field, its value and the allowed values. Validate
// returns nil if all fields are valid.
func (c Config) Validate() error {
	var errs []error
	if c.MinLeft < 0 {
		errs = append(errs, fmt.Errorf("timeout: MinLeft is %v: must be 0 (any time left will do) or more", c.MinLeft))
	}
	if c.Limit > 0 && c.MinLeft >= c.Limit {
		errs = append(errs, fmt.Errorf("timeout: MinLeft is %v: must be less than Limit, which is %v", c.MinLeft, c.Limit))
	}
	return errors.Join(errs...)
}
