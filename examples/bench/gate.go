package main

import "math"

// gate is a bound on a figure that each round of a scenario gives, mostly a ratio between two of those compared.
type gate struct {
	what   string
	limit  float64 // unbound: the figure is only reported
	figure func(round) float64
}

var unbound = math.Inf(1)

// round holds what one turn of interleaved samples gave, by the names of those compared.
type round map[string]figures

// figures are what one sample gave.
type figures struct {
	cost   float64 // nanoseconds an operation
	allocs float64 // allocations an operation
	crowd
}

// crowd is what only a crowd of borrowers shows. Waits are in nanoseconds.
type crowd struct {
	p50, p99, p999 float64
	unfairness     float64 // the acquires of the borrower who got most, by those of who got least
}

// ratio bounds the cost of one in terms of another.
func ratio(a, b string, limit float64) gate {
	return gate{a + " / " + b, limit, func(r round) float64 { return r[a].cost / r[b].cost }}
}

// allocs bounds allocations an operation. They are rounded: a sync.Pool that the collector has emptied is not held against it.
func allocs(a string, limit int) gate {
	return gate{a + ": allocations", float64(limit), func(r round) float64 { return math.Round(r[a].allocs) }}
}

func noAllocs(a string) gate { return allocs(a, 0) }

// verdict is a gate and what the rounds made of it.
type verdict struct {
	gate
	estimate
}

// judge evaluates g over rounds, in pairs: each round gives one figure.
func (g gate) judge(rounds []round) verdict {
	figures := make([]float64, len(rounds))
	for i, r := range rounds {
		figures[i] = g.figure(r)
	}
	return verdict{g, estimateOf(figures)}
}

// bounds says whether it is more than a report.
func (g gate) bounds() bool { return !math.IsInf(g.limit, 1) }

// fallsShort says whether the lower end of the interval exceeds the limit. What is not a number holds no gate.
func (v verdict) fallsShort() bool { return v.bounds() && !(v.low <= v.limit) }

func (v verdict) String() string {
	switch {
	case !v.bounds():
		return ""
	case v.fallsShort():
		return "falls short"
	}
	return "holds"
}
