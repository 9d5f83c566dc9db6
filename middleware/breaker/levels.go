package breaker

import "github.com/earnorm/poolstack/pool"

// Levels makes it a [pool.Leveler]. "state" is the state; "failure_ratio" that of the calls in the window, or of those it opened with
// while it is not closed; "threshold" is Config.FailureRatio, unless that rule is off.
func (b *Breaker) Levels() []pool.Level {
	states := []string{StateClosed: StateClosed.String(), StateOpen: StateOpen.String(), StateHalfOpen: StateHalfOpen.String()}
	return []pool.Level{
		{Layer: kind, Name: "state", States: states, Read: func() (float64, bool) { return float64(b.State()), true }},
		{Layer: kind, Name: "failure_ratio", Read: func() (float64, bool) { return b.Snapshot().Counts.FailureRatio(), true }},
		{Layer: kind, Name: "threshold", Read: func() (float64, bool) {
			limit := b.Config().FailureRatio
			return limit, limit > 0
		}},
	}
}
