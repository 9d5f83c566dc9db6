package tracing

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/earnorm/poolstack/pool"
)

var (
	freshKey    = attribute.Key("poolstack.connection.fresh")
	layerKey    = attribute.Key("poolstack.layer")
	reasonKey   = attribute.Key("poolstack.reason")
	fromKey     = attribute.Key("poolstack.from")
	toKey       = attribute.Key("poolstack.to")
	durationKey = attribute.Key("poolstack.duration")
)

var internalKind = []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindInternal)}

// observer hears of what happens within the uses.
type observer struct{ t *Tracing }

// Observe records e on the span of the use it happened in.
func (o observer) Observe(ctx context.Context, e pool.Event) {
	switch e.Kind {
	case pool.EventReleased, pool.EventOpened, pool.EventOpenFailed, pool.EventClosed, pool.EventCheckFailed, pool.EventLeaked:
		return
	case pool.EventAcquired:
		if e.Duration < o.t.cfg.WaitThreshold {
			return
		}
	default:
	}
	u := o.t.useFrom(ctx, e.Pool, e.Op)
	if u == nil {
		return
	}
	switch e.Kind {
	case pool.EventAcquired:
		u.wait(e, outcome{}, freshKey.Bool(e.Fresh))
	case pool.EventAcquireFailed:
		u.wait(e, outcome{failed: true, reason: e.Reason})
	case pool.EventRetry:
		u.note(e)
		u.attemptOver(e.Attempt, outcome{failed: true, reason: e.Reason}, e.Duration)
	default:
		u.note(e)
	}
}

func (u *use) wait(e pool.Event, o outcome, extra ...attribute.KeyValue) {
	now := time.Now()
	u.add(child{name: "acquire", options: internalKind, extra: extra, begin: now.Add(-e.Duration), end: now, outcome: o}, false)
}

// note makes a span event of e.
func (u *use) note(e pool.Event) {
	attrs := make([]attribute.KeyValue, 0, 6)
	attrs = append(attrs, layerKey.String(e.Layer))
	if e.Attempt > 0 {
		attrs = append(attrs, attemptKey.Int(e.Attempt))
	}
	for _, a := range []attribute.KeyValue{reasonKey.String(e.Reason), fromKey.String(e.From), toKey.String(e.To)} {
		if a.Value.AsString() != "" {
			attrs = append(attrs, a)
		}
	}
	if e.Duration > 0 {
		attrs = append(attrs, durationKey.Float64(e.Duration.Seconds()))
	}
	u.span.AddEvent("poolstack."+string(e.Kind), trace.WithAttributes(attrs...))
}

// commandObserver hears of the commands as well.
type commandObserver struct{ observer }

// commandContext remembers when a command was sent.
type commandContext struct {
	context.Context
	use   *use
	begin time.Time
}

type commandKey struct{}

// Value finds the commandContext itself.
func (x *commandContext) Value(key any) any {
	if _, ok := key.(commandKey); ok {
		return x
	}
	return x.Context.Value(key)
}

// BeginCommand notes the time.
func (o commandObserver) BeginCommand(ctx context.Context, c *pool.Call, _ pool.Command) context.Context {
	u := o.t.useFrom(ctx, c.Identity().Name, c.Op())
	if u == nil {
		return ctx
	}
	return &commandContext{ctx, u, time.Now()}
}

// EndCommand makes the command's span.
func (o commandObserver) EndCommand(ctx context.Context, c *pool.Call, cmd pool.Command, err error) {
	u := o.t.useFrom(ctx, c.Identity().Name, c.Op())
	x, _ := ctx.Value(commandKey{}).(*commandContext)
	if u == nil || x == nil || x.use != u {
		return
	}
	p := u.layer.plans.get(c, spec{ofCommand, cmd.Name, cmd.Target, cmd.Namespace})
	ch := child{name: p.name, options: p.options, begin: x.begin, end: time.Now(), outcome: judge(c, err), database: true}
	if cmd.Batch > 1 {
		ch.extra = []attribute.KeyValue{semconv.DBOperationBatchSize(cmd.Batch)}
	}
	u.add(ch, c.TwoStep())
}
