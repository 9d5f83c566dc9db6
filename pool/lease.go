package pool

import (
	"context"
	"errors"
)

// Lease is the right to use a resource until Release, Discard or Finish. A Lease is a small value,
// and copies of a Lease are the same lease. The zero Lease is a lease that is over. All methods may
// be called concurrently and from any goroutine.
type Lease[T any] struct {
	r   *resource[T]
	seq uint64
	ctx context.Context
}

// Value returns the resource. After the end of the lease, ok is false and the resource is the zero
// value. The pool does not notice a T that is used after the end of the lease: do not keep the T.
func (l Lease[T]) Value() (res T, ok bool) {
	if l.r == nil {
		return res, false
	}
	if !l.r.holds(l.seq) {
		return res, false
	}
	return l.r.v, true
}

// Context returns the innermost context of the use, with the values of the layers, such as spans.
// Commands sent under the lease use this context. The context ends when the context given to
// Acquire ends. If a layer bounds attempts (RoleAttempt), the context also ends when a positive
// [Op].Limit has passed since the grant. The limits of the layers end with Acquire. For the zero
// Lease, Context returns context.Background().
func (l Lease[T]) Context() context.Context {
	if l.ctx == nil {
		return context.Background()
	}
	return l.ctx
}

// Release ends the lease. err is the outcome seen by the layers, nil for success. The pool judges
// by err whether the resource may be lent again. Release returns true if this call has ended the
// lease. If the lease was already over, Release does nothing and returns false.
func (l Lease[T]) Release(err error) bool { return l.end(err, closeNot) }

// Discard is Release, and the pool closes the resource whatever the outcome.
func (l Lease[T]) Discard(err error) bool { return l.end(err, CloseDiscard) }

// Finish is Release for a borrower that then returns err, for example from the function of another
// use. Finish returns err as [Pool.Do] would return err: a failure of the use of this lease is a
// [UseError], and the enclosing use does not count the failure. If the lease is already over,
// Finish does nothing and returns err.
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

// finish ends the lease, and reports whether this call has ended the lease. If left is not nil, err
// is not nil, and finish sets *left to err as err leaves the use.
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

// finishBare is finish without layers, for a claimed lease.
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

// takeBack combines claim and give, for a release without a call of the driver or an observer
// (Pool.noHooks).
func (r *resource[T]) takeBack(seq uint64) bool {
	u := r.use.Load() // of this lease, if the lease is not over
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

// conclude ends a successful use whose resource, grant, has been returned already.
func (u *leaseUse[T]) conclude(grant *resource[T]) {
	u.dropGrant(grant)
	defer u.finish()
	u.unwind(0, nil)
}

// claim ends the lease with the number seq. Of several concurrent calls, only the first succeeds.
// The caller holds the lock.
func (r *resource[T]) claim(seq uint64) bool {
	if r.seq != seq {
		return false
	}
	r.seq++
	return true
}

// holds reports whether the lease with the number seq is active.
func (r *resource[T]) holds(seq uint64) bool {
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	return r.seq == seq
}

// Acquire is [Pool.Do] in two steps. The use passes the same layers, and the layers end when the
// lease is released. Layers that make several attempts cover the acquisition only. The borrower
// must release the lease in every case, from any goroutine.
//
// The limits of the layers, for the whole use and for an attempt, also cover the acquisition only:
// a cursor, a transaction or a subscription takes as long as its borrower needs. The lease is
// bounded by ctx. If a layer bounds attempts (RoleAttempt), the lease is also bounded by a positive
// op.Limit, counted from the grant. [Lease.Context] ends at the first of these bounds. The end of
// the context does not release the lease.
//
// If there is no lease, the error is the error of the pool or of a layer. A failure is a
// [UseError]; [Pool.Do] describes the errors.
func (p *Pool[T]) Acquire(ctx context.Context, op Op) (Lease[T], error) {
	if p.handler == nil {
		return p.borrow(ctx, false)
	}
	return p.acquire(ctx, &op, false)
}

// TryAcquire is Acquire without a wait for another borrower or for a dial. If no resource is idle,
// TryAcquire returns [ErrExhausted] at once. The pool then opens a resource in the background if
// MaxSize allows, so a later try may succeed. An idle resource that is due for a check is checked
// first. TryAcquire waits for this check for about twice the time of recent checks, at least 10 ms.
// Before the first check, TryAcquire waits for 1/32 of Config.CheckTimeout (31 ms by default), at
// most 100 ms.
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
		if returned { // after a panic or Goexit, u is left to the garbage collector
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

// borrow is acquire without layers.
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
	inner context.Context // the innermost context of the layers
	ctx   context.Context // the context of the borrower, derived from inner
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
	c.ends = append(c.ends, r) // every later failure returns r to the pool
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
