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

// repeatAfter is how long a failure that goes on is not logged again.
const repeatAfter = time.Minute

// An ending is the shutdown of one Telemetry, as its exports see it.
//
// The SDK's batch processor runs its exports on a background context, so that a hanging collector would keep its goroutine alive
// long after Shutdown's deadline, and it hands what fails to a global handler instead of returning it. Both are put right here.
type ending struct {
	begun  atomic.Bool
	over   chan struct{} // closed, it ends every export still in progress, whichever context that one runs on
	giveUp func()        // closes over

	mu     sync.Mutex
	losses []loss // since begun
}

// A loss is what one exporter could not send.
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

// note takes the outcome of an export that was under way at begin or later. Where exports repeat what earlier ones held, only the last one
// counts: Shutdown cuts a periodic export short, and then sends all of it again.
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

// lost returns what has failed to be sent since begin.
func (e *ending) lost() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var errs []error
	for _, l := range e.losses {
		errs = append(errs, fmt.Errorf("telemetry: %s: exports that failed: %d, the first with: %w", l.exporter, l.exports, l.first))
	}
	return errors.Join(errs...)
}

// An export is what the exporters of both kinds of data have in common.
type export struct {
	name   string // "otlp traces"
	ending *ending
	health *health
	// repeats says that a later export contains all that an earlier one did, which cumulative metrics do.
	repeats bool
	release func() // may be nil
}

// run sends one batch, until ctx ends or the shutdown is given up. The result is for the SDK, which hands an error to the global handler.
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
	err := inner(ctx)
	if x.release != nil {
		x.release()
	}
	if err != nil {
		return fmt.Errorf("telemetry: %s: %w", x.name, err)
	}
	return nil
}

// spanExporter is an SDK's exporter of spans that ends when its Telemetry does.
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

// metricExporter is an SDK's exporter of metrics that ends when its Telemetry does.
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

// health reports the failures of one exporter without flooding: a collector may be away for hours.
type health struct {
	name   string
	logger *slog.Logger // may be nil

	mu       sync.Mutex
	failures int // since the last success
	unlogged int // of them, not yet in a log line
	loggedAt time.Time
}

func newHealth(name string, logger *slog.Logger) *health { return &health{name: name, logger: logger} }

// note takes the outcome of one attempt. Without a logger it hands an error back, and the SDK passes it to OpenTelemetry's handler.
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

// succeeded ends a row of failures and returns how many they were.
func (h *health) succeeded() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	failures := h.failures
	h.failures, h.unlogged = 0, 0
	return failures
}

// failed counts a failure. It returns how many are to be reported now, this one included: 0 if it is too early for a further line.
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

// Println takes what the Prometheus handler has to say about a scrape that is incomplete.
func (h *health) Println(v ...any) {
	if err := h.note(errors.New(fmt.Sprint(v...))); err != nil {
		otel.Handle(err)
	}
}
