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
	defaultOpenShare       = 5 // of MaxSize: a large pool whose connections were all cut is open again after five dials in a row
	defaultOpenBackoff     = 500 * time.Millisecond
	defaultCheckAfter      = time.Second
	defaultCheckTimeout    = time.Second
)

// Config says how a pool behaves. The zero Config works. It is a plain value: copy it, change the copy, give it to [New] or
// [Pool.Configure].
type Config struct {
	// Name is the pool's name in telemetry and errors. "" takes the name the driver suggests, else "system address:port/namespace", else
	// "pool". While an open pool of this process has the name, New appends a number: "cache~2" is the second pool called "cache".
	// [Pool.Identity] returns the name in use. It cannot be changed by Configure.
	Name string

	// MaxSize bounds the resources that exist at any time, those being opened and closed included. 0 means 10, or the
	// size that the driver knows ([Sizer]).
	MaxSize int
	// MinIdle is how many idle resources the pool keeps ready, as far as MaxSize allows. 0 means none.
	MinIdle int
	// MaxWaiters bounds the borrowers that wait for a resource somebody else holds; one more is refused at once with [ErrExhausted].
	// Those who only wait for a resource to be opened or checked are not counted. 0 means no bound; negative: nobody waits.
	MaxWaiters int
	// AcquireTimeout bounds the wait for a resource; the context's deadline bounds it as well. It is kept to within a millisecond.
	// 0 means 2 s, and more for a caller with a deadline: two thirds of the time until then, if that is more. So does 2 s. Negative: only
	// the context. A use that has waited in vain because all resources were lent is not repeated by retry.
	AcquireTimeout time.Duration

	// OpenTimeout bounds the opening of one resource. 0 means 5 s.
	OpenTimeout time.Duration
	// OpenConcurrency bounds how many resources are opened at the same time, not counting calls of Open that are late while later ones have
	// succeeded, and those that have not returned when OpenTimeout had passed. 0 means a fifth of MaxSize, at least 4 and at most 16, while
	// the pool recovers: a call of Open has failed or is late, or a resource has broken in the last OpenTimeout. Else a growing pool opens
	// as many at the same time as borrowers wait for, up to MaxSize. So does the number that 0 stands for.
	OpenConcurrency int
	// OpenBackoff bounds the pause before the next try to open after tries have failed; pauses grow towards it from a 32nd of it.
	// 0 means 500 ms.
	OpenBackoff time.Duration

	// MaxLifetime is the age at which a resource is closed, less up to 10 % that each draws when it is opened, so that resources opened
	// together do not end together. 0 means no bound.
	MaxLifetime time.Duration
	// MaxIdleTime is how long a resource beyond MinIdle may lie idle before it is closed. 0 means no bound.
	MaxIdleTime time.Duration

	// CheckAfter is how long a resource may lie idle and still be lent without a check. 0 means 1 s; values below the 10 ms
	// step of the pool's clock mean that every resource is checked; negative: none is. A borrower whose deadline leaves less than four
	// times what checks lately took gets the resource without a check: the check would cost the time that the use needs.
	CheckAfter time.Duration
	// CheckTimeout bounds each check, reset and close of a resource. 0 means 1 s.
	CheckTimeout time.Duration
	// KeepAlive is the time after which idle resources are checked in the background, one after the other. 0 means never.
	KeepAlive time.Duration

	// LeakAfter is how long a resource may be lent before it is reported as leaked, with the stack of its borrower; recording the stack
	// costs about a microsecond a use. 0 means never.
	LeakAfter time.Duration
}

// Validate returns an error that names every field that is out of range, its value and what is allowed; nil when there is none.
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

// defaultOpens is the default of OpenConcurrency.
func defaultOpens(size int) int {
	return min(max(defaultOpenConcurrency, size/defaultOpenShare), largestDefaultOpen)
}

// withDefaults returns c with every 0 that stands for a default replaced by it.
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
