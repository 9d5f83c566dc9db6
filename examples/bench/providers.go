package main

import (
	"context"
	"io"
	"log/slog"
	"time"

	metricnoop "go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/earnorm/poolstack/middleware"
	"github.com/earnorm/poolstack/middleware/logging"
	"github.com/earnorm/poolstack/middleware/metrics"
	"github.com/earnorm/poolstack/middleware/retry"
	"github.com/earnorm/poolstack/middleware/timeout"
	"github.com/earnorm/poolstack/middleware/tracing"
	"github.com/earnorm/poolstack/pool"
)

// oneIn is the default number of requests per sampled request.
const oneIn = 100

// The timeouts of a standard stack in front of a server. They are long, so a stall of the machine
// does not end the run.
const (
	patience        = 20 * time.Second
	attemptPatience = patience / 2
)

// providers hold OpenTelemetry's SDK as in a service. Spans follow the sampling of the request's
// span, and go in batches to an exporter, which discards the spans. Metrics wait for a collection.
type providers struct {
	traces *sdktrace.TracerProvider
	meters *sdkmetric.MeterProvider
	reader *sdkmetric.ManualReader
}

// newProviders returns providers. The views change the aggregation of metrics.
func newProviders(views ...sdkmetric.View) *providers {
	p := &providers{reader: sdkmetric.NewManualReader()}
	p.traces = sdktrace.NewTracerProvider(sdktrace.WithBatcher(discard{}),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(1.0/oneIn))))
	p.meters = sdkmetric.NewMeterProvider(sdkmetric.WithReader(p.reader), sdkmetric.WithView(views...))
	return p
}

func (p *providers) close() {
	check(p.traces.Shutdown(context.Background()))
	check(p.meters.Shutdown(context.Background()))
}

// request returns a context with a request's span, sampled or not. It starts spans until the
// sampler decides as wanted.
func (p *providers) request(ctx context.Context, sampled bool) context.Context {
	tracer := p.traces.Tracer("bench")
	for {
		with, span := tracer.Start(ctx, "request")
		if span.SpanContext().IsSampled() == sampled {
			return with // the request never ends
		}
		span.End()
	}
}

// collect reads all metrics, as a periodic reader does.
func (p *providers) collect(into *metricdata.ResourceMetrics) {
	check(p.reader.Collect(context.Background(), into))
}

// discard is an exporter that drops all spans.
type discard struct{}

func (discard) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return nil }
func (discard) Shutdown(context.Context) error                             { return nil }

// telling returns the options of a standard stack with the providers of p. If skip is true,
// unsampled requests have no spans.
func telling(p *providers, skip bool) middleware.Options {
	return middleware.Options{
		Tracing: tracing.Config{TracerProvider: p.traces, SkipUnsampled: skip},
		Metrics: metrics.Config{MeterProvider: p.meters},
		//nolint:sloglint // an enabled handler, as in a service
		Logging: logging.Config{Logger: slog.New(slog.NewJSONHandler(io.Discard, nil))},
	}
}

// silent returns the options of a standard stack with no-op providers.
func silent() middleware.Options {
	return middleware.Options{
		Tracing: tracing.Config{TracerProvider: tracenoop.NewTracerProvider()},
		Metrics: metrics.Config{MeterProvider: metricnoop.NewMeterProvider()},
		Logging: logging.Config{Logger: slog.New(slog.DiscardHandler)},
	}
}

// unwatched returns the options of a standard stack without the telemetry layers.
func unwatched() middleware.Options {
	return middleware.Options{Without: []string{middleware.KindTracing, middleware.KindMetrics, middleware.KindLogging}}
}

// standard creates the layers of the standard stack.
func standard(o middleware.Options, total, attempt time.Duration) []pool.Middleware {
	o.Total, o.Attempt = timeout.Config{Limit: total}, timeout.Config{Limit: attempt}
	o.Retry = retry.Config{MaxAttempts: attempts}
	s, err := middleware.Standard(o)
	check(err)
	return s.Layers()
}
