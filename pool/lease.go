package pool

import (
	"context"
	"errors"
)

// Lease is the right to use a resource until Release or Discard. It is a small value; its copies
// are the same lease. The zero Lease is one that is over. All methods may be called concurrently
// and from any goroutine.
type Lease[T any] struct {
	r   *resource[T]
	seq uint64
	ctx context.Context
}

// Value returns the resource. ok is false, and the resource zero, once the lease is over. A T kept
// beyond that is out of the pool's sight: do not use it.
func (l Lease[T]) Value() (res T, ok bool) {
	if l.r == nil {
		return res, false
	}
	if !l.r.holds(l.seq) {
		return res, false
	}
	return l.r.v, true
}

// Context returns the innermost context of the use, with what the layers put into the context, such
// as spans. The context is over when the context given to Acquire is over, or when a positive
// [Op].Limit has passed since the grant. The layers' own limits end with Acquire. Commands sent
// under the lease use the context.
func (l Lease[T]) Context() context.Context {
	if l.ctx == nil {
		return context.Background()
	}
	return l.ctx
}

// Release ends the lease: err is the outcome that the layers see, nil for success, and decides
// whether the resource is lent again. It returns false, and does nothing, when the lease was over
// already.
func (l Lease[T]) Release(err error) bool { return l.end(err, closeNot) }

// Discard is Release, and the resource is closed whatever the outcome.
func (l Lease[T]) Discard(err error) bool { return l.end(err, CloseDiscard) }

// Finish is Release for a borrower that goes on to return err, such as from the function of another
// use. Finish returns err as [Pool.Do] would: a failure of this lease's use is a [UseError], so the
// enclosing use does not count the failure. After the end of the lease Finish does nothing and
// returns err.
func (l Lease[T]) Finish(err error) error {
	if err == nil {
		l.Release(nil)
		return nil
	}
	left := err
	l.finish(err, closeNot, &left)
	return left
}

func (l Lease[T]) end(err error, doom CloseReason) bool {
	if err == nil && doom == closeNot && l.r != nil && l.r.p.noHooks {
		return l.r.takeBack(l.seq)
	}
	return l.finish(err, doom, nil)
}

// finish ends the lease. Unless left is nil, *left becomes err as err leaves the use; err is not
// nil then.
func (l Lease[T]) finish(err error, doom CloseReason, left *error) bool {
	r := l.r
	if r == nil {
		return false
	}
	r.p.mu.Lock()
	ok := r.claim(l.seq)
	r.p.mu.Unlock()
	if !ok {
		return false
	}
	if doom != closeNot {
		r.doom = doom
	}
	if r.p.handler == nil {
		l.finishBare(err, left)
		return true
	}
	u := r.use.Load()
	c := &u.Call
	defer c.finish()
	defer func() { c.unwind(0, err) }()
	if err != nil {
		err = explain(c.caller, u.inner, err)
		c.cancelled = errors.Is(watchedContext(u.inner).Err(), context.Canceled)
		c.to = r.p.elapsed()
	}
	r.p.hear(c, r, err)
	if left != nil {
		*left = c.markFailure(err)
	}
	return true
}

// finishBare is finish without layers, of a lease that has been claimed.
func (l Lease[T]) finishBare(err error, left *error) {
	r := l.r
	defer func() { r.p.give(l.ctx, nil, r, err) }() // even if a method of err panics
	if err == nil {
		return
	}
	err = explain(l.ctx, l.ctx, err)
	r.p.hear(nil, r, err)
	if left != nil {
		*left = r.p.hub.markFailure(err, r.p.hub.classify(l.ctx, err, true, &r.told))
	}
}

// takeBack is claim and give in one, where neither the driver nor an observer has a say in between.
func (r *resource[T]) takeBack(seq uint64) bool {
	u := r.use.Load() // the lease's, if it is not over
	p := r.p
	p.mu.Lock()
	if !r.claim(seq) {
		p.mu.Unlock()
		return false
	}
	w := p.back(r, false, false, 0)
	p.mu.Unlock()
	w.wake()
	if u != nil {
		u.conclude(r)
	}
	return true
}

// conclude ends a use that has succeeded and whose grant has been given back.
func (u *leaseUse[T]) conclude(grant *resource[T]) {
	u.dropGrant(grant)
	defer u.finish()
	u.unwind(0, nil)
}

// claim ends the lease with number seq; of several that try, one succeeds. It is called under the
// lock.
func (r *resource[T]) claim(seq uint64) bool {
	if r.seq != seq {
		return false
	}
	r.seq++
	return true
}

