package telemetry

import (
	"context"
	"slices"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/sdk/resource"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// newResource describes this process. A later source overrides an earlier source: the detected
// attributes, the program's Config, the environment, and the SDK's identity, which no other source
// can override.
//
// The resource omits the command's arguments, the executable's path and the user's name. They may
// hold secrets or personal data, and every span and metric would export them.
func newResource(ctx context.Context, cfg Config) *resource.Resource {
	attributes := cfg.Attributes
	if cfg.ServiceName != "" {
		attributes = append(slices.Clip(attributes), semconv.ServiceName(cfg.ServiceName))
	}
	res, err := resource.New(ctx,
		resource.WithService(), // unknown_service:EXECUTABLE, and a random service.instance.id
		resource.WithHost(),
		resource.WithOSType(),
		resource.WithProcessPID(),
		resource.WithProcessExecutableName(),
		resource.WithProcessRuntimeName(),
		resource.WithProcessRuntimeVersion(),
		resource.WithAttributes(attributes...),
		resource.WithFromEnv(),
		resource.WithTelemetrySDK(),
	)
	if err != nil {
		otel.Handle(err) // for example, the host has no name: res holds the other attributes
	}
	return res
}
