package pool_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// limiting is a layer that bounds the whole use, or with server set, the server's part of the use.
type limiting struct {
	limit  time.Duration
	server bool
	last   *pool.Deadline
}

func (l *limiting) Wrap(next pool.Handler) pool.Handler {
	return func(ctx context.Context, c *pool.Call) error {
		with := pool.WithUseLimit
		if l.server {
			with = pool.WithLimit
		}
		ctx, d := with(ctx, c, time.Now(), l.limit, errLate)
		l.last = d
		err := next(ctx, c)
		switch {
		case err != nil || !c.TwoStep():
			d.Cancel()
		case !l.server:
			d.Lift()
		}
		return err
	}
}

// deriving is a layer that derives a context before the grant.
var deriving = pool.Bracket[context.CancelFunc](derivingLayer{})

type derivingLayer struct{}

func (derivingLayer) Begin(ctx context.Context, _ *pool.Call) (context.Context, context.CancelFunc, error) {
	ctx, cancel := context.WithCancel(ctx)
	return ctx, cancel, nil
}
func (derivingLayer) End(_ context.Context, _ *pool.Call, cancel context.CancelFunc, _ error) {
	cancel()
}

// pausing is a layer that waits a short time on its context, like retry in a pause.
var pausing = pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
	return func(ctx context.Context, c *pool.Call) error {
		select {
		case <-ctx.Done():
		case <-time.After(time.Millisecond):
		}
		return next(ctx, c)
	}
})

// The limit on a use covers the acquisition, whatever layers are between the limit and the pool.
// The lease is bounded by the caller only.
func TestUseLimitCoversTheAcquisition(t *testing.T) {
	for name, inner := range map[string][]pool.Middleware{
		"nothing":             nil,
		"a pause":             {pausing},
		"a derived context":   {deriving},
		"a hedge":             {hedge{time.Hour}},
		"a limit in a hedge":  {hedge{time.Hour}, &limiting{limit: 900 * time.Millisecond}},
		"all, and one server": {pausing, hedge{time.Hour}, deriving, &limiting{limit: time.Hour, server: true}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fake := &pooltest.Fake{}
				p := newPool(t, fake, pool.Config{MaxSize: 1}, append([]pool.Middleware{&limiting{limit: time.Second}}, inner...)...)
				caller, cancel := context.WithCancelCause(background)
				l, err := p.Acquire(caller, op)
				if err != nil {
					t.Fatal(err)
				}
				child, drop := context.WithCancel(l.Context())
				defer drop()
				begin := time.Now()
				_, err = p.Acquire(background, op) // a second borrower waits in vain
				if took := time.Since(begin); took > time.Second || !errors.Is(err, pool.ErrAcquireTimeout) || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("after %v: %v, want an acquire timeout", took, err)
				}
				time.Sleep(30 * time.Minute)
				if err := errors.Join(l.Context().Err(), child.Err(), value(t, l).Use(l.Context())); err != nil {
					t.Errorf("after half an hour: %v", err)
				}
				mine := errors.New("mine")
				cancel(mine)
				synctest.Wait()
				for _, ctx := range []context.Context{l.Context(), child} {
					if ctx.Err() != context.Canceled || context.Cause(ctx) != mine {
						t.Errorf("the caller cancelled: %v, %v", ctx.Err(), context.Cause(ctx))
					}
				}
				l.Release(context.Canceled)
			})
		})
	}
}

// A lifted deadline has no effect, and any other deadline ends its context. Earlier calls of Done
// and derived contexts change nothing.
func TestLift(t *testing.T) {
	for _, lift := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			l := &limiting{limit: time.Second}
			p := newPool(t, &pooltest.Fake{}, pool.Config{}, l, pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
				return func(ctx context.Context, c *pool.Call) error {
					child, cancel := context.WithCancel(ctx)
					defer cancel()
					if lift {
						l.last.Lift()
					}
					time.Sleep(2 * time.Second)
					if !lift && (ctx.Err() != context.DeadlineExceeded || child.Err() == nil || !l.last.Passed()) {
						t.Errorf("after the deadline: %v, %v", ctx.Err(), child.Err())
					}
					for _, ctx := range []context.Context{ctx, child} {
						if _, ok := ctx.Deadline(); ok == lift {
							t.Errorf("lifted %t: there is a deadline: %t", lift, ok)
						}
						if lift && (ctx.Err() != nil || context.Cause(ctx) != nil || l.last.Passed()) {
							t.Errorf("lifted: %v, %v", ctx.Err(), context.Cause(ctx))
						}
						if !lift && !errors.Is(context.Cause(ctx), errLate) {
							t.Errorf("the cause is %v, want the limit's", context.Cause(ctx))
						}
					}
					return next(ctx, c)
				}
			}))
			// The pool reads no clock when it lends an idle resource.
			if l, err := p.Acquire(background, op); err == nil || lift {
				l.Release(err)
			}
		})
	}
}

