package otlphttp

import (
	"context"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
)

// NewTraces returns an exporter of spans. NewTraces does not connect.
func NewTraces(ctx context.Context, cfg Config) (sdktrace.SpanExporter, error) {
	return otlptrace.New(ctx, traceClient{newClient(cfg)})
}

// traceClient is what OpenTelemetry's exporter sends with.
type traceClient struct{ *client }

func (traceClient) Start(context.Context) error { return nil }

// UploadTraces sends a TracesData. On the wire the message is the same as the
// ExportTraceServiceRequest of the protocol, which is in a package that imports gRPC.
func (c traceClient) UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	return c.send(ctx, &tracepb.TracesData{ResourceSpans: spans})
}

func (c traceClient) Stop(context.Context) error {
	c.close()
	return nil
}
