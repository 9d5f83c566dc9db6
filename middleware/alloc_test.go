//go:build !race

package middleware_test

import (
	"context"
	"testing"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/earnorm/poolstack/middleware"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

func number(context.Context, conn) (int, error) { return 7, nil }

// discard is a span processor that has no use for spans.
type discard struct{ sdktrace.SpanProcessor }

func (discard) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (discard) OnEnd(sdktrace.ReadOnlySpan)                     {}

// recording are options with real tracing, recorded or skipped below an unsampled parent, and real
// metrics.
func recording() middleware.Options {
	o := quiet()
	o.Tracing.TracerProvider = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(discard{}))
	o.Tracing.SkipUnsampled = true
	o.Metrics.MeterProvider = sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))
	return o
}

// What a success costs with the standard stack: the two lazy deadlines, and five of OpenTelemetry's
// SDK for a span that is recorded.
func TestAllocs(t *testing.T) {
	near, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	far := quiet()
	far.Total.Limit, far.Attempt.Limit = 2*time.Hour, time.Hour
	unsampled := trace.ContextWithSpanContext(context.Background(),
		trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}}))
	for _, tc := range []struct {
		name string
		o    middleware.Options
		ctx  context.Context
		want float64 // at most
	}{
		{"no-op telemetry", quiet(), context.Background(), 2},
		{"no-op telemetry, the caller's deadline is nearer", far, near, 0},
		{"metrics, unsampled parent", recording(), unsampled, 2},
		{"metrics, sampled", recording(), context.Background(), 2 + 5},
		// OpenTelemetry's global tracer makes a span, a value and a context even while it has nobody to
		// delegate to.
		{"the global providers, as nobody has set them", middleware.Options{}, context.Background(), 2 + 3},
	} {
		// A driver without an interrupter: what that costs where the caller can cancel is the pool's.
		p, end := newPool(t, struct{ driver.Driver[conn] }{&pooltest.Fake{}}, pool.Config{}, standard(t, tc.o).Layers()...)
		op := pool.Op{Name: "GET", Target: "things", Idempotent: true}
		for step, f := range map[string]func(){
			"Do": func() {
				if err := p.Do(tc.ctx, op, nothing); err != nil {
					t.Error(err)
				}
			},
			"Get": func() {
				if _, err := pool.Get(tc.ctx, p, op, number); err != nil {
					t.Error(err)
				}
			},
			"Acquire": func() {
				l, err := p.Acquire(tc.ctx, op)
				if err != nil {
					t.Error(err)
				}
				l.Release(nil)
			},
		} {
			got := testing.AllocsPerRun(500, f)
			t.Logf("%s: %s: %v allocations", tc.name, step, got)
			if got > tc.want {
				t.Errorf("%s: %s costs %v allocations, want at most %v", tc.name, step, got, tc.want)
			}
		}
		end()
	}
}
