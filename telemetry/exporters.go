package telemetry

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/earnorm/poolstack/telemetry/internal/linked"
	"github.com/earnorm/poolstack/telemetry/internal/otlphttp"
	"go.opentelemetry.io/otel/exporters/stdout/stdoutmetric"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// A builder creates the push exporters. newPrometheus creates the pull exporter.
type builder struct {
	cfg    Config
	env    environment
	ending *ending
}

// exporters creates the exporters of both signals. If it fails, it also returns the exporters
// created before the failure.
func (b builder) exporters(ctx context.Context) (spans []*spanExporter, metrics []sdkmetric.Exporter, err error) {
	console := b.console()
	for _, name := range b.env.traces.exporters {
		var e sdktrace.SpanExporter
		if name == exporterConsole {
			e, err = stdouttrace.New(stdouttrace.WithWriter(console))
		} else {
			e, err = newOTLPTraces(ctx, b.env.traces)
		}
		if err != nil {
			return spans, metrics, fmt.Errorf("telemetry: %s traces: %w", name, err)
		}
		spans = append(spans, &spanExporter{b.export(name + " traces"), e})
	}
	for _, name := range b.env.metrics.exporters {
		var e sdkmetric.Exporter
		if name == exporterConsole {
			e, err = stdoutmetric.New(stdoutmetric.WithWriter(console))
		} else {
			e, err = newOTLPMetrics(ctx, b.env.metrics)
		}
		if err != nil {
			return spans, metrics, fmt.Errorf("telemetry: %s metrics: %w", name, err)
		}
		x := b.export(name + " metrics")
		x.repeats = e.Temporality(sdkmetric.InstrumentKindCounter) == metricdata.CumulativeTemporality
		metrics = append(metrics, &metricExporter{x, e})
	}
	return spans, metrics, nil
}

func (b builder) export(name string) export {
	return export{name: name, ending: b.ending, health: newHealth(name, b.cfg.Logger)}
}

func newOTLPTraces(ctx context.Context, o otlp) (sdktrace.SpanExporter, error) {
	if o.protocol == protocolGRPC {
		return linked.GRPC.Traces(ctx, o.defaultURL)
	}
	return otlphttp.NewTraces(ctx, o.http)
}

func newOTLPMetrics(ctx context.Context, o otlp) (sdkmetric.Exporter, error) {
	if o.protocol == protocolGRPC {
		return linked.GRPC.Metrics(ctx, o.defaultURL)
	}
	return otlphttp.NewMetrics(o.http, readTemporality(), readAggregation()), nil
}

func (b builder) console() io.Writer {
	if b.cfg.Console == nil {
		return &lockedWriter{w: os.Stdout}
	}
	return &lockedWriter{w: b.cfg.Console}
}

// lockedWriter serializes the writes of the trace and metric exporters to the same writer.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
