package pool

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/earnorm/poolstack/pool/internal/errtree"
)

// Do lends a resource to fn, inside all layers. fn gets the innermost context, with the spans and
// deadlines of the layers. fn must not keep the resource. Do returns when fn has returned.
//
// The error is the error of fn, or the error of the layer or the pool that has ended the use before
// fn. A failure is a [UseError]; any other error is returned unchanged. If fn panics or calls
// runtime.Goexit, the pool closes the resource.
//
// fn should not acquire a second resource of the same pool: if all resources are lent to such
// functions, the functions wait for each other. fn uses the resource at hand. Do may be called
// concurrently.
func (p *Pool[T]) Do(ctx context.Context, op Op, fn func(context.Context, T) error) error {
	if p.handler == nil {
		return p.serveBare(ctx, fn)
	}
	u, ok := p.doUses.Get().(*doUse[T])
	if !ok {
		u = &doUse[T]{p: p}
		u.init(p.hub, u)
	}
	u.begin(&op, ctx)
	u.fn = fn
	err := p.handler(ctx, &u.Call) // after a panic or Goexit, u is left to the collector
	if err != nil {
		err = u.markFailure(err)
	}
	u.finish()
	return err
}

// serveBare is a one-step use without layers.
func (p *Pool[T]) serveBare(ctx context.Context, fn func(context.Context, T) error) error {
	l, err := p.borrow(ctx, false)
	if err != nil {
		return err
	}
	err = ErrAborted
	defer func() {
		p.give(ctx, nil, l.r, err) // only this function can end the lease
	}()
	if err = fn(l.ctx, l.r.v); err == nil {
		return nil
	}
	err = explain(ctx, ctx, err)
	p.hear(nil, l.r, err)
	return p.hub.markFailure(err, p.hub.classify(ctx, err, true, &l.r.told))
}

// serve is the innermost step of a one-step use inside layers.
func (p *Pool[T]) serve(ctx context.Context, c *Call, fn func(context.Context, T) error) (err error) {
	r, err := p.take(ctx, c, false)
	if err != nil {
		return err
	}
	err = ErrAborted
	defer func() {
		if err == ErrAborted && len(c.hub.commands) > 0 { //nolint:errorlint // the value set above
			c.uses.Add(1) // after a panic or Goexit, finish is not called
		}
		p.give(c.caller, c, r, err)
	}()
	p.begun(ctx, c, r)
	if err = fn(p.lent(ctx, c, r), r.v); err != nil {
		err = explain(c.caller, ctx, err)
		c.cancelled = errors.Is(watchedContext(ctx).Err(), context.Canceled)
		c.to = p.elapsed()
	}
	p.hear(c, r, err)
	return err
}

// explain adds the end of the context to the error of a use whose context has ended. The client may
// report another error: an interrupted client may only report a closed socket. ctx is the context
// of the use. explain skips the deadlines of layers, because the layers explain their deadlines.
func explain(caller, ctx context.Context, err error) error {
	for _, x := range [2]context.Context{watchedContext(ctx), caller} {
		if over, cause := contextErr(x); over != nil && !errors.Is(err, over) {
			err = &errtree.OverError{End: cause, Err: err}
		}
	}
	return err
}

type doUse[T any] struct {
	Call
	p  *Pool[T]
	fn func(context.Context, T) error
}

func (u *doUse[T]) run(ctx context.Context, c *Call) error { return u.p.serve(ctx, c, u.fn) }
func (u *doUse[T]) fork() *Call                            { return nil }
func (u *doUse[T]) adopt(terminal)                         {}
func (u *doUse[T]) setResult(any) error                    { return errNoResult("Do") }
func (u *doUse[T]) recycle()                               { u.fn = nil; u.p.doUses.Put(u) }

// Get is [Pool.Do] for a function with a result. A layer can set the result in place of fn
// ([Call.SetResult]), or make several attempts at the same time ([Call.Fork]). So fn must not write
// to captured variables without a lock. If the error is not nil, the result is the zero value of R.
func Get[T, R any](ctx context.Context, p *Pool[T], op Op, fn func(context.Context, T) (R, error)) (R, error) {
	u := slotsFor[T, R](p).get(p)
	u.fn = fn
	if p.handler == nil {
		err := p.serveBare(ctx, u.call)
		r := u.resultOr(err)
		u.recycle()
		return r, err
	}
	u.begin(&op, ctx)
	err := p.handler(ctx, &u.Call) // after a panic or Goexit, u is left to the collector
	r := u.resultOr(err)
	if err != nil {
		err = u.markFailure(err)
	}
	u.finish()
	return r, err
}

type getUse[T, R any] struct {
	Call
	p      *Pool[T]
	home   *slots[T, R]
	fn     func(context.Context, T) (R, error)
	call   func(context.Context, T) error // the method value invoke, made once
	result R
}

func (u *getUse[T, R]) invoke(ctx context.Context, res T) (err error) {
	u.result, err = u.fn(ctx, res)
	return err
}

// resultOr returns the result, or the zero value if err is not nil: u.result may be the result of
// an earlier attempt.
func (u *getUse[T, R]) resultOr(err error) (r R) {
	if err == nil {
		r = u.result
	}
	return r
}

func (u *getUse[T, R]) run(ctx context.Context, c *Call) error {
	return u.p.serve(ctx, c, u.call)
}

func (u *getUse[T, R]) fork() *Call {
	f := u.home.get(u.p)
	f.fn = u.fn
	return &f.Call
}

func (u *getUse[T, R]) adopt(from terminal) {
	if f, ok := from.(*getUse[T, R]); ok {
		u.result = f.result
	}
}

func (u *getUse[T, R]) setResult(v any) error {
	r, ok := v.(R)
	if !ok && v != nil {
		return fmt.Errorf("pool: a layer set a result of type %T: this use returns %T", v, u.result)
	}
	u.result = r
	return nil
}

func (u *getUse[T, R]) recycle() {
	var zero R
	u.result, u.fn = zero, nil
	u.home.pool.Put(u)
}

// slots keeps the records of Get for a single type of results.
type slots[T, R any] struct{ pool sync.Pool }

func (s *slots[T, R]) get(p *Pool[T]) *getUse[T, R] {
	u, ok := s.pool.Get().(*getUse[T, R])
	if !ok {
		u = &getUse[T, R]{p: p, home: s}
		u.call = u.invoke
		u.init(p.hub, u)
	}
	return u
}

// slotsFor returns the slots for R. slotsFor scans a list that is replaced and never changed, so
// the search needs no map, no reflection and no allocation.
func slotsFor[T, R any](p *Pool[T]) *slots[T, R] {
	if list := p.slots.Load(); list != nil {
		for _, s := range *list {
			if s, ok := s.(*slots[T, R]); ok {
				return s
			}
		}
	}
	return addSlots[T, R](p)
}

func addSlots[T, R any](p *Pool[T]) *slots[T, R] {
	p.slotsMu.Lock()
	defer p.slotsMu.Unlock()
	var list []any
	if old := p.slots.Load(); old != nil {
		list = append(list, *old...)
	}
	for _, s := range list {
		if s, ok := s.(*slots[T, R]); ok {
			return s
		}
	}
	s := &slots[T, R]{}
	list = append(list, s)
	p.slots.Store(&list)
	return s
}
