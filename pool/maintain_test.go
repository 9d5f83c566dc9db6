package pool_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

func contains(s, part string) bool { return strings.Contains(s, part) }

func TestMaxLifetimeOfIdleResources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		p := newPool(t, fake, pool.Config{MaxSize: 20, MaxLifetime: 100 * time.Second})
		if err := p.Warm(background, 20); err != nil {
			t.Fatal(err)
		}
		time.Sleep(89 * time.Second)
		if n := p.Stat().Idle; n != 20 {
			t.Errorf("%d left after 89 s, want all 20", n)
		}
		ended := 0 // the number of different times
		for last := 20; last > 0; {
			time.Sleep(100 * time.Millisecond)
			if n := p.Stat().Idle; n < last {
				ended++
				last = n
			}
		}
		if ended < 5 {
			t.Errorf("20 resources opened together ended at %d moments: there is no jitter", ended)
		}
		if s := p.Stat(); s.Closed[pool.CloseLifetime] != 20 {
			t.Errorf("closed %v", s.Closed)
		}
	})
}

// A resource in constant use is closed at the end of its lifetime.
func TestMaxLifetimeOfBusyResources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		p := newPool(t, fake, pool.Config{MaxSize: 1, MaxLifetime: 10 * time.Second})
		for range 250 {
			l := acquire(t, p)
			time.Sleep(100 * time.Millisecond)
			l.Release(nil)
		}
		if opened, _, _, _ := fake.Counts(); opened < 3 || opened > 4 {
			t.Errorf("%d connections served 25 s, want 3 or so", opened)
		}
	})
}

func TestMaxIdleTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 5, MinIdle: 2, MaxIdleTime: 10 * time.Second})
		if err := p.Warm(background, 5); err != nil {
			t.Fatal(err)
		}
		time.Sleep(9 * time.Second)
		acquire(t, p).Release(nil)
		time.Sleep(2 * time.Second)
		if s := p.Stat(); s.Idle != 2 || s.Closed[pool.CloseIdle] != 3 {
			t.Errorf("idle %d, closed %v, want 2 left", s.Idle, s.Closed)
		}
		time.Sleep(time.Minute)
		if s := p.Stat(); s.Idle != 2 || s.Opened != 5 {
			t.Errorf("idle %d, opened %d: those of MinIdle are left alone", s.Idle, s.Opened)
		}
	})
}

func TestCheckOnBorrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		p := newPool(t, fake, pool.Config{MaxSize: 1, CheckAfter: 2 * time.Second, CheckTimeout: time.Second})
		acquire(t, p).Release(nil)
		fake.Inject(pooltest.Check, -1, pooltest.Fail(pooltest.ErrBroken))
		time.Sleep(1900 * time.Millisecond)
		acquire(t, p).Release(nil) // idle for less than CheckAfter: no check
		if n := p.Stat().CheckFailures; n != 0 {
			t.Errorf("checked within the window")
		}
		time.Sleep(2100 * time.Millisecond)
		l := acquire(t, p) // checked, closed and replaced; the borrower keeps its turn
		if id := value(t, l).ID; id != 2 {
			t.Errorf("got connection %d, want a new one", id)
		}
		l.Release(nil)
		if s := p.Stat(); s.CheckFailures != 1 || s.Closed[pool.CloseCheck] != 1 {
			t.Errorf("got %+v", s)
		}
		// A hung check is dropped when the check is late, after 1/32 of CheckTimeout, because MaxSize
		// leaves no place for a dial.
		fake.Inject(pooltest.Check, -1, pooltest.Hang())
		time.Sleep(3 * time.Second)
		start := time.Now()
		acquire(t, p).Release(nil)
		if d := time.Since(start); d > 50*time.Millisecond {
			t.Errorf("a hanging check took %v", d)
		}
	})
}

func TestCheckAlwaysAndNever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for after, want := range map[time.Duration]uint64{time.Nanosecond: 1, -1: 0} {
			fake := &pooltest.Fake{}
			p := newPool(t, fake, pool.Config{MaxSize: 1, CheckAfter: after})
			acquire(t, p).Release(nil)
			if after < 0 {
				time.Sleep(time.Hour)
			}
			fake.Inject(pooltest.Check, 1, pooltest.Fail(pooltest.ErrBroken))
			acquire(t, p).Release(nil)
			if n := p.Stat().CheckFailures; n != want {
				t.Errorf("CheckAfter %d: %d checks failed, want %d", after, n, want)
			}
		}
	})
}

