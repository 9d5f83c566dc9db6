package breaker

import "github.com/earnorm/poolstack/pool"

// Levels implements [pool.Leveler]. The level "state" is the State as a number. The level
// "failure_ratio" is the share of failed attempts in the window. While the breaker is not closed,
// the share is taken from the window at the time of opening. The level "threshold" is
// Config.FailureRatio, and is absent if the rule is disabled.
func (b *Breaker) Levels() []pool.Level {
	states := []string{StateClosed: StateClosed.String(), StateOpen: StateOpen.String(), StateHalfOpen: StateHalfOpen.String()}
	return []pool.Level{
		{Layer: kind, LayerName: b.name, Name: "state", States: states, Read: func() (float64, bool) { return float64(b.State()), true }},
		{Layer: kind, LayerName: b.name, Name: "failure_ratio", Read: func() (float64, bool) { return b.Snapshot().Counts.FailureRatio(), true }},
		{Layer: kind, LayerName: b.name, Name: "threshold", Read: func() (float64, bool) {
			limit := b.Effective().FailureRatio
			return limit, limit > 0
		}},
	}
}
