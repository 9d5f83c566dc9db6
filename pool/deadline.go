package pool

import (
	"cmp"
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Deadline is the handle of a context made by [WithDeadline]. A nil *Deadline stands for one that was not needed.
type Deadline struct {
	ctx  lazyContext
	next *Deadline // of the limits of a Call
}

// WithDeadline is like context.WithDeadlineCause, but makes neither channel nor timer until somebody asks for Done. ctx.Deadline()
// tells the deadline from the start, which is all that a client with socket deadlines looks at. If parent's own deadline is not later
// than d, it returns parent and nil. The Deadline must be cancelled when the use is over; that never cancels parent.
//
// context.Cause(ctx) is cause once the deadline has passed; a nil cause stands for context.DeadlineExceeded. The pool reads no clock for a
// resource that is idle: it lends one even if such a deadline has passed, and the client notices.
func WithDeadline(parent context.Context, d time.Time, cause error) (context.Context, *Deadline) {
	if earlier, ok := parent.Deadline(); ok && !earlier.After(d) {
		return parent, nil
	}
	dl := &Deadline{ctx: lazyContext{parent: parent, deadline: d, cause: cause}}
	return &dl.ctx, dl
}

// WithLimit is like [WithDeadline] with the deadline now+limit, for a limit on what the server does in the use of c. A use that has to wait
// for its resource is given the limit from the grant on. While the use waits, the deadline of the context is the latest that the deadline
// can become. A layer that asks for Done before the grant, as deriving a context with a cancel does, makes the timer and fixes the deadline.
//
// In a two-step use the limit bounds the lease. Only a nearer deadline of the caller's makes the limit needless, and the end of the lease
// cancels the limit.
func WithLimit(parent context.Context, c *Call, now time.Time, limit time.Duration, cause error) (context.Context, *Deadline) {
	deadline, outer := now.Add(min(limit, longest)), parent
	if c.twoStep {
		outer = c.caller // the limits of other layers end at the grant
	}
	if earlier, ok := outer.Deadline(); ok && !earlier.After(deadline) {
		return parent, nil
	}
	return c.limit(&Deadline{ctx: lazyContext{parent: parent, deadline: deadline, cause: cause, late: c.twoStep}})
}

// WithUseLimit is like [WithDeadline] with the deadline now+limit, for a limit on the use of c. In a two-step use the limit covers the
// acquisition: the layer calls [Deadline.Lift] when the resource is lent.
func WithUseLimit(parent context.Context, c *Call, now time.Time, limit time.Duration, cause error) (context.Context, *Deadline) {
	ctx, d := WithDeadline(parent, now.Add(min(limit, longest)), cause)
	if d != nil && c.twoStep {
		d.ctx.covers = true
		return c.limit(d)
	}
	return ctx, d
}

// limit notes that d is one of the limits of c.
func (c *Call) limit(d *Deadline) (context.Context, *Deadline) {
	d.next, c.limits = c.limits, d
	return &d.ctx, d
}

// putOff has the limits on what the server does wait for as long as the use does: at most, and then exactly.
func (c *Call) putOff(by time.Duration) {
	for d := c.limits; d != nil; d = d.next {
		d.ctx.putOff(by)
	}
}

// endLimits cancels what is left of the limits of a lease that is over.
func (c *Call) endLimits() {
	for d := c.limits; d != nil; d = d.next {
		d.Cancel()
	}
}

// Lift takes the deadline of [WithUseLimit] away: from now on the context, and what was derived from the context, is over when its parent
// is. It may be called on nil, and concurrently.
func (d *Deadline) Lift() {
	if d != nil {
		d.ctx.shift.Store(lifted)
	}
}

// Cancel ends the context, as a context.CancelFunc does, unless the deadline was lifted. It may be called on nil, repeatedly and
// concurrently.
func (d *Deadline) Cancel() {
	if d != nil {
		d.ctx.cancel()
	}
}

// Passed says whether the deadline has passed by now, before any deadline of the parent. It is false for nil.
func (d *Deadline) Passed() bool {
	if d == nil || !d.ctx.passed() {
		return false
	}
	earlier, ok := d.ctx.earlier()
	return !ok || !earlier.Before(d.ctx.own())
}

// lifted is the shift of a deadline that was taken away.
const lifted = math.MaxInt64

// lazyContext delegates to a real context as soon as there is one; to its parent when its deadline was lifted.
type lazyContext struct {
	parent   context.Context
	deadline time.Time
	cause    error
	shift    atomic.Int64 // by how much the deadline has been put off, or lifted

	mu        sync.Mutex
	real      atomic.Pointer[realContext]
	cancelled atomic.Bool
	late      bool // the deadline may be later than the parent's from the beginning
	covers    bool // an acquisition: the deadline may be lifted
}

type realContext struct {
	context.Context
	cancel  context.CancelFunc
	expired *atomic.Bool // by the timer of a deadline that covers an acquisition; nil for any other
}

// over says whether the timer of a deadline that covers an acquisition has ended the context.
func (c *realContext) over() bool { return c != nil && c.expired != nil && c.expired.Load() }

func (c *realContext) Err() error {
	if c.over() {
		return context.DeadlineExceeded
	}
	return c.Context.Err()
}

func (c *lazyContext) Deadline() (time.Time, bool) {
	if !c.behind() { // nor lifted
		return c.deadline, true
	}
	if c.lifted() {
		return c.parent.Deadline()
	}
	own := c.own()
	if earlier, ok := c.earlier(); ok && earlier.Before(own) {
		return earlier, true
	}
	return own, true
}

// own is the deadline that the context itself sets, unless that was lifted.
func (c *lazyContext) own() time.Time { return c.deadline.Add(time.Duration(c.shift.Load())) }

func (c *lazyContext) lifted() bool { return c.shift.Load() == lifted }

// behind says whether the parent's deadline may come first.
func (c *lazyContext) behind() bool { return c.late || c.shift.Load() != 0 }

// earlier returns the parent's deadline if that may come first.
func (c *lazyContext) earlier() (d time.Time, ok bool) {
	if c.behind() {
		d, ok = c.parent.Deadline()
	}
	return d, ok
}

func (c *lazyContext) Done() <-chan struct{} {
	if c.lifted() {
		return c.parent.Done()
	}
	return c.materialize().Done()
}

func (c *lazyContext) Err() error { return c.err(true) }

// err looks at the clock only if it is told to: a lazy parent's deadline is mostly later than its child's.
func (c *lazyContext) err(clock bool) error {
	own := c.real.Load()
	if own != nil && !c.lifted() {
		return own.Err()
	}
	var err error
	if lazy, ok := c.parent.(*lazyContext); ok {
		err = lazy.err(clock && c.behind())
	} else {
		err = c.parent.Err()
	}
	if err == nil && !c.lifted() && (c.cancelled.Load() || clock && c.passed()) {
		err = c.materialize().Err()
	}
	return err
}

// Value finds what the parent has. context.Cause and the cancellation of child contexts look for the nearest real context by asking for
// a key of type *int; if the deadline has passed, that must be ours and not the parent's.
func (c *lazyContext) Value(key any) any {
	if _, ok := key.(limitKey); ok {
		return c
	}
	if c.lifted() {
		return c.parent.Value(key)
	}
	if own := c.real.Load(); own != nil {
		return own.Value(key)
	}
	if _, internal := key.(*int); !internal {
		return foreign(c.parent).Value(key)
	}
	if c.over() {
		return c.materialize().Value(key)
	}
	return c.parent.Value(key)
}

// over says whether a real context would be done by itself. It looks at the clock.
func (c *lazyContext) over() bool { return c.cancelled.Load() || c.passed() }

func (c *lazyContext) passed() bool { return !c.lifted() && time.Until(c.own()) <= 0 }

func (c *lazyContext) materialize() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if own := c.real.Load(); own != nil {
		return own
	}
	own := c.make()
	c.real.Store(own)
	if c.cancelled.Load() { // cancel sees the real context, or is seen here
		own.cancel()
	}
	return own
}

