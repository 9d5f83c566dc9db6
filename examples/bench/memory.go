package main

import (
	"context"
	"runtime"
	"sync"
	"time"
)

// memoryScenarios measure the memory of pools and waiters.
func memoryScenarios() []scenario { return []scenario{restingScenario(), waitingScenario()} }

// restingScenario measures many unused pools.
func restingScenario() scenario {
	const many = 1_000
	about := "Each has 10 idle resources and has been used; heap bytes and goroutines are for one pool."
	return compare("1,000 pools at rest", about, func() []contestant {
		return []contestant{
			resting(our, many, func() lender { return newOurs(scarce) }),
			resting(pud, many, func() lender { return newPuddle(scarce) }),
			resting(stdSQL, many, func() lender { return newSQL(scarce) }),
			resting(apache, many, func() lender { return newCommons(scarce) }),
			resting(aChan, many, func() lender { return newChannel(scarce) }),
		}
	},
		gate{what: "goroutines a pool, ours", limit: 1, figure: func(r round) float64 { return r[our].goroutines }},
		heap(our, pud), heap(our, stdSQL), heap(our, apache))
}

// heap reports the heap of a as a multiple of the heap of b.
func heap(a, b string) gate {
	return gate{what: "heap, " + a + " / " + b, limit: unbound, figure: func(r round) float64 { return r[a].heap / r[b].heap }}
}

// resting returns a subject of n pools.
func resting(name string, n int, open func() lender) contestant {
	return contestant{subject{name, func(time.Duration) figures {
		pools := make([]lender, n)
		before := takeStock()
		for i := range pools {
			pools[i] = open()
			pools[i].loop(context.Background(), 1)
		}
		f := takeStock().since(before, n)
		for _, p := range pools {
			p.close()
		}
		return f
	}}, func() {}}
}

// waitingScenario measures many goroutines that wait for a resource in use.
func waitingScenario() scenario {
	const many = 10_000
	return compare("10,000 waiters", "For one resource; heap bytes are for one waiter, without its stack.", func() []contestant {
		return []contestant{
			waiting(our, many, newOurs(1)), waiting(pud, many, newPuddle(1)), waiting(stdSQL, many, newSQL(1)),
			waiting(apache, many, newCommons(1)), waiting(aChan, many, newChannel(1)),
		}
	}, heap(our, pud), heap(our, stdSQL), heap(our, aChan))
}

// waiting returns a subject of n waiters.
func waiting(name string, n int, l lender) contestant {
	return contestant{subject{name, func(time.Duration) figures {
		var begun, ended sync.WaitGroup
		taken, over := make(chan struct{}), make(chan struct{})
		ended.Go(func() { check(l.use(context.Background(), func() { close(taken); <-over })) })
		<-taken
		before := takeStock()
		begun.Add(n)
		for range n {
			ended.Go(func() { begun.Done(); check(l.use(context.Background(), func() {})) })
		}
		begun.Wait()
		time.Sleep(standing)
		f := takeStock().since(before, n)
		close(over)
		ended.Wait()
		return f
	}}, l.close}
}

// standing is the time for the waiters to queue.
const standing = 30 * time.Millisecond

// stock is the heap and the number of goroutines of the process.
type stock struct{ heap, goroutines float64 }

// takeStock waits for ending goroutines and collects garbage twice. A sync.Pool's content survives
// the first collection.
func takeStock() stock {
	const step, enough, most = 2 * time.Millisecond, 5, 500
	n := runtime.NumGoroutine()
	for calm, tries := 0, 0; calm < enough && tries < most; tries++ {
		time.Sleep(step)
		calm++
		if now := runtime.NumGoroutine(); now != n {
			n, calm = now, 0
		}
	}
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return stock{float64(m.HeapAlloc), float64(n)}
}

// since returns the growth after before, divided by n.
func (s stock) since(before stock, n int) figures {
	return figures{remains: remains{
		heap: (s.heap - before.heap) / float64(n), goroutines: (s.goroutines - before.goroutines) / float64(n),
	}}
}
