package breaker

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/earnorm/poolstack/pool"
)

// ErrOpen is what every refusal by a breaker is, open or half-open: errors.Is(err, breaker.ErrOpen).
var ErrOpen = errors.New("circuit breaker is open")

// Why a breaker changes its state: the Reason of [pool.EventStateChanged].
const (
	ReasonFailureRatio = "failure_ratio"        // closed to open: Config.FailureRatio
	ReasonConsecutive  = "consecutive_failures" // closed to open: Config.ConsecutiveFailures
	ReasonPeriodOver   = "open_period_over"     // open to half-open
	ReasonLookPassed   = "look_passed"          // open to half-open, and at once to closed: the pool has reached its server again
	ReasonProbesPassed = "probes_succeeded"     // half-open to closed
	ReasonProbeFailed  = "probe_failed"         // half-open to open
	ReasonProbeTimeout = "probe_timeout"        // half-open to open: nothing was heard of a probe
)

// error.type of a refusal.
const (
	typeOpen     = "breaker_open"
	typeHalfOpen = "breaker_half_open"
)

// Trip is why a closed breaker opened.
type Trip struct {
	At        time.Time
	Rule      string        // ReasonFailureRatio or ReasonConsecutive
	Counts    Counts        // what the window held
	Window    time.Duration // how long it was
	Limit     float64       // the FailureRatio that was reached, or the number of failures in a row
	ErrorType string        // error.type of the failure that opened it
	Cause     string        // what that failure was, in a line: "dial tcp 10.0.0.7:6379: connect: connection refused"
}

// String says it in a sentence, with the figures. The zero Trip says that it is none.
func (t Trip) String() string {
	last := describe(t.ErrorType, t.Cause)
	switch t.Rule {
	case "":
		return "it has not opened"
	case ReasonConsecutive:
		return fmt.Sprintf("%d calls in a row failed (limit %g), the last with %s", t.Counts.Consecutive, t.Limit, last)
	}
	return fmt.Sprintf("%d of %d calls failed within %v (limit %g %%), the last with %s",
		t.Counts.Failures, t.Counts.Calls(), t.Window, 100*t.Limit, last)
}

// describe is an error.type and what it stands for, if anything is known.
func describe(errorType, cause string) string {
	if cause == "" {
		return errorType
	}
	return errorType + ": " + cause
}

// rootCause is what err says, in a line. Of an error of the pool's it is what opening has met, without how things stood in the pool. An answer
// of the server's is known by its code.
func rootCause(err error, class *pool.Class) string {
	if class.Code != "" || err == nil {
		return ""
	}
	if refused, ok := errors.AsType[*pool.Error](err); ok {
		if err = refused.Cause; err == nil {
			err = refused.Reason
		}
	}
	return strings.ReplaceAll(fmt.Sprint(err), "\n", "; ")
}

// OpenError is the refusal of a use by a breaker that is open, or half-open with all its probes under way. It wraps [ErrOpen]. One value
// is returned for all refusals of a state: do not change it.
type OpenError struct {
	Pool   string // the pool's name
	State  State  // StateOpen or StateHalfOpen
	Trip   Trip   // why it opened when it was last closed
	Rounds int    // rounds of probes that have failed since then
	// LastProbe is what ended the latest of these rounds: the error.type of a failure and its cause, "probe_timeout" for a probe that was lost.
	LastProbe string
	// NextProbe is when the next probe may pass, if the pool's looks at the server have succeeded by then; zero when half-open: it may as
	// soon as another ends.
	NextProbe time.Time
}

// Error says why the breaker opened, what its probes have met since, and when the next one is due, counted from the call of Error.
func (e *OpenError) Error() string {
	var s strings.Builder
	s.WriteString("breaker")
	if e.Pool != "" {
		fmt.Fprintf(&s, " of pool %q", e.Pool)
	}
	fmt.Fprintf(&s, " is %v: %v", e.State, e.Trip)
	if e.Rounds > 0 {
		fmt.Fprintf(&s, "; rounds of probes that failed since: %d, the last with %s", e.Rounds, e.LastProbe)
	}
	if e.State == StateHalfOpen {
		s.WriteString("; all its probes are under way")
		return s.String()
	}
	if left := e.retryAfter().Round(time.Millisecond); left > 0 {
		fmt.Fprintf(&s, "; next probe in %v", left)
	} else {
		s.WriteString("; next probe once the pool has reached its server")
	}
	return s.String()
}

// Unwrap returns [ErrOpen].
func (e *OpenError) Unwrap() error { return ErrOpen }

// Class makes a refusal local: the server was not asked. Repeating it at once is of no use; RetryAfter is the time from now until the
// next probe may pass, 0 when half-open.
func (e *OpenError) Class() pool.Class {
	return pool.Class{Fault: pool.FaultLocal, Repeat: pool.RepeatNever, Type: e.errorType(), RetryAfter: e.retryAfter()}
}

// Because makes it a [pool.Refusal]: the server's failure that opened the breaker.
func (e *OpenError) Because() pool.Class {
	if e.Trip.ErrorType == "" {
		return pool.Class{}
	}
	return pool.Class{Fault: pool.FaultServer, Type: e.Trip.ErrorType}
}

func (e *OpenError) errorType() string {
	if e.State == StateHalfOpen {
		return typeHalfOpen
	}
	return typeOpen
}

func (e *OpenError) retryAfter() time.Duration {
	if e.NextProbe.IsZero() {
		return 0
	}
	return max(time.Until(e.NextProbe), 0)
}
