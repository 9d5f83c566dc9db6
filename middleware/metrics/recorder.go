package metrics

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/earnorm/poolstack/pool/driver"
)

// recorder holds the instruments of a provider, and the targets of the layer's pools.
type recorder struct {
	provider      metric.MeterProvider
	meter         metric.Meter
	maxOperations atomic.Int64

	// The instruments by their index in the catalogue; nil for an instrument of another kind. The
	// operation's duration is not here, because its buckets depend on the system.
	counters   [instruments]metric.Int64Counter
	histograms [instruments]metric.Float64Histogram
	levels     [instruments]metric.Int64Observable
	gauges     [instruments]metric.Float64Observable
	observed   []metric.Observable // the levels and gauges

	latest   atomic.Pointer[target] // the target found last: most programs have a single pool
	mu       sync.Mutex
	ofLevels map[string]metric.Float64ObservableGauge // the gauges for the levels of layers, by name; under mu
	targets  atomic.Pointer[map[string]*target]       // by pool name; the map is replaced, never changed
}

func newRecorder(provider metric.MeterProvider, maxOperations int) (*recorder, error) {
	r := &recorder{provider: provider, ofLevels: map[string]metric.Float64ObservableGauge{}}
	r.maxOperations.Store(int64(maxOperations))
	r.meter = r.newMeter()
	var errs []error
	for i, spec := range catalogue {
		if i != operationDuration {
			errs = append(errs, r.create(i, spec))
		}
	}
	return r, errors.Join(errs...)
}

func (r *recorder) newMeter(options ...metric.MeterOption) metric.Meter {
	options = append(options, metric.WithInstrumentationVersion(scopeVersion()), metric.WithSchemaURL(semconv.SchemaURL))
	return r.provider.Meter(ScopeName, options...)
}

func (r *recorder) create(i int, spec Instrument) (err error) {
	unit, description := metric.WithUnit(spec.Unit), metric.WithDescription(spec.Description)
	switch spec.Kind {
	case Counter:
		r.counters[i], err = r.meter.Int64Counter(spec.Name, unit, description)
	case Histogram:
		r.histograms[i], err = r.meter.Float64Histogram(spec.Name, unit, description, metric.WithExplicitBucketBoundaries(spec.Buckets...))
	case UpDownCounter:
		r.levels[i], err = r.meter.Int64ObservableUpDownCounter(spec.Name, unit, description)
		r.observed = append(r.observed, r.levels[i])
	case Gauge:
		r.gauges[i], err = r.meter.Float64ObservableGauge(spec.Name, unit, description)
		r.observed = append(r.observed, r.gauges[i])
	}
	return err
}

// gaugeOf returns the gauge for the levels of a layer. The pools of the recorder share the gauge.
func (r *recorder) gaugeOf(spec Instrument) (metric.Float64ObservableGauge, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if gauge := r.ofLevels[spec.Name]; gauge != nil {
		return gauge, nil
	}
	if strings.Contains(spec.Name, "..") || strings.HasSuffix(spec.Name, ".") {
		return nil, errors.New("the Layer or the Name is empty: must be one or more letters, digits or _")
	}
	for _, taken := range catalogue {
		if taken.Name == spec.Name {
			return nil, fmt.Errorf("the metric %s belongs to the pool", spec.Name)
		}
	}
	gauge, err := r.meter.Float64ObservableGauge(spec.Name, metric.WithUnit(spec.Unit), metric.WithDescription(spec.Description))
	if err == nil {
		r.ofLevels[spec.Name] = gauge
	}
	return gauge, err
}

// durationOf creates the histogram of the operation's duration for a system. If a scope has two
// instruments of the same name, an SDK keeps the buckets of the first instrument. So each system
// has its own scope.
func (r *recorder) durationOf(system string) (metric.Float64Histogram, error) {
	spec := catalogue[operationDuration]
	buckets := spec.Buckets
	if system == systemRedis {
		buckets = spec.RedisBuckets
	}
	meter := r.newMeter(metric.WithInstrumentationAttributes(attribute.String(string(semconv.DBSystemNameKey), system)))
	return meter.Float64Histogram(spec.Name, metric.WithUnit(spec.Unit), metric.WithDescription(spec.Description),
		metric.WithExplicitBucketBoundaries(buckets...))
}

// find returns the target of the pool, or nil.
func (r *recorder) find(name string) *target {
	if t := r.latest.Load(); t != nil && t.name == name {
		return t
	}
	all := r.targets.Load()
	if all == nil {
		return nil
	}
	t := (*all)[name]
	if t != nil {
		r.latest.Store(t)
	}
	return t
}

// put makes t the target of its pool name.
func (r *recorder) put(t *target) {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := map[string]*target{}
	if old := r.targets.Load(); old != nil {
		maps.Copy(all, *old)
	}
	all[t.name] = t
	r.targets.Store(&all)
	r.latest.Store(t)
}

// targetOf returns the target of a pool with recorded uses. If the layer is hidden in another layer
// and so was not attached, targetOf makes a target.
func (r *recorder) targetOf(id driver.Identity) *target {
	if t := r.find(id.Name); t != nil {
		return t
	}
	t, err := r.newTarget(id)
	if err != nil {
		otel.Handle(err)
		t.duration = noop.Float64Histogram{}
	}
	r.put(t)
	return t
}
