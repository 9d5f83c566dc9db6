package tracing

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// Baggage and a remote parent reach the borrower, in one-step and two-step uses, traced or not.
// Nothing global is changed.
func TestPropagation(t *testing.T) {
	provider, propagator := otel.GetTracerProvider(), otel.GetTextMapPropagator()
	carrier := propagation.MapCarrier{
		"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		"tracestate":  "vendor=x",
		"baggage":     "tenant=7",
	}
	fields := propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})
	caller := fields.Extract(context.Background(), carrier)
	remote := trace.SpanContextFromContext(caller)
	for name, cfg := range map[string]Config{
		"recorded": {Commands: true},
		"filtered": {Filter: func(pool.Op) bool { return false }},
		"no-op":    {TracerProvider: noop.NewTracerProvider()},
	} {
		r := newRig(t, redis, cfg, pool.Config{}).warm()
		check := func(ctx context.Context) {
			t.Helper()
			if got := baggage.FromContext(ctx).Member("tenant").Value(); got != "7" {
				t.Errorf("%s: the baggage holds %q", name, got)
			}
			span := trace.SpanContextFromContext(ctx)
			if span.TraceID() != remote.TraceID() || !span.IsSampled() || span.TraceState().Get("vendor") != "x" {
				t.Errorf("%s: the span context is %v", name, span)
			}
			if own := span.SpanID() != remote.SpanID(); own != (name == "recorded") {
				t.Errorf("%s: the use has a span of its own: %t", name, own)
			}
			out := propagation.MapCarrier{}
			fields.Inject(ctx, out)
			if out["baggage"] != carrier["baggage"] || out["tracestate"] != carrier["tracestate"] {
				t.Errorf("%s: what goes on is %v", name, out)
			}
		}
		_ = r.pool.Do(caller, get, func(ctx context.Context, _ *pooltest.Conn) error {
			check(ctx)
			return command(ctx, driver.Command{Name: "GET"}, 0, nil)
		})
		lease, err := r.pool.Acquire(caller, get)
		if err != nil {
			t.Fatal(err)
		}
		check(lease.Context())
		lease.Release(nil)
		for _, s := range r.recorder.Ended() {
			if s.Name() == "GET sessions" && (s.Parent().SpanID() != remote.SpanID() || !s.Parent().IsRemote()) {
				t.Errorf("%s: the parent is %v, want the remote one", name, s.Parent())
			}
		}
	}
	if otel.GetTracerProvider() != provider || otel.GetTextMapPropagator() != propagator {
		t.Error("a global has been set")
	}
}