// make makes the real context. The timer of context.WithDeadlineCause cannot be lifted. So a deadline that covers an acquisition has a timer
// of its own: what is derived from the context then learns of the deadline by the cause, as a cancel.
func (c *lazyContext) make() *realContext {
	if !c.covers {
		parent := c.parent
		if c.late { // or there is no timer, though the parent's deadline may be lifted
			parent = timeless{parent}
		}
		ctx, cancel := context.WithDeadlineCause(parent, c.own(), c.cause)
		return &realContext{ctx, cancel, nil}
	}
	ctx, cancel := context.WithCancelCause(c.parent)
	expired := &atomic.Bool{}
	expire := func() {
		if !c.lifted() {
			expired.Store(true)
			cancel(cmp.Or(c.cause, context.DeadlineExceeded))
		}
	}
	left := time.Until(c.deadline)
	if left <= 0 {
		expire()
		return &realContext{ctx, func() { cancel(nil) }, expired}
	}
	timer := time.AfterFunc(left, expire)
	return &realContext{ctx, func() { timer.Stop(); cancel(nil) }, expired}
}

// timeless is a context that does not tell its deadline.
type timeless struct{ context.Context }

func (timeless) Deadline() (d time.Time, ok bool) { return d, false }

// putOff moves the deadline, unless a timer runs already or the deadline covers the wait.
func (c *lazyContext) putOff(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.covers && (c.real.Load() == nil || c.shift.Load() != 0) { // a timer made while it was put off comes late, never early
		c.shift.Store(int64(by))
	}
}

func (c *lazyContext) cancel() {
	c.cancelled.Store(true)
	if own := c.real.Load(); own != nil {
		own.cancel()
	}
}

type limitKey struct{}

// expired says whether a limit that covers an acquisition has passed, around ctx. A context that was derived from such a limit's says that it
// was cancelled.
func expired(ctx context.Context) bool {
	for {
		lazy, ok := ctx.Value(limitKey{}).(*lazyContext)
		if !ok {
			return false
		}
		if lazy.real.Load().over() {
			return true
		}
		ctx = lazy.parent
	}
}

// foreign looks through lazy contexts: it returns the first ancestor of ctx, or ctx itself, that is of another kind. Whoever honours
// ctx.Deadline() by other means needs to watch only that one's Done.
func foreign(ctx context.Context) context.Context {
	for {
		lazy, ok := ctx.(*lazyContext)
		if !ok {
			return ctx
		}
		ctx = lazy.parent
	}
}
