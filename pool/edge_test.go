package pool_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

type exiting struct {
	*pooltest.Fake
	where string
}

func (e exiting) Dirty(conn) bool {
	if e.where == "Dirty" {
		runtime.Goexit()
	}
	return false
}

func (e exiting) Classify(err error) driver.Class {
	if e.where == "Classify" {
		runtime.Goexit()
	}
	return e.Fake.Classify(err)
}

// A driver method that ends its goroutine, like t.FailNow, must not lose the resource.
func TestGoexitInADriversHook(t *testing.T) {
	for _, where := range []string{"Dirty", "Classify"} {
		events := newRecorder()
		p, err := pool.New(exiting{&pooltest.Fake{}, where}, pool.Config{MaxSize: 1}, events)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			_ = p.Do(background, op, func(context.Context, conn) error { return pooltest.ErrReply })
		})
		wg.Wait()
		if n := p.Stat().InUse; n != 0 {
			t.Errorf("%s: %d resources are still lent", where, n)
		}
		if n := len(events.only(pool.EventReleased)); n != 1 {
			t.Errorf("%s: observers heard of %d releases", where, n)
		}
		ctx, cancel := context.WithTimeout(background, time.Second)
		defer cancel()
		if err := p.Close(ctx); err != nil {
			t.Errorf("%s: %v", where, err)
		}
	}
}

// The Close of a drained pool succeeds even with an ended context.
func TestCloseOfADrainedPool(t *testing.T) {
	p, _ := pool.New(&pooltest.Fake{}, pool.Config{})
	_ = p.Close(background)
	ctx, cancel := context.WithCancel(background)
	cancel()
	failed := 0
	for range 100 {
		if p.Close(ctx) != nil {
			failed++
		}
	}
	if failed > 0 {
		t.Errorf("%d of 100 closes of a drained pool failed", failed)
	}
}

// The result of an earlier attempt is not the result of a failed use.
func TestGetReturnsNothingBesideAnError(t *testing.T) {
	twice := pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
		return func(ctx context.Context, c *pool.Call) error {
			_ = next(ctx, c)
			return errors.New("rejected the second time")
		}
	})
	p := newPool(t, &pooltest.Fake{}, pool.Config{}, twice)
	got, err := pool.Get(background, p, op, func(context.Context, conn) (int, error) { return 42, pooltest.ErrReply })
	if got != 0 {
		t.Errorf("got %d with error %v", got, err)
	}
}

// Stacks are recorded from the time at which LeakAfter is set. A leak report shows the stack of the
// present borrower.
func TestLeakIsNotBlamedOnAnEarlierBorrower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := newRecorder()
		p := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 1, LeakAfter: time.Hour}, rec)
		innocentBorrower(t, p)
		_ = p.Configure(pool.Config{MaxSize: 1})
		l := acquire(t, p)
		_ = p.Configure(pool.Config{MaxSize: 1, LeakAfter: time.Minute})
		time.Sleep(2 * time.Minute)
		for _, e := range rec.only(pool.EventLeaked) {
			if contains(e.Stack, "innocentBorrower") {
				t.Error("the leak is reported with the stack of an earlier borrower")
			}
		}
		l.Release(nil)
	})
}

//go:noinline
func innocentBorrower(t *testing.T, p *pool.Pool[conn]) {
	acquire(t, p).Release(nil)
}

// A healthy pool is not degraded for ever by a single failed dial.
func TestHealthForgetsWhatNobodyNeeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		p := newPool(t, fake, pool.Config{MaxSize: 2})
		l := acquire(t, p)
		fake.Inject(pooltest.Open, 1, pooltest.Fail(pooltest.ErrRefused))
		ctx, cancel := context.WithTimeout(background, time.Millisecond)
		_, _ = p.Acquire(ctx, op)
		cancel()
		l.Release(nil)
		time.Sleep(24 * time.Hour)
		if h := p.Check(background); h.Status != pool.StatusOK {
			t.Errorf("a day later: %v %v", h.Status, h.Reasons)
		}
	})
}

// The same, if a borrower waits for another resource when the failure should be forgotten.
func TestHealthForgetsInSpiteOfAWaiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		p := newPool(t, fake, pool.Config{MaxSize: 2, AcquireTimeout: -1})
		l := acquire(t, p)
		fake.Inject(pooltest.Open, 1, pooltest.Fail(pooltest.ErrRefused))
		var waiter sync.WaitGroup
		waiter.Go(func() { acquire(t, p).Release(nil) })
		synctest.Wait()
		if err := p.Configure(pool.Config{MaxSize: 1, AcquireTimeout: -1}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		l.Release(nil)
		waiter.Wait()
		time.Sleep(time.Hour)
		if h := p.Check(background); h.Status != pool.StatusOK {
			t.Errorf("an hour later: %v %v", h.Status, h.Reasons)
		}
	})
}

