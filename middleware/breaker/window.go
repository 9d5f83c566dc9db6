package breaker

import (
	"math/bits"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// window counts the outcomes of a closed state over the recent past. Each closed state has its own
// window, so a late outcome finds the window of its state.
//
// Times are on the breaker's clock. Counting takes no lock, except for the first outcome in each
// step of the window. A goroutine may be delayed after finding its bucket and before adding to the
// bucket. If the delay lasts until the bucket is used again, the outcome counts in a later step or
// is lost. A bucket is used again after a whole window minus a step.
type window struct {
	run // the failures since the last success

	step    time.Duration
	buckets []bucket
	current atomic.Pointer[bucket] // the latest bucket; set under mu
	looked  atomic.Int64           // Call.Tick of the last success that compared the time with current
	needs   *needs                 // how long recent successes took

	mu sync.Mutex // held while a bucket moves to a new step, and while counts are added up
}

// bucket holds the counts of a step, until the bucket is used again.
type bucket struct {
	until     atomic.Int64 // end of the step
	failures  atomic.Int64
	slow      atomic.Int64
	step      int64  // number of the step on the breaker's clock; guarded by window.mu
	successes []cell // the number of cells is a power of two
}

// cell is a part of a bucket's successes, on its own cache line. Each processor mostly adds to its
// own cell.
type cell struct {
	n atomic.Int64
	_ [56]byte
}

const maxCells = 64

func newWindow(c *Config, lately *needs) *window {
	w := &window{needs: lately, step: c.Window / time.Duration(c.Buckets), buckets: make([]bucket, c.Buckets)}
	n := min(1<<bits.Len(uint(runtime.GOMAXPROCS(0)-1)), maxCells)
	cells := make([]cell, n*c.Buckets)
	for i := range w.buckets {
		w.buckets[i].step = -1
		w.buckets[i].successes = cells[i*n : (i+1)*n]
	}
	w.current.Store(&w.buckets[0])
	w.looked.Store(-1)
	return w
}

// success counts a success in b. shard is the Shard of the attempt's Call.
func (w *window) success(b *bucket, shard uint32) {
	cells := b.successes
	cells[int(shard)&(len(cells)-1)].n.Add(1)
	w.end()
}

// failure counts f, and reports whether the rules must be evaluated. A duplicate counts for
// FailureRatio only if the server answered, because the answer belongs to this attempt. failure is
// called under Breaker.mu.
func (w *window) failure(now time.Duration, f *failure) bool {
	if !w.add(f) && !f.answered {
		return false
	}
	b := w.at(now)
	b.failures.Add(1)
	if f.slow {
		b.slow.Add(1)
	}
	return true
}

// at returns the bucket for the time now.
func (w *window) at(now time.Duration) *bucket {
	b := w.current.Load()
	if int64(now) < b.until.Load() {
		return b
	}
	return w.turn(now)
}

// turn moves the window to the step of now, unless another goroutine has already moved the window
// there or further. The new bucket is empty before another goroutine can find the bucket.
func (w *window) turn(now time.Duration) *bucket {
	w.mu.Lock()
	defer w.mu.Unlock()
	if b := w.current.Load(); int64(now) < b.until.Load() {
		return b
	}
	w.needs.age(now, w.sum(time.Duration(w.current.Load().until.Load())-1).Successes)
	step := int64(now / w.step)
	b := &w.buckets[step%int64(len(w.buckets))]
	for i := range b.successes {
		b.successes[i].n.Store(0)
	}
	b.failures.Store(0)
	b.slow.Store(0)
	b.step = step
	b.until.Store((step + 1) * int64(w.step))
	w.current.Store(b)
	return b
}

// counts returns the sum of the counts in the window.
func (w *window) counts(now time.Duration) Counts {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sum(now)
}

// sum implements counts. sum is called under mu.
func (w *window) sum(now time.Duration) Counts {
	oldest := int64(now/w.step) - int64(len(w.buckets)) + 1
	n := Counts{Consecutive: w.length.Load()}
	for i := range w.buckets {
		b := &w.buckets[i]
		if b.step < max(oldest, 0) {
			continue
		}
		n.Failures += b.failures.Load()
		n.Slow += b.slow.Load()
		for j := range b.successes {
			n.Successes += b.successes[j].n.Load()
		}
	}
	return n
}
