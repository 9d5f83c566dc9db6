package breaker

import "time"

// State is what a breaker does with uses. The zero State is StateClosed.
type State uint8

// The states.
const (
	StateClosed   State = iota // uses pass
	StateOpen                  // uses are refused
	StateHalfOpen              // a few uses pass, as probes
)

// String returns "closed", "open" or "half-open".
func (s State) String() string {
	switch s {
	case StateClosed:
		return "closed"
	case StateOpen:
		return "open"
	case StateHalfOpen:
		return "half-open"
	}
	return "unknown"
}

// Counts are outcomes of calls.
type Counts struct {
	Successes   int64
	Failures    int64
	Consecutive int64 // failures since the last success, also beyond the window
}

// Calls returns how many outcomes there are.
func (n Counts) Calls() int64 { return n.Successes + n.Failures }

// FailureRatio returns the part of the calls that failed, 0 when there are none.
func (n Counts) FailureRatio() float64 {
	if n.Failures == 0 {
		return 0
	}
	return float64(n.Failures) / float64(n.Calls())
}

// Snapshot is how a breaker stands at one moment.
type Snapshot struct {
	Pool  string // the name of the pool it is attached to, "" before that
	State State
	Since time.Time // when this state began
	// Counts are those in the window; when the breaker is not closed, those it opened with.
	Counts Counts
	Trip   Trip // why it opened; zero when closed
	Rounds int  // rounds of probes that have failed since; 0 when closed
	// NextProbe is when the next probe may pass: in the past when none has been asked for since. Zero unless open.
	NextProbe time.Time
	// What the probes of this half-open state are doing; 0 in the others.
	ProbesUnderway, ProbesSucceeded, ProbesFailed int

	Opened  uint64 // how often it has opened, from closed and from half-open, since it was made
	Refused uint64 // how many uses it has refused since it was made
	Config  Config // the settings in force, as from Breaker.Config
}