// After a use has broken a resource, the other resources are checked before the next lease. A late
// answer has no such effect.
func TestSuspicion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		p := newPool(t, fake, pool.Config{MaxSize: 3, CheckAfter: time.Hour})
		leases := []pool.Lease[conn]{acquire(t, p), acquire(t, p), acquire(t, p)}
		for _, l := range leases {
			value(t, l).Break()
		}
		leases[0].Release(nil)
		leases[1].Release(nil)
		leases[2].Release(pooltest.ErrBroken)
		for range 3 {
			if err := p.Do(background, op, use); err != nil {
				t.Errorf("a broken connection was lent: %v", err)
			}
		}
		if s := p.Stat(); s.CheckFailures != 2 {
			t.Errorf("%d checks failed, want 2", s.CheckFailures)
		}
	})
}

func TestKeepAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		events := newRecorder()
		p := newPool(t, fake, pool.Config{MaxSize: 3, MinIdle: 3, KeepAlive: 10 * time.Second}, events)
		if err := p.Warm(background, 3); err != nil {
			t.Fatal(err)
		}
		time.Sleep(9 * time.Second)
		fake.Inject(pooltest.Check, 2, pooltest.Fail(pooltest.ErrBroken))
		time.Sleep(2 * time.Second)
		s := p.Stat()
		if s.CheckFailures != 2 || s.Idle != 3 || s.Opened != 5 {
			t.Errorf("got %+v, want two found and replaced", s)
		}
		if n := len(events.only(pool.EventCheckFailed)); n != 2 {
			t.Errorf("%d events, want 2", n)
		}
	})
}

func TestReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		p := newPool(t, fake, pool.Config{MaxSize: 1})
		l := acquire(t, p)
		value(t, l).Soil()
		fake.Inject(pooltest.Reset, 1, pooltest.Slow(15*time.Millisecond))
		start := time.Now()
		l.Release(nil)
		if d := time.Since(start); d != 0 {
			t.Errorf("Release took %v", d)
		}
		l = acquire(t, p)
		if c := value(t, l); c.Soiled() || c.ID != 1 {
			t.Errorf("connection %d, soiled %t: want the first one, clean", c.ID, c.Soiled())
		}
		value(t, l).Soil()
		fake.Inject(pooltest.Reset, 1, pooltest.Fail(pooltest.ErrBroken))
		l.Release(nil)
		l = acquire(t, p)
		if id := value(t, l).ID; id != 2 {
			t.Errorf("connection %d, want a new one after a failed reset", id)
		}
		l.Release(nil)
		if s := p.Stat(); s.Closed[pool.CloseReset] != 1 {
			t.Errorf("closed %v", s.Closed)
		}
	})
}

func TestLeakDetection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		events := newRecorder()
		p := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 2, LeakAfter: 10 * time.Second}, events)
		l := leakHere(t, p)
		acquire(t, p).Release(nil)
		time.Sleep(9 * time.Second)
		if got := events.only(pool.EventLeaked); len(got) != 0 {
			t.Errorf("reported too early: %+v", got)
		}
		time.Sleep(20 * time.Second)
		got := events.only(pool.EventLeaked)
		if len(got) != 1 || !contains(got[0].Stack, "leakHere") || got[0].Duration < 10*time.Second || got[0].Duration > 11*time.Second {
			t.Errorf("got %+v, want one report of leakHere after 10 s", got)
		}
		if n := p.Stat().Leaked; n != 1 {
			t.Errorf("Leaked is %d", n)
		}
		l.Release(nil)
	})
}

func leakHere(t *testing.T, p *pool.Pool[conn]) pool.Lease[conn] { return acquire(t, p) }

func TestConfigureResizes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		p := newPool(t, fake, pool.Config{MaxSize: 2})
		leases := []pool.Lease[conn]{acquire(t, p), acquire(t, p)}
		got := make(chan pool.Lease[conn], 1)
		go func() { got <- acquire(t, p) }()
		synctest.Wait()
		if err := p.Configure(pool.Config{MaxSize: 3}); err != nil { // serves the waiter
			t.Fatal(err)
		}
		leases = append(leases, <-got)
		if err := p.Configure(pool.Config{MaxSize: 1}); err != nil {
			t.Fatal(err)
		}
		for _, l := range leases {
			l.Release(nil)
		}
		synctest.Wait()
		if s := p.Stat(); s.Idle != 1 || s.Max != 1 || s.Closed[pool.CloseShrunk] != 2 {
			t.Errorf("after shrinking: %+v", s)
		}
		if err := p.Configure(pool.Config{MaxSize: 4, MinIdle: 4}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := p.Stat().Idle; n != 4 {
			t.Errorf("%d idle after MinIdle 4", n)
		}
		if err := p.Configure(pool.Config{MaxSize: 2}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := p.Stat().Idle; n != 2 {
			t.Errorf("%d idle after shrinking to 2", n)
		}
		if err := p.Configure(pool.Config{MaxSize: 2, MaxLifetime: time.Minute}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		if n := p.Stat().Idle; n != 0 {
			t.Errorf("%d idle after a lifetime was set", n)
		}
	})
}

