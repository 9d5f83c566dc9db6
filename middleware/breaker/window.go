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
	step        time.Duration
	buckets     []bucket
	current     atomic.Pointer[bucket] // the latest; set under mu
	consecutive atomic.Int64           // failures in a row that are evidence, since the last success
	runs        atomic.Uint64          // of failures in a row: moved by the first of each
	needs       *needs                 // what the server lately needed

	mu       sync.Mutex    // held by who turns a bucket to a new step, or adds up
	firstEnd time.Duration // when the first failure of the present run ended; guarded by the breaker's mutex
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
	return w
}

// success counts one, in a use whose Call has the shard given.
func (w *window) success(now time.Duration, shard uint32) {
	cells := w.at(now).successes
	cells[int(shard)&(len(cells)-1)].n.Add(1)
	if w.consecutive.Load() != 0 { // looked at first: writing it each time would make all processors share it
		w.consecutive.Store(0)
	}
}

// failure counts one that ended at the time given, and says whether it is evidence of its own. Failures in a row that began before the first
// of them had ended may have the cause in common with it: such an echo does not count as one more in a row. In the ratio it counts only if
// the server has answered, as that answer was given for this call. It is called under the breaker's mutex.
func (w *window) failure(now time.Duration, f *failure) bool {
	switch {
	case w.consecutive.Load() == 0:
		w.runs.Add(1)
		w.firstEnd = f.to
	case f.from != 0 && f.from < w.firstEnd, f.from == 0 && f.run != w.runs.Load():
		if f.answered {
			w.at(now).failures.Add(1)
		}
		return false
	}
	w.at(now).failures.Add(1)
	w.consecutive.Add(1)
	return true
}

// failure is what the breaker knows of a failure.
type failure struct {
	from, to  time.Duration // of the server's part; from is 0 if the use did not have to wait for it
	run       uint64        // window.runs when the use began
	answered  bool
	errorType string
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
	w.needs.age(now, w.successes(now))
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

// successes is called under mu.
func (w *window) successes(now time.Duration) int64 { return w.add(now).Successes }

// counts adds up what is not older than the window.
func (w *window) counts(now time.Duration) Counts {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.add(now)
}

func (w *window) add(now time.Duration) Counts {
	oldest := int64(now/w.step) - int64(len(w.buckets)) + 1
	n := Counts{Consecutive: w.consecutive.Load()}
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
