package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
)

// hanging is an exporter whose exports last until hold is closed. Its exports are counted.
type hanging struct {
	hold chan struct{}

	mu    sync.Mutex
	spans int
}

func (h *hanging) ExportSpans(_ context.Context, spans []sdktrace.ReadOnlySpan) error {
	<-h.hold
	h.mu.Lock()
	defer h.mu.Unlock()
	h.spans += len(spans)
	return nil
}

func (h *hanging) Shutdown(context.Context) error { return nil }

// Each span is exported or counted as dropped, and drops are logged once a minute and at the end.
func TestQueueCountsWhatItDrops(t *testing.T) {
	setenv(t, "OTEL_BSP_MAX_QUEUE_SIZE=50", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE=10")
	synctest.Test(t, func(t *testing.T) {
		var log lockedBuffer
		e := &hanging{hold: make(chan struct{})}
		q := newQueue("otlp traces", e, slog.New(slog.NewTextHandler(&log, nil)))
		p := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(q))
		burst := func() {
			for range 100 {
				_, span := p.Tracer("test").Start(t.Context(), "x")
				span.End()
			}
			synctest.Wait()
		}
		burst() // ten hang, and fifty wait
		burst() // none has room
		if got := q.dropped.Load(); got != 140 {
			t.Errorf("%d of 200 spans were dropped, want 140", got)
		}
		close(e.hold)
		synctest.Wait()
		burst() // the exports keep up only with a part
		time.Sleep(2 * time.Minute)
		if err := p.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if got := int(q.dropped.Load()) + e.spans; got != 300 || int(q.exported.Load()) != e.spans {
			t.Errorf("of 300 spans %d were dropped, %d exported and %d counted as exported", q.dropped.Load(), e.spans, q.exported.Load())
		}
		if q.waiting.Load() != 0 {
			t.Errorf("%d spans wait after the shutdown", q.waiting.Load())
		}
		told := 0
		for line := range strings.Lines(log.String()) {
			var n int
			_, tail, _ := strings.Cut(line, " msg=")
			if _, err := fmt.Sscanf(tail, `"telemetry spans dropped: the queue was full" exporter="otlp traces" spans=%d`, &n); err != nil {
				t.Errorf("logged %s: %v", line, err)
			}
			told += n
		}
		if told != int(q.dropped.Load()) {
			t.Errorf("%d drops are in the log, want %d:\n%s", told, q.dropped.Load(), log.String())
		}
	})
}

// Reports are a minute apart, but for the last, and without a logger they go to the global handler.
func TestReportsOfDropsDoNotFlood(t *testing.T) {
	var global lockedErrors
	previous := otel.GetErrorHandler()
	otel.SetErrorHandler(&global)
	t.Cleanup(func() { otel.SetErrorHandler(previous) })
	q := &queue{name: "otlp traces"}
	start := time.Now()
	q.report(start) // nothing was dropped
	for _, after := range []time.Duration{0, time.Second, 30 * time.Second, 61 * time.Second, 62 * time.Second} {
		q.dropped.Add(1)
		q.report(start.Add(after))
	}
	q.report(time.Time{})
	q.report(time.Time{})
	want := []string{"1", "3", "1"}
	for i := range want {
		want[i] = "telemetry: otlp traces: the queue was full: spans dropped: " + want[i]
	}
	if got := global.get(); !slices.Equal(got, want) {
		t.Errorf("handled %q, want %q", got, want)
	}
}

// What was exported and what was dropped are metrics, of which both are there from the beginning.
func TestSpansAreCounted(t *testing.T) {
	gate := make(chan struct{})
	r := newReceiver(t, protocolHTTP, nil, gate)
	setenv(t, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="+r.url+"/v1/traces", "OTEL_BSP_MAX_QUEUE_SIZE=20", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE=10",
		"OTEL_TRACES_EXPORTER=otlp,console")
	tel := setup(t, Config{Console: &lockedBuffer{}, Logger: slog.New(slog.DiscardHandler)})
	const name, of = "otel_sdk_processor_span_processed_total{", `otel_component_name="batching_span_processor/`
	has := func(exporter, full string, n int) bool {
		_, page := scrape(t, tel.MetricsHandler(), "text/plain")
		return strings.Contains(page, fmt.Sprintf("%s%s%s%s\",otel_component_type=\"batching_span_processor\"} %d\n", name, full, of, exporter, n))
	}
	const full = `error_type="queue_full",`
	for _, exporter := range []string{"otlp", "console"} {
		if !has(exporter, "", 0) || !has(exporter, full, 0) {
			t.Errorf("%s: not counted from the beginning", exporter)
		}
	}
	for r.requests() == 0 { // fills a batch, and waits until it hangs
		use(t, tel)
	}
	for range 1000 {
		use(t, tel)
	}
	if has("otlp", full, 0) {
		t.Error("no drops are counted, though the queue holds 20 of more than 1000 spans")
	}
	close(gate)
	shutdown(t, tel)
}

// The counts are sent by OTLP as well.
func TestCountsOfSpansAreSent(t *testing.T) {
	r := newReceiver(t, protocolHTTP, nil, nil)
	setenv(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+r.url)
	tel := setup(t, Config{NoPrometheus: true})
	shutdown(t, tel)
	points := r.metric("otel.sdk.processor.span.processed").GetSum().GetDataPoints()
	if len(points) != 2 || slices.ContainsFunc(points, func(p *metricspb.NumberDataPoint) bool { return p.GetAsInt() != 0 }) {
		t.Errorf("got %v, want two zeros", points)
	}
}
