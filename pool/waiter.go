package pool

import (
	"cmp"
	"context"
	"errors"
	"time"
)

// waiter is a borrower in the queue. Its record is used again, and the channel is made once.
type waiter[T any] struct {
	next, prev *waiter[T]
	ready      chan struct{} // of capacity 1: one send when the outcome is there
	nowait     bool          // a TryAcquire, for which a check is under way
	passed     bool          // over, once at least
	since, due time.Duration // when it began to wait and when its time is up, on the pool's clock
	until      time.Duration // when the context of the use is over
	watch      context.Context
	caller     context.Context // of the whole use

	// The outcome, set under the lock. A waiter that is served needs the first two only, beside what is above.
	r        *resource[T]
	wait     time.Duration
	expired  bool  // due has passed: the maintainer took it out of the queue
	reason   error // why there is no resource
	cause    error
	openErr  error // what opening has met lately
	fault    Fault // of ErrAcquireTimeout and ErrOpen: whose time the wait was
	state    State
	from, to time.Duration // of the server's part in it
}

// queue is a list of waiters in order of arrival.
type queue[T any] struct {
	head, tail *waiter[T]
	n          int
}

func (q *queue[T]) push(w *waiter[T]) {
	w.prev, w.next = q.tail, nil
	if q.tail != nil {
		q.tail.next = w
	} else {
		q.head = w
	}
	q.tail = w
	q.n++
}

func (q *queue[T]) remove(w *waiter[T]) {
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		q.head = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		q.tail = w.prev
	}
	w.next, w.prev = nil, nil
	q.n--
}

// wake sends the one signal that w waits for; nil has nobody to wake.
func (w *waiter[T]) wake() {
	if w != nil {
		w.ready <- struct{}{}
	}
}

func (p *Pool[T]) newWaiter() *waiter[T] {
	w, ok := p.freeWaiters.Get().(*waiter[T])
	if !ok {
		w = &waiter[T]{ready: make(chan struct{}, 1)}
	}
	return w
}

func (p *Pool[T]) freeWaiter(w *waiter[T]) {
	*w = waiter[T]{ready: w.ready}
	p.freeWaiters.Put(w)
}

// freeServed is freeWaiter for one that got a resource and keeps it: nothing else of the outcome was set.
func (p *Pool[T]) freeServed(w *waiter[T]) {
	w.watch, w.caller, w.r, w.wait = nil, nil, nil, 0
	p.freeWaiters.Put(w)
}

// due is when a use that begins to wait in ctx now has waited enough. Whoever looks through a lazy context minds its deadline; any other
// says so itself when it is over, and with its cause.
func (p *Pool[T]) due(ctx context.Context, now, longest time.Duration) time.Duration {
	due := plus(now, longest)
	for lazy, ok := ctx.(*lazyContext); ok; lazy, ok = lazy.parent.(*lazyContext) { // the inner one may have been put off
		due = min(due, lazy.own().Sub(p.hub.start))
	}
	return due
}

// enqueue puts w at the end of the queue. A TryAcquire has set w.due. The caller holds the lock.
func (p *Pool[T]) enqueue(ctx context.Context, c *Call, w *waiter[T], longest time.Duration, nowait bool) {
	w.watch, w.caller, w.nowait, w.until = foreign(ctx), callerOf(ctx, c), nowait, never
	due := p.due(ctx, w.since, longest)
	if nowait {
		due = min(due, w.due)
	}
	w.due = due
	if d, ok := ctx.Deadline(); ok {
		w.until = d.Sub(p.hub.start)
	}
	p.waiters.push(w)
}

// longestWait bounds the wait of a use by the pool's own bound. By default a caller whose deadline is far off may wait for two thirds of the
// time until then: what is left is enough for most uses, and the caller has said how long the use may take. The caller holds the lock.
func (p *Pool[T]) longestWait(caller context.Context, now time.Duration) time.Duration {
	limit := p.cfg.AcquireTimeout
	if limit < 0 {
		return longWait
	}
	if d, ok := caller.Deadline(); ok && limit == defaultAcquireTimeout {
		limit = max(limit, (d.Sub(p.hub.start)-now)/3*2)
	}
	return min(limit, longWait)
}

const longWait = 1000 * time.Hour

// await blocks until w has been served or told, or its time is up. The caller has queued it.
func (p *Pool[T]) await(ctx context.Context, w *waiter[T]) {
	done := foreign(ctx).Done()
	if done == nil {
		<-w.ready
	} else {
		select {
		case <-w.ready:
		case <-done:
			if p.withdraw(ctx, w, true) {
				<-w.ready // here, as whoever is to wake w may get to it a while after the lock
			}
			return
		}
	}
	if w.expired {
		p.withdraw(ctx, w, false)
	}
}

