package telemetry

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/exporters/stdout/stdoutmetric"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// A builder creates the push exporters. newPrometheus creates the pull exporter.
type builder struct {
	cfg    Config
	env    environment
	ending *ending
}

// exporters creates the exporters of both signals. If it fails, it also returns the exporters
// created before the failure.
func (b builder) exporters(ctx context.Context) (spans []sdktrace.SpanExporter, metrics []sdkmetric.Exporter, err error) {
	console := b.console()
	for _, name := range b.env.traces.exporters {
		var e sdktrace.SpanExporter
		var release func()
		if name == exporterConsole {
			e, err = stdouttrace.New(stdouttrace.WithWriter(console))
		} else {
			e, release, err = newOTLPTraces(ctx, b.env.traces)
		}
		if err != nil {
			return spans, metrics, fmt.Errorf("telemetry: %s traces: %w", name, err)
		}
		spans = append(spans, &spanExporter{b.export(name+" traces", release), e})
	}
	for _, name := range b.env.metrics.exporters {
		var e sdkmetric.Exporter
		var release func()
		if name == exporterConsole {
			e, err = stdoutmetric.New(stdoutmetric.WithWriter(console))
		} else {
			e, release, err = newOTLPMetrics(ctx, b.env.metrics)
		}
		if err != nil {
			return spans, metrics, fmt.Errorf("telemetry: %s metrics: %w", name, err)
		}
		x := b.export(name+" metrics", release)
		x.repeats = e.Temporality(sdkmetric.InstrumentKindCounter) == metricdata.CumulativeTemporality
		metrics = append(metrics, &metricExporter{x, e})
	}
	return spans, metrics, nil
}

func (b builder) export(name string, release func()) export {
	return export{name: name, ending: b.ending, health: newHealth(name, b.cfg.Logger), release: release}
}

func newOTLPTraces(ctx context.Context, o otlp) (sdktrace.SpanExporter, func(), error) {
	if o.protocol == protocolGRPC {
		opts := []otlptracegrpc.Option{otlptracegrpc.WithDialOption(reconnect), otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig(again))}
		if o.defaultURL != "" {
			opts = append(opts, otlptracegrpc.WithEndpointURL(o.defaultURL))
		}
		e, err := otlptracegrpc.New(ctx, opts...)
		return e, nil, err
	}
	client := newHTTPClient(o)
	opts := []otlptracehttp.Option{otlptracehttp.WithHTTPClient(client), otlptracehttp.WithRetry(again)}
	if o.defaultURL != "" {
		opts = append(opts, otlptracehttp.WithEndpointURL(o.defaultURL))
	}
	e, err := otlptracehttp.New(ctx, opts...)
	return e, client.CloseIdleConnections, err
}

func newOTLPMetrics(ctx context.Context, o otlp) (sdkmetric.Exporter, func(), error) {
	if o.protocol == protocolGRPC {
		opts := []otlpmetricgrpc.Option{otlpmetricgrpc.WithDialOption(reconnect), otlpmetricgrpc.WithRetry(otlpmetricgrpc.RetryConfig(again))}
		if o.defaultURL != "" {
			opts = append(opts, otlpmetricgrpc.WithEndpointURL(o.defaultURL))
		}
		e, err := otlpmetricgrpc.New(ctx, opts...)
		return e, nil, err
	}
	client := newHTTPClient(o)
	opts := []otlpmetrichttp.Option{otlpmetrichttp.WithHTTPClient(client), otlpmetrichttp.WithRetry(otlpmetrichttp.RetryConfig(again))}
	if o.defaultURL != "" {
		opts = append(opts, otlpmetrichttp.WithEndpointURL(o.defaultURL))
	}
	e, err := otlpmetrichttp.New(ctx, opts...)
	return e, client.CloseIdleConnections, err
}

// These pauses let an exporter reconnect within ten seconds after the collector has returned. The
// time is the sum of the pause between two dials and of the pause between two retries. The default
// pauses are up to 2 minutes in gRPC and up to 30 seconds in the exporters.
const (
	connectPause, connectJitter = 4 * time.Second, 0.2
	retryPause, retryJitter     = 3 * time.Second, 0.5 // the jitter is the exporters' own
)

var (
	reconnect = grpc.WithConnectParams(grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: time.Second, Multiplier: 1.6, Jitter: connectJitter, MaxDelay: connectPause},
		MinConnectTimeout: 5 * time.Second,
	})
	again = otlptracehttp.RetryConfig{Enabled: true, InitialInterval: time.Second, MaxInterval: retryPause, MaxElapsedTime: time.Minute}
)

// newHTTPClient returns a client with its own transport. The exporters' default transport is shared
// by the whole process. Its connections and their goroutines outlive a shutdown by 90 seconds.
func newHTTPClient(o otlp) *http.Client {
	return &http.Client{
		Timeout: o.timeout,
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			TLSClientConfig:     o.tls,
			TLSHandshakeTimeout: 10 * time.Second,
			IdleConnTimeout:     90 * time.Second,
			ForceAttemptHTTP2:   true,
		},
	}
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
