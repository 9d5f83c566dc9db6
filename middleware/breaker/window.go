package breaker

import (
	"math/bits"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// window counts the outcomes of one closed state over the time just past. Each closed state has a window of its own, so that an outcome
// that comes in late finds the one it belongs to.
//
// Times are those of the breaker's clock. Counting takes no lock, except by the first outcome of each step of the window. An outcome
// that was delayed between finding its bucket and adding to it until the bucket's turn comes again, which takes a whole window less a step,
// is counted in a later step than it belongs to, or lost.
type window struct {
	run // of failures since the last success

	step    time.Duration
	buckets []bucket
	current atomic.Pointer[bucket] // the latest; set under mu
	looked  atomic.Int64           // Call.Tick when a success last made sure of current
	needs   *needs                 // what the server lately needed

	mu sync.Mutex // held by who turns a bucket to a new step, or adds up
}

// bucket holds the counts of one step, until its turn comes again.
type bucket struct {
	until     atomic.Int64 // the end of its step
	failures  atomic.Int64
	step      int64  // which one, from the breaker's beginning; guarded by the window's mutex
	successes []cell // as many as a power of two
}

// cell is a part of a bucket's successes, alone on its cache line: each processor mostly adds to one of its own.
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

// success counts one in b, in a use whose Call has the shard given.
func (w *window) success(b *bucket, shard uint32) {
	cells := b.successes
	cells[int(shard)&(len(cells)-1)].n.Add(1)
	w.end()
}

// failure counts one, and says whether the rules are to be looked at. An echo counts in the ratio only if the server has answered, as that
// answer was given for this call. It is called under the breaker's mutex.
func (w *window) failure(now time.Duration, f *failure) bool {
	if !w.add(f) && !f.answered {
		return false
	}
	w.at(now).failures.Add(1)
	return true
}

// at returns the bucket for now.
func (w *window) at(now time.Duration) *bucket {
	b := w.current.Load()
	if int64(now) < b.until.Load() {
		return b
	}
	return w.turn(now)
}

// turn moves on to the step of now, unless somebody has done so for this or a later one. The bucket for it is empty before anyone finds it.
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
	b.step = step
	b.until.Store((step + 1) * int64(w.step))
	w.current.Store(b)
	return b
}

// counts adds up what is not older than the window.
func (w *window) counts(now time.Duration) Counts {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sum(now)
}

// sum is counts under mu.
func (w *window) sum(now time.Duration) Counts {
	oldest := int64(now/w.step) - int64(len(w.buckets)) + 1
	n := Counts{Consecutive: w.length.Load()}
	for i := range w.buckets {
		b := &w.buckets[i]
		if b.step < max(oldest, 0) {
			continue
		}
		n.Failures += b.failures.Load()
		for j := range b.successes {
			n.Successes += b.successes[j].n.Load()
		}
	}
	return n
}
