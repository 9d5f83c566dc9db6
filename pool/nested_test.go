package pool_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// layers is an error like an error of a layer: layers is Classified.
type layers struct{ class driver.Class }

func (layers) Error() string         { return "a layer's error" }
func (e layers) Class() driver.Class { return e.class }

// A borrower's function gets an error from a use of another pool, or from a second use of the same
// pool. This error is no error of the outer use: the fault is elsewhere, and the outer use is not
// repeated.
func TestNestedUse(t *testing.T) {
	server := driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatAlways, Type: "x"}
	refusalBy := func(name string) error {
		p := newPool(t, &pooltest.Fake{}, pool.Config{Name: name, MaxSize: 1, MaxWaiters: -1})
		defer acquire(t, p).Release(nil)
		_, err := p.Acquire(background, op)
		return err
	}
	refused := refusalBy("other")
	left := func(name string, err error) error { // as returned by a use
		p := newPool(t, &pooltest.Fake{}, pool.Config{Name: name})
		return p.Do(background, op, func(context.Context, conn) error { return err })
	}
	elsewhere := func(name string) driver.Class { return driver.Class{Fault: driver.FaultElsewhere, Type: name} }
	broken := driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatIfIdempotent, Broken: true, Type: "broken"}
	// The connections of the fake break by a deadline error.
	late := &pool.Error{Pool: "other", Reason: pool.ErrAcquireTimeout, Cause: context.DeadlineExceeded}
	for _, tc := range []struct {
		name string
		err  error
		want driver.Class
	}{
		{"another pool's refusal", refused, elsewhere("_OTHER")},
		{"another pool's refusal of a wait", fmt.Errorf("find: %w", late), elsewhere("timeout")},
		{"this pool's refusal", refusalBy("own"), elsewhere("_OTHER")},
		{"another pool's layer", left("other", layers{server}), elsewhere("_OTHER")},
		{"this pool's layer, in another use", left("own", layers{server}), elsewhere("_OTHER")},
		{"this use's layer", layers{server}, server},
		{"another pool's connection", left("other", pooltest.ErrBroken), elsewhere("_OTHER")},
		{"the same, wrapped", fmt.Errorf("find: %w", left("other", pooltest.ErrBroken)), elsewhere("_OTHER")},
		// Only a Witness distinguishes such an answer.
		{"an answer of another pool's", left("other", pooltest.ErrReply), driver.Class{Code: "REPLY", Type: "REPLY"}},
		{"a miss of another pool's", left("other", pooltest.ErrMiss), driver.Class{Miss: true}},
		{"with the resource's own", errors.Join(refused, pooltest.ErrBroken), broken},
		{"with the resource's own after it", errors.Join(pooltest.ErrBroken, left("other", pooltest.ErrDenied)), broken},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := &asking{}
			p := newPool(t, &pooltest.Fake{}, pool.Config{Name: "own"}, pool.Bracket(a))
			if err := p.Do(background, op, func(context.Context, conn) error { return tc.err }); !errors.Is(err, tc.err) {
				t.Errorf("Do: %v", err)
			}
			if a.class != tc.want {
				t.Errorf("Do: got %+v, want %+v", a.class, tc.want)
			}
			a.class = driver.Class{}
			acquire(t, p).Release(tc.err)
			if a.class != tc.want {
				t.Errorf("Acquire: got %+v, want %+v", a.class, tc.want)
			}
			if s := p.Stat(); s.Idle == 0 != tc.want.Broken {
				t.Errorf("afterwards %+v", s)
			}
		})
	}
}

// A borrower's function may manage another pool, or the same pool. The errors give no information
// about the server of the outer use, and no use is repeated.
func TestNestedManagement(t *testing.T) {
	for name, manage := range map[string]func(ctx context.Context, p *pool.Pool[conn], f *pooltest.Fake) error{
		"Close": func(ctx context.Context, p *pool.Pool[conn], _ *pooltest.Fake) error {
			defer acquire(t, p).Release(nil)
			return p.Close(ctx)
		},
		"Warm": func(ctx context.Context, p *pool.Pool[conn], f *pooltest.Fake) error {
			f.Inject(pooltest.Open, -1, pooltest.Fail(pooltest.ErrBroken))
			return p.Warm(ctx, 1)
		},
		"Warm, in time": func(ctx context.Context, p *pool.Pool[conn], f *pooltest.Fake) error {
			f.Inject(pooltest.Open, -1, pooltest.Hang())
			return p.Warm(ctx, 1)
		},
		"Look": func(ctx context.Context, p *pool.Pool[conn], f *pooltest.Fake) error {
			f.Inject(pooltest.Check, -1, pooltest.Fail(pooltest.ErrBroken))
			return p.Look(ctx)
		},
		"Look, in time": func(ctx context.Context, p *pool.Pool[conn], f *pooltest.Fake) error {
			f.Inject(pooltest.Open, -1, pooltest.Hang())
			return p.Look(ctx)
		},
		"Check": func(ctx context.Context, p *pool.Pool[conn], f *pooltest.Fake) error {
			f.Inject(pooltest.Check, -1, pooltest.Fail(pooltest.ErrBroken))
			return p.Check(ctx).Err
		},
		"Check, in time": func(ctx context.Context, p *pool.Pool[conn], f *pooltest.Fake) error {
			f.Inject(pooltest.Open, -1, pooltest.Hang())
			return p.Check(ctx).Err
		},
		"Configure": func(_ context.Context, p *pool.Pool[conn], _ *pooltest.Fake) error {
			return p.Configure(pool.Config{MaxSize: -1})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, fake := &asking{}, &pooltest.Fake{}
				outer := newPool(t, &pooltest.Fake{}, pool.Config{Name: "outer"}, pool.Bracket(a))
				inner := newPool(t, fake, pool.Config{Name: "inner"})
				var met error
				err := outer.Do(background, op, func(context.Context, conn) error {
					ctx, cancel := context.WithTimeout(background, 100*time.Millisecond)
					defer cancel()
					met = manage(ctx, inner, fake)
					return fmt.Errorf("manage: %w", met)
				})
				if met == nil || !errors.Is(err, met) {
					t.Fatalf("got %v, of %v", err, met)
				}
				if a.class.Fault != driver.FaultElsewhere || a.class.Repeat != driver.RepeatNever || a.class.Broken {
					t.Errorf("%v: the class is %+v", err, a.class)
				}
				if want := name != "Close" && name != "Configure"; (inner.Classify(met).Fault == driver.FaultServer) != want {
					t.Errorf("%v: to its own pool %+v", met, inner.Classify(met))
				}
				fake.Inject(pooltest.Open, 0, nil)
			})
		})
	}
}

