package otlphttp

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
)

// NewMetrics returns an exporter of metrics. NewMetrics does not connect.
func NewMetrics(cfg Config, temporality sdkmetric.TemporalitySelector, aggregation sdkmetric.AggregationSelector) sdkmetric.Exporter {
	return &metricExporter{newClient(cfg), temporality, aggregation}
}

type metricExporter struct {
	client      *client
	temporality sdkmetric.TemporalitySelector
	aggregation sdkmetric.AggregationSelector
}

func (e *metricExporter) Temporality(k sdkmetric.InstrumentKind) metricdata.Temporality {
	return e.temporality(k)
}

func (e *metricExporter) Aggregation(k sdkmetric.InstrumentKind) sdkmetric.Aggregation {
	return e.aggregation(k)
}

// Export sends a MetricsData. On the wire the message is the same as the
// ExportMetricsServiceRequest of the protocol, which is in a package that imports gRPC.
func (e *metricExporter) Export(ctx context.Context, rm *metricdata.ResourceMetrics) error {
	message, err := resourceMetrics(rm)
	sent := e.client.send(ctx, &metricspb.MetricsData{ResourceMetrics: []*metricspb.ResourceMetrics{message}})
	return errors.Join(err, sent)
}

func (e *metricExporter) ForceFlush(context.Context) error { return nil } // nothing is held back

func (e *metricExporter) Shutdown(context.Context) error {
	e.client.close()
	return nil
}

// resourceMetrics encodes all metrics of a program. Metrics that OTLP cannot express are left out,
// and the error says which metrics.
func resourceMetrics(rm *metricdata.ResourceMetrics) (*metricspb.ResourceMetrics, error) {
	out := &metricspb.ResourceMetrics{
		Resource:  &resourcepb.Resource{Attributes: attributes(rm.Resource.Attributes())},
		SchemaUrl: rm.Resource.SchemaURL(),
	}
	var errs []error
	for _, sm := range rm.ScopeMetrics {
		scope := &metricspb.ScopeMetrics{
			Scope: &commonpb.InstrumentationScope{
				Name: sm.Scope.Name, Version: sm.Scope.Version, Attributes: attributes(sm.Scope.Attributes.ToSlice()),
			},
			SchemaUrl: sm.Scope.SchemaURL,
		}
		for _, m := range sm.Metrics {
			one, err := metric(m)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			scope.Metrics = append(scope.Metrics, one)
		}
		out.ScopeMetrics = append(out.ScopeMetrics, scope)
	}
	return out, errors.Join(errs...)
}

func metric(m metricdata.Metrics) (*metricspb.Metric, error) {
	out := &metricspb.Metric{Name: m.Name, Description: m.Description, Unit: m.Unit}
	switch data := m.Data.(type) {
	case metricdata.Gauge[int64]:
		out.Data = gauge(data)
	case metricdata.Gauge[float64]:
		out.Data = gauge(data)
	case metricdata.Sum[int64]:
		out.Data = sum(data)
	case metricdata.Sum[float64]:
		out.Data = sum(data)
	case metricdata.Histogram[int64]:
		out.Data = histogram(data)
	case metricdata.Histogram[float64]:
		out.Data = histogram(data)
	case metricdata.ExponentialHistogram[int64]:
		out.Data = exponentialHistogram(data)
	case metricdata.ExponentialHistogram[float64]:
		out.Data = exponentialHistogram(data)
	default: // a summary, which no instrument makes
		return nil, fmt.Errorf("the metric %s is a %T: must be a gauge, a sum or a histogram", m.Name, m.Data)
	}
	return out, nil
}

func gauge[N int64 | float64](g metricdata.Gauge[N]) *metricspb.Metric_Gauge {
	return &metricspb.Metric_Gauge{Gauge: &metricspb.Gauge{DataPoints: numbers(g.DataPoints)}}
}

func sum[N int64 | float64](s metricdata.Sum[N]) *metricspb.Metric_Sum {
	return &metricspb.Metric_Sum{Sum: &metricspb.Sum{
		DataPoints: numbers(s.DataPoints), AggregationTemporality: temporality(s.Temporality), IsMonotonic: s.IsMonotonic,
	}}
}

func numbers[N int64 | float64](points []metricdata.DataPoint[N]) []*metricspb.NumberDataPoint {
	out := make([]*metricspb.NumberDataPoint, 0, len(points))
	for _, p := range points {
		one := &metricspb.NumberDataPoint{
			Attributes: attributes(p.Attributes.ToSlice()), Exemplars: exemplars(p.Exemplars),
			StartTimeUnixNano: nanoseconds(p.StartTime), TimeUnixNano: nanoseconds(p.Time),
		}
		switch v := any(p.Value).(type) {
		case int64:
			one.Value = &metricspb.NumberDataPoint_AsInt{AsInt: v}
		case float64:
			one.Value = &metricspb.NumberDataPoint_AsDouble{AsDouble: v}
		}
		out = append(out, one)
	}
	return out
}

func histogram[N int64 | float64](h metricdata.Histogram[N]) *metricspb.Metric_Histogram {
	out := &metricspb.Histogram{AggregationTemporality: temporality(h.Temporality)}
	for _, p := range h.DataPoints {
		out.DataPoints = append(out.DataPoints, &metricspb.HistogramDataPoint{
			Attributes: attributes(p.Attributes.ToSlice()), Exemplars: exemplars(p.Exemplars),
			StartTimeUnixNano: nanoseconds(p.StartTime), TimeUnixNano: nanoseconds(p.Time),
			Count: p.Count, Sum: new(float64(p.Sum)), Min: extreme(p.Min), Max: extreme(p.Max),
			ExplicitBounds: p.Bounds, BucketCounts: p.BucketCounts,
		})
	}
	return &metricspb.Metric_Histogram{Histogram: out}
}

