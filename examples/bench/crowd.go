package main

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// borrower is one of a crowd.
type borrower struct {
	acquires atomic.Int64
	waits    []time.Duration
	_        [64]byte // one to a cache line
}

// Samples of waits and of large crowds are longer than others by this factor: each borrower must have its turn.
const (
	longer        = 4
	manyBorrowers = 1000
)

// crowded makes a subject of n goroutines that acquire, hold and release without end. With waits, each wait is timed, which is not free.
func crowded(name string, l lender, n int, hold func(), waits bool) subject {
	return subject{name, func(d time.Duration) figures {
		if waits || n > manyBorrowers {
			d *= longer
		}
		borrowers := make([]borrower, n)
		var stop, timing atomic.Bool
		var begun, ended sync.WaitGroup
		begun.Add(n)
		for i := range borrowers {
			b := &borrowers[i]
			ended.Go(func() {
				begun.Done() // and no later: an unfair pool would keep some waiting for seconds
				for !stop.Load() {
					if waits {
						b.timedUse(l, hold, &timing)
					} else {
						check(l.use(context.Background(), hold))
					}
					b.acquires.Add(1)
				}
			})
		}
		begun.Wait()
		time.Sleep(d / 4) // until they stand in line
		before, memory, start := acquires(borrowers), mallocs(), time.Now()
		timing.Store(true)
		time.Sleep(d)
		after, took, allocated := acquires(borrowers), time.Since(start), mallocs()-memory
		stop.Store(true)
		ended.Wait()

		uses := make([]float64, n)
		var all int64
		for i := range uses {
			uses[i] = float64(after[i] - before[i])
			all += after[i] - before[i]
		}
		f := figures{cost: float64(took.Nanoseconds()) / float64(all), allocs: float64(allocated) / float64(all)}
		if waits {
			f.unfairness = slices.Max(uses) / slices.Min(uses)
			f.p50, f.p99, f.p999 = distribution(borrowers)
		}
		return f
	}}
}

func (b *borrower) timedUse(l lender, hold func(), timing *atomic.Bool) {
	start := time.Now()
	check(l.use(context.Background(), func() {
		if timing.Load() {
			b.waits = append(b.waits, time.Since(start))
		}
		hold()
	}))
}

func acquires(borrowers []borrower) []int64 {
	counts := make([]int64, len(borrowers))
	for i := range borrowers {
		counts[i] = borrowers[i].acquires.Load()
	}
	return counts
}

func distribution(borrowers []borrower) (p50, p99, p999 float64) {
	var waits []float64
	for i := range borrowers {
		for _, w := range borrowers[i].waits {
			waits = append(waits, float64(w.Nanoseconds()))
		}
	}
	return quantile(waits, 0.5), quantile(waits, 0.99), quantile(waits, 0.999)
}

// yield is a hold that lets others run.
func yield() { runtime.Gosched() }

// pause is a hold as by a fast server.
func pause() { time.Sleep(50 * time.Microsecond) }
