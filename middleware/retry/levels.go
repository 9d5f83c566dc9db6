package retry

import "github.com/earnorm/poolstack/pool"

// Levels implements [pool.Leveler]. The level "budget" is the result of [Retry.Budget]. The level
// has no value while retries are not budgeted.
func (r *Retry) Levels() []pool.Level {
	return []pool.Level{{Layer: kind, Name: "budget", Read: func() (float64, bool) {
		return r.Budget(), r.inForce.Load().budgeted()
	}}}
}
