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

	"github.com/earnorm/poolstack/middleware/internal/module"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
)

// ScopeName is the name of the instrumentation scope of all metrics. The version of the scope is
// the version of this module, as far as the program knows the version.
const ScopeName = "github.com/earnorm/poolstack/middleware/metrics"

// scopeVersion returns the version of the scope.
var scopeVersion = module.Version

const defaultMaxOperations = 200

// Config holds the settings of a [Metrics]. The zero Config is valid.
type Config struct {
	// MeterProvider makes the instruments. nil means the global provider at the time of New. With a
	// provider of OpenTelemetry's package metric/noop, the layer does nothing and costs nothing.
	MeterProvider metric.MeterProvider
	// MaxOperations is the maximum number of operations told apart in the metrics of a pool. An
	// operation is an Op.Name with an Op.Target. 0 means 200. Beyond MaxOperations, the targets of up
	// to MaxOperations further names are added up as the target _OTHER. All other operations are added
	// up as the operation _OTHER. A [pool.EventWarning] reports the first operation added up. The SDK
	// keeps 2,000 series of an instrument by default. Each operation takes a series for success and a
	// series for each way to fail.
	MaxOperations int
}

// Validate returns an error naming the invalid field and its allowed values. Validate returns nil
// if all fields are valid.
func (c Config) Validate() error {
	if c.MaxOperations < 0 {
		return fmt.Errorf("metrics: MaxOperations is %d: must be 0 (default %d) or more", c.MaxOperations, defaultMaxOperations)
	}
	return nil
}

// Metrics is the metrics layer. Create a Metrics with [New]. A Metrics may serve several pools,
// concurrently, and needs no closing: a pool's levels end when the pool is closed.
type Metrics struct {
	max      int
	recorder *recorder // nil with a noop provider
}

// New returns a Metrics with the settings cfg. New fails if cfg is invalid, or if the provider
// cannot make the instruments.
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

// Wrap implements [pool.Middleware].
func (m *Metrics) Wrap(next pool.Handler) pool.Handler {
	if m.recorder == nil {
		return next
	}
	return pool.Bracket(&layer{r: m.recorder}).Wrap(next)
}

// Unwrap returns the recorder of the layer, an observer and attacher, for [pool.New]. With a noop
// provider, Unwrap returns nil.
func (m *Metrics) Unwrap() []any {
	if m.recorder == nil {
		return nil
	}
	return []any{m.recorder}
}

// Describe implements [pool.Describer].
func (m *Metrics) Describe() pool.LayerInfo {
	return pool.LayerInfo{Layer: "metrics", Role: pool.RoleObserve, Settings: map[string]string{"max_operations": strconv.Itoa(m.max)}}
}

// faultOf returns the fault counted for a failed use. For a refusal because of an earlier failure,
// faultOf returns the fault of the earlier failure.
func faultOf(class driver.Class, err error) driver.Fault {
	if class.Fault == driver.FaultLocal {
		if root, ok := pool.Because(err); ok {
			return root.Fault
		}
	}
	return class.Fault
}

// layer measures the uses of a single pool.
type layer struct {
	r      *recorder
	target atomic.Pointer[target]
}

// Begin returns the start time of the use. The start time is zero if no reader collects the
// duration.
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

// End records the use. err may be a miss: a miss is no failure in the metrics.
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
