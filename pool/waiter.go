package pool

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/earnorm/poolstack/pool/driver"
)

// waiter is a borrower in the queue. A record is used again, with its channel.
type waiter[T any] struct {
	next, prev *waiter[T]
	ready      chan struct{} // buffered, capacity 1: a single send when the outcome is set
	nowait     bool          // a TryAcquire that waits for a check
	passed     bool          // was passed over at least once
	since, due time.Duration // the start and the latest end of the wait, on the pool's clock
	until      time.Duration // the deadline of the context of the use, or never
	// the context that ends the wait
	watch  context.Context
	caller context.Context // the context of the whole use

	// The outcome, set under the lock. A served waiter uses r and wait only.
	r        *resource[T]
	wait     time.Duration
	expired  bool  // due has passed, and the maintainer has removed w from the queue
	reason   error // the reason for no resource; nil before the end
	cause    error
	openErr  error        // the latest error of a dial
	fault    driver.Fault // for ErrAcquireTimeout and ErrOpen
	state    Occupancy
	from, to time.Duration // the server's part of the wait, see Call.Served
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

// wake sends the single signal to w. A nil w needs no signal.
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

// freeServed is freeWaiter for a waiter that got and kept a resource. The other fields of the
// outcome were not set.
func (p *Pool[T]) freeServed(w *waiter[T]) {
	w.watch, w.caller, w.r, w.wait = nil, nil, nil, 0
	p.freeWaiters.Put(w)
}

// due returns the latest end of a wait in ctx that begins now. due includes the deadlines of the
// lazy contexts, because await does not wait for Done of a lazy context. A context of another kind
// ends the wait by its own Done, with its own cause.
func (p *Pool[T]) due(ctx context.Context, now, longest time.Duration) time.Duration {
	due := plus(now, longest)
	// The deadline of an inner lazy context may have been delayed, so each deadline counts.
	for lazy, ok := ctx.(*lazyContext); ok; lazy, ok = lazy.parent.(*lazyContext) {
		due = min(due, lazy.own().Sub(p.hub.start))
	}
	return due
}

// enqueue puts w at the end of the queue. For a TryAcquire, w.due is already set. The caller holds
// the lock.
func (p *Pool[T]) enqueue(ctx context.Context, c *Call, w *waiter[T], longest time.Duration, nowait bool) {
	w.watch, w.caller, w.nowait, w.until = watchedContext(ctx), callerOf(ctx, c), nowait, never
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

// longestWait returns the longest wait of a use by the settings of the pool. By default, a caller
// with a late deadline may wait for two thirds of the time until the deadline. The rest is enough
// for most uses, and the caller accepts such a long use. The caller of longestWait holds the lock.
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

// longWait stands for a wait without a bound of the pool.
const longWait = 1000 * time.Hour

// await blocks until w has its outcome or the time of w is up. w is in the queue before the call.
func (p *Pool[T]) await(ctx context.Context, w *waiter[T]) {
	done := watchedContext(ctx).Done()
	if done == nil {
		<-w.ready
	} else {
		select {
		case <-w.ready:
		case <-done:
			if p.endWait(ctx, w, true) {
				<-w.ready // the signal may come a while after the lock is released
			}
			return
		}
	}
	if w.expired {
		p.endWait(ctx, w, false)
	}
}

// expire wakes the waiters whose time is up. Each waiter finds its own outcome afterwards
// (endWait), because the outcome depends on the contexts of the waiter. The caller holds the lock.
func (p *Pool[T]) expire(now time.Duration) {
	var (
		next  *waiter[T]
		state Occupancy
	)
	for w := p.waiters.head; w != nil; w = next {
		next = w.next
		if w.due > now {
			p.nextScan = min(p.nextScan, w.due)
			continue
		}
		if state.Max == 0 {
			state = p.state()
			state.Waiters-- // State.Waiters does not include w
		}
		p.waiters.remove(w)
		w.expired, w.state = true, state
		p.assignFault(w)
		w.wake()
	}
}

// assignFault sets the fault for the vain wait of w, without the contexts of w.
//
//   - FaultLocal, if all places were lent.
//   - FaultServer, if a place was free, and either the latest dial has failed, or a dial or a check
//     is hung and no dial has succeeded during the wait.
//   - FaultCaller otherwise: the deadline of the caller was too short. If a dial has succeeded, w
//     has only waited for its turn. If no context has ended, endWait changes FaultCaller to
//     FaultLocal.
//
// The caller holds the lock.
func (p *Pool[T]) assignFault(w *waiter[T]) {
	w.wait, w.fault = p.elapsed()-w.since, driver.FaultLocal
	if w.state.InUse >= w.state.Max {
		return
	}
	w.fault = driver.FaultCaller // a timely call would have brought a resource
	if o := p.outlook(); o.hung && p.openedAt <= w.since || p.failures > 0 {
		w.fault, w.openErr = driver.FaultServer, p.lastOpenErr
		w.from, w.to = w.since, w.since+w.wait
	}
}

// endWait sets the outcome of a waiter that stops waiting without a resource. endWait runs in the
// goroutine of the waiter, in two cases:
//
//   - early is true: the context of the use has ended before w received its signal. w may still be
//     in the queue, and endWait then removes w. If w has got a resource in the meantime, endWait
//     passes the resource on to the next waiter. If w has got an error in the meantime, the error
//     stays.
//   - early is false: the time of w is up (expired), the maintainer has removed w from the queue,
//     and w has received its signal.
//
// If early is true, woken reports whether the signal of w was sent or is about to be sent. The
// caller of endWait must then receive the signal.
func (p *Pool[T]) endWait(ctx context.Context, w *waiter[T], early bool) (woken bool) {
	over, cause := contextErr(ctx)
	by := EndedByPool
	if over != nil {
		by = endedBy(w.caller)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if early {
		if woken = w.r != nil || w.reason != nil || w.expired; !woken {
			p.waiters.remove(w)
		}
	}
	if w.reason != nil {
		return woken // the outcome is set and counted already
	}
	if !w.expired {
		w.state = p.state()
		p.assignFault(w)
	}
	counted := w.r != nil // w got a resource, and returns the resource unused
	if r := w.r; r != nil {
		w.r = nil
		w.fault, w.openErr, w.from, w.to = driver.FaultCaller, nil, 0, 0
		r.seq++
		r.watch = nil
		r.uses--
		p.returnUnused(r)
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
		if w.fault == driver.FaultCaller {
			w.fault = driver.FaultLocal
		}
	}
	w.reason, w.state.EndedBy = ErrAcquireTimeout, by
	p.count(&p.stat.TimedOut, counted)
	return woken
}

// count counts the end of an acquisition, unless counted is true.
func (p *Pool[T]) count(counter *uint64, counted bool) {
	if !counted {
		*counter++
	}
}

// returnUnused takes back a resource that was lent but not used. The context of the lease has
// ended, so an interrupt may have begun. returnUnused is called under the lock. While returnUnused
// waits for an interrupt, returnUnused releases the lock.
func (p *Pool[T]) returnUnused(r *resource[T]) {
	dirty := false
	if r.unwatch != nil || r.interrupted != nil {
		p.mu.Unlock()
		if p.disarm(r) {
			if dirty = p.resetter != nil && p.leftDirty(r); !dirty {
				r.doomAs(CloseBroken)
			}
		}
		p.mu.Lock()
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
		p.spawnCheck(r) // another resource has broken since r was lent
	default:
		p.shelve(r)
	}
	p.pump()
}

// The order of service in a saturated pool. A waiter with little time left waits behind waiters
// with enough time. Otherwise a saturated pool would lend resources to waiters that cannot use the
// resources in time. In the end no use would succeed.
//
//   - The need is the time for which the quickest of the recent uses held a resource. A quicker use
//     lowers the need at once. A slower use raises the need slowly. A failed use would have needed
//     more time, and raises the need faster. A few quick uses among many hung uses keep the need
//     low, and are served as well. Waiters with more time left would only hold the resources for
//     longer.
//   - A resource goes to the first waiter with enough time left: the need and a margin. If no
//     waiter has enough time, the resource goes to the last waiter if the last waiter has more time
//     than the first waiter. Otherwise the resource goes to the first waiter.
//   - No waiter is refused. A waiter that was passed over keeps its place in the queue. The need
//     may be wrong: after a stall of the server the need is too high. Then waiters with enough time
//     are served first, a quick success among these waiters lowers the need, and the first waiters
//     are served next.
//   - Of every trialShare waiters to be passed over, a single waiter is served all the same. Its
//     use may be a quick use.
//   - The rule is off while there are places for all waiters, and while the need is less than a
//     step of the clock. While dials fail, only existing resources count as places: a server at its
//     maximum of clients opens no more connections.

const (
	forgetNeed = 64 // a slower success adds 1/64 of the difference to the need
	raiseNeed  = 8  // a failure adds 1/8 of the difference, at most 1/8 of the need
	// While the need is less than a step of the clock, a failure adds 1/16 of the need. The rule
	// begins after about a hundred failures in a row.
	beginNeed = 16
	leastNeed = 10 * time.Microsecond
	// Of every trialShare waiters to be passed over, a single waiter is served. Of every trialShare
	// resources to be closed without a reset, a single resource is reset.
	trialShare = 32
)

// learn updates the need after a use. held is the time for which the use held its resource, by the
// coarse clock. A success within a step of the clock costs only a comparison. The caller holds the
// lock.
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

// next returns the waiter that gets the free resource. The queue is not empty, and the need is at
// least a step of the clock. The margin covers two steps of the coarse clock and small differences
// between uses. In a saturated pool the remaining time of the waiters settles at the margin. With
// too small a margin every use would end by its deadline. The caller holds the lock.
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
	for ; w.until < enough; w = w.next { // the last waiter has enough time
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

// refuse ends the waits of the first n waiters with the same error. from is the start of the failed
// dial; 0 means no failed dial. The caller holds the lock.
func (p *Pool[T]) refuse(reason, cause error, counter *uint64, n int, from time.Duration) {
	if p.waiters.n == 0 || n == 0 {
		return
	}
	state, now := p.state(), p.elapsed()
	state.Waiters-- // State.Waiters does not include w
	for w := p.waiters.head; w != nil && n > 0; w, n = p.waiters.head, n-1 {
		p.waiters.remove(w)
		w.reason, w.state, w.wait = reason, state, now-w.since
		if from > 0 {
			w.openErr, w.fault, w.from, w.to = cause, driver.FaultServer, from, now
		} else {
			w.cause = cause
		}
		*counter++
		w.wake()
	}
}

// err returns the error of a waiter without a resource.
func (w *waiter[T]) err(h *hub) *Error {
	cause := w.cause
	if cause == nil {
		cause = w.openErr
	} else if w.openErr != nil {
		cause = join(cause, w.openErr)
	}
	return &Error{
		Pool: h.id.Name, Reason: w.reason, Cause: cause, Occupancy: w.state, Waited: w.wait,
		class: h.classifyRefusal(w.reason, w.openErr, w.fault),
	}
}

// callerOf returns the context given to the use by its caller.
func callerOf(ctx context.Context, c *Call) context.Context {
	if c != nil {
		return c.caller
	}
	return ctx
}

// endedBy returns whose context ended the use, after the end of the innermost context.
func endedBy(caller context.Context) EndedBy {
	if over, _ := contextErr(caller); over != nil {
		return EndedByCaller
	}
	return EndedByLayer
}

// contextErr returns the error and the cause of ctx if ctx has ended, and nil otherwise. A passed
// deadline is an end, even if the timer of the context is late. ended first asks the context
// watched by await, watchedContext(ctx): a derived context learns of the end of its parent a little
// later.
func contextErr(ctx context.Context) (err, cause error) {
	watched := watchedContext(ctx)
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

// contextCause returns the error of an ended context, joined with the cause if the cause adds
// information.
func contextCause(ctx context.Context) error { return withCause(ctx.Err(), context.Cause(ctx)) }

func withCause(err, cause error) error {
	if cause == nil || errors.Is(cause, err) {
		return cmp.Or(cause, err)
	}
	return join(err, cause)
}
