package breaker

import (
	"sync"
	"sync/atomic"
	"time"
)

// window counts the outcomes of one closed state over the time just past. Each closed state has a window of its own, so that an outcome
// that comes in late finds the one it belongs to.
//
// Times are those of the breaker's clock. Counting takes no lock, except by the first outcome of each step of the window. An outcome
// that was delayed for a whole window between finding its bucket and adding to it is counted in a later step than it belongs to.
type window struct {
	step        time.Duration
	buckets     []bucket
	consecutive atomic.Int64 // failures since the last success

	mu sync.Mutex // held by who turns a bucket to a new step, or adds up
}

// bucket holds the counts of one step, until its turn comes again.
type bucket struct {
	step      atomic.Int64 // which one, from the breaker's beginning
	successes atomic.Int64
	failures  atomic.Int64
}

func newWindow(c *Config) *window {
	return &window{step: c.Window / time.Duration(c.Buckets), buckets: make([]bucket, c.Buckets)}
}

func (w *window) success(now time.Duration) {
	w.at(now).successes.Add(1)
	if w.consecutive.Load() != 0 { // looked at first: writing it each time would make all processors share it
		w.consecutive.Store(0)
	}
}

func (w *window) failure(now time.Duration) {
	w.at(now).failures.Add(1)
	w.consecutive.Add(1)
}

// at returns the bucket for now.
func (w *window) at(now time.Duration) *bucket {
	step := int64(now / w.step)
	b := &w.buckets[step%int64(len(w.buckets))]
	if b.step.Load() != step {
		w.turn(b, step)
	}
	return b
}

// turn empties b for a new step, unless somebody has done so for this or a later one. Who sees the new step sees the empty counts.
func (w *window) turn(b *bucket, step int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if b.step.Load() < step {
		b.successes.Store(0)
		b.failures.Store(0)
		b.step.Store(step)
	}
}

// counts adds up what is not older than the window.
func (w *window) counts(now time.Duration) Counts {
	w.mu.Lock()
	defer w.mu.Unlock()
	oldest := int64(now/w.step) - int64(len(w.buckets)) + 1
	n := Counts{Consecutive: w.consecutive.Load()}
	for i := range w.buckets {
		if b := &w.buckets[i]; b.step.Load() >= oldest {
			n.Successes += b.successes.Load()
			n.Failures += b.failures.Load()
		}
	}
	return n
}
