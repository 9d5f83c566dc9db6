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

// oneIn is how many requests come to one that is sampled, where that is not said otherwise.
const oneIn = 100

// The limits of a standard stack whose calls go to a server are so long that a stall of the machine does not end the run.
const (
	patience        = 20 * time.Second
	attemptPatience = patience / 2
)

// providers are OpenTelemetry's SDK as a service sets it up: spans are sampled by the request's, and go in batches to an exporter, which
// discards them here; metrics wait to be collected.
type providers struct {
	traces *sdktrace.TracerProvider
	meters *sdkmetric.MeterProvider
	reader *sdkmetric.ManualReader
}

// newProviders makes them. views change what is aggregated.
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

// request returns a context with a request's span that is sampled or not, as the sampler decides when it has been asked often enough.
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

// collect reads all metrics, as a reader does at its intervals.
func (p *providers) collect(into *metricdata.ResourceMetrics) {
	check(p.reader.Collect(context.Background(), into))
}

// discard is an exporter that sends nothing anywhere.
type discard struct{}

func (discard) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return nil }
func (discard) Shutdown(context.Context) error                             { return nil }

// telling is the standard stack that tells p. With skip it makes no spans for requests that are not sampled.
func telling(p *providers, skip bool) middleware.Options {
	return middleware.Options{
		Tracing: tracing.Config{TracerProvider: p.traces, SkipUnsampled: skip},
		Metrics: metrics.Config{MeterProvider: p.meters},
		//nolint:sloglint // a handler that is enabled, as that of a service is
		Logging: logging.Config{Logger: slog.New(slog.NewJSONHandler(io.Discard, nil))},
	}
}

// silent is the standard stack with providers that do nothing.
func silent() middleware.Options {
	return middleware.Options{
		Tracing: tracing.Config{TracerProvider: tracenoop.NewTracerProvider()},
		Metrics: metrics.Config{MeterProvider: metricnoop.NewMeterProvider()},
		Logging: logging.Config{Logger: slog.New(slog.DiscardHandler)},
	}
}

// unwatched is the standard stack without its telemetry layers.
func unwatched() middleware.Options {
	return middleware.Options{Without: []string{middleware.KindTracing, middleware.KindMetrics, middleware.KindLogging}}
}

// standard makes the layers.
func standard(o middleware.Options, total, attempt time.Duration) []pool.Middleware {
	o.Total, o.Attempt = timeout.Config{Limit: total}, timeout.Config{Limit: attempt}
	o.Retry = retry.Config{MaxAttempts: attempts}
	s, err := middleware.Standard(o)
	check(err)
	return s.Layers()
}
