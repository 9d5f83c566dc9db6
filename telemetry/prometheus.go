package telemetry

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/otlptranslator"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
)

// newPrometheus returns a reader to be given to the meter provider, and the handler that serves what it reads.
//
// Its registry is its own, not the process's default one: two Setups never clash, and nothing appears that was not asked for.
func newPrometheus(scrapes *health) (sdkmetric.Reader, http.Handler, error) {
	registry := prometheus.NewRegistry()
	reader, err := otelprometheus.New(
		otelprometheus.WithRegisterer(registry),
		// Stated, because the exporter's default depends on a global of another library, and dashboards and rules on these names.
		otelprometheus.WithTranslationStrategy(otlptranslator.UnderscoreEscapingWithSuffixes),
		otelprometheus.WithoutScopeInfo(), // see the package's documentation
	)
	if err != nil {
		return nil, nil, err
	}
	return reader, promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		EnableOpenMetrics: true,
		ErrorHandling:     promhttp.ContinueOnError, // one metric that clashes must not blind the operator to all others
		ErrorLog:          scrapes,
	}), nil
}

// noMetrics answers where there is no Prometheus exporter.
func noMetrics(disabled bool) http.Handler {
	reason := "telemetry: the Prometheus exporter is off: see OTEL_METRICS_EXPORTER and Config.NoPrometheus"
	if disabled {
		reason = "telemetry: OTEL_SDK_DISABLED is true"
	}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, reason, http.StatusNotFound) })
}
