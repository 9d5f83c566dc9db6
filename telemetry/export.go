package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// repeatAfter is the minimum time between two log lines about a continuing failure.
const repeatAfter = time.Minute

// An ending is the shutdown of a Telemetry, from the exporters' point of view.
//
// The SDK's batch processor has two flaws, which ending corrects. It runs exports with a background
// context, so a hanging collector keeps the goroutine alive long after Shutdown's deadline. It also
// passes an export's error to a global handler and does not return the error.
type ending struct {
	begun atomic.Bool
	// Closing over ends every running export, whatever the export's own context is.
	over   chan struct{}
	giveUp func() // closes over

	mu     sync.Mutex
	losses []loss // since begun
}

// A loss counts the failed exports of a single exporter.
type loss struct {
	exporter string
	exports  int
	first    error
}

func newEnding() *ending {
	over := make(chan struct{})
	return &ending{over: over, giveUp: sync.OnceFunc(func() { close(over) })}
}

func (e *ending) begin() { e.begun.Store(true) }

// note records the result of an export that ended after begin. If repeats is true, only the last
// result of the exporter counts: Shutdown interrupts a periodic export and then sends all its data
// again.
func (e *ending) note(exporter string, repeats bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	same := func(l loss) bool { return l.exporter == exporter }
	if repeats {
		e.losses = slices.DeleteFunc(e.losses, same)
	}
	if err == nil {
		return
	}
	if i := slices.IndexFunc(e.losses, same); i >= 0 {
		e.losses[i].exports++
		return
	}
	e.losses = append(e.losses, loss{exporter: exporter, exports: 1, first: err})
}

// lost returns the export errors since begin.
func (e *ending) lost() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var errs []error
	for _, l := range e.losses {
		errs = append(errs, fmt.Errorf("telemetry: %s: exports that failed: %d, the first with: %w", l.exporter, l.exports, l.first))
	}
	return errors.Join(errs...)
}

// An export is the common part of span and metric exporters.
type export struct {
	name   string // "otlp traces"
	ending *ending
	health *health
	// repeats means a later export contains all data of an earlier export. It is true for cumulative
	// metrics.
	repeats bool
}

// run sends a batch, until ctx ends or the shutdown is given up. The SDK passes the returned error
// to the global handler.
func (x *export) run(ctx context.Context, send func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-x.ending.over:
			cancel()
		case <-ctx.Done():
		}
	}()

	err := send(ctx)
	if !x.ending.begun.Load() {
		return x.health.note(err)
	}
	x.ending.note(x.name, x.repeats, err)
	return nil
}

func (x *export) shutdown(ctx context.Context, inner func(context.Context) error) error {
	if err := inner(ctx); err != nil {
		return fmt.Errorf("telemetry: %s: %w", x.name, err)
	}
	return nil
}

// spanExporter is an SDK span exporter whose exports end with the Telemetry.
type spanExporter struct {
	export
	sdktrace.SpanExporter
}

func (e *spanExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	return e.run(ctx, func(ctx context.Context) error { return e.SpanExporter.ExportSpans(ctx, spans) })
}

func (e *spanExporter) Shutdown(ctx context.Context) error {
	return e.shutdown(ctx, e.SpanExporter.Shutdown)
}

// metricExporter is an SDK metric exporter whose exports end with the Telemetry.
type metricExporter struct {
	export
	sdkmetric.Exporter
}

func (e *metricExporter) Export(ctx context.Context, rm *metricdata.ResourceMetrics) error {
	return e.run(ctx, func(ctx context.Context) error { return e.Exporter.Export(ctx, rm) })
}

func (e *metricExporter) Shutdown(ctx context.Context) error {
	return e.shutdown(ctx, e.Exporter.Shutdown)
}

// health reports the failures of an exporter at a limited rate. A collector may be away for hours.
type health struct {
	name   string
	logger *slog.Logger // may be nil

	mu       sync.Mutex
	failures int // since the last success
	unlogged int // failures not yet in a log line
	loggedAt time.Time
}

func newHealth(name string, logger *slog.Logger) *health { return &health{name: name, logger: logger} }

// note records the result of an export or a scrape. Without a logger note returns err, and the
// caller passes err to OpenTelemetry's global handler.
func (h *health) note(err error) error {
	if h.logger == nil {
		return err
	}
	if err == nil {
		if failures := h.succeeded(); failures > 0 {
			h.logger.Info("telemetry export works again", "exporter", h.name, "failures", failures)
		}
		return nil
	}
	if unlogged := h.failed(time.Now()); unlogged > 0 {
		h.logger.Warn("telemetry export failed", "exporter", h.name, "failures", unlogged, "error", err)
	}
	return nil
}

// succeeded ends a run of failures and returns the length of the run.
func (h *health) succeeded() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	failures := h.failures
	h.failures, h.unlogged = 0, 0
	return failures
}

// failed counts a failure. It returns the number of failures for the next log line, including this
// failure. It returns 0 if the last log line is too recent.
func (h *health) failed(now time.Time) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failures++
	h.unlogged++
	if h.failures > 1 && now.Sub(h.loggedAt) < repeatAfter {
		return 0
	}
	unlogged := h.unlogged
	h.unlogged, h.loggedAt = 0, now
	return unlogged
}

// Println receives the Prometheus handler's errors about an incomplete scrape.
func (h *health) Println(v ...any) {
	if err := h.note(errors.New(fmt.Sprint(v...))); err != nil {
		otel.Handle(err)
	}
}
