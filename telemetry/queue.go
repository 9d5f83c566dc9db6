package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/otelconv"
)

// markers is the room in the SDK's queue for the markers of ForceFlush. Each call has one marker.
const markers = 64

// A queue holds the ended spans of one exporter until the export. The SDK's batch processor has
// such a queue, but tells nobody about the spans that found the queue full: the SDK's own metric is
// experimental and goes to the global meter provider. So this queue counts the waiting spans,
// passes a span on only if the processor has room, and counts the spans that found no room.
type queue struct {
	sdktrace.SpanProcessor

	name   string // of the exporter: "otlp traces"
	logger *slog.Logger
	room   int64

	waiting  atomic.Int64 // passed on, and not yet exported
	exported atomic.Int64 // also in vain
	dropped  atomic.Int64

	mu         sync.Mutex
	reported   int64 // of dropped
	reportedAt time.Time
}

func newQueue(name string, e sdktrace.SpanExporter, logger *slog.Logger) *queue {
	q := &queue{name: name, logger: logger, room: sdktrace.DefaultMaxQueueSize}
	if n, err := strconv.Atoi(get("OTEL_BSP_MAX_QUEUE_SIZE")); err == nil { // checked with all numbers
		q.room = int64(n)
	}
	q.SpanProcessor = sdktrace.NewBatchSpanProcessor(queued{e, q}, sdktrace.WithMaxQueueSize(int(q.room)+markers))
	return q
}

// OnEnd passes a span on, or counts the span as dropped.
func (q *queue) OnEnd(s sdktrace.ReadOnlySpan) {
	if !s.SpanContext().IsSampled() {
		return
	}
	if q.waiting.Add(1) > q.room {
		q.waiting.Add(-1)
		q.dropped.Add(1)
		return
	}
	q.SpanProcessor.OnEnd(s)
}

// Shutdown exports the waiting spans.
func (q *queue) Shutdown(ctx context.Context) error {
	err := q.SpanProcessor.Shutdown(ctx)
	q.report(time.Time{})
	return err
}

// queued is the exporter as the SDK's processor sees the exporter.
type queued struct {
	sdktrace.SpanExporter

	queue *queue
}

// ExportSpans makes room, and exports. Drops are reported here and not in OnEnd, where they would
// cost the program time while the program has the most to do.
func (e queued) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	e.queue.waiting.Add(-int64(len(spans)))
	e.queue.exported.Add(int64(len(spans)))
	e.queue.report(time.Now())
	return e.SpanExporter.ExportSpans(ctx, spans)
}

// report tells of the spans that were dropped since the last report. The zero time stands for the
// last report; before, reports are at least repeatAfter apart.
func (q *queue) report(now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	dropped := q.dropped.Load() - q.reported
	if dropped == 0 || !now.IsZero() && now.Sub(q.reportedAt) < repeatAfter {
		return
	}
	q.reported, q.reportedAt = q.reported+dropped, now
	if q.logger == nil {
		otel.Handle(fmt.Errorf("telemetry: %s: the queue was full: spans dropped: %d", q.name, dropped))
		return
	}
	q.logger.Warn("telemetry spans dropped: the queue was full", "exporter", q.name, "spans", dropped)
}

// countSpans has a meter count the spans of all queues, by OpenTelemetry's convention for the
// telemetry of SDKs.
func countSpans(meter metric.Meter, queues []*queue) error {
	if len(queues) == 0 {
		return nil
	}
	processed, err := otelconv.NewSDKProcessorSpanProcessedObservable(meter)
	if err != nil {
		return err
	}
	type counted struct {
		queue             *queue
		exported, dropped metric.MeasurementOption
	}
	counts := make([]counted, len(queues))
	for i, q := range queues {
		kind := semconv.OTelComponentTypeBatchingSpanProcessor
		name := semconv.OTelComponentName(kind.Value.AsString() + "/" + strings.TrimSuffix(q.name, " traces"))
		counts[i] = counted{
			q,
			metric.WithAttributeSet(attribute.NewSet(name, kind)),
			metric.WithAttributeSet(attribute.NewSet(name, kind, semconv.ErrorTypeKey.String("queue_full"))),
		}
	}
	_, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for _, c := range counts {
			o.ObserveInt64(processed.Inst(), c.queue.exported.Load(), c.exported)
			o.ObserveInt64(processed.Inst(), c.queue.dropped.Load(), c.dropped)
		}
		return nil
	}, processed.Inst())
	return err
}
