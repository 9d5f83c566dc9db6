package breaker

import "time"

// State is the state of a breaker. The zero State is StateClosed.
type State uint8

// The states.
const (
	StateClosed   State = iota // uses pass
	StateOpen                  // uses are rejected
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

// MarshalText returns the name of the state.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Counts holds numbers of outcomes. Each outcome belongs to an attempt.
type Counts struct {
	Successes   int64
	Failures    int64
	Consecutive int64 // failures since the last success, even before the window
	Slow        int64 // the successes and failures that were slow, see Config.SlowCall
}

// Calls returns the number of outcomes: Successes plus Failures.
func (n Counts) Calls() int64 { return n.Successes + n.Failures }

// FailureRatio returns the share of failures among the outcomes, and 0 if there are no outcomes.
func (n Counts) FailureRatio() float64 {
	if n.Failures == 0 {
		return 0
	}
	return float64(n.Failures) / float64(n.Calls())
}

// SlowRatio returns the share of slow calls among the outcomes, and 0 if there are no outcomes.
func (n Counts) SlowRatio() float64 {
	if n.Slow == 0 {
		return 0
	}
	return float64(n.Slow) / float64(n.Calls())
}

// Snapshot is the state of a breaker at a moment.
type Snapshot struct {
	Pool  string // name of the pool, "" before Attach
	State State
	Since time.Time // beginning of the state
	// Counts are the outcomes in the window. When the breaker is not closed, Counts are the outcomes
	// at the time of opening.
	Counts Counts
	Trip   Trip // why the breaker opened; zero when closed
	Rounds int  // rounds of probes failed since Trip; 0 when closed
	// NextProbe is the earliest time of the next probe. The time may be in the past if no use came
	// since. Zero unless open.
	NextProbe time.Time
	// The numbers of probes in the current half-open state; 0 in other states.
	ProbesUnderway, ProbesSucceeded, ProbesFailed int

	// Admitted is the share of the uses that pass during a ramp-up. 1 in any other closed state, and 0
	// when the breaker is not closed.
	Admitted float64
	// Forced is the state set by an operator. The zero Forced means that the outcomes decide.
	Forced Forced

	Opened  uint64 // number of changes to open since New, from closed and half-open
	Refused uint64 // number of rejected uses since New
	// Config holds the settings in force, as from Breaker.Effective. To change a setting, begin with
	// Breaker.Config.
	Config Config
}
