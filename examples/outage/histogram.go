package main

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// A histogram counts durations. The width of a bucket is at most a sixteenth of its durations, or 1
// µs. The zero value is empty. A histogram is safe for concurrent use.
type histogram struct{ counts [buckets]atomic.Uint64 }

// counts is a snapshot of a histogram.
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

// bucketOf returns the bucket of d. Below 16 µs the bucket is the number of microseconds. Above,
// the bucket consists of the exponent and the four bits after the leading bit.
func bucketOf(d time.Duration) int {
	us := uint64(max(d, 0) / time.Microsecond)
	exponent := max(bits.Len64(us)-subBits-1, 0)
	return min(exponent<<subBits+int(us>>exponent), buckets-1)
}

// upperBound returns the exclusive upper bound of the durations in the bucket.
func upperBound(bucket int) time.Duration {
	exponent := max(bucket>>subBits-1, 0)
	return time.Duration(bucket-exponent<<subBits+1) << exponent * time.Microsecond
}

// since returns the counts added after earlier. Nil means the beginning.
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

// quantile returns an upper bound of the q-quantile, or 0 without any counts.
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
