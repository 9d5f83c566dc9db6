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
	since, due time.Duration // when it began to wait and when its time is up, on the pool's clock
	watch      context.Context

	// The outcome, set under the lock.
	r        *resource[T]
	expired  bool  // due has passed: the maintainer took it out of the queue
	reason   error // why there is no resource
	cause    error
	openErr  error // what opening has met lately
	hasty    bool  // its own deadline was shorter than what was begun for it takes
	opening  bool  // it waited for the server rather than for other borrowers
	state    State
	wait     time.Duration
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

// due is when a use that begins to wait in ctx now has waited enough. Whoever looks through a lazy context minds its deadline; any other
// says so itself when it is over, and with its cause.
func (p *Pool[T]) due(ctx context.Context, now time.Duration) time.Duration {
	due := never
	if limit := p.cfg.AcquireTimeout; limit >= 0 {
		due = plus(now, limit)
	}
	for lazy, ok := ctx.(*lazyContext); ok; lazy, ok = lazy.parent.(*lazyContext) { // the inner one may have been put off
		due = min(due, lazy.own().Sub(p.hub.start))
	}
	return due
}

// longestWait bounds what a use waits by the pool's own bound.
func (p *Pool[T]) longestWait() time.Duration {
	if limit := p.cfg.AcquireTimeout; limit >= 0 {
		return min(limit, longWait)
	}
	return longWait
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
	var next *waiter[T]
	for w := p.waiters.head; w != nil; w = next {
		next = w.next
		if w.due > now {
			p.nextScan = min(p.nextScan, w.due)
			continue
		}
		p.waiters.remove(w)
		w.expired = true
		w.wake()
	}
}

// withdraw ends the wait of w, whose context is over or which has expired. early says that it has not been woken: it may still be in the
// queue, and what has been handed to it in the meantime goes on to the next. woken says that w has been, or is about to
// be: the signal is to be taken.
func (p *Pool[T]) withdraw(ctx context.Context, w *waiter[T], early bool) (woken bool) {
	over, cause := ended(ctx)
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
	w.state = p.state()
	counted := w.r != nil // it got one, and gives it back unused
	if r := w.r; r != nil {
		w.r = nil
		r.seq++
		r.watch = nil
		r.uses--
		p.passOn(r)
	}
	w.wait = p.elapsed() - w.since
	w.cause = cause
	if errors.Is(over, context.Canceled) {
		if !counted {
			p.stat.Cancelled++
		}
		w.reason = ErrAcquireCanceled
		return woken
	}
	if over == nil && w.nowait {
		p.stat.Refused++
		w.reason = ErrExhausted
		return woken
	}
	if over == nil {
		w.cause = context.DeadlineExceeded
	}
	if !counted {
		p.stat.TimedOut++
	}
	w.reason = ErrAcquireTimeout
	if w.opening = w.state.InUse < w.state.Max; w.opening {
		w.openErr = p.lastOpenErr
		if over != nil && w.openErr == nil && w.state.Late == 0 {
			w.opening, w.hasty = false, true // what was begun for it is in time: the deadline was shorter than that takes
		}
	}
	if w.opening {
		w.from, w.to = w.since, w.since+w.wait
	}
	return woken
}

// passOn gives up a resource that was lent and has not been used. An interrupt may have begun, as the context that it was lent for is
// over; waiting for that, passOn lets go of the lock under which it is called.
func (p *Pool[T]) passOn(r *resource[T]) {
	if r.unwatch != nil || r.interrupted != nil {
		p.mu.Unlock()
		p.disarm(r)
		p.lock()
	}
	p.inUse--
	if p.closed {
		p.kick() // the maintainer ends with the last lease
	}
	if doom := r.doom; doom != closeNot {
		r.doom = closeNot
		p.retire(r, doom)
	} else {
		p.shelve(r)
	}
	p.pump()
}

// refuse tells the first n waiters the same. from is when the dial began that they are told of, 0 if there is none. It is called under the
// lock.
func (p *Pool[T]) refuse(reason, cause error, counter *uint64, n int, from time.Duration) {
	if p.waiters.n == 0 {
		return
	}
	state, now := p.state(), p.elapsed()
	state.Waiters-- // the others
	for w := p.waiters.head; w != nil && n > 0; w, n = p.waiters.head, n-1 {
		if from > 0 {
			w.from, w.to = from, now
		}
		p.waiters.remove(w)
		w.reason, w.state, w.wait = reason, state, p.elapsed()-w.since
		if reason == ErrOpen {
			w.openErr, w.opening = cause, true
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
		cause = errors.Join(cause, w.openErr)
	}
	return &Error{
		Pool: h.id.Name, Reason: w.reason, Cause: cause, State: w.state, Waited: w.wait,
		class: h.classifyRefusal(w.reason, w.openErr, w.opening, w.hasty),
	}
}

// ended returns the error and the cause of a context that is over, or nil. It asks those first who are watched: a context hears of its
// parent's end a little later than others do. A deadline that has passed is an end, though the context's own timer may be late.
func ended(ctx context.Context) (err, cause error) {
	watched := foreign(ctx)
	if err := watched.Err(); err != nil {
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
func contextCause(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if cause == nil || errors.Is(cause, err) {
		return cmp.Or(cause, err)
	}
	return errors.Join(err, cause)
}
