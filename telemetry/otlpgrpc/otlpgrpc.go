// Package otlpgrpc adds OTLP over gRPC to a program. The package exports nothing; a program imports
// the package for its effect:
//
//	import _ "github.com/earnorm/poolstack/telemetry/otlpgrpc"
//
// From then on [github.com/earnorm/poolstack/telemetry.Setup] accepts "grpc" in
// OTEL_EXPORTER_OTLP_PROTOCOL and in the forms for one signal. Without the import Setup returns an
// error for "grpc". OTLP over HTTP, the default of the specification, needs no import.
//
// The package is apart because gRPC adds 120 packages and 11 MiB to a small program.
package otlpgrpc

import (
	"context"
	"time"

	"github.com/earnorm/poolstack/telemetry/internal/linked"
	"github.com/earnorm/poolstack/telemetry/internal/otlphttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

func init() { //nolint:gochecknoinits // an import for its effect, as of a driver of database/sql
	linked.GRPC = &linked.Protocol{Traces: newTraces, Metrics: newMetrics}
}

// A new connection is tried at least every five seconds. By default gRPC lets up to two minutes
// pass between two tries, and the exporters let up to half a minute pass between two exports.
const (
	connectPause  = 4 * time.Second
	connectJitter = 0.2
)

var (
	reconnect = grpc.WithConnectParams(grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: time.Second, Multiplier: 1.6, Jitter: connectJitter, MaxDelay: connectPause},
		MinConnectTimeout: 5 * time.Second,
	})
	again = otlptracegrpc.RetryConfig{
		Enabled: true, InitialInterval: otlphttp.RetryFirst, MaxInterval: otlphttp.RetryMost, MaxElapsedTime: otlphttp.RetryFor,
	}
)

func newTraces(ctx context.Context, endpoint string) (sdktrace.SpanExporter, error) {
	opts := []otlptracegrpc.Option{otlptracegrpc.WithDialOption(reconnect), otlptracegrpc.WithRetry(again)}
	if endpoint != "" {
		opts = append(opts, otlptracegrpc.WithEndpointURL(endpoint))
	}
	return otlptracegrpc.New(ctx, opts...)
}

func newMetrics(ctx context.Context, endpoint string) (sdkmetric.Exporter, error) {
	opts := []otlpmetricgrpc.Option{otlpmetricgrpc.WithDialOption(reconnect), otlpmetricgrpc.WithRetry(otlpmetricgrpc.RetryConfig(again))}
	if endpoint != "" {
		opts = append(opts, otlpmetricgrpc.WithEndpointURL(endpoint))
	}
	return otlpmetricgrpc.New(ctx, opts...)
}
