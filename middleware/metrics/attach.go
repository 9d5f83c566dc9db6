package metrics

import (
	"context"
	"fmt"
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
	registration, err := r.meter.RegisterCallback(l.observe, r.observed...)
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
	layers   []layerLevel

	subscribes bool // the pool has a level for subscriptions
}

// layerLevel is a level of a layer.
type layerLevel struct {
	instrument metric.Float64Observable
	read       func() (value float64, ok bool)
	number     []metric.ObserveOption
	states     [][]metric.ObserveOption // of each possible state; nil if the level is a number
}

func (r *recorder) newLevels(p pool.PoolInfo) (*levels, error) {
	t, err := r.newTarget(p.Identity())
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	options := func(extra ...attribute.KeyValue) []metric.ObserveOption {
		extra = append(extra, semconv.DBClientConnectionPoolName(t.name))
		return []metric.ObserveOption{metric.WithAttributeSet(attribute.NewSet(extra...))}
	}
	l := &levels{
		target: t, pool: p, byName: options(),
		idle:     options(semconv.DBClientConnectionStateIdle),
		used:     options(semconv.DBClientConnectionStateUsed),
		opening:  options(attribute.String(stateKey, "opening")),
		checking: options(attribute.String(stateKey, "checking")),
		closing:  options(attribute.String(stateKey, "closing")),
	}
	for _, level := range p.Levels() {
		i := instrumentOf(level)
		if i < 0 {
			continue
		}
		l.subscribes = l.subscribes || i == subscriptionConnections
		var name []attribute.KeyValue
		if level.LayerName != "" {
			name = append(name, attribute.String(layerKey, level.LayerName))
		}
		one := layerLevel{instrument: r.gauges[i], read: level.Read, number: options(name...)}
		for _, state := range level.States {
			one.states = append(one.states, options(append(name, attribute.String(stateKey, state))...))
		}
		l.layers = append(l.layers, one)
	}
	t.nameLayers(p.Layers())
	r.put(t)
	l.zero()
	return l, nil
}

// zero creates the counters with value 0, unless nothing counts yet.
func (l *levels) zero() {
	l.target.zero(l.pool.Layers())
	if l.subscribes {
		l.target.add(context.Background(), subscriptionOpened, 0, "")
	}
}

// instrumentOf returns the index of the instrument for a layer's level, or -1 if there is none.
func instrumentOf(level pool.Level) int {
	name := "poolstack." + level.Layer + "." + level.Name
	for _, i := range layerLevels {
		if catalogue[i].Name == name {
			return i
		}
	}
	return -1
}

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
	for i := range l.layers {
		l.layers[i].observe(o)
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

func (l *layerLevel) observe(o metric.Observer) {
	value, ok := l.read()
	if !ok {
		return
	}
	if l.states == nil {
		o.ObserveFloat64(l.instrument, value, l.number...)
	}
	for state, options := range l.states {
		in := 0.0
		if float64(state) == value {
			in = 1
		}
		o.ObserveFloat64(l.instrument, in, options...)
	}
}
