package metrics

import (
	"context"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
)

const (
	systemRedis = "redis"
	other       = "_OTHER" // the conventions' value for everything without a name

	maxFailures   = 30 // ways to fail told apart in an operation
	maxAttributes = 4  // of a counter, besides the pool's name

	// maxSeries is the maximum number of series of a pool's counters. The pool and the layers need
	// fewer series, unless the error types are unbounded.
	maxSeries = 500
)

// defaultPorts holds the default port of each system. A default port is not recorded as
// server.port.
var defaultPorts = map[string]int{systemRedis: 6379, "mongodb": 27017}

// target holds the options for recording the metrics of a pool. All options are made once.
// Recording with an existing slice makes no allocation.
type target struct {
	r        *recorder
	name     string
	system   string
	duration metric.Float64Histogram

	attrs      []attribute.KeyValue  // of every operation
	byName     []metric.RecordOption // the pool's name only
	operations cache[operationKey, *operation]
	series     cache[seriesKey, []metric.AddOption]
	folded     atomic.Bool // a warning about values added up as _OTHER was emitted
}

// newTarget returns a target. The target is not nil even if the error is not nil.
func (r *recorder) newTarget(id driver.Identity) (*target, error) {
	duration, err := r.durationOf(id.System)
	return &target{
		r: r, name: id.Name, system: id.System, duration: duration, attrs: identify(id),
		byName: []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(semconv.DBClientConnectionPoolName(id.Name)))},
	}, err
}

func identify(id driver.Identity) []attribute.KeyValue {
	attrs := []attribute.KeyValue{semconv.DBClientConnectionPoolName(id.Name)}
	for key, value := range map[attribute.Key]string{
		semconv.DBSystemNameKey: id.System, semconv.DBNamespaceKey: id.Namespace, semconv.ServerAddressKey: id.Address,
	} {
		if value != "" {
			attrs = append(attrs, key.String(value))
		}
	}
	if id.Port != 0 && id.Port != defaultPorts[id.System] {
		attrs = append(attrs, semconv.ServerPort(id.Port))
	}
	return attrs
}

type operationKey struct{ name, target string }

// operation holds the options for the outcomes of an operation.
type operation struct {
	attrs    []attribute.KeyValue
	success  []metric.RecordOption
	failures cache[failureKey, []metric.RecordOption]
}

// outcome returns the options for an outcome of op. folded reports whether the outcome is added up
// as _OTHER.
func (t *target) outcome(op pool.Op, class driver.Class, failed bool) (options []metric.RecordOption, folded bool) {
	o, folded := t.operation(op)
	if !failed {
		return o.success, folded
	}
	options, ok := o.failures.get(failureKey{class.Type, class.Code}, maxFailures, o.newFailure)
	if !ok {
		options, _ = o.failures.get(failureKey{reason: other}, maxFailures+1, o.newFailure)
	}
	return options, folded || !ok
}

// operation returns the options for op. folded reports whether op is added up as _OTHER.
func (t *target) operation(op pool.Op) (o *operation, folded bool) {
	k := operationKey{op.Name, op.Target}
	limit := int(t.r.maxOperations.Load())
	if o, ok := t.operations.get(k, limit, t.newOperation); ok {
		return o, false
	}
	if k.target != "" {
		k.target = other
	}
	if o, ok := t.operations.get(k, 2*limit, t.newOperation); ok {
		return o, true
	}
	// No limit: a smaller MaxOperations may leave more operations than the new limit.
	o, _ = t.operations.get(operationKey{name: other}, math.MaxInt, t.newOperation)
	return o, true
}

// tellFolded reports whether the caller is the first and must emit the warning.
func (t *target) tellFolded() bool { return !t.folded.Load() && t.folded.CompareAndSwap(false, true) }

func (t *target) newOperation(k operationKey) *operation {
	o := &operation{attrs: slices.Clip(t.attrs)}
	add := func(key attribute.Key, value string) {
		if value != "" {
			o.attrs = append(o.attrs, key.String(value))
		}
	}
	add(semconv.DBOperationNameKey, k.name)
	if t.system == systemRedis {
		add(semconv.DBQuerySummaryKey, strings.TrimSpace(k.name+" "+k.target))
	} else {
		add(semconv.DBCollectionNameKey, k.target)
	}
	o.success = o.options()
	return o
}

func (o *operation) options(extra ...attribute.KeyValue) []metric.RecordOption {
	set := attribute.NewSet(slices.Concat(o.attrs, extra)...)
	return []metric.RecordOption{metric.WithAttributeSet(set)}
}

type failureKey struct{ reason, code string }

func (o *operation) newFailure(k failureKey) []metric.RecordOption {
	extra := []attribute.KeyValue{semconv.ErrorTypeKey.String(k.reason)}
	if k.code != "" {
		extra = append(extra, semconv.DBResponseStatusCode(k.code))
	}
	return o.options(extra...)
}

// seriesKey identifies a series: a counter and the values of its attributes after the pool's name,
// in the order of the catalogue.
type seriesKey struct {
	instrument int
	values     [maxAttributes]string
}

// count counts an event.
func (t *target) count(ctx context.Context, instrument int, values ...string) {
	t.add(ctx, instrument, 1, values...)
}

// add adds n to a counter. values are the values of the attributes after the pool's name.
func (t *target) add(ctx context.Context, instrument int, n int64, values ...string) {
	counter := t.r.counters[instrument]
	if !counter.Enabled(ctx) {
		return
	}
	k := seriesKey{instrument: instrument}
	copy(k.values[:], values)
	options, ok := t.series.get(k, maxSeries, t.newSeries)
	if !ok {
		k.values = [maxAttributes]string{other, other, other, other}
		options, _ = t.series.get(k, maxSeries+instruments, t.newSeries)
	}
	counter.Add(ctx, n, options...)
}

func (t *target) newSeries(k seriesKey) []metric.AddOption {
	keys := catalogue[k.instrument].Attributes
	attrs := []attribute.KeyValue{semconv.DBClientConnectionPoolName(t.name)}
	for i, v := range k.values[:len(keys)-1] {
		if v != "" {
			attrs = append(attrs, attribute.String(keys[i+1], v))
		}
	}
	return []metric.AddOption{metric.WithAttributeSet(attribute.NewSet(attrs...))}
}

// cache is a map that is read without a lock. The map is replaced, never changed.
type cache[K comparable, V any] struct {
	known atomic.Pointer[map[K]V]
	mu    sync.Mutex
}

// get returns the value of k, and builds the value at the first call. ok is false if k has no value
// and the cache has limit entries.
func (c *cache[K, V]) get(k K, limit int, build func(K) V) (v V, ok bool) {
	known := c.known.Load()
	if known != nil {
		if v, ok = (*known)[k]; ok || len(*known) >= limit {
			return v, ok
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	grown := map[K]V{}
	if known = c.known.Load(); known != nil {
		if v, ok = (*known)[k]; ok || len(*known) >= limit {
			return v, ok
		}
		grown = maps.Clone(*known)
	}
	v = build(k)
	grown[k] = v
	c.known.Store(&grown)
	return v, true
}
