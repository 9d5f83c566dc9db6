package main

import (
	"context"
	"time"
)

// calls returns a subject of goroutines that call without pause. Each goroutine has its own
// requests from arrive. A sample takes long times the usual duration.
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

// requests produces the contexts of a server's successive requests. A context can be cancelled, has
// no deadline, and holds the request's span. The span of every n-th request is sampled, where n is
// the field every.
type requests struct {
	usual, sampled context.Context
	every, n       int
	close          context.CancelFunc
}

// newRequests returns requests with every n-th request sampled, where n is every. Zero means no
// sampled request.
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