func TestCleanup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 4, MaxIdleTime: time.Hour})
		if err := p.Warm(background, 4); err != nil {
			t.Fatal(err)
		}
		if n := p.CloseExpired(); n != 0 {
			t.Errorf("reaped %d, though nothing is stale", n)
		}
		time.Sleep(30 * time.Minute)
		if err := p.Configure(pool.Config{MaxSize: 4, MaxIdleTime: 40 * time.Minute}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10*time.Minute - time.Nanosecond)
		if n := p.CloseExpired(); n != 0 {
			t.Errorf("reaped %d a nanosecond too early", n)
		}
	})
}

func TestClear(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		p := newPool(t, fake, pool.Config{MaxSize: 3})
		lent, idle := acquire(t, p), acquire(t, p)
		idle.Release(nil)
		fake.Inject(pooltest.Open, 1, pooltest.Slow(time.Second))
		opening := make(chan pool.Lease[conn], 1)
		busy := acquire(t, p)
		go func() { opening <- acquire(t, p) }()
		synctest.Wait()
		start := time.Now()
		p.Clear()
		busy.Release(nil)
		lent.Release(nil)
		l := <-opening
		if d := time.Since(start); d != 0 {
			t.Errorf("the waiter waited for %v, for a resource that was of no use", d)
		}
		if id := value(t, l).ID; id != 3 { // the pool has cancelled the dial in progress
			t.Errorf("lent connection %d", id)
		}
		l.Release(nil)
		synctest.Wait()
		if s := p.Stat(); s.Closed[pool.CloseCleared] != 2 || s.OpenFailures != 0 {
			t.Errorf("closed %v, want 2 cleared", s.Closed)
		}
	})
}

// newPoolInPause returns a pool in a long pause between dials. The server is well again.
func newPoolInPause(t *testing.T, fake *pooltest.Fake) *pool.Pool[conn] {
	t.Helper()
	p := newPool(t, fake, pool.Config{MaxSize: 1, OpenBackoff: time.Hour})
	fake.Inject(pooltest.Open, -1, pooltest.Fail(pooltest.ErrBroken))
	for range 20 { // until the pauses have grown
		ctx, cancel := context.WithTimeout(background, time.Minute)
		_ = p.Do(ctx, op, func(context.Context, conn) error { return nil })
		cancel()
	}
	fake.Inject(pooltest.Open, 0, nil)
	return p
}

// After a Clear the next dial may reach another server, so a waiter does not wait for the end of
// the pause between dials.
func TestClearEndsThePauseBetweenDials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		p := newPoolInPause(t, fake)
		served := make(chan error, 1)
		go func() { served <- p.Do(background, op, func(context.Context, conn) error { return nil }) }()
		synctest.Wait()
		start := time.Now()
		p.Clear()
		if err := <-served; err != nil || time.Since(start) > 0 {
			t.Errorf("served after %v, %v", time.Since(start), err)
		}
	})
}

// A shorter OpenBackoff ends the pause between dials that the longer OpenBackoff has begun.
func TestShorterBackoffEndsThePauseBetweenDials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		p := newPoolInPause(t, fake)
		if err := p.Configure(pool.Config{MaxSize: 1, OpenBackoff: 10 * time.Millisecond}); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		err := p.Do(background, op, func(context.Context, conn) error { return nil })
		if took := time.Since(start); err != nil || took > 10*time.Millisecond {
			t.Errorf("served after %v, %v", took, err)
		}
	})
}

// Clear cancels the dial of a look. The look goes on with another dial at once.
func TestClearDuringALook(t *testing.T) {
	for _, size := range []int{1, 2} {
		synctest.Test(t, func(t *testing.T) {
			fake := &pooltest.Fake{}
			p := newPool(t, fake, pool.Config{MaxSize: size})
			fake.Inject(pooltest.Open, 1, pooltest.Hang())
			looked := make(chan error, 1)
			go func() {
				ctx, cancel := context.WithTimeout(background, time.Second)
				defer cancel()
				looked <- p.Look(ctx)
			}()
			time.Sleep(100 * time.Millisecond)
			start := time.Now()
			p.Clear()
			if err := <-looked; err != nil || time.Since(start) > 0 {
				t.Errorf("of %d: %v after %v", size, err, time.Since(start))
			}
		})
	}
}

