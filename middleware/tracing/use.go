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

// use is the recording span of one use. It is also the context that the layers inside work in, by which events and commands find it.
//
// An attempt is known to be one of several only when the next is due, and a layer that stands outermost cannot put anything around the
// second. So all spans below the use are made when what they show is over.
type use struct {
	context.Context // with the span
	layer           *layer
	pool            string
	op              pool.Op
	span            trace.Span

	mu       sync.Mutex      // hedged attempts run concurrently
	begin    time.Time       // of the present attempt
	attempts int             // that are over
	attempt  trace.Span      // of the present attempt, nil while nothing needs it
	within   context.Context // with that span
	pending  []child         // of the first attempt
	over     bool
}

// child is a span below the use, after the fact.
type child struct {
	name       string
	options    []trace.SpanStartOption // shared
	extra      []attribute.KeyValue
	begin, end time.Time
	outcome    outcome
	database   bool // it is a CLIENT span
}

type useKey struct{}

// Value finds the use itself.
func (u *use) Value(key any) any {
	if _, ok := key.(useKey); ok {
		return u
	}
	return u.Context.Value(key)
}

// useFrom returns the use that ctx belongs to, nil if that is not traced. A use whose pool is used within another use finds the other's
// first if it is not traced itself: hence the comparisons.
func (t *Tracing) useFrom(ctx context.Context, poolName string, op pool.Op) *use {
	u, _ := ctx.Value(useKey{}).(*use)
	if u == nil || u.layer.t != t || u.pool != poolName || u.op != op {
		return nil
	}
	return u
}

// add makes the span of a child. settled says that no other attempt can follow the present one.
func (u *use) add(ch child, settled bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.over:
	case u.attempts == 0 && !settled && len(u.pending) < maxPending:
		u.pending = append(u.pending, ch)
	case u.attempts == 0:
		u.flush(u.Context)
		u.make(u.Context, ch)
	default:
		u.make(u.inAttempt(ch.begin), ch)
	}
}

// attemptOver ends the present attempt, which another one will follow after a pause.
func (u *use) attemptOver(n int, o outcome, pause time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.over {
		return
	}
	now := time.Now()
	u.closeAttempt(now, o)
	u.attempts = n
	u.begin = now.Add(pause)
}

// end ends the use in its nth attempt.
func (u *use) end(n int, o outcome) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.over = true
	if u.attempt != nil || u.attempts > 0 && n > u.attempts {
		u.closeAttempt(time.Now(), o)
	}
	u.flush(u.Context)
}

// inAttempt returns the context of the present attempt's span, which is made when it is first needed. It begins when the pause before
// it was to be over, or earlier, if something was in it by then.
func (u *use) inAttempt(by time.Time) context.Context {
	if u.attempt == nil {
		if u.begin.After(by) {
			u.begin = by
		}
		tracer := u.layer.t.tracer
		u.within, u.attempt = tracer.Start(u.Context, "attempt", //nolint:spancheck // closeAttempt ends it
			trace.WithSpanKind(trace.SpanKindInternal), trace.WithTimestamp(u.begin),
			trace.WithAttributes(attemptKey.Int(u.attempts+1)))
	}
	return u.within
}

func (u *use) closeAttempt(now time.Time, o outcome) {
	u.flush(u.inAttempt(now))
	o.mark(u.attempt, false)
	u.attempt.End(trace.WithTimestamp(now))
	u.attempt, u.within = nil, nil
}

func (u *use) flush(parent context.Context) {
	for _, ch := range u.pending {
		u.make(parent, ch)
	}
	u.pending = nil
}

func (u *use) make(parent context.Context, ch child) {
	options := make([]trace.SpanStartOption, 0, len(ch.options)+2)
	options = append(options, ch.options...)
	options = append(options, trace.WithTimestamp(ch.begin), trace.WithAttributes(ch.extra...))
	_, span := u.layer.t.tracer.Start(parent, ch.name, options...)
	ch.outcome.mark(span, ch.database)
	span.End(trace.WithTimestamp(ch.end))
}
