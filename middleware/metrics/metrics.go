package metrics

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/earnorm/poolstack/pool"
)

// ScopeName is the name of the instrumentation scope of all metrics.
const ScopeName = "github.com/earnorm/poolstack/middleware/metrics"

const defaultMaxOperations = 200

// Config says where the metrics go. The zero Config works.
type Config struct {
	// MeterProvider makes the instruments. nil stands for the global one. With a provider of OpenTelemetry's package metric/noop the
	// layer installs nothing and costs nothing.
	MeterProvider metric.MeterProvider
	// MaxOperations is how many different pairs of an operation's name and target the metrics of a pool tell apart, and to how many
	// names beyond that they add up the targets as _OTHER. What comes later is added up as the operation _OTHER; the first time, a
	// [pool.EventWarning] says so. 0 means 200. The SDK keeps 2,000 series of an instrument by default, and each operation takes one for
	// success and one for each way to fail.
	MaxOperations int
}

// Validate says what is wrong with c, or returns nil.
func (c Config) Validate() error {
	if c.MaxOperations < 0 {
		return fmt.Errorf("metrics: MaxOperations is %d: must be 0 (default %d) or more", c.MaxOperations, defaultMaxOperations)
	}
	return nil
}

// Metrics is the layer. It may be used for several pools, concurrently, and needs no closing: a pool's levels end when the pool is
// closed.
type Metrics struct {
	max      int
	recorder *recorder // nil when there is nothing to do
}

// New makes the layer. It fails when cfg is not valid, or the provider cannot make the instruments.
func New(cfg Config) (*Metrics, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.MeterProvider == nil {
		cfg.MeterProvider = otel.GetMeterProvider()
	}
	if cfg.MaxOperations == 0 {
		cfg.MaxOperations = defaultMaxOperations
	}
	m := &Metrics{max: cfg.MaxOperations}
	if _, nothing := cfg.MeterProvider.(noop.MeterProvider); nothing {
		return m, nil
	}
	var err error
	m.recorder, err = newRecorder(cfg.MeterProvider, cfg.MaxOperations)
	return m, err
}

// Wrap is called by [pool.New].
func (m *Metrics) Wrap(next pool.Handler) pool.Handler {
	if m.recorder == nil {
		return next
	}
	return pool.Bracket(&layer{r: m.recorder}).Wrap(next)
}

// Unwrap shows [pool.New] the optional faces of the layer: it observes and attaches itself only if there is something to do.
func (m *Metrics) Unwrap() []any {
	if m.recorder == nil {
		return nil
	}
	return []any{m.recorder}
}

// Describe is called by [pool.New].
func (m *Metrics) Describe() pool.LayerInfo {
	return pool.LayerInfo{Kind: "metrics", Role: pool.RoleObserve, Settings: map[string]string{"max_operations": strconv.Itoa(m.max)}}
}

// faultOf says whose fault a failed use is counted under: for a refusal because of failures, whose they were.
func faultOf(class pool.Class, err error) pool.Fault {
	if class.Fault == pool.FaultLocal {
		if root, ok := pool.Because(err); ok {
			return root.Fault
		}
	}
	return class.Fault
}

// layer is what one pool's uses pass through.
type layer struct {
	r      *recorder
	target atomic.Pointer[target]
}

// Begin notes the time. It is zero when nobody wants to know how long the use takes.
func (l *layer) Begin(ctx context.Context, c *pool.Call) (context.Context, time.Time, error) {
	t := l.target.Load()
	if t == nil {
		t = l.r.targetOf(c.Identity())
		l.target.Store(t)
	}
	if !t.duration.Enabled(ctx) {
		return ctx, time.Time{}, nil
	}
	return ctx, c.Started(), nil
}

// End records the use. It may see an error where there is none for metrics: a miss.
func (l *layer) End(ctx context.Context, c *pool.Call, began time.Time, err error) {
	t := l.target.Load()
	class := c.Classify(err)
	failed := err != nil && !class.Miss
	if !began.IsZero() {
		options, folded := t.outcome(c.Op(), class, failed)
		if folded && t.tellFolded() {
			c.Emit(ctx, pool.Event{Kind: pool.EventWarning, Layer: "metrics", Reason: fmt.Sprintf(
				"more than %d different operations, or more than %d ways for one to fail: the metrics of the others are added up as %s",
				l.r.maxOperations, maxFailures, other)})
		}
		t.duration.Record(ctx, time.Since(began).Seconds(), options...)
	}
	if failed {
		t.count(ctx, failures, faultOf(class, err).String())
	}
}
