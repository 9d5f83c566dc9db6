package timeout

import (
	"errors"
	"fmt"
	"time"
)

// The limits that a Limit of 0 stands for: in total for callers without a deadline, and at least for an attempt.
const (
	defaultTotal   = 10 * time.Second
	defaultAttempt = 3 * time.Second
)

// Config says how long things may take. The zero Config works.
type Config struct {
	// Limit is the most that a use may take, all included (NewTotal), or that the server may take for an attempt, counted from when the
	// attempt has its resource (NewAttempt). Of a lease, Limit bounds the acquisition. Negative: only the context's own deadline counts.
	//
	// 0 leaves the time to the caller. For NewTotal: the deadline of the caller's context, or 10 s if the context has none. For NewAttempt:
	// 3 s, or half of the time until the caller's deadline if that is more, in operations that are known to be quick; an attempt of any other
	// operation has all of the time that is left of the use. See the package's part on slow operations.
	Limit time.Duration

	// MinLeft is how much time the context must have left when the use or attempt begins; with less it is refused at once with
	// [ErrNoTime], before it costs a resource. 0 means that it is refused only when the deadline has passed already.
	MinLeft time.Duration
}

// Validate returns an error that names every field that is out of range, its value and what is allowed; nil when there is none.
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
