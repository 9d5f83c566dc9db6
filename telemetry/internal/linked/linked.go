// Package linked holds the exporters that a program adds to package telemetry by an import.
package linked

import (
	"context"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// Protocol makes the exporters of a protocol of OTLP. An exporter reads the environment variables
// of the protocol. The endpoint is a URL; "" stands for the endpoint in the variables.
type Protocol struct {
	Traces  func(ctx context.Context, endpoint string) (sdktrace.SpanExporter, error)
	Metrics func(ctx context.Context, endpoint string) (sdkmetric.Exporter, error)
}

// GRPC is OTLP over gRPC. GRPC is nil in a program without an import of package telemetry/otlpgrpc.
// Only the init function of that package sets GRPC, so readers need no lock.
var GRPC *Protocol
