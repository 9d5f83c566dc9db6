package main

import (
	"context"
	"time"
)

// calls makes a subject of so many goroutines that call without end, each under the requests that arrive makes for it. A sample is
// longer than others by the factor long.
func calls(name string, callers, long int, arrive func() *requests, call func(ctx context.Context) error) contestant {
	t := &throng{workers: make([]worker, callers)}
	from := make([]*requests, callers)
	for i := range from {
		from[i] = arrive()
	}
	measure := func(d time.Duration) figures {
		did := t.watch(d*time.Duration(long), func(i int, w *worker) {
			start := time.Now()
			check(call(from[i].next()))
			if t.timing.Load() {
				w.times = append(w.times, time.Since(start))
			}
		})
		f := did.figures()
		f.cpu = float64(did.cpu.Nanoseconds()) / float64(did.took.Nanoseconds()) * f.cost
		f.p50, f.p99, f.p999 = t.distribution()
		return f
	}
	return contestant{subject{name, measure}, func() {
		for _, r := range from {
			r.close()
		}
	}}
}

// requests are what a server makes calls for, one after the other: a context that can be cancelled, has no deadline, and holds the
// request's span. One in so many is sampled.
type requests struct {
	usual, sampled context.Context
	every, n       int
	close          context.CancelFunc
}

// newRequests makes requests of which one in every is sampled; 0 means none.
func newRequests(p *providers, every int) *requests {
	ctx, cancel := context.WithCancel(context.Background())
	return &requests{usual: p.request(ctx, false), sampled: p.request(ctx, true), every: every, close: cancel}
}

// next returns the context of the next request.
func (r *requests) next() context.Context {
	if r.every == 0 {
		return r.usual
	}
	if r.n++; r.n%r.every == 0 {
		return r.sampled
	}
	return r.usual
}
