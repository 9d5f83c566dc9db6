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

	"github.com/earnorm/poolstack/pool"
)

// ScopeName is the name of the instrumentation scope of all spans.
const ScopeName = "github.com/earnorm/poolstack/middleware/tracing"

const defaultWaitThreshold = time.Millisecond

// Config says what is traced. The zero Config works.
type Config struct {
	// TracerProvider makes the tracer. nil stands for the global one. With a provider of OpenTelemetry's package trace/noop the layer
	// installs nothing and costs nothing.
	TracerProvider trace.TracerProvider
	// WaitThreshold is how long a use may wait for its resource without an "acquire" span. 0 means 1 ms. A wait in vain always gets one.
	WaitThreshold time.Duration
	// Commands asks for a span for each command that the backend's client sends. They are then the CLIENT spans; a backend that tells of
	// none leaves a trace without any.
	Commands bool
	// CommandText asks for the text of these commands (db.query.text): "SET ? ?", {"find":"orders","filter":{"total":"?"}}. The backend
	// takes all values out of it, and for Redis the keys. It needs Commands.
	CommandText bool
	// SkipUnsampled saves the cost of a span that would not be sampled, about 0.4 us, where the parent is not: such uses are not traced
	// at all. Leave it off if a sampler is installed that samples below unsampled parents.
	SkipUnsampled bool
	// Background asks for spans of what the pool does for no use in particular: the opening of a connection, and a check or reset that
	// failed. Each is a trace of its own.
	Background bool
	// Filter says which operations are traced. nil means all. It is called for each use, concurrently.
	Filter func(pool.Op) bool
}

// Validate says what is wrong with c, or returns nil.
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

// Tracing is the layer. It may be used for several pools, concurrently, and needs no closing.
type Tracing struct {
	cfg    Config
	tracer trace.Tracer // nil when there is nothing to do
}

// New makes the layer. It fails when cfg is not valid.
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
		t.tracer = cfg.TracerProvider.Tracer(ScopeName, trace.WithSchemaURL(semconv.SchemaURL))
	}
	return t, nil
}

// Wrap is called by [pool.New].
func (t *Tracing) Wrap(next pool.Handler) pool.Handler {
	if t.tracer == nil {
		return next
	}
	return pool.Bracket(&layer{t: t}).Wrap(next)
}

// Unwrap shows [pool.New] the optional faces of the layer: what it observes depends on its Config.
func (t *Tracing) Unwrap() []any {
	switch {
	case t.tracer == nil:
		return nil
	case t.cfg.Commands:
		return []any{commandObserver{observer{t}}}
	}
	return []any{observer{t}}
}

// Describe is called by [pool.New].
func (t *Tracing) Describe() pool.LayerInfo {
	return pool.LayerInfo{Kind: "tracing", Role: pool.RoleObserve, Settings: map[string]string{
		"wait_threshold": t.cfg.WaitThreshold.String(),
		"commands":       strconv.FormatBool(t.cfg.Commands),
		"command_text":   strconv.FormatBool(t.cfg.CommandText),
		"skip_unsampled": strconv.FormatBool(t.cfg.SkipUnsampled),
		"background":     strconv.FormatBool(t.cfg.Background),
		"filter":         strconv.FormatBool(t.cfg.Filter != nil),
	}}
}

// layer is what one pool's uses pass through.
type layer struct {
	t     *Tracing
	plans plans
}

// begun is what Begin hands to End.
type begun struct {
	span trace.Span // nil when the use is not traced
	use  *use       // nil when the span records nothing
}

// Begin starts the span.
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

// End ends it.
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
