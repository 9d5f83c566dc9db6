package pool

import (
	"context"
	"errors"
	"time"

	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/internal/errtree"
)

// A change of take or give needs ten concepts:
//
//  1. The lock. Pool.mu guards the pool and its resources. No method of a driver, layer or observer
//     is called under the lock.
//  2. The states of a resource: the table in resource.go.
//  3. The lease number, resource.seq. The number is odd while the resource is lent, and grows by 1
//     at the grant and at the release. A lease with an older number is over.
//  4. The idle stack. The resource used last is on top, and is lent first.
//  5. The queue. Waiters are served in order of arrival (exception: waiter.go). Code that frees
//     capacity calls hand, or pump, which begins dials and checks for the waiters (supply.go).
//  6. Fitness. unfit names the reason to close a resource: the pool, Clear, the lifetime, the size.
//  7. Proof. unproven reports whether a resource must pass a check first: the resource was idle for
//     long, or a use has found a broken resource since (resource.trust, Pool.suspicion).
//  8. The outcome of a use: doom is a reason to close the resource, doubt a reason to check the
//     resource, dirty a reason to reset the resource.
//  9. The coarse clock, Pool.now. The maintainer moves the clock each 10 ms and scans for timeouts.
//  10. The driver's part in a use: Valid (Pool.tentative), Interrupt (resource.watch) and the
//     testimony of a Witness (resource.told).

// take gets a resource for a use: an idle resource if nobody waits, else the resource that the
// queue brings. c is nil without layers. The caller defers give before it calls begun.
func (p *Pool[T]) take(ctx context.Context, c *Call, nowait bool) (r *resource[T], err error) {
	if c != nil {
		c.wait, c.fresh, c.granted, c.cancelled = 0, false, false, false
		c.from, c.to = 0, 0
		if c.reach != nil {
			c.reached(ctx)
		}
	}
	if watchedContext(ctx).Err() != nil {
		return nil, p.turnAway(ctx, c)
	}
	for {
		p.mu.Lock()
		r = p.first(callerOf(ctx, c))
		if r == nil {
			return p.takeSlow(ctx, c, nowait)
		}
		p.lend(r, watchedContext(ctx))
		fresh := r.uses == 1
		if p.validator != nil {
			p.tentative.Add(1)
		}
		p.mu.Unlock()
		if p.validator != nil && !p.passes(ctx, r) {
			continue
		}
		if c != nil {
			c.fresh, c.granted = fresh, true
		}
		return r, nil
	}
}

// passes says whether the driver finds r valid, which has been lent on trial. An invalid resource
// is taken back and closed. The lock is not held: the driver may ask the kernel.
func (p *Pool[T]) passes(ctx context.Context, r *resource[T]) (valid bool) {
	defer func() {
		if valid {
			p.tentative.Add(-1)
			return
		}
		p.mu.Lock()
		p.stat.Acquires--
		p.tentative.Add(-1)
		p.mu.Unlock()
		r.doomAs(CloseCheck)
		r.failed = true
		p.give(ctx, nil, r, nil)
	}()
	_ = protect("Valid", func() error { valid = p.validator.Valid(r.v); return nil })
	return valid
}

// first returns the idle resource that a use of the caller gets which has just come, or nil. It is
// called under the lock.
func (p *Pool[T]) first(caller context.Context) *resource[T] {
	if p.waiters.n > 0 || p.closed || p.paused != nil {
		return nil
	}
	r := p.ready()
	if r == nil && len(p.idle) > 0 && p.idle[len(p.idle)-1].trust == p.suspicion && p.isHasty(caller) {
		return p.popIdle()
	}
	return r
}

// isHasty says whether a check, which costs a round trip, would take so much of the caller's time
// that the use might fail for the check: a quarter or more. Nobody doubts the resource, which has
// only been idle for a while. While nothing is known of checks, the time of a dial stands for them.
// The lock is held.
func (p *Pool[T]) isHasty(caller context.Context) bool {
	const share = 4
	deadline, ok := caller.Deadline()
	if !ok || p.checksAll() {
		return false
	}
	check := p.paces[callCheck].slowest
	if check == 0 {
		check = p.paces[callOpen].slowest
	}
	return (deadline.Sub(p.hub.start)-p.elapsed())/share < check
}

