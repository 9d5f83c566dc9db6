package tracing

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel/trace"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
)

// brokenBefore is the refusal of a breaker that a failure has opened.
type brokenBefore struct{ refusal }

func (brokenBefore) Because() driver.Class {
	return driver.Class{Fault: driver.FaultServer, Type: "broken"}
}

// A refused use is linked to the use that has opened the breaker: to the latest one with a span,
// for as long as the breaker is not closed.
func TestLinkToTheOpener(t *testing.T) {
	var event pool.Event
	tell := pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
		return func(ctx context.Context, c *pool.Call) error {
			c.Emit(ctx, event)
			if event.Kind == pool.EventRejected {
				return event.Err
			}
			return next(ctx, c)
		}
	})
	r := newRig(t, redis, Config{}, pool.Config{}, tell).warm()
	other := newRig(t, mongodb, Config{TracerProvider: r.provider}, pool.Config{}, tell).warm()
	unsampled := trace.ContextWithSpanContext(t.Context(),
		trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}}))
	changed := func(from, to string) pool.Event {
		return pool.Event{Kind: pool.EventStateChanged, Layer: "breaker", From: from, To: to}
	}
	refused := pool.Event{Kind: pool.EventRejected, Layer: "breaker", Reason: "breaker_open", Err: brokenBefore{}}
	for _, step := range []struct {
		what  string
		in    *rig
		ctx   context.Context // of the use; nil: the event belongs to no use
		op    string
		event pool.Event
		want  string // name of the linked span
	}{
		{"nothing is known", r, t.Context(), "a", refused, ""},
		{"opened", r, t.Context(), "first", changed("closed", "open"), ""},
		{"refused", r, t.Context(), "b", refused, "first"},
		{"another pool", other, t.Context(), "c", refused, ""},
		{"a refusal without an earlier failure", r, t.Context(), "d",
			pool.Event{Kind: pool.EventRejected, Layer: "timeout.total", Reason: "timeout_begin", Err: refusal{}}, ""},
		{"half-open", r, nil, "", changed("open", "half-open"), ""},
		{"a probe without a span fails", r, unsampled, "hidden", changed("half-open", "open"), ""},
		{"refused again", r, t.Context(), "e", refused, "first"},
		{"a probe fails", r, t.Context(), "probe", changed("half-open", "open"), ""},
		{"refused because of the probe", r, t.Context(), "f", refused, "probe"},
		{"closed", r, nil, "", changed("half-open", "closed"), ""},
		{"a late refusal", r, t.Context(), "g", refused, ""},
		{"opened", r, t.Context(), "second", changed("closed", "open"), ""},
		{"closed in a use", r, t.Context(), "last", changed("half-open", "closed"), ""},
		{"opened without a span", r, unsampled, "hidden", changed("closed", "open"), ""},
		{"refused without an opener", r, t.Context(), "h", refused, ""},
		{"opened by hand", r, nil, "", changed("closed", "open"), ""},
		{"refused by hand", r, t.Context(), "i", refused, ""},
	} {
		if step.ctx == nil {
			step.in.pool.Emit(step.event)
			continue
		}
		event = step.event
		_ = step.in.pool.Do(step.ctx, pool.Op{Name: step.op}, ping)
		names := map[trace.SpanID]string{}
		got := ""
		for _, s := range r.recorder.Ended() {
			names[s.SpanContext().SpanID()] = s.Name()
			for _, l := range s.Links() {
				if s.Name() == step.op {
					got += names[l.SpanContext.SpanID()]
				}
			}
		}
		if got != step.want {
			t.Errorf("%s: the span is linked to %q, want %q", step.what, got, step.want)
		}
	}
}
