package tracing

import (
	"context"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/earnorm/poolstack/pool"
)

// maxPending is the maximum number of child spans held back until their parent is known: the
// attempt's span or the use's span.
const maxPending = 64

var attemptKey = attribute.Key("poolstack.attempt")

// use is the state of a use with a recording span. Events and commands find the state in the use's
// Call. The record is reused.
//
// Only the beginning of a second attempt shows that the use has several attempts. The layer is
// outermost and cannot wrap the second attempt. So all child spans are made at their end.
type use struct {
	layer *layer
	ctx   context.Context // holds span
	span  trace.Span

	mu       sync.Mutex      // attempts may be concurrent
	notes    int             // number of span events, including dropped events
	waited   time.Duration   // total of the waits for a resource
	begin    time.Time       // start of the current attempt
	attempts int             // number of attempts that are over
	attempt  trace.Span      // of the current attempt; nil until the span is needed
	within   context.Context // holds attempt
	pending  []child         // child spans held back, of the first attempt
}

// child is a child span of a use, known at its end.
type child struct {
	plan       *plan
	extra      []attribute.KeyValue
	begin, end time.Time
	outcome    outcome
	database   bool // the span is a CLIENT span
}

var uses = sync.Pool{New: func() any { return new(use) }}

func newUse(ctx context.Context, l *layer, span trace.Span, begin time.Time) *use {
	u, _ := uses.Get().(*use)
	u.layer, u.ctx, u.span, u.begin = l, ctx, span, begin
	return u
}

// useOf returns the state of c's use. useOf returns nil if the use has no recording span.
func (t *Tracing) useOf(c *pool.Call) *use {
	u, _ := c.Value(t).(*use)
	return u
}

// add makes the span of a child. While another attempt may follow the first attempt, add holds the
// child back.
func (u *use) add(c *pool.Call, ch child) {
	u.mu.Lock()
	defer u.mu.Unlock()
	settled := c.TwoStep() && ch.database // after a grant no further attempt follows
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

// addWait adds the time of a wait for a resource.
func (u *use) addWait(d time.Duration) {
	if d <= 0 {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.waited += d
}

// attemptOver ends the current attempt. e reports the end of the pause after the attempt, so the
// attempt ended e.Duration ago. The next attempt, if any, begins now.
func (u *use) attemptOver(c *pool.Call, e pool.Event, o outcome) {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	u.closeAttempt(c, now.Add(-e.Duration), o)
	u.attempts, u.begin = e.Attempt, now
}

// end ends the use. Afterwards the record may belong to another use.
func (u *use) end(c *pool.Call, o outcome) {
	u.mu.Lock()
	if u.attempt != nil || u.attempts > 0 && c.Attempt() > u.attempts {
		u.closeAttempt(c, time.Now(), o)
	}
	u.flush(u.ctx)
	if u.notes > maxNotes {
		u.span.SetAttributes(droppedKey.Int(u.notes - maxNotes))
	}
	if n := c.Attempt(); n > 1 {
		u.span.SetAttributes(attemptsKey.Int(n))
	}
	if u.waited > 0 {
		u.span.SetAttributes(waitKey.Float64(u.waited.Seconds()))
	}
	u.layer, u.ctx, u.span = nil, nil, nil
	u.notes, u.attempts, u.waited = 0, 0, 0
	u.mu.Unlock()
	uses.Put(u)
}

// inAttempt returns the context of the current attempt's span, and makes the span at the first
// call. The span begins at the end of the pause before the attempt, or at by if by is earlier.
func (u *use) inAttempt(c *pool.Call, by time.Time) context.Context {
	if u.attempt == nil {
		if u.begin.After(by) {
			u.begin = by
		}
		p := u.layer.plans.get(c, spec{kind: ofAttempt, name: "attempt"})
		u.within, u.attempt = u.layer.t.tracer.Start(u.ctx, p.name, //nolint:spancheck // see closeAttempt
			p.startedAt(u.begin, attemptKey.Int(u.attempts+1))...)
	}
	return u.within
}

// closeAttempt ends the span of the current attempt at now.
func (u *use) closeAttempt(c *pool.Call, now time.Time, o outcome) {
	u.flush(u.inAttempt(c, now))
	o.mark(u.attempt, false)
	u.attempt.End(trace.WithTimestamp(now))
	u.attempt, u.within = nil, nil
}

// flush makes the child spans held back, as children of the span in parent.
func (u *use) flush(parent context.Context) {
	for _, ch := range u.pending {
		u.make(parent, ch)
	}
	clear(u.pending)
	u.pending = u.pending[:0]
}

// make makes the span of a child, as a child of the span in parent.
func (u *use) make(parent context.Context, ch child) {
	_, span := u.layer.t.tracer.Start(parent, ch.plan.name, ch.plan.startedAt(ch.begin, ch.extra...)...)
	ch.outcome.mark(span, ch.database)
	span.End(trace.WithTimestamp(ch.end))
}
