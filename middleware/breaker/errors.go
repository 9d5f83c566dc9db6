package breaker

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
)

// ErrOpen is the error wrapped by every rejection: in the open and in the half-open state, and in a
// ramp-up. Test for a rejection with errors.Is(err, breaker.ErrOpen).
var ErrOpen = errors.New("circuit breaker is open")

// The reasons for a change of state, used as the Reason of [pool.EventStateChanged].
const (
	ReasonFailureRatio = "failure_ratio"        // closed to open: Config.FailureRatio
	ReasonConsecutive  = "consecutive_failures" // closed to open: a run of failures
	ReasonSlowCalls    = "slow_calls"           // closed to open: Config.SlowRatio
	ReasonPeriodOver   = "open_period_over"     // open to half-open
	ReasonLookPassed   = "look_passed"          // to half-open and then to closed: a look passed
	ReasonProbesPassed = "probes_succeeded"     // half-open to closed
	ReasonProbeFailed  = "probe_failed"         // half-open to open
	ReasonProbeTimeout = "probe_timeout"        // half-open to open: a probe had no outcome in time
	ReasonForced       = "forced"               // any change: Force, Reset, or the end of a forced state
)

// The error.type of a rejection, by state.
const (
	typeOpen     = "breaker_open"
	typeHalfOpen = "breaker_half_open"
	typeRampUp   = "breaker_ramp_up" // closed
)

// typeSlow is the error.type of a slow call.
const typeSlow = "slow_call"

// Trip is the reason why a closed breaker opened. The zero Trip means that the breaker is closed.
type Trip struct {
	At        time.Time     // time of the change
	Rule      string        // ReasonFailureRatio, ReasonConsecutive or ReasonSlowCalls
	Counts    Counts        // the outcomes in the window
	Window    time.Duration // length of the window
	Limit     float64       // Config.FailureRatio or SlowRatio, or the required failures in a row
	SlowCall  time.Duration // Config.SlowCall; 0 unless the Rule is ReasonSlowCalls
	ErrorType string        // error.type of the last failure, or "slow_call"
	// Cause is the text of the last failure in a single line, for example "dial tcp 10.0.0.7:6379:
	// connect: connection refused". Empty if the server answered with a code.
	Cause string
}

// String returns the reason as a sentence with numbers. For the zero Trip, the sentence is "it has
// not opened".
func (t Trip) String() string {
	last := describe(t.ErrorType, t.Cause)
	switch t.Rule {
	case "":
		return "it has not opened"
	case ReasonConsecutive:
		return fmt.Sprintf("%d calls in a row failed (limit %g), the last with %s", t.Counts.Consecutive, t.Limit, last)
	case ReasonSlowCalls:
		return fmt.Sprintf("%d of %d calls within %v took %v or longer (limit %g %%)", t.Counts.Slow, t.Counts.Calls(), t.Window, t.SlowCall, 100*t.Limit)
	}
	return fmt.Sprintf("%d of %d calls failed within %v (limit %g %%), the last with %s",
		t.Counts.Failures, t.Counts.Calls(), t.Window, 100*t.Limit, last)
}

// describe returns errorType, followed by cause unless cause is empty.
func describe(errorType, cause string) string {
	if cause == "" {
		return errorType
	}
	return errorType + ": " + cause
}

// rootCause returns the text of err in a single line. For an error of the pool, the text is the
// cause (the error of the dial), or the reason if there is no cause. rootCause returns "" for an
// answer of the server with a code, because the code is already in error.type.
func rootCause(err error, class *driver.Class) string {
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

// OpenError is the error of a rejection: by an open breaker, by a half-open breaker without a
// permit for the use, or in a ramp-up. OpenError wraps [ErrOpen]. All rejections of a stay in a
// state share the same value, so do not modify the value. All methods may be called concurrently.
type OpenError struct {
	Pool   string // name of the pool
	Name   string // Config.Name
	State  State  // StateOpen, StateHalfOpen, or StateClosed in a ramp-up
	Trip   Trip   // why the breaker last left the closed state
	Rounds int    // rounds of probes failed since Trip
	// LastProbe is the failure that ended the latest failed round. LastProbe holds the error.type of
	// the failure and its cause, or "probe_timeout" for a probe without an outcome. Empty if no round
	// failed.
	LastProbe string
	// NextProbe is the earliest time of the next probe. The probe also needs a passed look, if the
	// pool looks at the server. Zero when half-open: a probe may pass as soon as a permit is free.
	NextProbe time.Time
	// RampUpEnd is the end of the ramp-up that rejected the use. Zero unless the State is StateClosed.
	RampUpEnd time.Time
	// Forced is the state set by an operator. The zero Forced means that the outcomes decide.
	Forced Forced
}

// Error returns the reason for opening, the failures of the probes, and the time until the next
// probe. The time counts from the call of Error.
func (e *OpenError) Error() string {
	var s strings.Builder
	s.WriteString(title(e.Name))
	if e.Pool != "" {
		fmt.Fprintf(&s, " of pool %q", e.Pool)
	}
	switch {
	case e.Forced.Mode != 0:
		fmt.Fprintf(&s, " is open: %v", e.Forced)
		return s.String()
	case e.State == StateClosed:
		left := max(time.Until(e.RampUpEnd), 0).Round(time.Millisecond)
		fmt.Fprintf(&s, " is closed again, and lets only a part of the uses pass for another %v: %v", left, e.Trip)
		return s.String()
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

// title returns a breaker for a text.
func title(name string) string {
	if name == "" {
		return kind
	}
	return fmt.Sprintf("%s %q", kind, name)
}

// Unwrap returns [ErrOpen].
func (e *OpenError) Unwrap() error { return ErrOpen }

// Class implements [driver.Classified]. The Fault is [driver.FaultLocal], because the server was
// not asked. The Repeat is [driver.RepeatNever], because an immediate retry is useless. RetryAfter
// is the time from now until NextProbe, and 0 when half-open.
func (e *OpenError) Class() driver.Class {
	return driver.Class{Fault: driver.FaultLocal, Repeat: driver.RepeatNever, Type: e.errorType(), RetryAfter: e.retryAfter()}
}

// Because implements [pool.Refusal]. Because returns the class of the failure that opened the
// breaker, and the zero Class if there is none.
func (e *OpenError) Because() driver.Class {
	if e.Trip.ErrorType == "" {
		return driver.Class{}
	}
	return driver.Class{Fault: driver.FaultServer, Type: e.Trip.ErrorType}
}

func (e *OpenError) errorType() string {
	switch e.State {
	case StateHalfOpen:
		return typeHalfOpen
	case StateClosed:
		return typeRampUp
	case StateOpen:
	}
	return typeOpen
}

func (e *OpenError) retryAfter() time.Duration {
	if e.NextProbe.IsZero() {
		return 0
	}
	return max(time.Until(e.NextProbe), 0)
}
