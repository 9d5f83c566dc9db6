package pool

import (
	"fmt"
	"time"
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

// Validate returns an error with every field out of range, the value of the field, and the allowed
// range. Validate returns nil if all fields are valid.
func (c Config) Validate() error {
	var errs []error
	bad := func(field string, value any, allowed string) {
		errs = append(errs, fmt.Errorf("pool: %s is %v: must be %s", field, value, allowed))
	}
	atLeastZero := func(field string, value time.Duration, zero string) {
		if value < 0 {
			bad(field, value, "0 ("+zero+") or more")
		}
	}
	if c.MaxSize < 0 {
		bad("MaxSize", c.MaxSize, "0 (default 10) or more")
	}
	if limit := c.withDefaults().MaxSize; c.MinIdle < 0 || c.MaxSize >= 0 && c.MinIdle > limit {
		bad("MinIdle", c.MinIdle, fmt.Sprintf("between 0 and MaxSize, which is %d", limit))
	}
	if c.OpenConcurrency < 0 {
		bad("OpenConcurrency", c.OpenConcurrency, "0 (default: a fifth of MaxSize, from 4 to 16) or more")
	}
	atLeastZero("OpenTimeout", c.OpenTimeout, "default 5s")
	atLeastZero("OpenBackoff", c.OpenBackoff, "default 500ms")
	atLeastZero("MaxLifetime", c.MaxLifetime, "no bound")
	atLeastZero("MaxIdleTime", c.MaxIdleTime, "no bound")
	atLeastZero("CheckTimeout", c.CheckTimeout, "default 1s")
	atLeastZero("KeepAlive", c.KeepAlive, "never")
	atLeastZero("LeakAfter", c.LeakAfter, "never")
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