// A failed check of Pool.Check is counted and reported like any other failed check.
func TestFailedHealthCheckIsCounted(t *testing.T) {
	fake, events := &pooltest.Fake{}, newRecorder()
	p := newPool(t, fake, pool.Config{MaxSize: 1}, events)
	acquire(t, p).Release(nil)
	fake.Inject(pooltest.Check, 1, pooltest.Fail(pooltest.ErrBroken))
	h := p.Check(background)
	if h.Stat.CheckFailures != 1 {
		t.Errorf("CheckFailures is %d after %v", h.Stat.CheckFailures, h.Reasons)
	}
	if got := events.only(pool.EventCheckFailed); len(got) != 1 || !errors.Is(got[0].Err, pooltest.ErrBroken) {
		t.Errorf("observers heard of %v", got)
	}
}

// An observer that ends its goroutine, like t.FailNow, costs neither the place of the connection
// nor the result of Check.
func TestHealthCheckAndAnObserverThatExits(t *testing.T) {
	fake := &pooltest.Fake{}
	exits := observerFunc(func(_ context.Context, e pool.Event) {
		if e.Kind == pool.EventCheckFailed {
			runtime.Goexit()
		}
	})
	fake.Inject(pooltest.Check, 1, pooltest.Fail(pooltest.ErrBroken))
	p := newPool(t, fake, pool.Config{MaxSize: 1}, exits)
	if h := p.Check(background); h.Status != pool.StatusDown || !errors.Is(h.Err, pooltest.ErrBroken) || h.Stat.InUse != 0 {
		t.Errorf("got %+v", h)
	}
}

// A Check whose context ends gives no information about the server, and costs no connection. The
// driver's check goes on in the background.
func TestHealthCheckGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		p := newPool(t, fake, pool.Config{MaxSize: 1})
		acquire(t, p).Release(nil)
		fake.Inject(pooltest.Check, 1, pooltest.Slow(50*time.Millisecond))
		ctx, cancel := context.WithTimeout(background, 20*time.Millisecond)
		defer cancel()
		h := p.Check(ctx)
		if h.Status != pool.StatusDegraded || !errors.Is(h.Err, context.DeadlineExceeded) || h.Stat.InUse != 1 {
			t.Errorf("got %+v", h)
		}
		time.Sleep(time.Second)
		if s := p.Stat(); s.CheckFailures > 0 || s.Closed.Total() > 0 || s.Idle != 1 {
			t.Errorf("afterwards %+v", s)
		}
		if h := p.Check(background); h.Status != pool.StatusOK {
			t.Errorf("got %+v", h)
		}
	})
}

type refusing struct{}

func (refusing) Wrap(next pool.Handler) pool.Handler  { return next }
func (refusing) Attach(pool.PoolInfo) (func(), error) { return nil, errors.New("no") }

func TestNewReturnsNoPoolWithAnError(t *testing.T) {
	p, err := pool.New(&pooltest.Fake{}, pool.Config{}, refusing{})
	if err == nil || p != nil {
		t.Errorf("got %v, %v", p != nil, err)
	}
}

// Calls of the driver cancelled by Close do not count as failures.
func TestCloseCountsNoFailuresOfItsOwn(t *testing.T) {
	fake := &pooltest.Fake{}
	p, _ := pool.New(fake, pool.Config{MaxSize: 2, MinIdle: 1})
	for p.Stat().Idle < 1 {
		runtime.Gosched()
	}
	l := acquire(t, p)
	c := value(t, l)
	c.Soil()
	fake.Inject(pooltest.Reset, -1, pooltest.Hang())
	fake.Inject(pooltest.Open, -1, pooltest.Hang())
	l.Release(nil)
	_, _ = p.TryAcquire(background, op)
	_ = p.Close(background)
	if s := p.Stat(); s.CheckFailures != 0 || s.OpenFailures != 0 || s.Closed[pool.CloseReset] != 0 {
		t.Errorf("check failures %d, open failures %d, closed %v", s.CheckFailures, s.OpenFailures, s.Closed)
	}
}

// The pause grows with each round of dials, not with the number of dials that failed together.
func TestOpensThatFailTogetherCountOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		fake.Inject(pooltest.Open, 4, func(context.Context) error {
			time.Sleep(time.Millisecond)
			return pooltest.ErrRefused
		})
		start := time.Now()
		p := newPool(t, fake, pool.Config{MaxSize: 4, MinIdle: 4, OpenBackoff: 32 * time.Second})
		for p.Stat().Idle == 0 {
			time.Sleep(time.Millisecond)
		}
		if d := time.Since(start); d > 1100*time.Millisecond {
			t.Errorf("the second try came after %v, want at most 1s", d)
		}
	})
}

// A driver method that ends its goroutine must not end the goroutine of the caller of Check.
func TestGoexitInAHealthCheck(t *testing.T) {
	fake := &pooltest.Fake{}
	p := newPool(t, fake, pool.Config{MaxSize: 1})
	fake.Inject(pooltest.Check, 1, pooltest.Exit())
	returned := false
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.Check(background)
		returned = true
	}()
	<-done
	if !returned {
		t.Error("Check has not returned: the driver has ended the caller's goroutine")
	}
}

