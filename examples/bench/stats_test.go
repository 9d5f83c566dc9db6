package main

import (
	"math"
	"testing"
)

func TestQuantile(t *testing.T) {
	for _, tc := range []struct {
		xs   []float64
		q    float64
		want float64
	}{
		{nil, 0.5, 0},
		{[]float64{7}, 0.99, 7},
		{[]float64{3, 1, 2}, 0.5, 2},
		{[]float64{4, 1, 3, 2}, 0.5, 2.5},
		{[]float64{4, 1, 3, 2}, 0, 1},
		{[]float64{4, 1, 3, 2}, 1, 4},
		{[]float64{10, 20}, 0.25, 12.5},
	} {
		if got := quantile(tc.xs, tc.q); got != tc.want {
			t.Errorf("quantile(%v, %v) is %v, want %v", tc.xs, tc.q, got, tc.want)
		}
	}
}

func TestQuantileLeavesItsArgumentAlone(t *testing.T) {
	xs := []float64{3, 1, 2}
	median(xs)
	if xs[0] != 3 || xs[1] != 1 || xs[2] != 2 {
		t.Errorf("got %v", xs)
	}
}

// The interval of a hundred draws from 0 to 99 in steps of 1: the 95 % interval of a median of n
// values lies between the order statistics n/2 ± 1.96*sqrt(n)/2, here about the 40th and the 60th.
func TestEstimate(t *testing.T) {
	xs := make([]float64, 100)
	for i := range xs {
		xs[i] = float64(i * 37 % 100)
	}
	e := estimateOf(xs)
	if e.median != 49.5 || math.Abs(e.low-40) > 3 || math.Abs(e.high-60) > 3 {
		t.Errorf("got %+v, want about 49.5 (40 - 60)", e)
	}
	if again := estimateOf(xs); again != e {
		t.Errorf("the same values give %+v, and then %+v", e, again)
	}
}

// A single extreme value does not move the lower end of the interval, so a gate does not fall
// short.
func TestEstimateOutlier(t *testing.T) {
	e := estimateOf([]float64{1, 1, 1, 1, 1, 1, 1, 1000})
	if e.median != 1 || e.low != 1 {
		t.Errorf("got %+v", e)
	}
}
