package pool

import (
	"fmt"
	"time"

	"github.com/earnorm/poolstack/pool/settings"
)

// Defaults of [Config].
const (
	defaultMaxSize         = 10
	defaultAcquireTimeout  = 2 * time.Second
	defaultOpenTimeout     = 5 * time.Second
	defaultOpenConcurrency = 4
	largestDefaultOpen     = 16
	// A fifth of MaxSize: if all connections of a large pool are cut, five dials in a row restore the
	// pool.
	defaultOpenShare    = 5
	defaultOpenBackoff  = 500 * time.Millisecond
	defaultCheckAfter   = time.Second
	defaultCheckTimeout = time.Second
)

// Config configures a pool. The zero Config is ready for use. A Config is a plain value: copy the
// Config, change the copy, and pass the copy to [New] or [Pool.Configure].
type Config struct {
	// Name is the name of the pool in telemetry and errors. "" means the name suggested by the driver.
	// Without a suggestion, New makes the name from the [driver.Identity]: "system
	// address:port/namespace". "pool" stands for an unknown system. If an open pool of this process
	// already has the name, New appends a number: "cache~2" is the second pool with the name "cache".
	// [Pool.Identity] returns the final name. Configure cannot change the name.
	Name string

	// MaxSize bounds the number of resources at any time. Resources being opened or closed count. 0
	// means 10, or the size given by the driver ([driver.Sizer]).
	MaxSize int
	// MinIdle is the number of idle resources kept ready by the pool, as far as MaxSize allows. 0
	// means none.
	MinIdle int
	// MaxWaiters bounds the number of borrowers that wait for a resource lent to another borrower.
	// Further borrowers get [ErrExhausted] at once. Borrowers that only wait for a dial or a check do
	// not count. 0 means no bound. A negative value means no waiting for other borrowers.
	MaxWaiters int
	// AcquireTimeout bounds the wait for a resource, to within a millisecond. The deadline of the
	// context bounds the wait as well. 0 means 2 s. For a caller with a deadline, 0 means two thirds
	// of the time until the deadline, if that is more than 2 s. The explicit value 2 s has the same
	// meaning as 0. A negative value means no bound except the context. If a use has waited in vain
	// because all resources were lent, retry does not repeat the use.
	AcquireTimeout time.Duration

	// OpenTimeout bounds each dial. 0 means 5 s.
	OpenTimeout time.Duration
	// OpenConcurrency bounds the number of concurrent dials. Two kinds of dials do not count: dials
	// that are late while a later dial has succeeded, and dials that have not returned after
	// OpenTimeout.
	//
	// 0 means a fifth of MaxSize, at least 4 and at most 16, while the pool recovers. The pool
	// recovers while a dial is late, or if a use has broken a resource within the last OpenTimeout.
	// Otherwise 0 means no bound but MaxSize: a growing pool begins a dial for each waiting borrower.
	// An explicit value equal to this default has the same meaning as 0. While dials fail, the pool
	// makes a single dial at a time beside the late dials, whatever the value.
	OpenConcurrency int
	// OpenBackoff bounds the pause before the next dial after failed dials. The pauses grow from 1/32
	// of OpenBackoff up to OpenBackoff. 0 means 500 ms.
	OpenBackoff time.Duration

	// MaxLifetime is the age at which a resource is closed. Each resource draws a random reduction of
	// up to 10 % when it is opened, so resources opened together are not closed together. 0 means no
	// bound.
	MaxLifetime time.Duration
	// MaxIdleTime is the time after which an idle resource beyond MinIdle is closed. 0 means no bound.
	MaxIdleTime time.Duration

	// CheckAfter is the idle time up to which a resource is lent without a check. 0 means 1 s. The
	// clock of the pool has steps of 10 ms: with a value below 10 ms the pool checks every resource
	// before a lease. A negative value means no checks before a lease.
	//
	// A borrower with little time gets the resource without a check, unless another resource has
	// broken in the meantime. The check would cost time needed by the use. Little time is less than
	// four times the duration of recent checks.
	CheckAfter time.Duration
	// CheckTimeout bounds each check, reset and close of a resource. 0 means 1 s.
	CheckTimeout time.Duration
	// KeepAlive is the idle time after which resources are checked in the background, one resource
	// after the other. 0 means never.
	KeepAlive time.Duration

	// LeakAfter is the duration of a lease after which the lease is reported as leaked, with the stack
	// of the borrower. Recording the stack costs about a microsecond a use. 0 means never.
	LeakAfter time.Duration
}

// configSpec lists the settings of a pool without a size given by the driver.
var configSpec = newSpec(defaultMaxSize)

// specFor returns the list of settings of a pool. size is the size given by the driver, or 0.
func specFor(size int) *settings.Spec[Config] {
	if size == 0 {
		return configSpec
	}
	return newSpec(size)
}

