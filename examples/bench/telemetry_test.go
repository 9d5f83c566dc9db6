package main

import (
	"fmt"
	"slices"
	"testing"

	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/trace"
)

// Every n-th request is sampled, and every request can be cancelled.
func TestRequests(t *testing.T) {
	p := newProviders()
	defer p.close()
	for every, want := range map[int]int{0: 0, 1: 200, 100: 2} {
		r := newRequests(p, every)
		got := 0
		for range 200 {
			ctx := r.next()
			span := trace.SpanContextFromContext(ctx)
			if _, deadline := ctx.Deadline(); !span.IsValid() || deadline || ctx.Done() == nil {
				t.Fatalf("a request without a span, or with a deadline, or that cannot be cancelled")
			}
			if span.IsSampled() {
				got++
			}
		}
		r.close()
		if got != want || r.next().Err() == nil {
			t.Errorf("one in %d: %d of 200 are sampled, want %d; %v after close", every, got, want, r.next().Err())
		}
	}
}

// The hand-written observables have the same series as the pool.
func TestObserveLike(t *testing.T) {
	from, like := newProviders(withoutEvents), newProviders()
	defer from.close()
	defer like.close()
	p := newOurs(uncont, standard(telling(from, true), limit, limit/2)...)
	defer p.close()
	observeLike(from, like)
	want, got := series(from), series(like)
	if !slices.Equal(got, want) {
		t.Errorf("got\n%v\nwant\n%v", got, want)
	}
	if len(want) < 10 {
		t.Errorf("the pool has %d levels: where are they?", len(want))
	}
}

// series lists the collected series.
func series(p *providers) (all []string) {
	var found metricdata.ResourceMetrics
	p.collect(&found)
	add := func(m metricdata.Metrics, attributes any) {
		all = append(all, fmt.Sprintf("%s %T %v", m.Name, m.Data, attributes))
	}
	for _, scope := range found.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, point := range data.DataPoints {
					add(m, point.Attributes.ToSlice())
				}
			case metricdata.Gauge[int64]:
				for _, point := range data.DataPoints {
					add(m, point.Attributes.ToSlice())
				}
			case metricdata.Gauge[float64]:
				for _, point := range data.DataPoints {
					add(m, point.Attributes.ToSlice())
				}
			default:
				add(m, nil)
			}
		}
	}
	slices.Sort(all)
	return all
}
