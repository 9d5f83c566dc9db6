//go:build !race

package metrics

import (
	"context"
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

func miss(context.Context, *pooltest.Conn) error { return pooltest.ErrMiss }
