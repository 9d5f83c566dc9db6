package telemetry

import (
	"context"
	"slices"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/sdk/resource"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// newResource describes this process. Later entries override earlier ones: what is found, what the program says, what the environment
// says, and the SDK's own identity, which nobody else may claim.
//
// The command's arguments, the executable's path and the user's name are left out: they may hold secrets or personal data, and
// every span and metric would carry them out of the house.
func newResource(ctx context.Context, cfg Config) *resource.Resource {
	attributes := cfg.Attributes
	if cfg.ServiceName != "" {
		attributes = append(slices.Clip(attributes), semconv.ServiceName(cfg.ServiceName))
	}
	res, err := resource.New(ctx,
		resource.WithService(), // unknown_service:..., and a random service.instance.id
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
		otel.Handle(err) // a host without a name, say: the rest of the resource is there
	}
	return res
}
