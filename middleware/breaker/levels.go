package breaker

import "github.com/earnorm/poolstack/pool"

// Levels implements [pool.Leveler]. The level "state" is the State as a number. The level
// "failure_ratio" is the share of failed attempts in the window. While the breaker is not closed,
// the share is taken from the window at the time of opening. The level "threshold" is
// Config.FailureRatio, and is absent if the rule is disabled.
func (b *Breaker) Levels() []pool.Level {
	states := []string{StateClosed: StateClosed.String(), StateOpen: StateOpen.String(), StateHalfOpen: StateHalfOpen.String()}
	levels := []pool.Level{
		{
			Name: "state", Unit: "{breaker}", States: states,
			Help: "1 for the current state of the circuit breaker, 0 for the other states.",
			Read: func() (float64, bool) { return float64(b.State()), true },
		},
		{
			Name: "failure_ratio", Unit: "1",
			Help: "Share of failed calls in the circuit breaker's window. While the breaker is not closed: the share with which the breaker opened.",
			Read: func() (float64, bool) { return b.Snapshot().Counts.FailureRatio(), true },
		},
		{
			Name: "slow_ratio", Unit: "1",
			Help: "Share of slow calls in the circuit breaker's window. Absent if no call is slow by the settings.",
			Read: func() (float64, bool) { return b.Snapshot().Counts.SlowRatio(), b.cfg.Load().SlowCall > 0 },
		},
		{
			Name: "admitted", Unit: "1",
			Help: "Share of the uses that the circuit breaker lets pass: 1 when closed, 0 when open, and between in a ramp-up. Absent when half-open.",
			Read: func() (float64, bool) { s := b.Snapshot(); return s.Admitted, s.State != StateHalfOpen },
		},
		{
			Name: "threshold", Unit: "1",
			Help: "Share of failed calls from which the circuit breaker opens. Absent if no share opens the breaker.",
			Read: func() (float64, bool) {
				limit := b.Effective().FailureRatio
				return limit, limit > 0
			},
		},
	}
	for i := range levels {
		levels[i].Layer, levels[i].LayerName = kind, b.name
	}
	return levels
}

// knownEvents are the events of every breaker: each change of the state by each rule, and the
// refusals.
var knownEvents = []pool.Event{
	change(StateClosed, StateOpen, ReasonFailureRatio),
	change(StateClosed, StateOpen, ReasonConsecutive),
	change(StateOpen, StateHalfOpen, ReasonPeriodOver),
	change(StateOpen, StateHalfOpen, ReasonLookPassed),
	change(StateHalfOpen, StateClosed, ReasonLookPassed),
	change(StateHalfOpen, StateClosed, ReasonProbesPassed),
	change(StateHalfOpen, StateOpen, ReasonProbeFailed),
	change(StateHalfOpen, StateOpen, ReasonProbeTimeout),
	change(StateClosed, StateOpen, ReasonSlowCalls),
	change(StateClosed, StateOpen, ReasonForced),
	change(StateOpen, StateClosed, ReasonForced),
	change(StateHalfOpen, StateOpen, ReasonForced),
	change(StateHalfOpen, StateClosed, ReasonForced),
	{Kind: EventForced, Reason: ForceOpen.String()},
	{Kind: EventForced, Reason: ForceClosed.String()},
	{Kind: EventForced, Reason: Disable.String()},
	{Kind: EventForced, Reason: released},
	{Kind: EventForced, Reason: reset},
	{Kind: pool.EventRejected, Reason: typeRampUp},
	{Kind: pool.EventRejected, Reason: typeOpen},
	{Kind: pool.EventRejected, Reason: typeHalfOpen},
	{Kind: pool.EventConfigured},
}

func change(from, to State, reason string) pool.Event {
	return pool.Event{Kind: pool.EventStateChanged, From: from.String(), To: to.String(), Reason: reason}
}
