package main

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// A histogram counts durations in buckets that are a sixteenth wide, or less than a microsecond. The zero histogram is empty; it may be
// used concurrently.
type histogram struct{ counts [buckets]atomic.Uint64 }

// counts are those of a histogram at one moment.
type counts [buckets]uint64

const (
	subBits = 4 // sixteen buckets for each doubling
	buckets = 30 << subBits
)

func (h *histogram) add(d time.Duration) { h.counts[bucketOf(d)].Add(1) }

func (h *histogram) snapshot() *counts {
	var c counts
	for i := range c {
		c[i] = h.counts[i].Load()
	}
	return &c
}

// bucketOf is the identity for the first sixteen microseconds; beyond, its value has the exponent in front of the four bits that follow
// the first.
func bucketOf(d time.Duration) int {
	us := uint64(max(d, 0) / time.Microsecond)
	exponent := max(bits.Len64(us)-subBits-1, 0)
	return min(exponent<<subBits+int(us>>exponent), buckets-1)
}

// upperBound is what no duration in the bucket reaches.
func upperBound(bucket int) time.Duration {
	exponent := max(bucket>>subBits-1, 0)
	return time.Duration(bucket-exponent<<subBits+1) << exponent * time.Microsecond
}

// since returns what was counted after earlier; nil stands for the beginning.
func (c *counts) since(earlier *counts) *counts {
	if earlier == nil {
		return c
	}
	var d counts
	for i := range d {
		d[i] = c[i] - earlier[i]
	}
	return &d
}

func (c *counts) total() (n uint64) {
	for _, k := range c {
		n += k
	}
	return n
}

// quantile returns a duration that the part q of those counted does not exceed, 0 when there are none.
func (c *counts) quantile(q float64) time.Duration {
	n := c.total()
	if n == 0 {
		return 0
	}
	rank, seen := uint64(q*float64(n-1))+1, uint64(0)
	for i, k := range c {
		if seen += k; seen >= rank {
			return upperBound(i)
		}
	}
	return upperBound(buckets - 1)
}