func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		p := newPool(t, fake, pool.Config{MaxSize: 1, MinIdle: 1})
		l := acquire(t, p)
		got := make(chan error, 1)
		go func() {
			_, err := p.Acquire(background, op)
			got <- err
		}()
		synctest.Wait()
		cause := errors.New("failover")
		p.Pause(cause)
		if err := <-got; !errors.Is(err, pool.ErrPaused) || !errors.Is(err, cause) {
			t.Errorf("a waiter got %v, want ErrPaused with its cause", err)
		}
		if err := p.Do(background, op, use); !errors.Is(err, pool.ErrPaused) || !errors.Is(err, cause) {
			t.Errorf("got %v, want ErrPaused with its cause", err)
		}
		if err := p.Warm(background, 1); !errors.Is(err, pool.ErrPaused) {
			t.Errorf("Warm: %v, want ErrPaused", err)
		}
		l.Discard(nil)
		synctest.Wait()
		if s := p.Stat(); s.Opened != 1 || s.Refused != 2 {
			t.Errorf("got %+v: nothing is opened while paused", s)
		}
		p.Resume()
		if err := p.Do(background, op, use); err != nil {
			t.Error(err)
		}
	})
}

func TestCloseDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		p, err := pool.New(fake, pool.Config{MaxSize: 2})
		if err != nil {
			t.Fatal(err)
		}
		a, b := acquire(t, p), acquire(t, p)
		waiter := make(chan error, 1)
		go func() {
			_, err := p.Acquire(background, op)
			waiter <- err
		}()
		synctest.Wait()
		ctx, cancel := contextWithTimeout(time.Second)
		defer cancel()
		time.AfterFunc(100*time.Millisecond, func() { a.Release(nil) })
		start := time.Now()
		err = p.Close(ctx)
		if err == nil || !contains(err.Error(), "not drained, 1 lent, 0 being") || time.Since(start) != time.Second {
			t.Errorf("Close with one lease out: %v after %v", err, time.Since(start))
		}
		if err := <-waiter; !errors.Is(err, pool.ErrClosed) {
			t.Errorf("the waiter got %v, want ErrClosed", err)
		}
		if _, err := p.Acquire(background, op); !errors.Is(err, pool.ErrClosed) {
			t.Errorf("Acquire got %v, want ErrClosed", err)
		}
		time.AfterFunc(time.Second, func() { b.Release(nil) })
		if err := p.Close(background); err != nil {
			t.Errorf("a second Close: %v", err)
		}
		if _, _, alive, _ := fake.Counts(); alive != 0 {
			t.Errorf("%d alive after Close", alive)
		}
		if h := p.Check(background); h.Status != pool.StatusDown {
			t.Errorf("a closed pool is %v", h.Status)
		}
		if err := p.Warm(background, 1); !errors.Is(err, pool.ErrClosed) {
			t.Errorf("Warm: %v, want ErrClosed", err)
		}
	})
}

// Close must not wait for a server that does not answer.
func TestCloseEndsOpening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		fake.Inject(pooltest.Open, -1, pooltest.Hang())
		p := newPool(t, fake, pool.Config{MaxSize: 2, OpenTimeout: time.Hour})
		go func() { _, _ = p.Acquire(background, op) }()
		synctest.Wait()
		start := time.Now()
		closePool(t, p)
		if d := time.Since(start); d != 0 {
			t.Errorf("Close took %v", d)
		}
	})
}

// An idle pool must not keep a processor awake.
func TestClockRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 1, CheckAfter: 3 * time.Second})
		acquire(t, p).Release(nil)
		time.Sleep(2 * time.Second) // now the clock is at rest
		l := acquire(t, p)          // and the time is right all the same
		time.Sleep(5 * time.Second)
		if age := p.Stat().OldestLease; age != 5*time.Second {
			t.Errorf("the lease is %v old, want 5s", age)
		}
		l.Release(nil)
		acquire(t, p).Release(nil) // just used: no check
		if n := p.Stat().CheckFailures; n != 0 {
			t.Error("checked")
		}
	})
}

