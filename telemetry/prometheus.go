package telemetry

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/otlptranslator"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
)

// newPrometheus returns a reader for the meter provider, and a handler for the reader's metrics.
//
// The reader has its own registry, not the process's default registry. Two Setups never clash, and
// the page has no metrics of other libraries' collectors.
func newPrometheus(scrapes *health) (sdkmetric.Reader, http.Handler, error) {
	registry := prometheus.NewRegistry()
	reader, err := otelprometheus.New(
		otelprometheus.WithRegisterer(registry),
		// The strategy is set explicitly. The exporter's default depends on a global variable of another
		// library, and the dashboards and rules depend on these names.
		otelprometheus.WithTranslationStrategy(otlptranslator.UnderscoreEscapingWithSuffixes),
		otelprometheus.WithoutScopeInfo(), // see the package's documentation
	)
	if err != nil {
		return nil, nil, err
	}
	return reader, promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		EnableOpenMetrics: true,
		// A single clashing metric must not hide all other metrics from the operator.
		ErrorHandling: promhttp.ContinueOnError,
		ErrorLog:      scrapes,
	}), nil
}

// noMetrics returns the handler for a Telemetry without a Prometheus exporter. The handler answers
// 404 with the reason.
func noMetrics(disabled bool) http.Handler {
	reason := "telemetry: the Prometheus exporter is off: see OTEL_METRICS_EXPORTER and Config.NoPrometheus"
	if disabled {
		reason = "telemetry: OTEL_SDK_DISABLED is true"
	}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, reason, http.StatusNotFound) })
}
