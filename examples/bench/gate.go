package main

import "math"

// gate is a bound on a figure that each round of a scenario gives, mostly a ratio between two of those compared.
type gate struct {
	what   string
	limit  float64 // unbound: the figure is only reported
	figure func(round) float64
	least  bool // the figure must reach the limit, rather than not exceed it
}

var unbound = math.Inf(1)

// round holds what one turn of interleaved samples gave, by the names of those compared.
type round map[string]figures

// figures are what one sample gave.
type figures struct {
	cost   float64 // nanoseconds an operation
	allocs float64 // allocations an operation
	crowd
	remains
}

// crowd is what only a crowd shows. Times are in nanoseconds: how long a borrower waited, or how long a call took.
type crowd struct {
	p50, p99, p999 float64
	unfairness     float64 // the acquires of the borrower who got most, by those of who got least
	cpu            float64 // what this process spent on a call
}

// remains are what one of many that are alive keeps.
type remains struct {
	heap       float64 // bytes
	goroutines float64
}

// ratio bounds the cost of one in terms of another.
func ratio(a, b string, limit float64) gate {
	return gate{what: a + " / " + b, limit: limit, figure: func(r round) float64 { return r[a].cost / r[b].cost }}
}

// net bounds the cost of one in terms of another. What a step costs that the other does not have is taken off first.
func net(a, step, b string, limit float64) gate {
	return gate{
		what: a + " less " + step + " / " + b, limit: limit,
		figure: func(r round) float64 { return (r[a].cost - r[step].cost) / r[b].cost },
	}
}

// throughput bounds from below what one gets done in terms of another.
func throughput(a, b string, limit float64) gate {
	return gate{
		what: "throughput, " + a + " / " + b, limit: limit, least: true,
		figure: func(r round) float64 { return r[b].cost / r[a].cost },
	}
}

// cpu bounds what one costs this process in terms of another.
func cpu(a, b string, limit float64) gate {
	return gate{what: "CPU, " + a + " / " + b, limit: limit, figure: func(r round) float64 { return r[a].cpu / r[b].cpu }}
}

// latency bounds how long a call by one takes in terms of another.
func latency(a, b string, limit float64) gate {
	return gate{what: "p50, " + a + " / " + b, limit: limit, figure: func(r round) float64 { return r[a].p50 / r[b].p50 }}
}

// allocs bounds allocations an operation. They are rounded: a sync.Pool that the collector has emptied is not held against it.
func allocs(a string, limit int) gate {
	return gate{what: a + ": allocations", limit: float64(limit), figure: func(r round) float64 { return math.Round(r[a].allocs) }}
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

// bound shows the limit.
func (g gate) bound() string {
	if g.least {
		return "at least " + number(g.limit)
	}
	return "at most " + number(g.limit)
}

// fallsShort says whether the whole interval lies beyond the limit. What is not a number holds no gate.
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