func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		p := newPool(t, fake, pool.Config{MaxSize: 1, AcquireTimeout: time.Second})
		h := p.Check(background)
		if h.Status != pool.StatusOK || h.Details["conn"] != "1" || len(h.Reasons) != 0 || h.Stat.Max != 1 {
			t.Errorf("got %+v", h)
		}
		l := acquire(t, p)
		if h := p.Check(background); h.Status != pool.StatusDegraded || h.Err == nil || len(h.Reasons) != 1 {
			t.Errorf("with nothing free: %+v", h)
		}
		l.Release(nil)
		fake.Inject(pooltest.Check, 2, func(ctx ctx) error { time.Sleep(20 * time.Millisecond); return pooltest.ErrBroken })
		if h := p.Check(background); h.Status != pool.StatusDown || h.Latency != 20*time.Millisecond || !errors.Is(h.Err, pooltest.ErrBroken) {
			t.Errorf("with a failing check: %+v", h)
		}
		fake.Inject(pooltest.Open, -1, pooltest.Fail(pooltest.ErrDenied))
		if h := p.Check(background); h.Status != pool.StatusDown || !errors.Is(h.Err, pooltest.ErrDenied) {
			t.Errorf("with no way to open: %+v", h)
		}
		p.Pause(nil)
		if h := p.Check(background); h.Status != pool.StatusDown || !errors.Is(h.Err, pool.ErrPaused) {
			t.Errorf("paused: %+v", h)
		}
	})
}

// A lease that began before LeakAfter was set is reported as well, without a stack.
func TestLeakOfAnEarlierLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		events := newRecorder()
		p := newPool(t, &pooltest.Fake{}, pool.Config{}, events)
		l := acquire(t, p)
		if err := p.Configure(pool.Config{LeakAfter: time.Second}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if leaks := events.only(pool.EventLeaked); len(leaks) != 1 || leaks[0].Stack != "" {
			t.Errorf("got %+v, want one without a stack", leaks)
		}
		l.Release(nil)
	})
}

// A long lease that delays Close is reported, too.
func TestLeakWhileClosing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		events := newRecorder()
		p := newPool(t, &pooltest.Fake{}, pool.Config{LeakAfter: 10 * time.Second}, events)
		l := acquire(t, p)
		time.Sleep(5 * time.Second)
		ctx, stop := context.WithTimeout(background, time.Minute)
		defer stop()
		if p.Close(ctx) == nil {
			t.Error("closed although a lease was out")
		}
		if n := len(events.only(pool.EventLeaked)); n != 1 {
			t.Errorf("%d leaks were reported while Close waited for one", n)
		}
		l.Release(nil)
	})
}

// Resources that are lent at each scan, and released just before the end of their lifetime, are
// closed in time.
func TestLifetimeOfWhatWasLent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const lifetime = 100 * time.Second
		p := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 10, MaxLifetime: lifetime})
		var leases []pool.Lease[conn]
		for range 10 {
			leases = append(leases, acquire(t, p))
		}
		time.Sleep(lifetime*95/100 + time.Millisecond)
		for _, l := range leases {
			l.Release(nil)
		}
		time.Sleep(lifetime * 6 / 100)
		synctest.Wait()
		if s := p.Stat(); s.Idle > 0 {
			t.Errorf("%d are beyond their lifetime and idle", s.Idle)
		}
	})
}

// An observer that ends its goroutine, like t.FailNow, does not leave the pool without a
// maintainer.
func TestMaintainerOutlivesAnObserver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		exits := observerFunc(func(_ context.Context, e pool.Event) {
			if e.Kind == pool.EventLeaked {
				runtime.Goexit()
			}
		})
		p := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 1, LeakAfter: time.Second, AcquireTimeout: time.Second}, exits)
		l := acquire(t, p)
		time.Sleep(5 * time.Second)
		start := time.Now()
		ctx, cancel := context.WithTimeout(background, time.Minute)
		defer cancel()
		if _, err := p.Acquire(ctx, op); !errors.Is(err, pool.ErrAcquireTimeout) {
			t.Error(err)
		}
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("an AcquireTimeout of 1s took %v", d)
		}
		l.Release(nil)
	})
}

// A health check has a lease of the pool itself. CheckTimeout bounds this lease, and the lease is
// never a leak.
func TestHealthCheckIsNoLeak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake, events := &pooltest.Fake{}, newRecorder()
		p := newPool(t, fake, pool.Config{LeakAfter: time.Second, CheckTimeout: time.Minute}, events)
		acquire(t, p).Release(nil)
		fake.Inject(pooltest.Check, 1, pooltest.Slow(30*time.Second))
		if h := p.Check(background); h.Status != pool.StatusOK || h.Latency != 30*time.Second {
			t.Errorf("got %+v", h)
		}
		if s := p.Stat(); s.Leaked != 0 || len(events.only(pool.EventLeaked)) != 0 {
			t.Errorf("got %+v", s)
		}
	})
}
