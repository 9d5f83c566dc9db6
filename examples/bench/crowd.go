package main

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// worker is a goroutine of a throng.
type worker struct {
	done  atomic.Int64
	times []time.Duration // measured times
	_     [64]byte        // a cache line for each worker
}

// throng is a set of workers that execute steps without pause.
type throng struct {
	workers []worker
	timing  atomic.Bool // a measurement is running
}

// tally is the result of a throng's measurement.
type tally struct {
	each      []float64 // steps of each worker
	took, cpu time.Duration
	mallocs   uint64
}

// The factor for longer samples. Samples of waits, of large crowds, and of calls to a server take
// longer, because each worker must get its turn. A crowd with more than manyBorrowers workers is
// large.
const (
	longer        = 4
	manyBorrowers = 1000
)

// watch makes every worker execute step without pause. After a warm-up it measures for d.
func (t *throng) watch(d time.Duration, step func(i int, w *worker)) tally {
	var stop atomic.Bool
	var begun, ended sync.WaitGroup
	begun.Add(len(t.workers))
	for i := range t.workers {
		w := &t.workers[i]
		w.times = w.times[:0]
		ended.Go(func() {
			begun.Done() // not later: an unfair pool may delay a worker for seconds
			for !stop.Load() {
				step(i, w)
				w.done.Add(1)
			}
		})
	}
	begun.Wait()
	time.Sleep(d / 4) // until the workers have queued
	before, memory, spent, start := t.done(), mallocs(), processTime(), time.Now()
	t.timing.Store(true)
	time.Sleep(d)
	took, after := time.Since(start), t.done()
	did := tally{each: make([]float64, len(after)), took: took, cpu: processTime() - spent, mallocs: mallocs() - memory}
	t.timing.Store(false)
	stop.Store(true)
	ended.Wait()
	for i := range after {
		did.each[i] = float64(after[i] - before[i])
	}
	return did
}

func (t *throng) done() []int64 {
	counts := make([]int64, len(t.workers))
	for i := range t.workers {
		counts[i] = t.workers[i].done.Load()
	}
	return counts
}

// distribution returns quantiles of the measured times in nanoseconds.
func (t *throng) distribution() (p50, p99, p999 float64) {
	var times []float64
	for i := range t.workers {
		for _, w := range t.workers[i].times {
			times = append(times, float64(w.Nanoseconds()))
		}
	}
	slices.Sort(times) // once, for all quantiles
	return quantile(times, 0.5), quantile(times, 0.99), quantile(times, 0.999)
}

// figures returns the figures of every tally: the cost and the allocations.
func (t tally) figures() figures {
	all := 0.0
	for _, n := range t.each {
		all += n
	}
	return figures{cost: float64(t.took.Nanoseconds()) / all, allocs: float64(t.mallocs) / all}
}

// processTime returns the processor time used by this process. Servers are separate processes.
func processTime() time.Duration {
	var u syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// crowded returns a subject of n goroutines that acquire, hold and release without pause. If waits
// is true, each wait is measured, which has a cost.
func crowded(name string, l lender, n int, hold func(), waits bool) subject {
	return subject{name, func(d time.Duration) figures {
		if waits || n > manyBorrowers {
			d *= longer
		}
		t := &throng{workers: make([]worker, n)}
		did := t.watch(d, func(_ int, w *worker) {
			if waits {
				t.timedUse(w, l, hold)
			} else {
				check(l.use(context.Background(), hold))
			}
		})
		f := did.figures()
		if waits {
			f.unfairness = slices.Max(did.each) / slices.Min(did.each)
			f.p50, f.p99, f.p999 = t.distribution()
		}
		return f
	}}
}

func (t *throng) timedUse(w *worker, l lender, hold func()) {
	start := time.Now()
	check(l.use(context.Background(), func() {
		if t.timing.Load() {
			w.times = append(w.times, time.Since(start))
		}
		hold()
	}))
}

// yield holds a resource while other goroutines run.
func yield() { runtime.Gosched() }

// pause holds a resource for the response time of a fast server.
func pause() { time.Sleep(50 * time.Microsecond) }