// expire wakes the waiters whose time is up. They work out for themselves what that means, as it takes a look at their contexts. It is
// called under the lock.
func (p *Pool[T]) expire(now time.Duration) {
	var (
		next  *waiter[T]
		state State
	)
	for w := p.waiters.head; w != nil; w = next {
		next = w.next
		if w.due > now {
			p.nextScan = min(p.nextScan, w.due)
			continue
		}
		if state.Max == 0 {
			state = p.state()
			state.Waiters-- // the others
		}
		p.waiters.remove(w)
		w.expired, w.state = true, state
		p.blame(w)
		w.wake()
	}
}

// blame says whose time the vain wait of w was, without a look at the context of w. The time was the server's if a place was free for another
// resource, and the latest dial has failed, or a dial or a check is hung and no dial has succeeded during the wait. If a dial has succeeded, w
// has waited for its turn. The caller holds the lock.
func (p *Pool[T]) blame(w *waiter[T]) {
	w.wait, w.fault = p.elapsed()-w.since, FaultLocal
	if w.state.InUse >= w.state.Max {
		return
	}
	w.fault = FaultCaller // of a short deadline: a timely call would have brought a resource
	if o := p.outlook(); o.hung && p.openedAt <= w.since || p.failures > 0 {
		w.fault, w.openErr = FaultServer, p.lastOpenErr
		w.from, w.to = w.since, w.since+w.wait
	}
}

// withdraw ends the wait of w, whose context is over or which has expired. early says that it has not been woken: it may still be in the
// queue, and what has been handed to it in the meantime goes on to the next. woken says that w has been, or is about to
// be: the signal is to be taken.
func (p *Pool[T]) withdraw(ctx context.Context, w *waiter[T], early bool) (woken bool) {
	over, cause := ended(ctx)
	by := EndedByPool
	if over != nil {
		by = endedBy(w.caller)
	}
	p.lock()
	defer p.mu.Unlock()
	if early {
		if woken = w.r != nil || w.reason != nil || w.expired; !woken {
			p.waiters.remove(w)
		}
	}
	if w.reason != nil {
		return woken // told already, and counted
	}
	if !w.expired {
		w.state = p.state()
		p.blame(w)
	}
	counted := w.r != nil // it got one, and gives it back unused
	if r := w.r; r != nil {
		w.r = nil
		w.fault, w.openErr, w.from, w.to = FaultCaller, nil, 0, 0
		r.seq++
		r.watch = nil
		r.uses--
		p.passOn(r)
	}
	w.cause = cause
	switch {
	case errors.Is(over, context.Canceled):
		w.reason = ErrAcquireCanceled
		p.count(&p.stat.Cancelled, counted)
		return woken
	case over == nil && w.nowait:
		w.reason = ErrExhausted
		p.count(&p.stat.Refused, counted)
		return woken
	case over == nil:
		w.cause = context.DeadlineExceeded
		if w.fault == FaultCaller {
			w.fault = FaultLocal
		}
	}
	w.reason, w.state.EndedBy = ErrAcquireTimeout, by
	p.count(&p.stat.TimedOut, counted)
	return woken
}

// count counts the end of an acquisition that has not been counted.
func (p *Pool[T]) count(counter *uint64, counted bool) {
	if !counted {
		*counter++
	}
}

// passOn gives up a resource that was lent and has not been used. An interrupt may have begun, as the context that it was lent for is
// over; waiting for that, passOn lets go of the lock under which it is called.
func (p *Pool[T]) passOn(r *resource[T]) {
	dirty := false
	if r.unwatch != nil || r.interrupted != nil {
		p.mu.Unlock()
		if p.disarm(r) {
			if dirty = p.resetter != nil && p.leftDirty(r); !dirty {
				r.doomAs(CloseBroken)
			}
		}
		p.lock()
	}
	p.inUse--
	if p.closed {
		p.kick() // the maintainer ends with the last lease
	}
	switch doom := r.doom; {
	case doom != closeNot:
		r.doom = closeNot
		p.retire(r, doom)
	case dirty && !p.closed:
		p.spawnReset(r)
	case p.waiters.n > 0 && p.unfit(r, p.clock()) == closeNot && p.unproven(r, p.now):
		p.spawnCheck(r) // something has broken since it was lent
	default:
		p.shelve(r)
	}
	p.pump()
}

// A waiter with little time left goes behind those with enough time. A saturated pool would otherwise lend to waiters that cannot use the
// resource in time, and serve nobody in the end.
//
//   - The need is how long the quickest of the recent uses held a resource. A quicker use lowers the need at once. A slower use raises the need
//     slowly. A failed use would have needed more time. But a few quick uses among many that hang are to be served, too: waiters with more
//     time left would only hold the resources for longer.
//   - A resource goes to the first waiter who has the need left and a margin. If nobody has, the resource goes to the last waiter if the last has
//     more time than the first, else to the first.
//   - Nobody is refused. A waiter that was passed over keeps the place in the queue. What the pool has learned may be wrong: after a stall of the
//     server the need is too high. Then waiters with enough time are served first, a quick success among them lowers the need, and the first
//     waiters are the next to be served.
//   - Of trialShare waiters that are to be passed over, one is served all the same. The use may be a quick use.
//   - The rule rests while there are places for all waiters, and while a recent use took less than a step of the clock. While dials fail, there
//     are no more places than resources: a server at the maximum of clients opens no more.

