package tracing

import (
	"context"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/earnorm/poolstack/pool"
)

// maxPending bounds the children that are held back until it is known whether they belong to an attempt or to the use itself.
const maxPending = 64

var attemptKey = attribute.Key("poolstack.attempt")

// use is what belongs to the recording span of one use. The use's Call has it, by which events and commands find it. Its record is used
// again.
//
// An attempt is known to be one of several only when the next begins, and a layer that stands outermost cannot put anything around the
// second. So all spans below the use are made when what they show is over.
type use struct {
	layer *layer
	ctx   context.Context // with the span
	span  trace.Span

	mu       sync.Mutex      // attempts may be made at once
	notes    int             // span events, those left out included
	begin    time.Time       // of the present attempt
	attempts int             // that are over
	attempt  trace.Span      // of the present attempt, nil while nothing needs it
	within   context.Context // with that span
	pending  []child         // of the first attempt
}

// child is a span below the use, after the fact.
type child struct {
	plan       *plan
	extra      []attribute.KeyValue
	begin, end time.Time
	outcome    outcome
	database   bool // it is a CLIENT span
}

var uses = sync.Pool{New: func() any { return new(use) }}

func newUse(ctx context.Context, l *layer, span trace.Span, begin time.Time) *use {
	u, _ := uses.Get().(*use)
	u.layer, u.ctx, u.span, u.begin = l, ctx, span, begin
	return u
}

// useOf returns what belongs to the span of c's use, nil if there is none or it records nothing.
func (t *Tracing) useOf(c *pool.Call) *use {
	u, _ := c.Value(t).(*use)
	return u
}

// add makes the span of a child, or puts it off as long as another attempt may follow the first.
func (u *use) add(c *pool.Call, ch child) {
	u.mu.Lock()
	defer u.mu.Unlock()
	settled := c.TwoStep() && ch.database // what is lent is not asked for again
	switch {
	case u.attempts == 0 && !settled && len(u.pending) < maxPending:
		u.pending = append(u.pending, ch)
	case u.attempts == 0:
		u.flush(u.ctx)
		u.make(u.ctx, ch)
	default:
		u.make(u.inAttempt(c, ch.begin), ch)
	}
}

// attemptOver ends the present attempt, which was over when the pause began that e tells the end of. Another one begins now, if any.
func (u *use) attemptOver(c *pool.Call, e pool.Event, o outcome) {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	u.closeAttempt(c, now.Add(-e.Duration), o)
	u.attempts, u.begin = e.Attempt, now
}

// end ends the use, which is then somebody else's.
func (u *use) end(c *pool.Call, o outcome) {
	u.mu.Lock()
	if u.attempt != nil || u.attempts > 0 && c.Attempt() > u.attempts {
		u.closeAttempt(c, time.Now(), o)
	}
	u.flush(u.ctx)
	if u.notes > maxNotes {
		u.span.SetAttributes(droppedKey.Int(u.notes - maxNotes))
	}
	u.layer, u.ctx, u.span = nil, nil, nil
	u.notes, u.attempts = 0, 0
	u.mu.Unlock()
	uses.Put(u)
}

// inAttempt returns the context of the present attempt's span, which is made when it is first needed. It begins when the pause before
// it was over, or earlier, if something was in it by then.
func (u *use) inAttempt(c *pool.Call, by time.Time) context.Context {
	if u.attempt == nil {
		if u.begin.After(by) {
			u.begin = by
		}
		p := u.layer.plans.get(c, spec{kind: ofAttempt, name: "attempt"})
		u.within, u.attempt = u.layer.t.tracer.Start(u.ctx, p.name, //nolint:spancheck // closeAttempt ends it
			p.startedAt(u.begin, attemptKey.Int(u.attempts+1))...)
	}
	return u.within
}

func (u *use) closeAttempt(c *pool.Call, now time.Time, o outcome) {
	u.flush(u.inAttempt(c, now))
	o.mark(u.attempt, false)
	u.attempt.End(trace.WithTimestamp(now))
	u.attempt, u.within = nil, nil
}

// flush makes the children that were put off.
func (u *use) flush(parent context.Context) {
	for _, ch := range u.pending {
		u.make(parent, ch)
	}
	clear(u.pending)
	u.pending = u.pending[:0]
}

func (u *use) make(parent context.Context, ch child) {
	_, span := u.layer.t.tracer.Start(parent, ch.plan.name, ch.plan.startedAt(ch.begin, ch.extra...)...)
	ch.outcome.mark(span, ch.database)
	span.End(trace.WithTimestamp(ch.end))
}
