package tracing

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/earnorm/poolstack/middleware/internal/module"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/settings"
)

// ScopeName is the name of the instrumentation scope of all spans. The version of the scope is the
// version of this module, as far as the program knows the version.
const ScopeName = "github.com/earnorm/poolstack/middleware/tracing"

// scopeVersion returns the version of the scope.
var scopeVersion = module.Version

const (
	kind                 = "tracing"
	defaultWaitThreshold = time.Millisecond
)

// Config holds the settings of a [Tracing]. The zero Config is valid.
type Config struct {
	// TracerProvider makes the tracer. nil means the global provider at the time of New. With a
	// provider of OpenTelemetry's package trace/noop, the layer does nothing and costs nothing.
	TracerProvider trace.TracerProvider
	// WaitThreshold is the longest wait for a resource without an "acquire" span. 0 means 1 ms. A
	// failed wait always has an "acquire" span.
	WaitThreshold time.Duration
	// Commands enables a span for each command sent by the backend's client. Then the command spans
	// have kind CLIENT instead of the use's span. With a backend that reports no commands, a trace has
	// no CLIENT span.
	Commands bool
	// CommandText enables the text of commands (db.query.text): "SET ? ?",
	// {"find":"orders","filter":{"total":"?"}}. The backend removes all values, and for Redis also the
	// keys. CommandText requires Commands.
	CommandText bool
	// SkipUnsampled disables the tracing of a use whose parent span is not sampled. This saves about
	// 0.4 us, the cost of a span that is not sampled. Leave SkipUnsampled false if the sampler samples
	// below unsampled parents.
	SkipUnsampled bool
	// Background enables spans for the pool's background work: opening a connection, and a failed
	// check or reset. Each span is the root of a separate trace.
	Background bool
	// Filter reports whether an operation is traced. nil means all operations. Filter is called for
	// each use, concurrently.
	Filter func(pool.Op) bool
}

// configSpec lists the settings of a tracing layer. TracerProvider and Filter have no text.
// Commands is fixed, because the pool decides once whether backends report commands.
var configSpec = settings.Spec[Config]{Layer: kind, Fields: []settings.Entry[Config]{
	settings.Duration(func(c *Config) *time.Duration { return &c.WaitThreshold }, settings.Field{
		Go: "WaitThreshold", Allowed: fmt.Sprintf("0 (default %v) or more", defaultWaitThreshold),
		Help: "The longest wait for a resource without a span.",
	}),
	settings.Bool(func(c *Config) *bool { return &c.Commands }, settings.Field{
		Go: "Commands", Fixed: true, Help: "Each command of the client has a span.",
	}),
	settings.Bool(func(c *Config) *bool { return &c.CommandText }, settings.Field{
		Go: "CommandText", Help: "A command's span has the text of the command, without values. Needs commands.",
	}),
	settings.Bool(func(c *Config) *bool { return &c.SkipUnsampled }, settings.Field{
		Go: "SkipUnsampled", Help: "A use whose parent span is not sampled is not traced.",
	}),
	settings.Bool(func(c *Config) *bool { return &c.Background }, settings.Field{
		Go: "Background", Help: "The background work of the pool has spans.",
	}),
}}

// Validate returns an error naming every invalid field and its allowed values. Validate returns nil
// if all fields are valid. The error joins a *[settings.FieldError] for each field.
func (c Config) Validate() error {
	return configSpec.Validate(c, settings.Rule{Field: "CommandText", OK: !c.CommandText || c.Commands, Allowed: "false unless Commands is true"})
}

// Tracing is the tracing layer. Create a Tracing with [New]. A Tracing may serve several pools,
// concurrently, and needs no closing.
type Tracing struct {
	live     *settings.Live[Config]
	attached pool.Attached
	provider trace.TracerProvider
	cfg      atomic.Pointer[Config] // in force
	tracer   trace.Tracer           // nil with a noop provider
	openers  openers
}

// New returns a Tracing with the settings cfg. New returns the error of [Config.Validate] if cfg is
// invalid.
func New(cfg Config) (*Tracing, error) {
	t := &Tracing{provider: cfg.TracerProvider}
	if t.provider == nil {
		t.provider = otel.GetTracerProvider()
	}
	var err error
	t.live, err = settings.New(&configSpec, cfg, settings.Hooks[Config]{Fill: t.fill, Validate: t.validate, Apply: t.configure, Report: t.report})
	if err != nil {
		return nil, err
	}
	t.configure(cfg)
	if _, nothing := t.provider.(noop.TracerProvider); !nothing {
		t.tracer = t.provider.Tracer(ScopeName,
			trace.WithInstrumentationVersion(scopeVersion()), trace.WithSchemaURL(semconv.SchemaURL))
	}
	return t, nil
}