// takeSlow is entered with the lock held, and releases it.
func (p *Pool[T]) takeSlow(ctx context.Context, c *Call, nowait bool) (*resource[T], error) {
	w := p.newWaiter()
	w.since = p.elapsed()
	switch {
	case p.closed:
		w.reason = ErrClosed
	case p.paused != nil:
		w.reason = ErrPaused
		if paused, ok := p.paused.(*pause); ok { //nolint:errorlint // it is the very value that Pause stored
			w.cause = paused.cause
		}
	case nowait:
		if w.due = p.prepare(); w.due == 0 {
			w.reason = ErrExhausted
		}
	case p.crowded():
		w.reason = ErrExhausted
	}
	if w.reason != nil {
		p.stat.Refused++
		w.state = p.state()
		p.mu.Unlock()
		return nil, p.fail(ctx, c, w)
	}
	longest := p.longestWait(callerOf(ctx, c), w.since)
	if c != nil && c.limits != nil {
		c.putOff(longest)
	}
	p.enqueue(ctx, c, w, longest, nowait)
	p.pump()
	p.schedule(w.due)
	p.mu.Unlock()

	p.await(ctx, w)
	if w.r == nil {
		return nil, p.fail(ctx, c, w)
	}
	r := w.r
	if c != nil {
		c.wait, c.fresh, c.granted = w.wait, r.uses == 1, true
		if w.wait > 0 {
			c.from = w.since + w.wait
		}
		c.putOff(w.wait)
	}
	p.freeServed(w)
	return r, nil
}

// crowded says whether one waiter more would be one too many, not counting those whom resources can
// serve that nobody holds.
func (p *Pool[T]) crowded() bool {
	limit := p.cfg.MaxWaiters
	if limit == 0 {
		return false
	}
	return p.waiters.n-max(p.cfg.MaxSize-p.inUse, 0) >= max(limit, 0)
}

// turnAway refuses a use whose context was over on arrival.
func (p *Pool[T]) turnAway(ctx context.Context, c *Call) error {
	w := p.newWaiter()
	over, cause := contextErr(ctx)
	p.mu.Lock()
	w.state = p.state()
	w.reason, w.cause = ErrAcquireCanceled, cause
	if errors.Is(over, context.DeadlineExceeded) {
		w.reason, w.state.EndedBy = ErrAcquireTimeout, endedBy(callerOf(ctx, c))
		p.stat.TimedOut++
	} else {
		p.stat.Cancelled++
	}
	p.mu.Unlock()
	err := w.err(p.hub)
	err.class = driver.Class{Fault: driver.FaultCaller, Repeat: driver.RepeatNever, Type: err.class.Type}
	return p.report(ctx, c, w, err)
}

// fail makes the error of a use that got no resource.
func (p *Pool[T]) fail(ctx context.Context, c *Call, w *waiter[T]) error {
	return p.report(ctx, c, w, w.err(p.hub))
}

func (p *Pool[T]) report(ctx context.Context, c *Call, w *waiter[T], err *Error) error {
	wait, from, to := w.wait, w.from, w.to
	p.freeWaiter(w)
	if c != nil {
		c.wait, c.from, c.to = wait, from, to
		c.Emit(ctx, Event{Kind: EventAcquireFailed, Reason: err.class.Type, Duration: wait, Err: err})
	}
	return err
}

// begun readies a resource that was just lent. The caller has made sure that it will be given back,
// for observers are called.
func (p *Pool[T]) begun(ctx context.Context, c *Call, r *resource[T]) {
	if p.leaks.Load() {
		r.recordStack()
	}
	if c == nil {
		return
	}
	if len(c.hub.released) > 0 {
		r.lentAt, r.ctx = r.since, ctx // exact when it was handed over
		if c.wait == 0 {
			r.lentAt = p.elapsed()
		}
	}
	if len(c.hub.acquired) > 0 {
		c.emit(ctx, &Event{Kind: EventAcquired, Duration: c.wait, Fresh: c.fresh}, c.hub.acquired)
	}
}

// give ends the lease of r with the outcome err. caller is the context with which the use began.
func (p *Pool[T]) give(caller context.Context, c *Call, r *resource[T], err error) {
	interrupted := p.interrupter != nil && p.disarm(r)
	suspect, dirty := p.inspect(caller, c, r, err)
	if interrupted && !dirty {
		r.doomAs(CloseBroken)
	}
	p.putBack(c, r, err, suspect, dirty)
}

