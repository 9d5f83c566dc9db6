package tracing

import (
	"context"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/earnorm/poolstack/pool"
)

var (
	freshKey    = attribute.Key("poolstack.connection.fresh")
	layerKey    = attribute.Key("poolstack.layer")
	reasonKey   = attribute.Key("poolstack.reason")
	fromKey     = attribute.Key("poolstack.from")
	toKey       = attribute.Key("poolstack.to")
	causeKey    = attribute.Key("poolstack.cause")
	durationKey = attribute.Key("poolstack.duration")
	droppedKey  = attribute.Key("poolstack.events.dropped")
	attemptsKey = attribute.Key("poolstack.attempts")
	waitKey     = attribute.Key("poolstack.acquire.wait")
)

// maxNotes is the maximum number of span events of a use.
const maxNotes = 32

// observer receives the events of uses and of background work.
type observer struct{ t *Tracing }

// WantsEvent reports whether the layer needs events of kind k. EventReleased is not needed, because
// the end of the span is the end of the use.
func (o observer) WantsEvent(k pool.EventKind) bool { return k != pool.EventReleased }

// Observe handles an event that belongs to no use.
func (o observer) Observe(_ context.Context, e pool.Event) {
	if e.Kind == pool.EventStateChanged {
		o.t.openers.note(e, nil)
	}
	if o.t.cfg.Load().Background {
		o.t.background(e)
	}
}

// ObserveUse records e on the span of c's use.
func (o observer) ObserveUse(_ context.Context, c *pool.Call, e pool.Event) {
	u := o.t.useOf(c)
	if e.Kind == pool.EventStateChanged {
		o.t.openers.note(e, u)
	}
	if u == nil {
		return
	}
	switch e.Kind {
	case pool.EventReleased: // passed on by another layer
	case pool.EventAcquired:
		u.addWait(e.Duration)
		if e.Duration > o.t.cfg.Load().WaitThreshold {
			u.wait(c, e, outcome{}, freshKey.Bool(e.Fresh))
		}
	case pool.EventAcquireFailed:
		u.addWait(e.Duration)
		if e.Duration > 0 { // else the use was refused at once
			u.wait(c, e, outcome{failed: true, reason: e.Reason})
		}
	case pool.EventRetry:
		u.note(e)
		u.attemptOver(c, e, outcome{failed: true, reason: e.Reason})
	case pool.EventGaveUp:
		u.note(e)
		// Given up in a pause: the attempt is over. The use may have another outcome, such as a
		// cancellation.
		if e.Attempt > 1 && e.Duration > 0 {
			u.attemptOver(c, e, judge(c, e.Err))
		}
	default:
		u.note(e)
	}
}

// wait adds a child span for the wait reported by e.
func (u *use) wait(c *pool.Call, e pool.Event, o outcome, extra ...attribute.KeyValue) {
	now := time.Now()
	p := u.layer.plans.get(c, spec{kind: ofWait, name: "acquire"})
	u.add(c, child{plan: p, extra: extra, begin: now.Add(-e.Duration), end: now, outcome: o})
}

// note records e as a span event.
func (u *use) note(e pool.Event) {
	u.mu.Lock()
	u.notes++
	full := u.notes > maxNotes
	u.mu.Unlock()
	if full {
		return
	}
	attrs := make([]attribute.KeyValue, 0, 7)
	attrs = append(attrs, layerKey.String(e.Layer))
	if e.Attempt > 0 {
		attrs = append(attrs, attemptKey.Int(e.Attempt))
	}
	for _, a := range []attribute.KeyValue{reasonKey.String(e.Reason), fromKey.String(e.From), toKey.String(e.To)} {
		if a.Value.AsString() != "" {
			attrs = append(attrs, a)
		}
	}
	if root, ok := pool.Because(e.Err); ok {
		attrs = append(attrs, causeKey.String(root.Type))
		if e.Kind == pool.EventRejected {
			u.link(e)
		}
	}
	if e.Duration > 0 {
		attrs = append(attrs, durationKey.Float64(e.Duration.Seconds()))
	}
	u.span.AddEvent("poolstack."+string(e.Kind), trace.WithAttributes(attrs...))
}

// link links the span of a refused use to the span of the use that has opened the breaker.
func (u *use) link(e pool.Event) {
	opener, ok := u.layer.t.openers.of(e.Pool)
	if !ok || opener.SpanID() == u.span.SpanContext().SpanID() {
		return
	}
	u.span.AddLink(trace.Link{SpanContext: opener, Attributes: []attribute.KeyValue{reasonKey.String(e.Reason)}})
}

// openers holds the span of the use that has opened the breaker of a pool, by the name of the pool.
// The breaker of a pool in openers is not closed.
type openers struct{ spans sync.Map } // string -> trace.SpanContext

// note handles a change of a breaker's state. u is the use that has made the change, or nil if the
// use has no recording span. A failed probe opens the breaker again, so the probe replaces the
// earlier use.
func (o *openers) note(e pool.Event, u *use) {
	switch {
	case e.To == "open" && u != nil:
		o.spans.Store(e.Pool, u.span.SpanContext())
	case e.To == "closed":
		o.spans.Delete(e.Pool)
	}
}

// of returns the span for a pool. ok is false if there is none.
func (o *openers) of(name string) (span trace.SpanContext, ok bool) {
	found, _ := o.spans.Load(name)
	span, ok = found.(trace.SpanContext)
	return span, ok
}