// Config returns the settings declared by New or Configure: a field that was not set is 0 or nil.
func (t *Tracing) Config() Config { return t.live.Config() }

// Effective returns the settings in force: the merge of all sources, with defaults in place of 0,
// and the provider in use.
func (t *Tracing) Effective() Config { return t.live.Effective() }

// Configure replaces the settings declared by code. A field declared by a higher source keeps its
// value (see package settings); the pools then report a warning. TracerProvider and Commands cannot
// change: the provider must be nil or the provider in use. A use in progress may be traced in parts
// with the old and with the new settings. Configure reports a [pool.EventConfigured]. After an
// error, the settings are unchanged.
func (t *Tracing) Configure(cfg Config) error { return t.live.Configure(cfg) }

// Tuning implements [settings.Tunable].
func (t *Tracing) Tuning() *settings.Tuning { return t.live.Tuning() }

// Attach implements [pool.Attacher]. The observers of the pool receive the event of Configure.
func (t *Tracing) Attach(p pool.PoolInfo) (detach func(), err error) { return t.attached.Add(p), nil }

// fill returns cfg with the provider in use, and defaults in place of 0.
func (t *Tracing) fill(cfg Config) Config {
	cfg.TracerProvider = t.provider
	cfg.WaitThreshold = cmp.Or(cfg.WaitThreshold, defaultWaitThreshold)
	return cfg
}

func (t *Tracing) validate(cfg Config) error {
	return errors.Join(cfg.Validate(), settings.Unchanged(kind, "TracerProvider", cfg.TracerProvider, t.provider))
}

// configure puts cfg in force.
func (t *Tracing) configure(cfg Config) {
	cfg = t.fill(cfg)
	t.cfg.Store(&cfg)
}

func (t *Tracing) report(r settings.Result) {
	t.attached.Emit(pool.Event{Kind: pool.EventConfigured, Layer: kind, Settings: &r})
}

// Wrap implements [pool.Middleware].
func (t *Tracing) Wrap(next pool.Handler) pool.Handler {
	if t.tracer == nil {
		return next
	}
	return pool.Bracket(&layer{t: t}).Wrap(next)
}

// Unwrap returns the observer of the layer, for [pool.New]. The observer's type depends on Config.
// With a noop provider, Unwrap returns nil.
func (t *Tracing) Unwrap() []any {
	switch {
	case t.tracer == nil:
		return nil
	case t.cfg.Load().Commands:
		return []any{commandObserver{observer{t}}}
	}
	return []any{observer{t}}
}

// Describe implements [pool.Describer].
func (t *Tracing) Describe() pool.LayerInfo {
	texts := t.live.Texts()
	texts["filter"] = strconv.FormatBool(t.cfg.Load().Filter != nil)
	return pool.LayerInfo{Layer: kind, Role: pool.RoleObserve, Settings: texts, Events: []pool.Event{{Kind: pool.EventConfigured}}}
}

// layer traces the uses of a single pool.
type layer struct {
	t     *Tracing
	plans plans
}

// begun is the value passed from Begin to End.
type begun struct {
	span trace.Span // nil if the use is not traced
	use  *use       // nil if the span is not recording
}

// Begin starts the span of a use.
func (l *layer) Begin(ctx context.Context, c *pool.Call) (context.Context, begun, error) {
	op := c.Op()
	cfg := l.t.cfg.Load()
	if cfg.Filter != nil && !cfg.Filter(op) {
		return ctx, begun{}, nil
	}
	if cfg.SkipUnsampled {
		if parent := trace.SpanContextFromContext(ctx); parent.IsValid() && !parent.IsSampled() {
			return ctx, begun{}, nil
		}
	}
	plan := ofUse
	if cfg.Commands {
		plan = ofUseAboveCommands
	}
	p := l.plans.get(c, spec{kind: plan, name: op.Name, target: op.Target})
	ctx, span := l.t.tracer.Start(ctx, p.name, p.options...)
	if !span.IsRecording() {
		return ctx, begun{span: span}, nil
	}
	u := newUse(ctx, l, span, c.Started())
	c.SetValue(l.t, u)
	return ctx, begun{span, u}, nil
}

// End ends the span of a use.
func (l *layer) End(_ context.Context, c *pool.Call, b begun, err error) {
	if b.span == nil {
		return
	}
	if b.use != nil {
		c.SetValue(l.t, nil)
		o := judge(c, err)
		b.use.end(c, o)
		o.mark(b.span, !l.t.cfg.Load().Commands)
	}
	b.span.End()
}
