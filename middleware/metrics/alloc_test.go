//go:build !race

package metrics

import (
	"context"
	"fmt"
	"testing"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// Recording allocates nothing.
func TestAllocations(t *testing.T) {
	for name, provider := range map[string]metric.MeterProvider{
		"no-op":           noop.NewMeterProvider(),
		"SDK":             newReader(t).provider,
		"SDK, no readers": sdkmetric.NewMeterProvider(),
	} {
		t.Run(name, func(t *testing.T) {
			layer, err := New(Config{MeterProvider: provider})
			if err != nil {
				t.Fatal(err)
			}
			p, err := pool.New(&server{id: redis}, pool.Config{}, layer)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = p.Close(context.Background()) }()
			ctx := context.Background()
			for what, fn := range map[string]func(context.Context, *pooltest.Conn) error{"success": nothing, "miss": miss, "failure": reply} {
				if n := testing.AllocsPerRun(500, func() { _ = p.Do(ctx, get, fn) }); n > 0 {
					t.Errorf("%s: %v allocations a use, want 0", what, n)
				}
			}
			n := testing.AllocsPerRun(500, func() {
				if l, err := p.Acquire(ctx, get); err == nil {
					l.Release(nil)
				}
			})
			if n > 0 {
				t.Errorf("two steps: %v allocations a use, want 0", n)
			}
		})
	}
}

// Nor does what layers report, nor what is beyond the limits and added up.
func TestAllocationsOfEvents(t *testing.T) {
	r := newRigOn(newReader(t), redis, Config{MaxOperations: 1}, pool.Config{})
	ctx := context.Background()
	for i := range maxSeries {
		r.layer.recorder.Observe(ctx, pool.Event{Kind: pool.EventRetry, Pool: redis.Name, Reason: fmt.Sprint(i)})
	}
	for _, e := range []pool.Event{
		{Kind: pool.EventOpened}, {Kind: pool.EventClosed, Reason: "idle"}, {Kind: pool.EventRetry, Reason: "one too many"},
		{Kind: pool.EventStateChanged, From: "closed", To: "open"}, {Kind: pool.EventRejected, Layer: "breaker", Reason: "breaker_open"},
		{Kind: pool.EventTimeout, Reason: "total"}, {Kind: pool.EventGaveUp, Reason: "budget"}, {Kind: pool.EventPaused},
	} {
		e.Pool = redis.Name
		if n := testing.AllocsPerRun(500, func() { r.layer.recorder.Observe(ctx, e) }); n > 0 {
			t.Errorf("%s: %v allocations, want 0", e.Kind, n)
		}
	}
	i := 0
	ops := []pool.Op{get, {Name: "GET", Target: "more"}, {Name: "GET", Target: "and more"}, {Name: "SET", Target: "x"}, {Name: "PING"}}
	n := testing.AllocsPerRun(500, func() {
		_ = r.pool.Do(ctx, ops[i%len(ops)], nothing)
		i++
	})
	if n > 0 {
		t.Errorf("operations beyond the limit: %v allocations a use, want 0", n)
	}
}

// Reading the levels at a collection makes no allocation, except in the layers, which make a list
// of their levels. Allocations of the SDK are not tested.
func TestAllocationsOfLevels(t *testing.T) {
	r := newRig(t, redis, pool.Config{}, newStack(t, stackConfig{}).layers()...)
	l := made(r.layer.recorder.newLevels(r.pool))(t)
	lists := testing.AllocsPerRun(100, func() { _ = r.pool.Levels() })
	if n := testing.AllocsPerRun(100, func() { _ = l.observe(context.Background(), noop.Observer{}) }); n > lists {
		t.Errorf("%v allocations a collection, want %v", n, lists)
	}
}

func miss(context.Context, *pooltest.Conn) error { return pooltest.ErrMiss }
