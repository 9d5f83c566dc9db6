package metrics

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/earnorm/poolstack/pool"
)

// Attach implements [pool.Attacher]. Until the pool is closed, the levels of p are read at each
// collection.
func (r *recorder) Attach(p pool.PoolInfo) (detach func(), err error) {
	l, err := r.newLevels(p)
	if err != nil {
		return nil, err
	}
	registration, err := r.meter.RegisterCallback(l.observe, append(slices.Clip(r.observed), l.observables()...)...)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return func() {
		if err := registration.Unregister(); err != nil {
			otel.Handle(err)
		}
		l.countWaits(p.Stat().Waited)
	}, nil
}

// levels holds the levels of a pool, read at each collection.
type levels struct {
	target   *target
	pool     pool.PoolInfo
	first    sync.Once // the first collection
	mu       sync.Mutex
	waited   uint64 // number of the pool's waits counted so far
	idle     []metric.ObserveOption
	used     []metric.ObserveOption
	opening  []metric.ObserveOption
	checking []metric.ObserveOption
	closing  []metric.ObserveOption
	byName   []metric.ObserveOption

	gauges map[levelName]metric.Float64ObservableGauge // for the levels of layers
	series cache[levelKey, []metric.ObserveOption]     // up to maxSeries
}

// levelName tells an instrument for levels of layers from the others.
type levelName struct{ layer, name string }

// levelKey holds the values of the attributes of a level, after the pool's name. state is "" for a
// number.
type levelKey struct{ layer, key, state string }

func (r *recorder) newLevels(p pool.PoolInfo) (*levels, error) {
	t, err := r.newTarget(p.Identity())
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	options := t.observed
	l := &levels{
		target: t, pool: p, byName: options(), gauges: map[levelName]metric.Float64ObservableGauge{},
		idle:     options(semconv.DBClientConnectionStateIdle),
		used:     options(semconv.DBClientConnectionStateUsed),
		opening:  options(attribute.String(stateKey, "opening")),
		checking: options(attribute.String(stateKey, "checking")),
		closing:  options(attribute.String(stateKey, "closing")),
	}
	for _, level := range p.Levels() {
		if l.gauges[levelName{level.Layer, level.Name}], err = r.gaugeOf(levelInstrument(level)); err != nil {
			return nil, fmt.Errorf("metrics: level %q of layer %q: %w", level.Name, level.Layer, err)
		}
	}
	r.put(t)
	l.zero()
	return l, nil
}

// observed returns the options for recording a level of the pool.
func (t *target) observed(extra ...attribute.KeyValue) []metric.ObserveOption {
	extra = append(extra, semconv.DBClientConnectionPoolName(t.name))
	return []metric.ObserveOption{metric.WithAttributeSet(attribute.NewSet(extra...))}
}

// observables returns the instruments for the levels of layers.
func (l *levels) observables() (all []metric.Observable) {
	for _, gauge := range l.gauges {
		all = append(all, gauge)
	}
	return all
}

// zero creates the counters with value 0, unless nothing counts yet.
func (l *levels) zero() { l.target.zero(l.pool.KnownEvents()) }

// observe records the levels. The SDK calls observe at each collection. A pool may be older than
// the global provider, and until then nothing counts. So the first collection creates the counters
// again.
func (l *levels) observe(_ context.Context, o metric.Observer) error {
	l.first.Do(l.zero)
	r, stat, cfg := l.target.r, l.pool.Stat(), l.pool.Effective()
	l.countWaits(stat.Waited)
	level := func(instrument, n int, options []metric.ObserveOption) {
		o.ObserveInt64(r.levels[instrument], int64(n), options...)
	}
	level(connectionCount, stat.Idle, l.idle)
	level(connectionCount, stat.InUse, l.used)
	level(connectionMax, stat.Max, l.byName)
	level(connectionIdleMax, stat.Max, l.byName) // the pool keeps up to Max idle resources
	level(connectionIdleMin, stat.MinIdle, l.byName)
	level(connectionPending, stat.Waiters, l.byName)
	level(connectionMaintenance, stat.Opening, l.opening)
	level(connectionMaintenance, stat.Checking, l.checking)
	level(connectionMaintenance, stat.Closing, l.closing)
	o.ObserveFloat64(r.gauges[leaseOldest], stat.OldestLease.Seconds(), l.byName...)
	if cfg.AcquireTimeout > 0 {
		o.ObserveFloat64(r.gauges[acquireTimeout], cfg.AcquireTimeout.Seconds(), l.byName...)
	}
	for _, level := range l.pool.Levels() {
		l.observeLevel(o, &level)
	}
	return nil
}

// countWaits counts the waits since the last call; all is the number of all waits of the pool. The
// counter continues when the pool is closed and made again. Counting at a collection costs a use
// nothing.
func (l *levels) countWaits(all uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if all > l.waited {
		l.target.add(context.Background(), acquireWaits, int64(all-l.waited)) //nolint:gosec // a count
		l.waited = all
	}
}

// observeLevel records a level of a layer. A state is recorded as 1, and the other states as 0.
func (l *levels) observeLevel(o metric.Observer, level *pool.Level) {
	gauge, known := l.gauges[levelName{level.Layer, level.Name}]
	if !known || level.Read == nil { // New has seen the names; a further key may lack its Read
		return
	}
	value, ok := level.Read()
	if !ok {
		return
	}
	key := levelKey{layer: cmp.Or(level.LayerName, level.Layer), key: level.Key}
	if level.States == nil {
		if options, ok := l.series.get(key, maxSeries, l.seriesOf); ok {
			o.ObserveFloat64(gauge, value, options...)
		}
	}
	for state, name := range level.States {
		in := 0.0
		if float64(state) == value {
			in = 1
		}
		key.state = name
		if options, ok := l.series.get(key, maxSeries, l.seriesOf); ok {
			o.ObserveFloat64(gauge, in, options...)
		}
	}
}

// seriesOf returns the options for recording the levels with the key.
func (l *levels) seriesOf(key levelKey) []metric.ObserveOption {
	attrs := []attribute.KeyValue{attribute.String(layerKey, key.layer)}
	if key.key != "" {
		attrs = append(attrs, attribute.String(keyKey, key.key))
	}
	if key.state != "" {
		attrs = append(attrs, attribute.String(stateKey, key.state))
	}
	return l.target.observed(attrs...)
}