func (p *Pool[T]) putBack(c *Call, r *resource[T], err error, suspect, dirty bool) {
	var now, held time.Duration
	ctx := r.ctx
	if ctx != nil {
		now = p.elapsed()
		held = now - r.lentAt
		r.ctx = nil
	}
	p.mu.Lock()
	w := p.back(r, suspect, dirty, now)
	p.mu.Unlock()
	w.wake()
	if ctx != nil {
		c.emit(ctx, &Event{Kind: EventReleased, Duration: held, Err: err}, c.hub.released)
	}
}

// inspect asks the driver what the outcome and the borrower have left of r. If one of its methods
// ends the goroutine, r is put back here, to be closed.
func (p *Pool[T]) inspect(caller context.Context, c *Call, r *resource[T], err error) (suspect, dirty bool) {
	if err == nil && (p.resetter == nil || r.doom != closeNot) {
		return false, false
	}
	done := false
	defer func() {
		if !done {
			r.doom = CloseBroken
			p.putBack(c, r, err, false, false)
		}
	}()
	if err != nil {
		suspect = p.judge(caller, r, err)
	}
	dirty = r.doom == closeNot && p.resetter != nil && p.leftDirty(r)
	done = true
	return suspect, dirty
}

// judge dooms r if the outcome of its use made it unfit, and says whether that casts suspicion on
// the other resources as well: one that broke does, one whose answer was late does not.
func (p *Pool[T]) judge(caller context.Context, r *resource[T], err error) (suspect bool) {
	if errors.Is(err, ErrAborted) {
		r.doomAs(CloseBroken)
		r.failed = true
		return false
	}
	class := driver.Class{Broken: true}
	_ = protect("Classify", func() error { class = p.hub.classify(caller, err, true, &r.told); return nil })
	if class.Broken {
		r.doomAs(CloseBroken)
	}
	r.doubt, r.failed = class.Suspect, class.Fault != driver.FaultNone
	return class.Broken && class.Fault == driver.FaultServer && !errtree.IsTimeout(err)
}

// leftDirty asks the driver whether r must be reset; if it panics, r is unfit.
func (p *Pool[T]) leftDirty(r *resource[T]) (dirty bool) {
	err := protect("Dirty", func() error { dirty = p.resetter.Dirty(r.v); return nil })
	if err != nil {
		r.doom = CloseBroken
	}
	return dirty
}

// back takes a lent resource back. It returns the waiter that gets it at once, if any, to be woken
// by who calls back: not under the lock, under which back is called, for waking takes longer than
// all the rest. exact is the time if the caller has just read it, else 0.
func (p *Pool[T]) back(r *resource[T], suspect, dirty bool, exact time.Duration) *waiter[T] {
	if r.lent() {
		r.seq++ // a released lease has done so already
	}
	r.forgetUse()
	p.inUse--
	now := p.clock()
	r.used, r.proven, r.untouched = now, now, false
	r.leaked, r.stack, r.watch = false, r.stack[:0], nil
	p.learn(now-r.since, r.failed)
	if r.doom == closeNot {
		if p.waiters.n == 0 && !dirty && !r.doubt {
			r.trust = p.suspicion
			p.shelve(r)
			if p.closed {
				p.kick() // the maintainer ends with the last lease
			}
			return nil
		}
	}
	return p.backSlow(r, suspect, dirty, exact)
}

// backSlow is back where somebody waits, or the resource may not be lent as it is.
func (p *Pool[T]) backSlow(r *resource[T], suspect, dirty bool, exact time.Duration) *waiter[T] {
	if suspect {
		p.suspicion++
	}
	doom, doubt := r.doom, r.doubt
	r.doom, r.doubt = closeNot, false
	if doubt && doom == closeNot && p.cfg.CheckAfter < 0 {
		doom = CloseBroken // there are no checks
	}
	if doom == CloseBroken {
		p.brokeAt = p.now
	}
	switch {
	case doom != closeNot:
		p.retire(r, doom)
	case dirty && !p.closed && p.skipsReset():
		p.retire(r, CloseReset)
	case dirty && !p.closed:
		p.spawnReset(r)
	case p.waiters.n > 0 && (doubt || p.checksAll()) && !p.closed:
		p.spawnCheck(r)
	case p.waiters.n > 0 && p.unfit(r, p.now) == closeNot:
		r.trust = p.suspicion
		return p.hand(r, exact)
	default:
		r.trust = p.suspicion
		if doubt {
			r.trust--
		}
		p.shelve(r)
	}
	p.pump()
	if p.closed {
		p.kick() // the maintainer ends with the last lease
	}
	return nil
}

