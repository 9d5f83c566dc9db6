package otlphttp

import (
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"
	collectormetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	"google.golang.org/protobuf/proto"
)

// attrs has a value of each type that there is.
var attrs = []attribute.KeyValue{
	attribute.Bool("bool", true), attribute.BoolSlice("bools", []bool{true, false}),
	attribute.Int64("int", -1), attribute.Int64Slice("ints", []int64{1, -2}),
	attribute.Float64("float", 0.5), attribute.Float64Slice("floats", []float64{0.5, -1}),
	attribute.String("string", "ä"), attribute.StringSlice("strings", []string{"a", ""}),
	attribute.ByteSlice("bytes", []byte{0, 255}), attribute.Slice("slice", attribute.IntValue(1), attribute.StringValue("b")),
	attribute.Map("map", attribute.Int("a", 1)),
	{Key: "empty"},
}

// everything has metrics of all kinds that instruments make, with all there is in them.
func everything() *metricdata.ResourceMetrics {
	begun := time.Unix(1700000000, 5)
	return &metricdata.ResourceMetrics{
		Resource: resource.NewWithAttributes("https://schema/1", attribute.String("service.name", "x")),
		ScopeMetrics: []metricdata.ScopeMetrics{
			{Scope: instrumentation.Scope{Name: "empty"}},
			{
				Scope: instrumentation.Scope{
					Name: "scope", Version: "2", SchemaURL: "https://schema/2", Attributes: attribute.NewSet(attribute.String("a", "b")),
				},
				Metrics: slices.Concat(ofNumbers[int64](begun, 7), ofNumbers(begun, 0.25)),
			},
		},
	}
}

func ofNumbers[N int64 | float64](begun time.Time, n N) []metricdata.Metrics {
	set := attribute.NewSet(attrs...)
	ended := begun.Add(time.Minute)
	exemplars := []metricdata.Exemplar[N]{
		{FilteredAttributes: attrs, Time: begun, Value: n, SpanID: []byte("12345678"), TraceID: []byte("1234567812345678")},
		{Time: begun, Value: -n},
	}
	points := []metricdata.DataPoint[N]{{Attributes: set, StartTime: begun, Time: ended, Value: n, Exemplars: exemplars}, {Value: -n}}
	bucket := metricdata.ExponentialBucket{Offset: -3, Counts: []uint64{1, 0, 2}}
	histogram := func(t metricdata.Temporality) metricdata.Histogram[N] {
		return metricdata.Histogram[N]{Temporality: t, DataPoints: []metricdata.HistogramDataPoint[N]{
			{
				Attributes: set, StartTime: begun, Time: ended, Count: 3, Sum: n, Min: metricdata.NewExtrema(n), Max: metricdata.NewExtrema(n),
				Bounds: []float64{1, 2}, BucketCounts: []uint64{1, 2, 0}, Exemplars: exemplars,
			},
			{},
		}}
	}
	exponential := metricdata.ExponentialHistogram[N]{Temporality: metricdata.DeltaTemporality}
	exponential.DataPoints = []metricdata.ExponentialHistogramDataPoint[N]{
		{
			Attributes: set, StartTime: begun, Time: ended, Count: 3, Sum: n, Min: metricdata.NewExtrema(n), Max: metricdata.NewExtrema(n),
			Scale: -1, ZeroCount: 4, ZeroThreshold: 0.5, PositiveBucket: bucket, NegativeBucket: bucket, Exemplars: exemplars,
		},
		{},
	}
	return []metricdata.Metrics{
		{Name: "gauge", Description: "d", Unit: "s", Data: metricdata.Gauge[N]{DataPoints: points}},
		{Name: "sum", Data: metricdata.Sum[N]{DataPoints: points, Temporality: metricdata.CumulativeTemporality, IsMonotonic: true}},
		{Name: "difference", Data: metricdata.Sum[N]{DataPoints: points, Temporality: metricdata.DeltaTemporality}},
		{Name: "histogram", Data: histogram(metricdata.CumulativeTemporality)},
		{Name: "histogram of differences", Data: histogram(metricdata.DeltaTemporality)},
		{Name: "exponential", Data: exponential},
		{Name: "nothing", Data: metricdata.Sum[N]{Temporality: metricdata.CumulativeTemporality}},
	}
}

// What this package makes of metrics is what OpenTelemetry's exporter over HTTP makes of them.
func TestTheSameAsOpenTelemetry(t *testing.T) {
	received := make(chan *collectormetrics.ExportMetricsServiceRequest, 2)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			t.Error(err)
		}
		message := &collectormetrics.ExportMetricsServiceRequest{}
		if err := proto.Unmarshal(body, message); err != nil {
			t.Error(err)
		}
		received <- message
	}))
	t.Cleanup(srv.Close)
	u, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(client.CloseIdleConnections)
	theirs, err := otlpmetrichttp.New(t.Context(), otlpmetrichttp.WithEndpointURL(srv.URL), otlpmetrichttp.WithHTTPClient(client))
	if err != nil {
		t.Fatal(err)
	}
	ours := NewMetrics(Config{URL: u}, sdkmetric.CumulativeTemporalitySelector, sdkmetric.DefaultAggregationSelector)
	var got []*collectormetrics.ExportMetricsServiceRequest
	for _, e := range []sdkmetric.Exporter{theirs, ours} {
		if err := e.Export(t.Context(), everything()); err != nil {
			t.Fatal(err)
		}
		got = append(got, <-received)
		if err := e.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if !proto.Equal(got[0], got[1]) {
		t.Errorf("OpenTelemetry's exporter sends\n%v\nours\n%v", got[0], got[1])
	}
	names := map[string]bool{}
	for _, m := range got[1].GetResourceMetrics()[0].GetScopeMetrics()[1].GetMetrics() {
		names[m.GetName()] = true
	}
	if len(names) != 7 {
		t.Errorf("only these arrived: %v", slices.Sorted(maps.Keys(names)))
	}
}

// What OTLP cannot express is left out and told; the rest is sent.
func TestMetricsLeftOut(t *testing.T) {
	rm := everything()
	rm.ScopeMetrics[1].Metrics = append(rm.ScopeMetrics[1].Metrics, metricdata.Metrics{Name: "odd", Data: metricdata.Summary{}})
	message, err := resourceMetrics(rm)
	if err == nil || !strings.Contains(err.Error(), "the metric odd is a metricdata.Summary") {
		t.Errorf("got %v, want the name of the metric", err)
	}
	if n := len(message.GetScopeMetrics()[1].GetMetrics()); n != 14 {
		t.Errorf("%d metrics are left, want 14", n)
	}
}
