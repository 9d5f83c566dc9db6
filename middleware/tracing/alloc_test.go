//go:build !race

package tracing

import (
	"context"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

func nothing(context.Context, *pooltest.Conn) error { return nil }

// What the layer costs where nothing is sampled.
func TestAllocations(t *testing.T) {
	unsampled := trace.ContextWithSpanContext(context.Background(),
		trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}}))
	for _, c := range []struct {
		name string
		cfg  Config
		want float64
	}{
		{"no-op", Config{TracerProvider: noop.NewTracerProvider()}, 0},
		{"skipped", Config{TracerProvider: sdktrace.NewTracerProvider(), SkipUnsampled: true}, 0},
		{"unsampled", Config{TracerProvider: sdktrace.NewTracerProvider()}, 3}, // the SDK's own
	} {
		t.Run(c.name, func(t *testing.T) {
			layer, err := New(c.cfg)
			if err != nil {
				t.Fatal(err)
			}
			p, err := pool.New(&server{}, pool.Config{}, layer)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = p.Close(context.Background()) }()
			got := testing.AllocsPerRun(200, func() { _ = p.Do(unsampled, get, nothing) })
			if got > c.want {
				t.Errorf("%v allocations a use, want at most %v", got, c.want)
			}
		})
	}
}
