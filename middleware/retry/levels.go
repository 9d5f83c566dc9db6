package retry

import "github.com/earnorm/poolstack/pool"

// Levels implements [pool.Leveler]: "budget" is what [Retry.Budget] returns, while retries are budgeted.
func (r *Retry) Levels() []pool.Level {
	return []pool.Level{{Layer: kind, Name: "budget", Read: func() (float64, bool) {
		return r.Budget(), r.settings.Load().budgeted()
	}}}
}
