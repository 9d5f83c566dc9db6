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

// Config holds the program's own settings. The zero value works. The operator sets everything else
// in environment variables (see the package's documentation). If both set the same attribute, the
// environment wins.
type Config struct {
	// ServiceName is the resource attribute service.name, unless the environment sets the attribute.
	// The empty string means "unknown_service:" followed by the executable's name.
	ServiceName string

	// Attributes are further attributes of the resource, such as service.version. The environment
	// overrides an attribute with the same key.
	Attributes []attribute.KeyValue

	// Views change the aggregation of instruments, for example a histogram's buckets. Views apply to
	// every metric exporter. Nil keeps the instruments' own aggregation.
	Views []sdkmetric.View

	// NoPrometheus turns the Prometheus exporter off, unless OTEL_METRICS_EXPORTER lists the exporter.
	// Set NoPrometheus in a program without a /metrics page: each further exporter aggregates every
	// measurement once more.
	NoPrometheus bool

	// Console receives the output of the console exporters, one Write at a time. Nil means os.Stdout.
	Console io.Writer

	// Logger receives the failures of exports and scrapes. The first failure is logged at once.
	// Further failures are logged at most once a minute, with their number. A single line reports the
	// recovery. Nil passes each failure to OpenTelemetry's global error handler, which prints to
	// standard error. The numbers of dropped spans go the same way. All other errors of the SDK go to
	// the global error handler in either case.
	Logger *slog.Logger

	// SetGlobal also sets the two providers as OpenTelemetry's global providers. The global propagator
	// does not change.
	SetGlobal bool
}

// Validate returns nil, or an error for every invalid field of c.
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

// Telemetry holds the providers built by [Setup], and their exporters. The caller ends a Telemetry
// with [Telemetry.Shutdown]. The methods may be called concurrently.
type Telemetry struct {
	tracers trace.TracerProvider
	meters  metric.MeterProvider
	handler http.Handler

	// stops are the shutdown functions of the processors and providers. Shutdown calls all stops
	// concurrently.
	stops   []func(context.Context) error
	stopped atomic.Bool
	ending  *ending
}

// Setup builds a tracer provider and a meter provider from the environment variables in the
// package's documentation.
//
// Setup does not wait for a collector, and succeeds without a collector. The context bounds Setup
// alone, not the providers. Setup fails if ctx has ended, if a variable or cfg is invalid, or if a
// certificate file is unusable. The error contains every invalid value.
//
// The caller owns the result and ends it with Shutdown. A process may have several Telemetry values
// at the same time.
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

// build creates the exporters and then the providers. Creating an exporter can fail, and creating a
// provider cannot. If an exporter fails, build shuts down the exporters created before.
func (t *Telemetry) build(ctx context.Context, cfg Config, env environment) error {
	var readers []sdkmetric.Reader
	res := newResource(ctx, cfg)
	if env.prometheus {
		reader, handler, err := newPrometheus(res, newHealth("prometheus", cfg.Logger))
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
	t.provide(res, cfg, spans, readers)
	return nil
}

// provide creates the providers. Without an exporter the no-op providers stay. A no-op span costs
// almost nothing, and the caller's trace context still passes through.
func (t *Telemetry) provide(res *resource.Resource, cfg Config, spans []*spanExporter, readers []sdkmetric.Reader) {
	var queues []*queue
	if len(spans) > 0 {
		opts := []sdktrace.TracerProviderOption{sdktrace.WithResource(res)}
		for _, e := range spans {
			// Shutdown stops each queue directly, because the provider skips the remaining processors when
			// ctx ends. A second Shutdown of a queue does nothing.
			q := newQueue(e.name, e, cfg.Logger)
			opts = append(opts, sdktrace.WithSpanProcessor(q))
			t.stops = append(t.stops, q.Shutdown)
			queues = append(queues, q)
		}
		p := sdktrace.NewTracerProvider(opts...)
		t.tracers, t.stops = p, append(t.stops, p.Shutdown)
	}
	if len(readers) > 0 {
		opts := []sdkmetric.Option{sdkmetric.WithResource(res), sdkmetric.WithView(cfg.Views...)}
		for _, r := range readers {
			opts = append(opts, sdkmetric.WithReader(r))
		}
		p := sdkmetric.NewMeterProvider(opts...)
		t.meters, t.stops = p, append(t.stops, p.Shutdown)
	}
	if err := countSpans(t.meters.Meter("github.com/earnorm/poolstack/telemetry"), queues); err != nil {
		otel.Handle(err) // because of a view, say: the spans are exported all the same
	}
}

// TracerProvider returns the tracer provider. It is never nil. It is a no-op provider if no
// exporter of traces is on.
func (t *Telemetry) TracerProvider() trace.TracerProvider { return t.tracers }

// MeterProvider returns the meter provider. It is never nil. It is a no-op provider if no exporter
// of metrics is on.
func (t *Telemetry) MeterProvider() metric.MeterProvider { return t.meters }

// MetricsHandler returns the handler for /metrics. It serves the metrics in Prometheus's text
// format, or in OpenMetrics with exemplars if the scraper accepts OpenMetrics. If the Prometheus
// exporter is off, the handler answers 404 with the reason. After Shutdown the page is empty.
func (t *Telemetry) MetricsHandler() http.Handler { return t.handler }

// Shutdown exports the remaining telemetry, and then stops everything started by Setup. If ctx ends
// first, Shutdown drops the remaining telemetry and returns at once. Pass a context with a
// deadline: without a deadline, an unresponsive collector delays Shutdown by the sum of the
// exporters' timeouts. The error lists the failed exports, and wraps ctx's error if ctx ended.
//
// The providers remain usable after Shutdown and drop further telemetry. A second call returns nil
// at once, even while the first call is running.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	if t.stopped.Swap(true) {
		return nil
	}
	t.ending.begin()
	// After a complete shutdown giveUp ends no export.
	defer t.ending.giveUp()

	// The stops run concurrently. A hanging export does not use up the time of the others.
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
