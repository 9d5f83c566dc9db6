package telemetry

import (
	"context"
	"net/http"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/otlptranslator"
	"go.opentelemetry.io/otel/attribute"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"
)

// newPrometheus returns a reader for the meter provider, and a handler for the reader's metrics.
//
// The reader has its own registry, not the process's default registry. Two Setups never clash, and
// the page has no metrics of other libraries' collectors.
func newPrometheus(res *resource.Resource, scrapes *health) (sdkmetric.Reader, http.Handler, error) {
	registry := prometheus.NewRegistry()
	reader := sdkmetric.NewManualReader()
	exporter, err := otelprometheus.New(
		otelprometheus.WithRegisterer(registry),
		// The strategy is set explicitly. The exporter's default depends on a global variable of another
		// library, and the dashboards and rules depend on these names.
		otelprometheus.WithTranslationStrategy(otlptranslator.UnderscoreEscapingWithSuffixes),
		otelprometheus.WithoutScopeInfo(), // see the package's documentation
		otelprometheus.WithProducer(producer{reader}),
	)
	if err != nil {
		return nil, nil, err
	}
	// The exporter takes all metrics from the producer, and only the resource from this provider.
	_ = sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter), sdkmetric.WithResource(res))
	return reader, promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		EnableOpenMetrics: true,
		// A single clashing metric must not hide all other metrics from the operator.
		ErrorHandling: promhttp.ContinueOnError,
		ErrorLog:      scrapes,
	}), nil
}

// A producer hands on what a reader collects, with exemplars that OpenMetrics allows.
type producer struct{ reader sdkmetric.Reader }

// Produce collects.
func (p producer) Produce(ctx context.Context) ([]metricdata.ScopeMetrics, error) {
	var all metricdata.ResourceMetrics
	err := p.reader.Collect(ctx, &all) // after an error, all has the rest
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			fitExemplars(m.Data)
		}
	}
	return all.ScopeMetrics, err
}

// fitExemplars shortens the exemplars of a metric. Gauges have no exemplars in Prometheus.
func fitExemplars(data metricdata.Aggregation) {
	switch data := data.(type) {
	case metricdata.Sum[int64]:
		for _, p := range data.DataPoints {
			fit(p.Exemplars)
		}
	case metricdata.Sum[float64]:
		for _, p := range data.DataPoints {
			fit(p.Exemplars)
		}
	case metricdata.Histogram[int64]:
		for _, p := range data.DataPoints {
			fit(p.Exemplars)
		}
	case metricdata.Histogram[float64]:
		for _, p := range data.DataPoints {
			fit(p.Exemplars)
		}
	case metricdata.ExponentialHistogram[int64]:
		for _, p := range data.DataPoints {
			fit(p.Exemplars)
		}
	case metricdata.ExponentialHistogram[float64]:
		for _, p := range data.DataPoints {
			fit(p.Exemplars)
		}
	}
}

// exemplarRoom is the number of characters of an exemplar that OpenMetrics allows besides the ids.
const exemplarRoom = prometheus.ExemplarMaxRunes - len(otlptranslator.ExemplarTraceIDKey) - 32 - len(otlptranslator.ExemplarSpanIDKey) - 16

// fit takes off the attributes that find no room. With one attribute too many, the exporter would
// leave out all exemplars of a point, and tell only OpenTelemetry's global handler.
func fit[N int64 | float64](exemplars []metricdata.Exemplar[N]) {
	names := otlptranslator.LabelNamer{}
	for i := range exemplars {
		var kept []attribute.KeyValue
		room := exemplarRoom
		for _, kv := range exemplars[i].FilteredAttributes {
			name, err := names.Build(string(kv.Key))
			value := kv.Value.String()
			size := utf8.RuneCountInString(name) + utf8.RuneCountInString(value)
			if err == nil && utf8.ValidString(value) && size <= room {
				kept, room = append(kept, kv), room-size
			}
		}
		exemplars[i].FilteredAttributes = kept
	}
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
