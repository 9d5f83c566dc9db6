package metrics

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/earnorm/poolstack/middleware/internal/module"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/settings"
)

// ScopeName is the name of the instrumentation scope of all metrics. The version of the scope is
// the version of this module, as far as the program knows the version.
const ScopeName = "github.com/earnorm/poolstack/middleware/metrics"

// scopeVersion returns the version of the scope.
var scopeVersion = module.Version

const (
	kind                 = "metrics"
	defaultMaxOperations = 200
)

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

// configSpec lists the settings of a metrics layer. MeterProvider has no text.
var configSpec = settings.Spec[Config]{Layer: kind, Fields: []settings.Entry[Config]{
	settings.Int(func(c *Config) *int { return &c.MaxOperations }, settings.Field{
		Go: "MaxOperations", Unit: "operations", Allowed: fmt.Sprintf("0 (default %d) or more", defaultMaxOperations),
		Effect: "operations told apart so far stay apart", Help: "The maximum number of operations told apart in the metrics of a pool.",
	}),
}}

// Validate returns an error naming the invalid field and its allowed values. Validate returns nil
// if all fields are valid. The error joins a *[settings.FieldError] for each field.
func (c Config) Validate() error { return configSpec.Validate(c) }

// Metrics is the metrics layer. Create a Metrics with [New]. A Metrics may serve several pools,
// concurrently, and needs no closing: a pool's levels end when the pool is closed.
type Metrics struct {
	live     *settings.Live[Config]
	attached pool.Attached
	provider metric.MeterProvider
	recorder *recorder // nil with a noop provider
}

// New returns a Metrics with the settings cfg. New fails if cfg is invalid, or if the provider
// cannot make the instruments.
func New(cfg Config) (*Metrics, error) {
	m := &Metrics{provider: cfg.MeterProvider}
	if m.provider == nil {
		m.provider = otel.GetMeterProvider()
	}
	var err error
	m.live, err = settings.New(&configSpec, cfg, settings.Hooks[Config]{Fill: m.fill, Validate: m.validate, Apply: m.configure, Report: m.report})
	if err != nil {
		return nil, err
	}
	if _, nothing := m.provider.(noop.MeterProvider); nothing {
		return m, nil
	}
	m.recorder, err = newRecorder(m.provider, m.fill(cfg).MaxOperations)
	return m, err
}

// Config returns the settings declared by New or Configure: a field that was not set is 0 or nil.
func (m *Metrics) Config() Config { return m.live.Config() }

// Effective returns the settings in force: the merge of all sources, with defaults in place of 0
// and nil.
func (m *Metrics) Effective() Config { return m.live.Effective() }

// Configure replaces the settings declared by code. A field declared by a higher source keeps its
// value (see package settings); the pools then report a warning. MeterProvider cannot change: the
// value must be nil or the provider in use. Operations told apart so far stay apart. Configure
// reports a [pool.EventConfigured]. After an error, the settings are unchanged.
func (m *Metrics) Configure(cfg Config) error { return m.live.Configure(cfg) }

// Tuning implements [settings.Tunable].
func (m *Metrics) Tuning() *settings.Tuning { return m.live.Tuning() }

// Attach implements [pool.Attacher]. The observers of the pool receive the event of Configure.
func (m *Metrics) Attach(p pool.PoolInfo) (detach func(), err error) { return m.attached.Add(p), nil }

// fill returns cfg with defaults in place of 0 and nil.
func (m *Metrics) fill(cfg Config) Config {
	cfg.MeterProvider = m.provider
	cfg.MaxOperations = cmp.Or(cfg.MaxOperations, defaultMaxOperations)
	return cfg
}

func (m *Metrics) validate(cfg Config) error {
	return errors.Join(cfg.Validate(), settings.Unchanged(kind, "MeterProvider", cfg.MeterProvider, m.provider))
}

// configure puts cfg in force.
func (m *Metrics) configure(cfg Config) {
	if m.recorder != nil {
		m.recorder.maxOperations.Store(int64(m.fill(cfg).MaxOperations))
	}
}

func (m *Metrics) report(r settings.Result) {
	m.attached.Emit(pool.Event{Kind: pool.EventConfigured, Layer: kind, Settings: &r})
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
	return pool.LayerInfo{Layer: kind, Role: pool.RoleObserve, Settings: m.live.Texts(), Events: []pool.Event{{Kind: pool.EventConfigured}}}
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
				l.r.maxOperations.Load(), maxFailures, other)})
		}
		t.duration.Record(ctx, time.Since(began).Seconds(), options...)
	}
	outcome := success
	if failed {
		outcome = failure
		t.count(ctx, failures, faultOf(class, err).String())
	}
	if n := c.Attempt(); n > 1 {
		t.count(ctx, retryUses, attemptCounts[min(n, len(attemptCounts)+1)-2], outcome)
	}
}