// ready returns an idle resource that can be lent as it is, or nil. It is called under the lock.
func (p *Pool[T]) ready() *resource[T] {
	now := p.clock()
	for n := len(p.idle); n > 0; n = len(p.idle) {
		r := p.idle[n-1]
		if reason := p.unfit(r, now); reason != closeNot {
			p.idle[n-1] = nil
			p.idle = p.idle[:n-1]
			p.retire(r, reason)
			continue
		}
		if p.unproven(r, now) {
			return nil
		}
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		return r
	}
	return nil
}

// unfit says why r must not be lent or kept, if so.
func (p *Pool[T]) unfit(r *resource[T], now time.Duration) CloseReason {
	switch {
	case p.closed:
		return ClosePool
	case r.gen != p.gen:
		return CloseCleared
	case r.expires != 0 && now >= r.expires:
		return CloseLifetime
	case len(p.all)+p.opening-p.closing > p.cfg.MaxSize:
		return CloseShrunk
	}
	return closeNot
}

// unproven says whether r must be checked before it is lent.
func (p *Pool[T]) unproven(r *resource[T], now time.Duration) bool {
	after := p.cfg.CheckAfter
	if after < 0 {
		return false
	}
	return r.trust != p.suspicion || now-r.proven >= after || p.checksAll() && !r.untouched
}

// checksAll says whether every resource is checked before it is lent again.
func (p *Pool[T]) checksAll() bool { return p.cfg.CheckAfter >= 0 && p.cfg.CheckAfter < clockStep }

// lend notes that r is in the hand of somebody whose context, if it ends, interrupts. It is called
// under the lock.
func (p *Pool[T]) lend(r *resource[T], watch context.Context) {
	if p.interrupter != nil {
		r.watch = watch
	}
	r.seq++
	r.uses++
	r.since = p.now
	r.failed = false
	p.inUse++
	p.stat.Acquires++
}

// shelve puts a resource where it belongs: into the first waiter's hand, or among the idle ones,
// which are in the order of their last use. It is called under the lock.
func (p *Pool[T]) shelve(r *resource[T]) {
	if reason := p.unfit(r, p.now); reason != closeNot {
		p.retire(r, reason)
		return
	}
	if p.waiters.n == 0 {
		p.idle = append(p.idle, r)
		for at := len(p.idle) - 1; at > 0 && p.idle[at-1].used > r.used; at-- {
			p.idle[at-1], p.idle[at] = r, p.idle[at-1] // only one that comes from a check, not from a use
		}
		return
	}
	p.hand(r, 0).wake()
}

// hand lends r to the next waiter, who is to be woken. exact is the time if the caller has just
// read it, else 0. It is called under the lock.
func (p *Pool[T]) hand(r *resource[T], exact time.Duration) *waiter[T] {
	p.clock() // it may be at rest after a slow dial, and the lease needs it
	if exact == 0 {
		exact = p.elapsed()
	}
	p.now = max(p.now, exact)
	w := p.waiters.head
	if p.need >= clockStep {
		w = p.next(p.now)
	}
	p.waiters.remove(w)
	p.lend(r, w.watch)
	w.r, w.wait = r, max(p.now-w.since, 0) // it may have come after the time was read
	p.stat.Waited++
	p.stat.TotalWait += w.wait
	return w
}

// prepare does what helps a TryAcquire, and returns until when it waits: while the check of a
// resource for it is in time. 0 means not at all. It is called under the lock.
func (p *Pool[T]) prepare() (until time.Duration) {
	if len(p.idle) > 0 {
		return p.spawnCheck(p.popIdle()).lateAt
	}
	if o := p.outlook(); p.waiters.n == 0 && o.timely() == 0 {
		p.spawnDials(o, 1)
	}
	return 0
}

func (p *Pool[T]) popIdle() *resource[T] {
	n := len(p.idle) - 1
	r := p.idle[n]
	p.idle[n] = nil
	p.idle = p.idle[:n]
	return r
}
