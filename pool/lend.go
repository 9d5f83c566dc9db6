package pool

import (
	"context"
	"errors"
	"time"

	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/internal/errtree"
)

// Ten concepts of lending. A change of take or give needs all ten:
//
//  1. The lock. Pool.mu guards the pool and the resources (exception: resource.go). No method of a
//     driver, layer or observer is called under the lock.
//  2. The states of a resource. resource.go contains the table of states.
//  3. The lease number, resource.seq. The grant and the end of a lease each add 1, so the number is
//     odd during a lease. keep (health.go) adds 2. A lease with an older number is over.
//  4. The idle stack, Pool.idle. The resource used last is on top, and is lent first.
//  5. The queue, Pool.waiters. Waiters are served in order of arrival (exception: waiter.go). While
//     borrowers wait, code that frees capacity calls hand or pump. hand serves a waiter. pump also
//     begins dials and checks (supply.go).
//  6. Fitness. unfit returns the reason to close a resource: the pool is closed, Clear, the
//     lifetime, the size of the pool.
//  7. Proof. unproven reports whether a resource must pass a check before the next lease: after an
//     idle time of CheckAfter, after a use or a check has found a broken resource (resource.trust,
//     Pool.suspicion), or always, if CheckAfter is less than a step of the clock.
//  8. The outcome of a use. doom is a reason to close the resource. doubt is a reason to check the
//     resource. dirty is a reason to reset the resource.
//  9. The coarse clock, Pool.now. While the pool is in use, the maintainer moves the clock every
//     10 ms. The maintainer also does the work due by time: ends of waits, lifetimes, leaks (scan).
//  10. The driver's part in a use: Valid (Pool.tentative), Interrupt (resource.watch), and the
//     testimony of a Witness (resource.told).

// take gets a resource for a use. If nobody waits, take returns an idle resource. Otherwise the use
// waits in the queue. nowait is true for a TryAcquire. c is nil without layers. With layers, the
// caller first makes sure that give is called in any case, and then calls begun.
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

// passes reports whether the driver finds r valid. r has been lent on trial. passes takes an
// invalid resource back and closes the resource. The caller does not hold the lock, because the
// driver may ask the kernel.
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

// first returns an idle resource for a use that has just arrived, or nil. caller is the context
// given to the use by its caller. The caller of first holds the lock.
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

// isHasty reports whether a check would take more than a quarter of the caller's remaining time. A
// check costs a round trip, and the use might fail for lack of time. The resource in question was
// only idle for a while; no broken resource has cast doubt on the resource. Before the first check,
// the time of a dial stands for the time of a check. The caller of isHasty holds the lock.
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

