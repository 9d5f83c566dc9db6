package main

import (
	"math/rand/v2"
	"slices"
)

// estimate is a median and its 95 % confidence interval.
type estimate struct{ median, low, high float64 }

// resamples is the number of bootstrap samples for an interval.
const resamples = 2000

// estimateOf returns the median of xs with its percentile bootstrap interval. The random draws have
// a fixed seed, so the same measurements give the same verdict.
func estimateOf(xs []float64) estimate {
	random := rand.New(rand.NewPCG(1, uint64(len(xs))))
	medians, draw := make([]float64, resamples), make([]float64, len(xs))
	for i := range medians {
		for j := range draw {
			draw[j] = xs[random.IntN(len(xs))]
		}
		medians[i] = median(draw)
	}
	return estimate{median: median(xs), low: quantile(medians, 0.025), high: quantile(medians, 0.975)}
}

func median(xs []float64) float64 { return quantile(xs, 0.5) }

// quantile returns the q-quantile of xs, interpolated between two neighbours. The quantile q is
// from 0 to 1. It does not change xs. Without values it returns 0.
func quantile(xs []float64, q float64) float64 {
	if len(xs) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(xs))
	at := q * float64(len(sorted)-1)
	below := int(at)
	above := min(below+1, len(sorted)-1)
	return sorted[below] + (at-float64(below))*(sorted[above]-sorted[below])
}
