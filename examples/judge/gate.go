package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// A gate bounds a figure of a run.
type gate struct {
	what   string
	limit  float64
	least  bool // limit is a lower bound, not an upper bound
	figure func(run) float64
}

// run holds the figures of a run of a scenario, by side.
type run map[string]figures

// Gates for a server that can serve.
var (
	gateServed = gate{
		what: "served in time, stack / bare", limit: 0.99, least: true,
		figure: func(r run) float64 { return per(float64(r[stacked].served), float64(r[bare].served)) },
	}
	// The failures are drawn at random for each side, so chance makes a difference. For a single run,
	// three standard deviations of the difference between two binomial counts are at most 1.5 * sqrt(2
	// * uses). The median of three runs has three quarters of this bound.
	gateServedByChance = gate{
		what: "served in time, stack and what chance may take / bare", limit: 0.99, least: true,
		figure: func(r run) float64 {
			return per(float64(r[stacked].served)+1.5*math.Sqrt(float64(r[stacked].uses)), float64(r[bare].served))
		},
	}
	gateRefused = gate{
		what: "needless refusals / uses", limit: 0.005,
		figure: func(r run) float64 { return per(float64(r[stacked].refused), float64(r[stacked].uses)) },
	}
)

// Gates for a server that cannot serve for a while.
var (
	gateUseless         = uselessGate("useless calls, stack / (bare / 10, at least 0.4 s of uses, + 10 + 4 looks in 3 seconds)", looks)
	gateUselessOfDriver = uselessGate("useless calls, stack / (bare / 10, at least 0.4 s of uses, + 10 + 10 looks in 3 seconds)", looks+2)
	gateWaited          = gate{
		what: "caller-seconds waited, stack / bare", limit: 1.0 / 3,
		figure: func(r run) float64 { return per(r[stacked].waited, r[bare].waited) },
	}
	gateBack = gate{
		what: "seconds until served again", limit: 1.5,
		figure: func(r run) float64 { return r[stacked].back },
	}
)

// looks is the maximum number of checks per second of an unreachable server by the pool. The pauses
// are drawn between half of LookMax and LookMax, and LookMax is a second.
const looks = 4.0 / 3

// sooner is the number of uses before a client can detect an outage: a deadline must pass, and a
// run of failures must last 0.3 s. No load brings more than 40 uses per second in an outage.
const sooner = 0.4 * 40

// uselessGate allows looks calls per second to find the server's return. The calls are the pool's
// own checks, and for MongoDB also the two checks of the driver.
func uselessGate(what string, looks float64) gate {
	return gate{what: what, limit: 1, figure: func(r run) float64 {
		return float64(r[stacked].useless) / (max(float64(r[bare].useless)/10, sooner) + 10 + looks*r[stacked].dead)
	}}
}

// Gates for deadlines, which must not cost connections.
var (
	gateTwice = gate{
		what: "served in time, stack / go-redis with the same deadlines", limit: 2, least: true,
		figure: func(r run) float64 { return per(float64(r[stacked].served), float64(r[bareCtx].served)) },
	}
	gateNoRefusal = gate{
		what: "refusals", limit: 0,
		figure: func(r run) float64 { return float64(r[stacked].refused) },
	}
	gateDials = gate{
		what: "connections dialled", limit: 49,
		figure: func(r run) float64 { return float64(r[stacked].dials) },
	}
)

// gateDialsOfDriver is for the MongoDB driver. The driver itself closes a connection when a caller
// cancels.
var gateDialsOfDriver = gate{
	what: "connections dialled a served use, stack / bare", limit: 1.1,
	figure: func(r run) float64 {
		if r[stacked].dials < 50 {
			return 0
		}
		return per(float64(r[stacked].dials)/float64(r[stacked].served), float64(r[bare].dials)/float64(r[bare].served))
	},
}

// per returns a / b. It returns 1 for 0 / 0.
func per(a, b float64) float64 {
	if a == 0 && b == 0 {
		return 1
	}
	return a / b
}

// verdict is a gate and the median of its figure over the runs.
type verdict struct {
	gate
	median float64
}

// judge evaluates g over runs. Each run gives a figure.
func (g gate) judge(runs []run) verdict {
	all := make([]float64, len(runs))
	for i, r := range runs {
		all[i] = g.figure(r)
	}
	return verdict{g, median(all)}
}

// fallsShort reports whether the median lies beyond the limit. NaN also falls short.
func (v verdict) fallsShort() bool {
	if v.least {
		return !(v.median >= v.limit)
	}
	return !(v.median <= v.limit)
}

func (v verdict) String() string {
	side := "at most"
	if v.least {
		side = "at least"
	}
	return fmt.Sprintf("%s: %s, must be %s %s", v.what, number(v.median), side, number(v.limit))
}

// median returns the lower of the two middle values for an even number of values, and NaN without
// values.
func median(all []float64) float64 {
	if len(all) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[(len(sorted)-1)/2]
}

// number formats x with three digits, or without a fraction from 100 on.
func number(x float64) string {
	switch size := math.Abs(x); {
	case math.IsInf(x, 0):
		return "infinite"
	case math.IsNaN(x):
		return "-"
	case x == math.Trunc(x):
		return fmt.Sprintf("%.0f", x)
	case size >= 100:
		return fmt.Sprintf("%.0f", x)
	case size >= 10:
		return fmt.Sprintf("%.1f", x)
	case size >= 1:
		return trim(fmt.Sprintf("%.2f", x))
	}
	return trim(fmt.Sprintf("%.3f", x))
}

// trim drops zeros after the point.
func trim(text string) string { return strings.TrimRight(strings.TrimRight(text, "0"), ".") }
