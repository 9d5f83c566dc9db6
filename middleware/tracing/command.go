package tracing

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
)

// commandObserver is an observer that also observes commands.
type commandObserver struct{ observer }

// WantsCommandText reports whether the text of commands is recorded.
func (o commandObserver) WantsCommandText() bool { return o.t.cfg.Load().CommandText }

// commandContext holds the start time of a command.
type commandContext struct {
	context.Context
	use   *use
	begin time.Time
}

type commandKey struct{ t *Tracing }

// Value returns the commandContext itself for the key of its layer.
func (x *commandContext) Value(key any) any {
	if k, ok := key.(commandKey); ok && k.t == x.use.layer.t {
		return x
	}
	return x.Context.Value(key)
}

// BeginCommand records the start time in the returned context.
func (o commandObserver) BeginCommand(ctx context.Context, c *pool.Call, _ driver.Command) context.Context {
	u := o.t.useOf(c)
	if u == nil {
		return ctx
	}
	return &commandContext{ctx, u, time.Now()}
}

// EndCommand makes the command's span. If the command was sent in the context of a borrower's span,
// the command's span is a child of the borrower's span.
func (o commandObserver) EndCommand(ctx context.Context, c *pool.Call, cmd driver.Command, err error) {
	u := o.t.useOf(c)
	x, _ := ctx.Value(commandKey{o.t}).(*commandContext)
	if u == nil || x == nil || x.use != u {
		return
	}
	ch := child{
		plan:  u.layer.plans.get(c, spec{ofCommand, cmd.Name, cmd.Target, cmd.Namespace, cmd.OnDatabase, cmd.Server}),
		extra: o.extra(cmd), begin: x.begin, end: time.Now(), outcome: judge(c, err), database: true,
	}
	if trace.SpanContextFromContext(ctx).SpanID() != u.span.SpanContext().SpanID() {
		u.make(ctx, ch)
		return
	}
	u.add(c, ch)
}

// extra returns the attributes that differ between commands of the same name.
func (o commandObserver) extra(cmd driver.Command) (attrs []attribute.KeyValue) {
	switch {
	case cmd.Batch > 1:
		attrs = append(attrs, semconv.DBOperationBatchSize(cmd.Batch))
	case cmd.Batch == driver.EmptyBatch:
		attrs = append(attrs, semconv.DBOperationBatchSize(0))
	}
	if o.t.cfg.Load().CommandText && cmd.Text != "" {
		attrs = append(attrs, semconv.DBQueryText(cmd.Text))
	}
	return attrs
}