const (
	forgetNeed = 64 // a slower success adds this share of the difference to the need
	raiseNeed  = 8  // a failure the same
	beginNeed  = 16 // the same while the need is less than a step of the clock: the rule begins after about a hundred failures in a row
	leastNeed  = 10 * time.Microsecond
	trialShare = 32 // of the waiters that are to be passed over, and of the resources that are to be closed without a reset
)

// learn notes how long a use held a resource, by the coarse clock. A success within a step of the clock costs a comparison. The caller holds
// the lock.
func (p *Pool[T]) learn(held time.Duration, failed bool) {
	switch {
	case failed:
		switch {
		case held <= p.need:
		case p.need < clockStep:
			p.need += (p.need + leastNeed) / beginNeed
		default:
			p.need += min(held-p.need+clockStep, p.need+clockStep) / raiseNeed
		}
	case held < p.need:
		p.need = held
	case held > p.need:
		p.need += (held - p.need) / forgetNeed
	}
}

// next is the waiter who gets the resource that the caller has. There is a waiter, and the need is a step of the clock or more. The margin
// covers two steps of the coarse clock and small differences between uses. The queue of a saturated pool settles at the margin: with too small
// a margin every use would be cut. The caller holds the lock.
func (p *Pool[T]) next(now time.Duration) *waiter[T] {
	w, last := p.waiters.head, p.waiters.tail
	places := p.cfg.MaxSize
	if p.failures > 0 {
		places = len(p.all)
	}
	if p.waiters.n <= max(places-p.inUse, 1) {
		return w
	}
	enough := plus(now, p.need+p.need/8+2*clockStep)
	switch {
	case w.until >= enough || w.until >= last.until:
		return w
	case last.until < enough:
		return last
	}
	for ; w.until < enough; w = w.next { // the last waiter has enough
		if w.passed {
			continue
		}
		w.passed = true
		if p.trials++; p.trials%trialShare == 0 {
			break
		}
	}
	return w
}

// refuse tells the first n waiters the same. from is when the dial began that they are told of, 0 if there is none. It is called under the
// lock.
func (p *Pool[T]) refuse(reason, cause error, counter *uint64, n int, from time.Duration) {
	if p.waiters.n == 0 || n == 0 {
		return
	}
	state, now := p.state(), p.elapsed()
	state.Waiters-- // the others
	for w := p.waiters.head; w != nil && n > 0; w, n = p.waiters.head, n-1 {
		p.waiters.remove(w)
		w.reason, w.state, w.wait = reason, state, now-w.since
		if from > 0 {
			w.openErr, w.fault, w.from, w.to = cause, FaultServer, from, now
		} else {
			w.cause = cause
		}
		*counter++
		w.wake()
	}
}

// err makes the error for a waiter that got nothing.
func (w *waiter[T]) err(h *hub) *Error {
	cause := w.cause
	if cause == nil {
		cause = w.openErr
	} else if w.openErr != nil {
		cause = join(cause, w.openErr)
	}
	return &Error{
		Pool: h.id.Name, Reason: w.reason, Cause: cause, State: w.state, Waited: w.wait,
		class: h.classifyRefusal(w.reason, w.openErr, w.fault),
	}
}

// callerOf is the context that the use began with.
func callerOf(ctx context.Context, c *Call) context.Context {
	if c != nil {
		return c.caller
	}
	return ctx
}

// endedBy says who has bounded the use, after the end of the innermost context.
func endedBy(caller context.Context) EndedBy {
	if over, _ := ended(caller); over != nil {
		return EndedByCaller
	}
	return EndedByLayer
}

// ended returns the error and the cause of a context that is over, or nil. It asks those first who are watched: a context hears of its
// parent's end a little later than others do. A deadline that has passed is an end, though the context's own timer may be late.
func ended(ctx context.Context) (err, cause error) {
	watched := foreign(ctx)
	if err := watched.Err(); err != nil {
		if expired(watched) {
			return context.DeadlineExceeded, withCause(context.DeadlineExceeded, context.Cause(watched))
		}
		return err, contextCause(watched)
	}
	if isLazy(ctx) {
		if err := ctx.Err(); err != nil {
			return err, contextCause(ctx)
		}
	}
	if d, ok := ctx.Deadline(); ok && !time.Now().Before(d) {
		return context.DeadlineExceeded, context.DeadlineExceeded
	}
	return nil, nil
}

func isLazy(ctx context.Context) bool {
	_, lazy := ctx.(*lazyContext)
	return lazy
}

// contextCause returns the error of a context that is over, with its cause where that says more.
func contextCause(ctx context.Context) error { return withCause(ctx.Err(), context.Cause(ctx)) }

func withCause(err, cause error) error {
	if cause == nil || errors.Is(cause, err) {
		return cmp.Or(cause, err)
	}
	return join(err, cause)
}
