package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync/atomic"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	noopmetric "go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	nooptrace "go.opentelemetry.io/otel/trace/noop"
)

// Config is what a program decides about its telemetry. The zero value works. Everything else is decided by whoever runs the
// program, in environment variables (see the package's documentation); where both speak about the same thing, the environment wins.
type Config struct {
	// ServiceName is the resource attribute service.name, if the environment names none.
	// "" stands for "unknown_service:" and the name of the executable.
	ServiceName string

	// Attributes are further attributes of the resource, such as service.version. The environment may override each of them.
	Attributes []attribute.KeyValue

	// Views change what is aggregated from the instruments, for example a histogram's buckets. They apply to every metric exporter.
	// Nil leaves the instruments as they are.
	Views []sdkmetric.View

	// NoPrometheus leaves the Prometheus exporter out, if OTEL_METRICS_EXPORTER does not ask for it: for a program that never
	// serves MetricsHandler, since every exporter costs each measurement a second (or third) aggregation.
	NoPrometheus bool

	// Console receives what the console exporters write, one Write at a time. Nil stands for os.Stdout.
	Console io.Writer

	// Logger receives the failures of exports and scrapes: the first at once, the following ones at most once a minute with their
	// number, and one line when it works again. Nil leaves them to OpenTelemetry's global error handler, which prints each of them to
	// standard error. Whatever else the SDK complains about goes to that handler in either case.
	Logger *slog.Logger

	// SetGlobal also makes the two providers OpenTelemetry's global ones. The global propagator is left as it is.
	SetGlobal bool
}

// Validate returns an error that names what is wrong, or nil.
func (c Config) Validate() error {
	var errs []error
	for i, kv := range c.Attributes {
		if !kv.Valid() {
			errs = append(errs, fmt.Errorf("telemetry: Attributes[%d] is %q: must have a key and a value", i, kv.Key))
		}
	}
	for i, v := range c.Views {
		if v == nil {
			errs = append(errs, fmt.Errorf("telemetry: Views[%d] is nil: must be a view", i))
		}
	}
	return errors.Join(errs...)
}

// Telemetry holds the providers that Setup built, and what is behind them. Its methods may be called concurrently.
type Telemetry struct {
	tracers trace.TracerProvider
	meters  metric.MeterProvider
	handler http.Handler

	// stops are the shutdowns of what is behind the providers, to be called all at once.
	stops   []func(context.Context) error
	stopped atomic.Bool
	ending  *ending
}

// Setup builds a tracer provider and a meter provider as the environment variables say that the package's documentation lists.
//
// It does not wait for any collector and succeeds when there is none; ctx bounds Setup itself and nothing after it. It fails, with every
// reason at once, when a variable's value or the configuration is not understood, or when a certificate file cannot be used.
//
// The caller owns the result and ends it with Shutdown. Several may live side by side in one process.
func Setup(ctx context.Context, cfg Config) (*Telemetry, error) {
	if err := errors.Join(ctx.Err(), cfg.Validate()); err != nil {
		return nil, err
	}
	env, err := readEnvironment(cfg.NoPrometheus)
	if err != nil {
		return nil, err
	}
	t := &Telemetry{
		tracers: nooptrace.NewTracerProvider(),
		meters:  noopmetric.NewMeterProvider(),
		handler: noMetrics(env.disabled),
		ending:  newEnding(),
	}
	if !env.disabled {
		if err := t.build(ctx, cfg, env); err != nil {
			t.ending.giveUp()
			return nil, err
		}
	}
	if cfg.SetGlobal {
		otel.SetTracerProvider(t.tracers)
		otel.SetMeterProvider(t.meters)
	}
	return t, nil
}

