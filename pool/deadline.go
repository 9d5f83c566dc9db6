package pool

import (
	"cmp"
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Deadline is the handle of a context made by [WithDeadline], [WithLimit] or [WithUseLimit]. A nil
// *Deadline means no deadline was needed. All methods may be called on nil.
type Deadline struct {
	ctx  lazyContext
	next *Deadline // the next limit of the same Call
}

// WithDeadline is like context.WithDeadlineCause, but makes a channel and a timer only when Done is
// called. ctx.Deadline() returns the deadline from the start. A client that uses socket deadlines
// needs nothing else. If the deadline of parent is not later than d, WithDeadline returns parent
// and nil.
//
// The caller must call [Deadline.Cancel] at the end of the use. Cancel does not cancel parent.
// After the deadline has passed, context.Cause(ctx) returns cause, or context.DeadlineExceeded if
// cause is nil.
//
// The pool reads no clock when it lends an idle resource. The pool may lend a resource after such a
// deadline has passed, and the client then notices the deadline.
func WithDeadline(parent context.Context, d time.Time, cause error) (context.Context, *Deadline) {
	if earlier, ok := parent.Deadline(); ok && !earlier.After(d) {
		return parent, nil
	}
	dl := &Deadline{ctx: lazyContext{parent: parent, deadline: d, cause: cause}}
	return &dl.ctx, dl
}

// WithLimit is like [WithDeadline] with the deadline now+limit. WithLimit is for a limit on the
// server's part of the use c. If the use has to wait for its resource, the limit counts from the
// grant. While the use waits, ctx.Deadline() returns the latest possible deadline. A call of Done
// before the grant makes the timer and fixes the deadline. Deriving a context with a cancel
// function calls Done.
//
// In a two-step use the limit bounds the lease. WithLimit returns parent and nil only if the
// deadline of the caller is nearer; deadlines of other layers do not count. The end of the lease
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

// WithUseLimit is like [WithDeadline] with the deadline now+limit. WithUseLimit is for a limit on
// the whole use c. In a two-step use the limit covers the acquisition only: the layer calls
// [Deadline.Lift] when the resource has been lent.
func WithUseLimit(parent context.Context, c *Call, now time.Time, limit time.Duration, cause error) (context.Context, *Deadline) {
	ctx, d := WithDeadline(parent, now.Add(min(limit, longest)), cause)
	if d != nil && c.twoStep {
		d.ctx.covers = true
		return c.limit(d)
	}
	return ctx, d
}

// limit adds d to the limits of c.
func (c *Call) limit(d *Deadline) (context.Context, *Deadline) {
	d.next, c.limits = c.limits, d
	return &d.ctx, d
}

// putOff delays the limits on the server's part. Before the wait the delay is the longest possible
// wait. After the wait the delay is the exact duration.
func (c *Call) putOff(by time.Duration) {
	for d := c.limits; d != nil; d = d.next {
		d.ctx.putOff(by)
	}
}

// endLimits cancels the remaining limits of a lease after the end of the lease.
func (c *Call) endLimits() {
	for d := c.limits; d != nil; d = d.next {
		d.Cancel()
	}
}

// Lift removes the deadline of [WithUseLimit]. From now on ctx and each context derived from ctx
// end together with parent. Lift may be called concurrently.
func (d *Deadline) Lift() {
	if d != nil {
		d.ctx.shift.Store(lifted)
	}
}

// Cancel ends the context, like a context.CancelFunc. After Lift, Cancel ends only the contexts
// derived from the context before Lift. Cancel may be called several times and concurrently.
func (d *Deadline) Cancel() {
	if d != nil {
		d.ctx.cancel()
	}
}

// Passed reports whether the deadline has passed by now, before any deadline of the parent. For
// nil, Passed returns false.
func (d *Deadline) Passed() bool {
	if d == nil || !d.ctx.passed() {
		return false
	}
	earlier, ok := d.ctx.earlier()
	return !ok || !earlier.Before(d.ctx.own())
}

// lifted is the shift of a deadline after Lift.
const lifted = math.MaxInt64

// lazyContext is a context with a deadline. A lazyContext uses its parent until Done is called, and
// a real context afterwards. After Lift, a lazyContext uses its parent.
type lazyContext struct {
	parent   context.Context
	deadline time.Time
	cause    error
	shift    atomic.Int64 // the delay of the deadline, or lifted

	mu        sync.Mutex
	real      atomic.Pointer[realContext]
	cancelled atomic.Bool
	late      bool // from the beginning, the deadline may be later than the parent's
	covers    bool // the limit covers an acquisition, and may be lifted
}

// realContext is the real context behind a lazyContext.
type realContext struct {
	context.Context
	cancel context.CancelFunc
	// expired reports whether the timer of a deadline that covers an acquisition has fired. Nil for
	// any other deadline.
	expired *atomic.Bool
}

// over reports whether the timer of a deadline that covers an acquisition has ended the context.
func (c *realContext) over() bool { return c != nil && c.expired != nil && c.expired.Load() }

func (c *realContext) Err() error {
	if c.over() {
		return context.DeadlineExceeded
	}
	return c.Context.Err()
}

func (c *lazyContext) Deadline() (time.Time, bool) {
	if !c.behind() { // the deadline is neither delayed nor lifted
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

// own returns the deadline of this context itself. The deadline must not be lifted.
func (c *lazyContext) own() time.Time { return c.deadline.Add(time.Duration(c.shift.Load())) }

func (c *lazyContext) lifted() bool { return c.shift.Load() == lifted }

// behind reports whether the deadline of the parent may come first.
func (c *lazyContext) behind() bool { return c.late || c.shift.Load() != 0 }

// earlier returns the deadline of the parent, if the parent's deadline may come first.
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

// err returns the error of the context. err reads the clock only if clock is true. A lazy parent
// mostly has a later deadline than its child, so err does not read the clock for the parent.
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

// Value returns the value of the parent. Package context asks for a key of type *int to find the
// nearest real context, for context.Cause and for the cancellation of child contexts. After the
// deadline has passed, the nearest real context must be the own real context and not the parent's.
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
		return watchedContext(c.parent).Value(key)
	}
	if c.over() {
		return c.materialize().Value(key)
	}
	return c.parent.Value(key)
}

// over reports whether a real context in this place would have ended by itself. over reads the
// clock.
func (c *lazyContext) over() bool { return c.cancelled.Load() || c.passed() }

func (c *lazyContext) passed() bool { return !c.lifted() && time.Until(c.own()) <= 0 }

// materialize returns the real context, and makes the real context at the first call.
func (c *lazyContext) materialize() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if own := c.real.Load(); own != nil {
		return own
	}
	own := c.make()
	c.real.Store(own)
	if c.cancelled.Load() { // cancel sees the real context, or this line sees cancelled
		own.cancel()
	}
	return own
}

