package tracing

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"go.opentelemetry.io/otel"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/earnorm/poolstack/middleware/internal/module"
	"github.com/earnorm/poolstack/pool"
)

// ScopeName is the name of the instrumentation scope of all spans. The version of the scope is the
// version of this module, as far as the program knows the version.
const ScopeName = "github.com/earnorm/poolstack/middleware/tracing"

// scopeVersion returns the version of the scope.
var scopeVersion = module.Version

const defaultWaitThreshold = time.Millisecond

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

// Validate returns an error naming every invalid field and its allowed values. Validate returns nil
// if all fields are valid.
func (c Config) Validate() error {
	var errs []error
	if c.WaitThreshold < 0 {
		errs = append(errs, fmt.Errorf("tracing: WaitThreshold is %v: must be 0 (default %v) or more", c.WaitThreshold, defaultWaitThreshold))
	}
	if c.CommandText && !c.Commands {
		errs = append(errs, errors.New("tracing: CommandText is true: must be false unless Commands is true"))
	}
	return errors.Join(errs...)
}

// Tracing is the tracing layer. Create a Tracing with [New]. A Tracing may serve several pools,
// concurrently, and needs no closing.
type Tracing struct {
	cfg     Config
	tracer  trace.Tracer // nil with a noop provider
	openers openers
}

// New returns a Tracing with the settings cfg. New returns the error of [Config.Validate] if cfg is
// invalid.
func New(cfg Config) (*Tracing, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.TracerProvider == nil {
		cfg.TracerProvider = otel.GetTracerProvider()
	}
	if cfg.WaitThreshold == 0 {
		cfg.WaitThreshold = defaultWaitThreshold
	}
	t := &Tracing{cfg: cfg}
	if _, nothing := cfg.TracerProvider.(noop.TracerProvider); !nothing {
		t.tracer = cfg.TracerProvider.Tracer(ScopeName,
			trace.WithInstrumentationVersion(scopeVersion()), trace.WithSchemaURL(semconv.SchemaURL))
	}
	return t, nil
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
	case t.cfg.Commands:
		return []any{commandObserver{observer{t}}}
	}
	return []any{observer{t}}
}

// Describe implements [pool.Describer].
func (t *Tracing) Describe() pool.LayerInfo {
	return pool.LayerInfo{Layer: "tracing", Role: pool.RoleObserve, Settings: map[string]string{
		"wait_threshold": t.cfg.WaitThreshold.String(),
		"commands":       strconv.FormatBool(t.cfg.Commands),
		"command_text":   strconv.FormatBool(t.cfg.CommandText),
		"skip_unsampled": strconv.FormatBool(t.cfg.SkipUnsampled),
		"background":     strconv.FormatBool(t.cfg.Background),
		"filter":         strconv.FormatBool(t.cfg.Filter != nil),
	}}
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
	if l.t.cfg.Filter != nil && !l.t.cfg.Filter(op) {
		return ctx, begun{}, nil
	}
	if l.t.cfg.SkipUnsampled {
		if parent := trace.SpanContextFromContext(ctx); parent.IsValid() && !parent.IsSampled() {
			return ctx, begun{}, nil
		}
	}
	kind := ofUse
	if l.t.cfg.Commands {
		kind = ofUseAboveCommands
	}
	p := l.plans.get(c, spec{kind: kind, name: op.Name, target: op.Target})
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
		o.mark(b.span, !l.t.cfg.Commands)
	}
	b.span.End()
}
