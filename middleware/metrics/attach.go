package metrics

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"sync"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/earnorm/poolstack/pool"
)

// live are the pools that are observed in this process: callbacks with one pool's name would add up.
var live struct {
	mu    sync.Mutex
	pools map[observedPool]bool
}

type observedPool struct {
	provider metric.MeterProvider
	name     string
}

// claim makes sure of a pool's name. A provider that cannot be compared with others is trusted.
func claim(provider metric.MeterProvider, name string) (release func(), err error) {
	if !reflect.ValueOf(provider).Comparable() {
		return func() {}, nil
	}
	key := observedPool{provider, name}
	live.mu.Lock()
	defer live.mu.Unlock()
	if live.pools[key] {
		return nil, fmt.Errorf("metrics: a pool named %q exists already: give one of them another name, or their metrics would add up", name)
	}
	if live.pools == nil {
		live.pools = map[observedPool]bool{}
	}
	live.pools[key] = true
	return func() {
		live.mu.Lock()
		defer live.mu.Unlock()
		delete(live.pools, key)
	}, nil
}

// Attach begins to observe the pool's levels.
func (r *recorder) Attach(p pool.PoolInfo) (detach func(), err error) {
	id := p.Identity()
	release, err := claim(r.provider, id.Name)
	if err != nil {
		return nil, err
	}
	l, err := r.newLevels(p)
	if err != nil {
		release()
		return nil, err
	}
	registration, err := r.meter.RegisterCallback(l.observe, r.observed...)
	if err != nil {
		release()
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return func() {
		if err := registration.Unregister(); err != nil {
			otel.Handle(err)
		}
		release()
	}, nil
}

// levels is what is read at each collection from one pool.
type levels struct {
	target    *target
	pool      pool.PoolInfo
	byName    []metric.ObserveOption
	idle      []metric.ObserveOption
	used      []metric.ObserveOption
	opening   []metric.ObserveOption
	checking  []metric.ObserveOption
	closing   []metric.ObserveOption
	breaker   [states][]metric.ObserveOption
	isBreaker bool
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
	for s, name := range stateNames {
		l.breaker[s] = options(attribute.String(stateKey, name))
	}
	layers := p.Layers()
	l.isBreaker = slices.ContainsFunc(layers, func(i pool.LayerInfo) bool { return i.Kind == "breaker" })
	r.put(t)
	t.zero(layers)
	return l, nil
}

// observe is called at each collection.
func (l *levels) observe(_ context.Context, o metric.Observer) error {
	r, stat, cfg := l.target.r, l.pool.Stat(), l.pool.Config()
	level := func(instrument, n int, options []metric.ObserveOption) {
		o.ObserveInt64(r.levels[instrument], int64(n), options...)
	}
	level(connectionCount, stat.Idle, l.idle)
	level(connectionCount, stat.InUse, l.used)
	level(connectionMax, stat.Max, l.byName)
	level(connectionIdleMax, stat.Max, l.byName) // what comes back is kept, up to the maximum
	level(connectionIdleMin, stat.MinIdle, l.byName)
	level(connectionPending, stat.Waiters, l.byName)
	level(connectionMaintenance, stat.Opening, l.opening)
	level(connectionMaintenance, stat.Checking, l.checking)
	level(connectionMaintenance, stat.Closing, l.closing)
	o.ObserveFloat64(r.seconds[leaseOldest], stat.OldestLease.Seconds(), l.byName...)
	if cfg.AcquireTimeout > 0 {
		o.ObserveFloat64(r.seconds[acquireTimeout], cfg.AcquireTimeout.Seconds(), l.byName...)
	}
	if l.isBreaker {
		now := l.target.breaker.state()
		for s, options := range l.breaker {
			in := 0
			if state(s) == now {
				in = 1
			}
			level(breakerState, in, options)
		}
	}
	return nil
}