// A layer learns when the server's part of a use began and ended.
func TestServed(t *testing.T) {
	const ms = time.Millisecond
	for _, tc := range []struct {
		name     string
		held     time.Duration // by another borrower; negative: no wait for a borrower
		dial     time.Duration // time after which the dial fails; 0: no dial
		works    time.Duration
		err      error
		from, to time.Duration // -1: the zero Time
	}{
		{"at once, well", -1, 0, 20 * ms, nil, -1, -1},
		{"at once, failed", -1, 0, 20 * ms, pooltest.ErrBroken, -1, 20 * ms},
		{"after a wait, well", 50 * ms, 0, 20 * ms, nil, 50 * ms, -1},
		{"after a wait, failed", 50 * ms, 0, 20 * ms, pooltest.ErrBroken, 50 * ms, 70 * ms},
		{"waited in vain", time.Hour, 0, 0, pool.ErrAcquireTimeout, -1, -1},
		{"told of a dial", -1, 300 * ms, 0, pool.ErrOpen, 0, 300 * ms},
	} {
		for _, twoStep := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				fake, s := &pooltest.Fake{}, &serving{}
				p := newPool(t, fake, pool.Config{MaxSize: 1, OpenBackoff: 1}, pool.Bracket(s))
				var other pool.Lease[conn]
				switch {
				case tc.held >= 0:
					other = acquire(t, p)
					time.AfterFunc(tc.held, func() { other.Release(nil) })
				case tc.dial > 0:
					fake.Inject(pooltest.Open, -1, func(context.Context) error { time.Sleep(tc.dial); return pooltest.ErrRefused })
				default:
					acquire(t, p).Release(nil)
				}
				begin := time.Now()
				work := func(context.Context, conn) error { time.Sleep(tc.works); return tc.err }
				err := useOnce(p, twoStep, work)
				if !errors.Is(err, tc.err) {
					t.Errorf("%s: %v", tc.name, err)
				}
				since := func(at time.Time) time.Duration {
					if at.IsZero() {
						return -1
					}
					return at.Sub(begin).Truncate(ms)
				}
				if from, to := since(s.from), since(s.to); from != tc.from || to != tc.to {
					t.Errorf("%s, two steps %t: served from %v to %v, want %v to %v", tc.name, twoStep, from, to, tc.from, tc.to)
				}
				other.Release(nil)
			})
		}
	}
}

// useOnce makes a use in one step or in two.
func useOnce(p *pool.Pool[conn], twoStep bool, fn func(context.Context, conn) error) error {
	if !twoStep {
		return p.Do(background, op, fn)
	}
	l, err := p.Acquire(background, op)
	if err != nil {
		return err
	}
	c, _ := l.Value()
	return l.Finish(fn(l.Context(), c))
}

// serving records the server's part of the latest Call.
type serving struct {
	mu       sync.Mutex
	from, to time.Time
}

func (s *serving) Begin(ctx context.Context, c *pool.Call) (context.Context, struct{}, error) {
	if from, to := c.Served(); !from.IsZero() || !to.IsZero() {
		panic("a use begins with what an earlier one came to")
	}
	return ctx, struct{}{}, nil
}
func (s *serving) End(_ context.Context, c *pool.Call, _ struct{}, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.from, s.to = c.Served()
}

// A Call reports the times of an adopted fork.
func TestServedByAFork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &serving{}
		p := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 1}, pool.Bracket(s), hedge{time.Hour})
		other := acquire(t, p)
		time.AfterFunc(time.Second, func() { other.Release(nil) })
		begin := time.Now()
		l := acquire(t, p)
		time.Sleep(time.Second)
		synctest.Wait()
		l.Release(pooltest.ErrBroken)
		if from, to := s.from.Sub(begin), s.to.Sub(begin); from != time.Second || to != 2*time.Second {
			t.Errorf("served from %v to %v, want 1s to 2s", from, to)
		}
	})
}
