package tracing

import (
	"context"
	"time"

	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/earnorm/poolstack/pool"
)

// eventSocketOpened is the event of a dial, reported by backends whose resources are not sockets.
const eventSocketOpened pool.EventKind = "socket_opened"

// background makes a span of the pool's background work. The span is a root, because several uses
// may wait for the same work.
func (t *Tracing) background(e pool.Event) {
	var name string
	var o outcome
	switch e.Kind {
	case pool.EventOpened:
		name = "open"
	case eventSocketOpened:
		name = "open socket"
	case pool.EventOpenFailed:
		name, o = "open", outcome{failed: true, reason: e.Reason}
	case pool.EventCheckFailed:
		name, o = e.Reason, outcome{failed: true, reason: e.Reason}
	default:
		return
	}
	now := time.Now()
	_, span := t.tracer.Start(context.Background(), name, trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindInternal),
		trace.WithTimestamp(now.Add(-e.Duration)), trace.WithAttributes(semconv.DBClientConnectionPoolName(e.Pool)))
	o.mark(span, false)
	span.End(trace.WithTimestamp(now))
}