// holds says whether the lease with number seq is not over.
func (r *resource[T]) holds(seq uint64) bool {
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	return r.seq == seq
}

// Acquire is [Pool.Do] in two steps: it passes through the same layers, and they end when the lease
// is released. The lease must be released, by any goroutine. Layers that make several attempts
// cover the acquisition only.
//
// The limits of the layers, for the whole use and for an attempt, cover the acquisition too: they
// end when Acquire returns. A cursor, a transaction or a subscription takes as long as its borrower
// needs. What bounds the lease is ctx, and op.Limit if that is positive, counted from when the
// resource is lent: [Lease.Context] is over when one of them is. The resource comes back by Release
// in every case.
func (p *Pool[T]) Acquire(ctx context.Context, op Op) (Lease[T], error) {
	if p.handler == nil {
		return p.borrow(ctx, false)
	}
	return p.acquire(ctx, &op, false)
}

// TryAcquire is Acquire that waits neither for other borrowers nor for a dial: unless a resource is
// idle it returns [ErrExhausted] at once, and one is opened in the background, so that a later try
// may succeed. An idle resource that is due for a check is checked first: for that TryAcquire waits
// as long as checks lately took twice, and 31 ms (a thirty-second of Config.CheckTimeout) while
// nothing is known of them.
func (p *Pool[T]) TryAcquire(ctx context.Context, op Op) (Lease[T], error) {
	if p.handler == nil {
		return p.borrow(ctx, true)
	}
	return p.acquire(ctx, &op, true)
}

func (p *Pool[T]) acquire(ctx context.Context, op *Op, nowait bool) (Lease[T], error) {
	u := p.newLeaseUse()
	u.begin(op, ctx)
	u.nowait = nowait
	err, returned := ErrAborted, false
	defer func() {
		if err == nil {
			return
		}
		u.unwind(0, err)
		if returned { // a panic or Goexit leaves u to the collector
			u.finish()
		}
	}()
	err = p.handler(ctx, &u.Call)
	returned = true
	if err == nil && !u.holds {
		err = ErrNotGranted
	}
	if err != nil {
		return Lease[T]{}, u.markFailure(err)
	}
	if u.r.use.Load() != u {
		u.r.use.Store(u)
	}
	return Lease[T]{u.r, u.r.seq, u.ctx}, nil
}

// borrow takes a resource without layers.
func (p *Pool[T]) borrow(ctx context.Context, nowait bool) (Lease[T], error) {
	r, err := p.take(ctx, nil, nowait)
	if err != nil {
		return Lease[T]{}, p.hub.markFailure(err, p.hub.classify(ctx, err, false, nil))
	}
	p.begun(ctx, nil, r)
	return Lease[T]{r, r.seq, p.lentBare(ctx, r)}, nil
}

// leaseUse is the terminal of a two-step use.
type leaseUse[T any] struct {
	Call
	p     *Pool[T]
	r     *resource[T]
	inner context.Context // the layers' innermost
	ctx   context.Context // the borrower's, made of it
}

func (p *Pool[T]) newLeaseUse() *leaseUse[T] {
	u, ok := p.leaseUses.Get().(*leaseUse[T])
	if !ok {
		u = &leaseUse[T]{p: p}
		u.twoStep = true
		u.init(p.hub, u)
	}
	return u
}

func (u *leaseUse[T]) run(ctx context.Context, c *Call) error {
	if c.holds {
		return ErrGranted
	}
	r, err := u.p.take(ctx, c, c.nowait)
	if err != nil {
		return err
	}
	c.ends = append(c.ends, r) // from here on, whatever goes wrong gives it back
	c.holds = true
	u.r, u.inner, u.ctx = r, ctx, u.p.lent(ctx, c, r)
	u.p.begun(ctx, c, r)
	return nil
}

func (u *leaseUse[T]) fork() *Call { return &u.p.newLeaseUse().Call }

func (u *leaseUse[T]) adopt(from terminal) {
	if f, ok := from.(*leaseUse[T]); ok && u.holds {
		u.r, u.inner, u.ctx = f.r, f.inner, u.p.hub.withCall(f.ctx, &u.Call)
	}
}

func (u *leaseUse[T]) setResult(any) error { return errNoResult("Acquire") }

func (u *leaseUse[T]) recycle() { u.r, u.inner, u.ctx = nil, nil, nil; u.p.leaseUses.Put(u) }