// A broken resource ended by Discard makes the pool check the other resources, like Release.
func TestDiscardCastsSuspicion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 2, CheckAfter: time.Hour})
		a, b := acquire(t, p), acquire(t, p)
		value(t, a).Break()
		a.Release(nil)
		b.Discard(pooltest.ErrBroken)
		if err := p.Do(background, op, use); err != nil {
			t.Errorf("a broken connection was lent: %v", err)
		}
		synctest.Wait()
		if s := p.Stat(); s.Closed[pool.CloseDiscard] != 1 || s.Closed[pool.CloseCheck] != 1 {
			t.Errorf("closed %v", s.Closed)
		}
	})
}

// With CheckAfter 1 ns, even a resource released while a borrower waits is checked.
func TestCheckBetweenHands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 1, CheckAfter: 1})
		l := acquire(t, p)
		got := make(chan error, 1)
		go func() { got <- p.Do(background, op, use) }()
		synctest.Wait()
		value(t, l).Break()
		l.Release(nil)
		if err := <-got; err != nil {
			t.Errorf("a broken connection was handed on: %v", err)
		}
	})
}

// In a two-step use the layers get the caller's cancellation, like in a one-step use.
func TestReleaseSaysThatTheContextIsOver(t *testing.T) {
	spy := &pooltest.Spy{}
	p := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 1}, pool.Bracket(spy))
	ctx, cancel := context.WithCancel(background)
	l, err := p.Acquire(ctx, op)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	l.Release(value(t, l).Block())
	if err := spy.Last(); !errors.Is(err, context.Canceled) || !errors.Is(err, pooltest.ErrBroken) {
		t.Errorf("the layer saw %v", err)
	}
}

// A release returns the resource even if a method of its error panics.
func TestReleaseWithAnErrorThatPanics(t *testing.T) {
	for _, layers := range [][]pool.Middleware{nil, {pool.Bracket(&pooltest.Spy{})}} {
		p := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 1}, layers...)
		ctx, cancel := context.WithCancel(background)
		l, err := p.Acquire(ctx, op)
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic was swallowed")
				}
			}()
			l.Release(panicky{})
		}()
		if n := p.Stat().InUse; n != 0 {
			t.Fatalf("%d still lent", n)
		}
	}
}

// panicky is an error with a method that panics.
type panicky struct{}

func (panicky) Error() string        { return "panicky" }
func (panicky) Is(target error) bool { panic(target) }

// The fault of a cancellation depends on the cancelled context, not on the error alone: a client
// may cancel its own work when the server goes down.
func TestCancellationIsLaidAtWhoeverCancelled(t *testing.T) {
	for _, c := range []struct {
		who  string
		want driver.Fault
		use  func(cancelCaller func(), ctx context.Context) error
	}{
		{"the client", driver.FaultServer, func(func(), context.Context) error { return errors.Join(pooltest.ErrBroken, context.Canceled) }},
		{"the caller", driver.FaultCaller, func(cancel func(), ctx context.Context) error { cancel(); return ctx.Err() }},
		{"a layer", driver.FaultCaller, func(_ func(), ctx context.Context) error {
			ctx.Value(cancelKey{}).(context.CancelFunc)()
			return errors.Join(pooltest.ErrBroken, ctx.Err())
		}},
	} {
		t.Run(c.who, func(t *testing.T) {
			var got []driver.Fault
			judge := pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
				return func(ctx context.Context, c *pool.Call) error {
					ctx, cancel := context.WithCancel(ctx)
					defer cancel()
					err := next(context.WithValue(ctx, cancelKey{}, cancel), c)
					got = append(got, c.Classify(err).Fault)
					return err
				}
			})
			p := newPool(t, &pooltest.Fake{}, pool.Config{}, judge)
			ctx, cancel := context.WithCancel(background)
			defer cancel()
			_ = p.Do(ctx, op, func(ctx context.Context, _ conn) error { return c.use(cancel, ctx) })
			if len(got) != 1 || got[0] != c.want {
				t.Errorf("laid at %v, want %v", got, c.want)
			}
		})
	}
}

type cancelKey struct{}

// An event outside any use reaches the pools to which the layer is attached, and no other pools.
func TestAttached(t *testing.T) {
	var attached pool.Attached
	attached.Emit(pool.Event{Kind: pool.EventConfigured}) // reaches no pool
	layer := attacher{&attached}
	var events [2]*recorder
	for i := range events {
		events[i] = newRecorder()
		p := newPool(t, &pooltest.Fake{}, pool.Config{}, layer, events[i])
		if i == 0 {
			closePool(t, p)
		}
	}
	attached.Emit(pool.Event{Kind: pool.EventConfigured, Layer: "mine"})
	if got := events[0].only(pool.EventConfigured); len(got) != 0 {
		t.Errorf("a closed pool heard %+v", got)
	}
	if got := events[1].only(pool.EventConfigured); len(got) != 1 || got[0].Layer != "mine" || got[0].Pool == "" {
		t.Errorf("heard %+v, want one of the layer's", got)
	}
}

type attacher struct{ *pool.Attached }

func (a attacher) Wrap(next pool.Handler) pool.Handler    { return next }
func (a attacher) Attach(p pool.PoolInfo) (func(), error) { return a.Add(p), nil }
