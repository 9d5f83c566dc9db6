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

// worker is one of a crowd.
type worker struct {
	done  atomic.Int64
	times []time.Duration // what was timed
	_     [64]byte        // one to a cache line
}

// throng is a crowd of workers that do something without end.
type throng struct {
	workers []worker
	timing  atomic.Bool // the workers are being watched
}

// tally is what a throng did while it was watched.
type tally struct {
	each      []float64 // by each worker
	took, cpu time.Duration
	mallocs   uint64
}

// Samples of waits, of large crowds and of calls to a server are longer than others by this factor: each worker must have its turn.
const (
	longer        = 4
	manyBorrowers = 1000
)

// watch has every worker do step without end, and watches for d once they are in full swing.
func (t *throng) watch(d time.Duration, step func(i int, w *worker)) tally {
	var stop atomic.Bool
	var begun, ended sync.WaitGroup
	begun.Add(len(t.workers))
	for i := range t.workers {
		w := &t.workers[i]
		w.times = w.times[:0]
		ended.Go(func() {
			begun.Done() // and no later: an unfair pool would keep some waiting for seconds
			for !stop.Load() {
				step(i, w)
				w.done.Add(1)
			}
		})
	}
	begun.Wait()
	time.Sleep(d / 4) // until they stand in line
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

// distribution tells how what was timed is distributed.
func (t *throng) distribution() (p50, p99, p999 float64) {
	var times []float64
	for i := range t.workers {
		for _, w := range t.workers[i].times {
			times = append(times, float64(w.Nanoseconds()))
		}
	}
	slices.Sort(times) // once
	return quantile(times, 0.5), quantile(times, 0.99), quantile(times, 0.999)
}

// figures are those that every tally has.
func (t tally) figures() figures {
	all := 0.0
	for _, n := range t.each {
		all += n
	}
	return figures{cost: float64(t.took.Nanoseconds()) / all, allocs: float64(t.mallocs) / all}
}

// processTime is the processor time that this process has used. Servers are processes of their own.
func processTime() time.Duration {
	var u syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// crowded makes a subject of n goroutines that acquire, hold and release without end. With waits, each wait is timed, which is not free.
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

// yield is a hold that lets others run.
func yield() { runtime.Gosched() }

// pause is a hold as by a fast server.
func pause() { time.Sleep(50 * time.Microsecond) }