// newSpec lists the settings of a pool. Name has no place in the list, because the name cannot
// change. size is the default of MaxSize.
func newSpec(size int) *settings.Spec[Config] {
	return &settings.Spec[Config]{Layer: "pool", Fields: []settings.Entry[Config]{
		settings.Int(func(c *Config) *int { return &c.MaxSize }, settings.Field{
			Go: "MaxSize", Unit: "resources", Allowed: fmt.Sprintf("0 (default %d) or more", size), Effect: "idle resources beyond the size are closed",
			Help: "The maximum number of resources.",
		}),
		settings.Int(func(c *Config) *int { return &c.MinIdle }, settings.Field{
			Go: "MinIdle", Unit: "resources", Allowed: "between 0 and MaxSize", Zero: "none",
			Help: "The number of idle resources kept ready.",
		}),
		settings.Int(func(c *Config) *int { return &c.MaxWaiters }, settings.Field{
			Go: "MaxWaiters", Unit: "borrowers", Allowed: "negative (no waiting), 0 (no bound) or more",
			Zero: "no bound", ZeroText: "unlimited", Off: "no borrower waits for another borrower",
			Help: "The maximum number of borrowers that wait for a resource lent to another borrower.",
		}),
		settings.Duration(func(c *Config) *time.Duration { return &c.AcquireTimeout }, settings.Field{
			Go: "AcquireTimeout", Allowed: "negative (no bound), 0 (default 2s) or more",
			Zero: "2s, or two thirds of the time until the deadline of the caller if that is more", Off: "only the deadline of the caller bounds the wait",
			Help: "The maximum wait for a resource. The explicit value 2s means the same as 0.",
		}),
		settings.Duration(func(c *Config) *time.Duration { return &c.OpenTimeout }, settings.Field{
			Go: "OpenTimeout", Allowed: "0 (default 5s) or more", Help: "The maximum time of a dial.",
		}),
		settings.Int(func(c *Config) *int { return &c.OpenConcurrency }, settings.Field{
			Go: "OpenConcurrency", Unit: "dials", Allowed: "0 (default: a fifth of MaxSize, from 4 to 16) or more",
			Zero: "a fifth of max_size, from 4 to 16, while the pool recovers; otherwise max_size",
			Help: "The maximum number of concurrent dials. An explicit value equal to the default means the same as 0.",
		}),
		settings.Duration(func(c *Config) *time.Duration { return &c.OpenBackoff }, settings.Field{
			Go: "OpenBackoff", Allowed: "0 (default 500ms) or more", Help: "The maximum pause after failed dials.",
		}),
		settings.Duration(func(c *Config) *time.Duration { return &c.MaxLifetime }, settings.Field{
			Go: "MaxLifetime", Allowed: "0 (no bound) or more", Off: "no bound", OffIsZero: true,
			Help: "The age at which a resource is closed.",
		}),
		settings.Duration(func(c *Config) *time.Duration { return &c.MaxIdleTime }, settings.Field{
			Go: "MaxIdleTime", Allowed: "0 (no bound) or more", Off: "no bound", OffIsZero: true,
			Help: "The time after which an idle resource beyond min_idle is closed.",
		}),
		settings.Duration(func(c *Config) *time.Duration { return &c.CheckAfter }, settings.Field{
			Go: "CheckAfter", Allowed: "negative (no checks), 0 (default 1s) or more", Off: "no checks before a lease",
			Help: "The idle time up to which a resource is lent without a check.",
		}),
		settings.Duration(func(c *Config) *time.Duration { return &c.CheckTimeout }, settings.Field{
			Go: "CheckTimeout", Allowed: "0 (default 1s) or more", Help: "The maximum time of a check, a reset or a close of a resource.",
		}),
		settings.Duration(func(c *Config) *time.Duration { return &c.KeepAlive }, settings.Field{
			Go: "KeepAlive", Allowed: "0 (never) or more", Off: "no checks in the background", OffIsZero: true,
			Help: "The idle time after which a resource is checked in the background.",
		}),
		settings.Duration(func(c *Config) *time.Duration { return &c.LeakAfter }, settings.Field{
			Go: "LeakAfter", Allowed: "0 (never) or more", Off: "leases are not watched", OffIsZero: true,
			Help: "The duration of a lease after which the lease is reported as leaked. Costs about a microsecond a use.",
		}),
	}}
}

// Validate returns an error with every field out of range, the value of the field, and the allowed
// range. Validate returns nil if all fields are valid. The error joins a *[settings.FieldError] for
// each field. Validate takes 10 for a MaxSize of 0; New knows the size given by the driver.
func (c Config) Validate() error { return c.validate(configSpec) }

func (c Config) validate(spec *settings.Spec[Config]) error {
	limit := c.withDefaults().MaxSize
	err := spec.Validate(c, settings.Rule{
		Field: "MinIdle", OK: c.MinIdle >= 0 && (c.MaxSize < 0 || c.MinIdle <= limit), Allowed: fmt.Sprintf("between 0 and MaxSize, which is %d", limit),
	})
	var errs []error
	for _, e := range settings.FieldErrors(err) {
		errs = append(errs, e)
	}
	return join(errs...)
}

// defaultOpens returns the default of OpenConcurrency.
func defaultOpens(size int) int {
	return min(max(defaultOpenConcurrency, size/defaultOpenShare), largestDefaultOpen)
}

// withDefaults returns c with the defaults in place of zero values.
func (c Config) withDefaults() Config {
	setDefault(&c.MaxSize, defaultMaxSize)
	setDefault(&c.AcquireTimeout, defaultAcquireTimeout)
	setDefault(&c.OpenTimeout, defaultOpenTimeout)
	setDefault(&c.OpenConcurrency, defaultOpens(c.MaxSize))
	setDefault(&c.OpenBackoff, defaultOpenBackoff)
	setDefault(&c.CheckAfter, defaultCheckAfter)
	setDefault(&c.CheckTimeout, defaultCheckTimeout)
	return c
}

func setDefault[V comparable](field *V, value V) {
	var zero V
	if *field == zero {
		*field = value
	}
}