// An error inside a refusal, as its cause, is judged by the refusing pool.
func TestRefusalWithAForeignCause(t *testing.T) {
	fake, a := &pooltest.Fake{}, &asking{}
	fake.Inject(pooltest.Open, -1, pooltest.Fail(layers{driver.Class{Fault: driver.FaultServer, Type: "sealed"}}))
	p := newPool(t, fake, pool.Config{Name: "own"}, pool.Bracket(a))
	err := p.Do(background, op, use)
	if !errors.Is(err, pool.ErrOpen) || a.class.Fault != driver.FaultServer {
		t.Errorf("%v: got %+v", err, a.class)
	}
}

// In a use inside a use of another pool, the layers of the outer pool are the caller, and their
// deadlines are the caller's. The server is not at fault.
func TestNestedDeadline(t *testing.T) {
	cause := layers{driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatIfIdempotent, Type: "timeout_attempt"}}
	for name, fn := range map[string]func(ctx context.Context, c conn) error{
		"cause":      func(ctx context.Context, _ conn) error { <-ctx.Done(); return context.Cause(ctx) },
		"connection": func(ctx context.Context, _ conn) error { <-ctx.Done(); return pooltest.ErrBroken },
	} {
		for made, outer := range map[string]func() (context.Context, func()){
			"real": func() (context.Context, func()) {
				ctx, cancel := context.WithTimeoutCause(background, time.Millisecond, cause)
				return ctx, cancel
			},
			"lazy": func() (context.Context, func()) {
				ctx, d := pool.WithDeadline(background, time.Now().Add(time.Millisecond), cause)
				return ctx, d.Cancel
			},
		} {
			a := &asking{}
			p := newPool(t, &pooltest.Fake{}, pool.Config{Name: "inner"}, pool.Bracket(a))
			ctx, cancel := outer()
			err := p.Do(ctx, op, fn)
			cancel()
			if a.class.Fault != driver.FaultCaller || a.class.Repeat != driver.RepeatNever {
				t.Errorf("%s, %s context: %v: got %+v", name, made, err, a.class)
			}
		}
	}
}

// If the caller's context has ended as well, the fault is the caller's, and the connection is still
// intact.
func TestNestedRefusalAndCallerGone(t *testing.T) {
	other := newPool(t, &pooltest.Fake{}, pool.Config{Name: "other", MaxSize: 1, MaxWaiters: -1})
	defer acquire(t, other).Release(nil)
	_, refused := other.Acquire(background, op)
	a := &asking{}
	p := newPool(t, &pooltest.Fake{}, pool.Config{Name: "own"}, pool.Bracket(a))
	ctx, cancel := context.WithCancel(background)
	defer cancel()
	_ = p.Do(ctx, op, func(context.Context, conn) error { cancel(); return refused })
	if a.class.Fault != driver.FaultCaller || a.class.Broken {
		t.Errorf("got %+v", a.class)
	}
}

// A fork refused by the pool does not report the resource of the earlier attempt.
func TestRefusalOfAFork(t *testing.T) {
	second := pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
		return func(ctx context.Context, c *pool.Call) error {
			if err := next(ctx, c); err == nil {
				return nil
			}
			f := c.Fork()
			defer f.Drop()
			return next(ctx, f)
		}
	})
	fake, a := &pooltest.Fake{}, &asking{}
	p := newPool(t, fake, pool.Config{MaxSize: 1}, pool.Bracket(a), second)
	_, err := pool.Get(background, p, op, func(context.Context, conn) (int, error) {
		fake.Inject(pooltest.Open, -1, pooltest.Fail(pooltest.ErrRefused))
		return 0, pooltest.ErrBroken
	})
	if !errors.Is(err, pool.ErrOpen) || a.class.Fault != driver.FaultServer {
		t.Errorf("%v: got %+v", err, a.class)
	}
}