func exponentialHistogram[N int64 | float64](h metricdata.ExponentialHistogram[N]) *metricspb.Metric_ExponentialHistogram {
	out := &metricspb.ExponentialHistogram{AggregationTemporality: temporality(h.Temporality)}
	buckets := func(b metricdata.ExponentialBucket) *metricspb.ExponentialHistogramDataPoint_Buckets {
		return &metricspb.ExponentialHistogramDataPoint_Buckets{Offset: b.Offset, BucketCounts: b.Counts}
	}
	for _, p := range h.DataPoints {
		out.DataPoints = append(out.DataPoints, &metricspb.ExponentialHistogramDataPoint{
			Attributes: attributes(p.Attributes.ToSlice()), Exemplars: exemplars(p.Exemplars),
			StartTimeUnixNano: nanoseconds(p.StartTime), TimeUnixNano: nanoseconds(p.Time),
			Count: p.Count, Sum: new(float64(p.Sum)), Min: extreme(p.Min), Max: extreme(p.Max),
			Scale: p.Scale, ZeroCount: p.ZeroCount, ZeroThreshold: p.ZeroThreshold,
			Positive: buckets(p.PositiveBucket), Negative: buckets(p.NegativeBucket),
		})
	}
	return &metricspb.Metric_ExponentialHistogram{ExponentialHistogram: out}
}

func exemplars[N int64 | float64](all []metricdata.Exemplar[N]) []*metricspb.Exemplar {
	out := make([]*metricspb.Exemplar, 0, len(all))
	for _, e := range all {
		one := &metricspb.Exemplar{
			FilteredAttributes: attributes(e.FilteredAttributes), TimeUnixNano: nanoseconds(e.Time), TraceId: e.TraceID, SpanId: e.SpanID,
		}
		switch v := any(e.Value).(type) {
		case int64:
			one.Value = &metricspb.Exemplar_AsInt{AsInt: v}
		case float64:
			one.Value = &metricspb.Exemplar_AsDouble{AsDouble: v}
		}
		out = append(out, one)
	}
	return out
}

func extreme[N int64 | float64](e metricdata.Extrema[N]) *float64 {
	v, ok := e.Value()
	if !ok {
		return nil
	}
	return new(float64(v))
}

func temporality(t metricdata.Temporality) metricspb.AggregationTemporality {
	if t == metricdata.DeltaTemporality {
		return metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_DELTA
	}
	return metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE
}

// nanoseconds returns 0 for the zero time.
func nanoseconds(t time.Time) uint64 { return uint64(max(t.UnixNano(), 0)) }

func attributes(all []attribute.KeyValue) []*commonpb.KeyValue {
	if len(all) == 0 {
		return nil
	}
	out := make([]*commonpb.KeyValue, len(all))
	for i, kv := range all {
		out[i] = &commonpb.KeyValue{Key: string(kv.Key), Value: value(kv.Value)}
	}
	return out
}

func value(v attribute.Value) *commonpb.AnyValue {
	switch v.Type() {
	case attribute.EMPTY:
		return &commonpb.AnyValue{}
	case attribute.BOOL:
		return boolean(v.AsBool())
	case attribute.INT64:
		return integer(v.AsInt64())
	case attribute.FLOAT64:
		return double(v.AsFloat64())
	case attribute.BYTESLICE:
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_BytesValue{BytesValue: v.AsByteSlice()}}
	case attribute.BOOLSLICE:
		return array(v.AsBoolSlice(), boolean)
	case attribute.INT64SLICE:
		return array(v.AsInt64Slice(), integer)
	case attribute.FLOAT64SLICE:
		return array(v.AsFloat64Slice(), double)
	case attribute.STRINGSLICE:
		return array(v.AsStringSlice(), text)
	case attribute.SLICE:
		return array(v.AsSlice(), value)
	case attribute.MAP:
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_KvlistValue{KvlistValue: &commonpb.KeyValueList{Values: attributes(v.AsMap())}}}
	default: // STRING
		return text(v.AsString())
	}
}

func boolean(v bool) *commonpb.AnyValue {
	return &commonpb.AnyValue{Value: &commonpb.AnyValue_BoolValue{BoolValue: v}}
}

func integer(v int64) *commonpb.AnyValue {
	return &commonpb.AnyValue{Value: &commonpb.AnyValue_IntValue{IntValue: v}}
}

func double(v float64) *commonpb.AnyValue {
	return &commonpb.AnyValue{Value: &commonpb.AnyValue_DoubleValue{DoubleValue: v}}
}

// text replaces bytes that are no UTF-8: with one such byte, protocol buffers refuse all metrics of
// a program, in each export anew.
func text(v string) *commonpb.AnyValue {
	v = strings.ToValidUTF8(v, "\uFFFD")
	return &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: v}}
}

func array[T any](all []T, one func(T) *commonpb.AnyValue) *commonpb.AnyValue {
	values := make([]*commonpb.AnyValue, len(all))
	for i, v := range all {
		values[i] = one(v)
	}
	return &commonpb.AnyValue{Value: &commonpb.AnyValue_ArrayValue{ArrayValue: &commonpb.ArrayValue{Values: values}}}
}
