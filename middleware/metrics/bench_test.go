package metrics

import (
	"context"
	"fmt"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/earnorm/poolstack/pool"
)

// While all operations are told apart, many operations cost a use no more than a few operations.
// The operations beyond the maximum need two or three look-ups.
func BenchmarkOperations(b *testing.B) {
	for _, c := range []struct{ operations, limit int }{{10, 1000}, {1000, 1000}, {1000, 10}} {
		b.Run(fmt.Sprintf("%d/limit=%d", c.operations, c.limit), func(b *testing.B) {
			r := newRigOn(newReader(b), redis, Config{MaxOperations: c.limit}, pool.Config{})
			ops := make([]pool.Op, c.operations)
			for i := range ops {
				ops[i] = pool.Op{Name: fmt.Sprint("OP", i), Target: "things"}
				_ = r.pool.Do(context.Background(), ops[i], nothing)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				_ = r.pool.Do(context.Background(), ops[i%len(ops)], nothing)
			}
		})
	}
}

// BenchmarkCollect compares the collection of a pool with the collection of as many observables
// with the same names and attributes and constant values.
func BenchmarkCollect(b *testing.B) {
	b.Run("pool", func(b *testing.B) { benchmarkCollect(b, newLevelled(b)) })
	b.Run("bare", func(b *testing.B) { benchmarkCollect(b, newBare(b, newLevelled(b).collect())) })
}

func benchmarkCollect(b *testing.B, r *reader) {
	b.ReportAllocs()
	var rm metricdata.ResourceMetrics
	for b.Loop() {
		if err := r.manual.Collect(context.Background(), &rm); err != nil {
			b.Fatal(err)
		}
	}
}

// newLevelled returns a reader of the levels of a pool with all layers, without counters and
// histograms.
func newLevelled(t testing.TB) *reader {
	pushed := func(i sdkmetric.Instrument) (sdkmetric.Stream, bool) {
		drop := i.Kind == sdkmetric.InstrumentKindCounter || i.Kind == sdkmetric.InstrumentKindHistogram
		return sdkmetric.Stream{Aggregation: sdkmetric.AggregationDrop{}}, drop
	}
	manual := sdkmetric.NewManualReader()
	r := &reader{t, manual, sdkmetric.NewMeterProvider(sdkmetric.WithReader(manual), sdkmetric.WithView(pushed))}
	g := newRigOn(r, redis, Config{}, pool.Config{MaxSize: 10}, newStack(t, stackConfig{}).layers()...)
	for range 10 {
		lease, err := g.pool.Acquire(context.Background(), get)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { lease.Release(nil) })
	}
	return r
}

// newBare is a reader of observables that show what has been collected.
func newBare(t testing.TB, collected []metricdata.Metrics) *reader {
	type series struct {
		whole   metric.Int64Observable
		float   metric.Float64Observable
		options []metric.ObserveOption
	}
	r := newReader(t)
	meter := r.provider.Meter(ScopeName)
	var all []series
	var instruments []metric.Observable
	for _, m := range collected {
		s := series{}
		switch data := m.Data.(type) {
		case metricdata.Sum[int64]:
			s.whole = made(meter.Int64ObservableUpDownCounter(m.Name))(t)
			instruments = append(instruments, s.whole)
		case metricdata.Gauge[float64]:
			s.float = made(meter.Float64ObservableGauge(m.Name))(t)
			instruments = append(instruments, s.float)
		default:
			t.Fatalf("%s has data of type %T", m.Name, data)
		}
		for _, p := range points(t, m) {
			s.options = []metric.ObserveOption{metric.WithAttributeSet(attribute.NewSet(p.attrs.ToSlice()...))}
			all = append(all, s)
		}
	}
	registration := made(meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for i := range all {
			if s := &all[i]; s.whole != nil {
				o.ObserveInt64(s.whole, 1, s.options...)
			} else {
				o.ObserveFloat64(s.float, 1, s.options...)
			}
		}
		return nil
	}, instruments...))(t)
	t.Cleanup(func() { _ = registration.Unregister() })
	return r
}
