package main

import (
	"testing"
	"time"
)

func TestBuckets(t *testing.T) {
	last := -1
	for d := time.Duration(0); d < time.Hour; d += max(time.Microsecond, d/40) {
		b := bucketOf(d)
		if b < last {
			t.Fatalf("%v is in bucket %d, something shorter in %d", d, b, last)
		}
		last = b
		if bound := upperBound(b); bound <= d || bound > d+d/16+time.Microsecond {
			t.Fatalf("%v is in bucket %d, which ends at %v", d, b, bound)
		}
	}
	for _, d := range []time.Duration{-time.Second, 1000 * time.Hour} {
		if b := bucketOf(d); b < 0 || b >= buckets {
			t.Errorf("%v is in bucket %d of %d", d, b, buckets)
		}
	}
}

func TestQuantiles(t *testing.T) {
	var h histogram
	for i := range 1000 {
		h.add(time.Duration(i) * time.Millisecond)
	}
	all := h.snapshot()
	for q, want := range map[float64]time.Duration{0: 0, 0.5: 499 * time.Millisecond, 0.99: 989 * time.Millisecond, 1: 999 * time.Millisecond} {
		if got := all.quantile(q); got < want || got > want+want/16+time.Microsecond {
			t.Errorf("quantile %v is %v, want about %v", q, got, want)
		}
	}
	h.add(time.Minute)
	if got := h.snapshot().since(all); got.total() != 1 || got.quantile(0.5) < time.Minute {
		t.Errorf("since then: %d, half of them below %v", got.total(), got.quantile(0.5))
	}
	if got := new(histogram).snapshot().quantile(0.5); got != 0 {
		t.Errorf("half of nothing is below %v", got)
	}
}