// make makes the real context. The timer of context.WithDeadlineCause cannot be lifted, so a
// deadline that covers an acquisition has its own timer. At this deadline, derived contexts end
// with context.Canceled, and the cause is the cause of the deadline.
func (c *lazyContext) make() *realContext {
	if !c.covers {
		parent := c.parent
		// The parent's deadline may be lifted. With the parent's deadline visible, WithDeadlineCause
		// would make no timer.
		if c.late {
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

// timeless is a context that hides its deadline.
type timeless struct{ context.Context }

func (timeless) Deadline() (d time.Time, ok bool) { return d, false }

// putOff delays the deadline. putOff does nothing if a timer already runs or if the deadline covers
// the wait.
func (c *lazyContext) putOff(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// A timer made during an earlier delay may fire late, never early.
	if !c.covers && (c.real.Load() == nil || c.shift.Load() != 0) {
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

// expired reports whether a limit that covers an acquisition has passed, in ctx or in an ancestor.
// A context derived from such a limit only reports its cancellation.
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

// watchedContext returns ctx, or its first ancestor that is no lazyContext. A caller that observes
// ctx.Deadline() by other means needs only Done of this ancestor.
func watchedContext(ctx context.Context) context.Context {
	for {
		lazy, ok := ctx.(*lazyContext)
		if !ok {
			return ctx
		}
		ctx = lazy.parent
	}
}