// build fills t in. Exporters can fail to be made, providers cannot; so all exporters come first, and are shut down if one fails.
func (t *Telemetry) build(ctx context.Context, cfg Config, env environment) error {
	var readers []sdkmetric.Reader
	if env.prometheus {
		reader, handler, err := newPrometheus(newHealth("prometheus", cfg.Logger))
		if err != nil {
			return err
		}
		readers, t.handler = append(readers, reader), handler
	}
	spans, metrics, err := builder{cfg: cfg, env: env, ending: t.ending}.exporters(ctx)
	if err != nil {
		for _, e := range spans {
			err = errors.Join(err, e.Shutdown(ctx))
		}
		for _, e := range metrics {
			err = errors.Join(err, e.Shutdown(ctx))
		}
		return err
	}
	for _, e := range metrics {
		readers = append(readers, sdkmetric.NewPeriodicReader(e))
	}
	t.provide(newResource(ctx, cfg), cfg.Views, spans, readers)
	return nil
}

// provide makes the providers. Without an exporter the no-op ones stay: a span that nobody will see costs next to nothing that way, and
// the caller's trace context passes through all the same.
func (t *Telemetry) provide(res *resource.Resource, views []sdkmetric.View, spans []sdktrace.SpanExporter, readers []sdkmetric.Reader) {
	if len(spans) > 0 {
		opts := []sdktrace.TracerProviderOption{sdktrace.WithResource(res)}
		for _, e := range spans {
			// Each is stopped by us as well (they do it once), because the provider leaves the rest running when ctx ends.
			batches := sdktrace.NewBatchSpanProcessor(e)
			opts = append(opts, sdktrace.WithSpanProcessor(batches))
			t.stops = append(t.stops, batches.Shutdown)
		}
		p := sdktrace.NewTracerProvider(opts...)
		t.tracers, t.stops = p, append(t.stops, p.Shutdown)
	}
	if len(readers) > 0 {
		opts := []sdkmetric.Option{sdkmetric.WithResource(res), sdkmetric.WithView(views...)}
		for _, r := range readers {
			opts = append(opts, sdkmetric.WithReader(r))
		}
		p := sdkmetric.NewMeterProvider(opts...)
		t.meters, t.stops = p, append(t.stops, p.Shutdown)
	}
}

// TracerProvider returns the provider of tracers: a no-op one when no exporter of traces is on. It is never nil.
func (t *Telemetry) TracerProvider() trace.TracerProvider { return t.tracers }

// MeterProvider returns the provider of meters: a no-op one when no exporter of metrics is on. It is never nil.
func (t *Telemetry) MeterProvider() metric.MeterProvider { return t.meters }

// MetricsHandler returns what a program serves as /metrics: the metrics in Prometheus' text format, or in OpenMetrics with exemplars
// for a scraper that asks for it. It answers 404 and says why when the Prometheus exporter is off, and an empty page after Shutdown.
func (t *Telemetry) MetricsHandler() http.Handler { return t.handler }

// Shutdown sends what is still held back, and then stops everything that Setup started. When ctx ends first, what has not been sent
// is given up and Shutdown returns at once; give ctx a deadline, since a collector that does not answer can otherwise hold it
// for as long as the exporters' own timeouts add up to. The error says what could not be sent, and wraps ctx's if that was it.
//
// The providers stay usable: what they are given from now on is dropped. Any further call does nothing, does not wait, and returns nil.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	if t.stopped.Swap(true) {
		return nil
	}
	t.ending.begin()
	defer t.ending.giveUp() // after a complete shutdown there is nothing left to give up

	// All at once: a hanging export of one does not use up the others' time.
	results := make(chan error, len(t.stops))
	for _, stop := range t.stops {
		go func() { results <- stop(ctx) }()
	}
	var errs []error
	for range t.stops {
		select {
		case err := <-results:
			errs = append(errs, err)
		case <-ctx.Done():
			return errors.Join(t.ending.lost(), fmt.Errorf("telemetry: not everything was sent: %w", ctx.Err()))
		}
	}
	return errors.Join(t.ending.lost(), errors.Join(errs...))
}
