package main

import "math"

// gate is a bound on a figure of each round, usually a ratio of two subjects' costs.
type gate struct {
	what   string
	limit  float64 // unbound: report the figure only
	figure func(round) float64
	least  bool // limit is a lower bound, not an upper bound
}

var unbound = math.Inf(1)

// round holds the figures of a round of interleaved samples, by subject.
type round map[string]figures

// figures are the results of a sample.
type figures struct {
	cost   float64 // nanoseconds per operation
	allocs float64 // allocations per operation
	crowd
	remains
}

// crowd holds the figures of a throng. Times are in nanoseconds, and measure a borrower's wait or
// the duration of a call.
type crowd struct {
	p50, p99, p999 float64
	unfairness     float64 // highest / lowest number of acquires of a borrower
	cpu            float64 // processor time of this process per call
}

// remains is the memory and the goroutines kept by each of many live pools or waiters.
type remains struct {
	heap       float64 // bytes
	goroutines float64
}

// ratio bounds the cost of a as a multiple of the cost of b.
func ratio(a, b string, limit float64) gate {
	return gate{what: a + " / " + b, limit: limit, figure: func(r round) float64 { return r[a].cost / r[b].cost }}
}

// net bounds the cost of a less the cost of step, as a multiple of the cost of b. Use net if a
// contains a step which b does not contain.
func net(a, step, b string, limit float64) gate {
	return gate{
		what: a + " less " + step + " / " + b, limit: limit,
		figure: func(r round) float64 { return (r[a].cost - r[step].cost) / r[b].cost },
	}
}

// throughput sets a lower bound on the throughput of a as a multiple of the throughput of b.
func throughput(a, b string, limit float64) gate {
	return gate{
		what: "throughput, " + a + " / " + b, limit: limit, least: true,
		figure: func(r round) float64 { return r[b].cost / r[a].cost },
	}
}

// cpu bounds this process's processor time for a as a multiple of the time for b.
func cpu(a, b string, limit float64) gate {
	return gate{what: "CPU, " + a + " / " + b, limit: limit, figure: func(r round) float64 { return r[a].cpu / r[b].cpu }}
}

// latency bounds the median duration of a call by a as a multiple of the median for b.
func latency(a, b string, limit float64) gate {
	return gate{what: "p50, " + a + " / " + b, limit: limit, figure: func(r round) float64 { return r[a].p50 / r[b].p50 }}
}

// allocs bounds the allocations per operation, rounded to a whole number. Rounding ignores the rare
// allocations after a garbage collection has emptied a sync.Pool.
func allocs(a string, limit int) gate {
	return gate{what: a + ": allocations", limit: float64(limit), figure: func(r round) float64 { return math.Round(r[a].allocs) }}
}

func noAllocs(a string) gate { return allocs(a, 0) }

// verdict is a gate and the estimate of its figure.
type verdict struct {
	gate
	estimate
}

// judge evaluates g over the rounds. Each round contributes a figure.
func (g gate) judge(rounds []round) verdict {
	figures := make([]float64, len(rounds))
	for i, r := range rounds {
		figures[i] = g.figure(r)
	}
	return verdict{g, estimateOf(figures)}
}

// bounds reports whether g has a limit.
func (g gate) bounds() bool { return !math.IsInf(g.limit, 1) }

// bound formats the limit.
func (g gate) bound() string {
	if g.least {
		return "at least " + number(g.limit)
	}
	return "at most " + number(g.limit)
}

// fallsShort reports whether the whole interval lies beyond the limit. NaN also falls short.
func (v verdict) fallsShort() bool {
	if v.least {
		return v.bounds() && !(v.high >= v.limit)
	}
	return v.bounds() && !(v.low <= v.limit)
}

func (v verdict) String() string {
	switch {
	case !v.bounds():
		return ""
	case v.fallsShort():
		return "falls short"
	}
	return "holds"
}