// takeSlow is the rest of take: takeSlow refuses the use, or waits in the queue. The caller holds
// the lock, and takeSlow releases the lock.
func (p *Pool[T]) takeSlow(ctx context.Context, c *Call, nowait bool) (*resource[T], error) {
	w := p.newWaiter()
	w.since = p.elapsed()
	switch {
	case p.closed:
		w.reason = ErrClosed
	case p.paused != nil:
		w.reason = ErrPaused
		if paused, ok := p.paused.(*pause); ok { //nolint:errorlint // the value stored by Pause
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

// crowded reports whether MaxWaiters allows no further waiter. Waiters for which a place under
// MaxSize is not lent do not count. The caller holds the lock.
func (p *Pool[T]) crowded() bool {
	limit := p.cfg.MaxWaiters
	if limit == 0 {
		return false
	}
	return p.waiters.n-max(p.cfg.MaxSize-p.inUse, 0) >= max(limit, 0)
}

// turnAway refuses a use whose context had ended before the use reached the pool.
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

// fail returns the error of a use that got no resource.
func (p *Pool[T]) fail(ctx context.Context, c *Call, w *waiter[T]) error {
	return p.report(ctx, c, w, w.err(p.hub))
}

// report frees w, and reports the failed acquisition to the observers. report returns err.
func (p *Pool[T]) report(ctx context.Context, c *Call, w *waiter[T], err *Error) error {
	wait, from, to := w.wait, w.from, w.to
	p.freeWaiter(w)
	if c != nil {
		c.wait, c.from, c.to = wait, from, to
		c.Emit(ctx, Event{Kind: EventAcquireFailed, Reason: err.class.Type, Duration: wait, Err: err})
	}
	return err
}

// begun completes the grant of r outside the lock: begun records the stack for a leak report, and
// reports the grant to the observers. An observer may end the goroutine, so with layers the caller
// has made sure of give before the call.
func (p *Pool[T]) begun(ctx context.Context, c *Call, r *resource[T]) {
	if p.leaks.Load() {
		r.recordStack()
	}
	if c == nil {
		return
	}
	if len(c.hub.released) > 0 {
		r.lentAt, r.ctx = r.since, ctx // exact if r came from the queue
		if c.wait == 0 {
			r.lentAt = p.elapsed()
		}
	}
	if len(c.hub.acquired) > 0 {
		c.emit(ctx, &Event{Kind: EventAcquired, Duration: c.wait, Fresh: c.fresh}, c.hub.acquired)
	}
}

// give ends the lease of r with the outcome err. caller is the context given to the use by its
// caller.
func (p *Pool[T]) give(caller context.Context, c *Call, r *resource[T], err error) {
	interrupted := p.interrupter != nil && p.disarm(r)
	suspect, dirty := p.inspect(caller, c, r, err)
	if interrupted && !dirty {
		r.doomAs(CloseBroken)
	}
	p.putBack(c, r, err, suspect, dirty)
}

// putBack takes r back under the lock, wakes the waiter that gets r, and reports the release to the
// observers.
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

// inspect judges the outcome of a use with the help of the driver. suspect: other resources may be
// broken, too. dirty: r needs a reset. If a method of the driver calls runtime.Goexit, inspect puts
// r back, to be closed.
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

// judge sets doom, doubt and failed of r by the outcome of the use. suspect reports whether other
// resources may be broken, too. A broken resource is a reason for suspicion. A late answer is none.
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

// leftDirty asks the driver whether r needs a reset. If the driver panics, r is closed.
func (p *Pool[T]) leftDirty(r *resource[T]) (dirty bool) {
	err := protect("Dirty", func() error { dirty = p.resetter.Dirty(r.v); return nil })
	if err != nil {
		r.doom = CloseBroken
	}
	return dirty
}

// back takes a lent resource back. If a waiter gets the resource at once, back returns the waiter.
// The caller wakes the waiter after the release of the lock, because a wake-up takes longer than
// everything else in back. exact is the time of the clock if the caller has just read the clock,
// and 0 otherwise. The caller holds the lock.
func (p *Pool[T]) back(r *resource[T], suspect, dirty bool, exact time.Duration) *waiter[T] {
	if r.lent() {
		r.seq++ // otherwise the lease has been claimed and its number changed
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

// backSlow is the rest of back, for the case that a borrower waits, or that the resource must not
// be lent in its present state.
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

// ready removes the top resource from the idle stack and returns the resource, if no check is
// needed before the lease. Otherwise ready returns nil. ready closes unfit resources on the way.
// The caller holds the lock.
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

// unfit returns the reason why r must be closed, or closeNot. The caller holds the lock.
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

// unproven reports whether r must pass a check before the next lease. The caller holds the lock.
func (p *Pool[T]) unproven(r *resource[T], now time.Duration) bool {
	after := p.cfg.CheckAfter
	if after < 0 {
		return false
	}
	return r.trust != p.suspicion || now-r.proven >= after || p.checksAll() && !r.untouched
}

// checksAll reports whether every resource is checked before each lease.
func (p *Pool[T]) checksAll() bool { return p.cfg.CheckAfter >= 0 && p.cfg.CheckAfter < clockStep }

// lend records the grant of r. If watch ends during the lease, the pool interrupts the use. The
// caller holds the lock.
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

// shelve makes r available: the next waiter gets r, or r becomes idle. shelve closes an unfit
// resource. The idle resources are in the order of their last use. The caller holds the lock.
func (p *Pool[T]) shelve(r *resource[T]) {
	if reason := p.unfit(r, p.now); reason != closeNot {
		p.retire(r, reason)
		return
	}
	if p.waiters.n == 0 {
		p.idle = append(p.idle, r)
		for at := len(p.idle) - 1; at > 0 && p.idle[at-1].used > r.used; at-- {
			p.idle[at-1], p.idle[at] = r, p.idle[at-1] // only if r was not used just now
		}
		return
	}
	p.hand(r, 0).wake()
}

// hand lends r to the next waiter. The caller of hand wakes the returned waiter. exact is the time
// of the clock if the caller has just read the clock, and 0 otherwise. The caller holds the lock.
func (p *Pool[T]) hand(r *resource[T], exact time.Duration) *waiter[T] {
	p.clock() // starts the clock if a slow dial has let the clock rest
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
	w.r, w.wait = r, max(p.now-w.since, 0) // w may have arrived after the reading of the clock
	p.stat.Waited++
	p.stat.TotalWait += w.wait
	return w
}

// prepare begins a check or a dial for a TryAcquire. prepare returns the time until which the
// TryAcquire waits for a check. 0 means no wait. The caller holds the lock.
func (p *Pool[T]) prepare() (until time.Duration) {
	if len(p.idle) > 0 {
		return p.spawnCheck(p.popIdle()).lateAt
	}
	if o := p.outlook(); p.waiters.n == 0 && o.timely() == 0 {
		p.spawnDials(o, 1)
	}
	return 0
}

// popIdle removes the top resource from the idle stack. The caller holds the lock.
func (p *Pool[T]) popIdle() *resource[T] {
	n := len(p.idle) - 1
	r := p.idle[n]
	p.idle[n] = nil
	p.idle = p.idle[:n]
	return r
}
