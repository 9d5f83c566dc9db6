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

func TestIdleIsLIFO(t *testing.T) {
	p := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 3})
	a, b, c := acquire(t, p), acquire(t, p), acquire(t, p)
	last := value(t, b)
	for _, l := range []pool.Lease[conn]{a, c, b} {
		l.Release(nil)
	}
	l := acquire(t, p)
	defer l.Release(nil)
	if got := value(t, l); got != last {
		t.Errorf("got connection %d, want %d, which was released last", got.ID, last.ID)
	}
}

func TestWaitersAreServedInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const waiters = 50
		p := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 1})
		held := acquire(t, p)
		var mu sync.Mutex
		var order []int
		var wg sync.WaitGroup
		for i := range waiters {
			wg.Go(func() {
				l, err := p.Acquire(background, op)
				if err != nil {
					t.Errorf("waiter %d: %v", i, err)
					return
				}
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
				l.Release(nil)
			})
			synctest.Wait() // the borrower waits in the queue
		}
		held.Release(nil)
		wg.Wait()
		for i, got := range order {
			if got != i {
				t.Fatalf("served in the order %v", order)
			}
		}
	})
}

// A new borrower must not overtake the waiters, even if a resource is idle.
func TestNewcomersDoNotOvertake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		p := newPool(t, fake, pool.Config{MaxSize: 1})
		held := acquire(t, p)
		got := make(chan int, 2)
		for i := range 2 {
			go func() {
				l, err := p.Acquire(background, op)
				if err != nil {
					t.Error(err)
				}
				got <- i
				time.Sleep(time.Second)
				l.Release(nil)
			}()
			synctest.Wait()
		}
		held.Release(nil) // goes directly to waiter 0, so a TryAcquire gets nothing
		if _, err := p.TryAcquire(background, op); !errors.Is(err, pool.ErrExhausted) {
			t.Errorf("TryAcquire: %v, want ErrExhausted", err)
		}
		if first, second := <-got, <-got; first != 0 || second != 1 {
			t.Errorf("served %d, then %d", first, second)
		}
	})
}

func TestMaxSize(t *testing.T) {
	fake := &pooltest.Fake{}
	p := newPool(t, fake, pool.Config{MaxSize: 3})
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			for range 20 {
				if err := p.Do(background, op, func(ctx context.Context, c conn) error { return c.Use(ctx) }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if _, _, _, peak := fake.Counts(); peak > 3 {
		t.Errorf("%d connections were alive at once, want at most 3", peak)
	}
}

func TestMaxWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct{ max, allowed int }{{0, 20}, {3, 3}, {-1, 0}} {
			p := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 2, MaxWaiters: c.max})
			held := []pool.Lease[conn]{acquire(t, p), acquire(t, p)} // an empty pool refuses nobody
			ctx, cancel := context.WithCancel(background)
			for range c.allowed {
				go func() { _, _ = p.Acquire(ctx, op) }()
			}
			synctest.Wait()
			if c.max != 0 {
				start := time.Now()
				if _, err := p.Acquire(background, op); !errors.Is(err, pool.ErrExhausted) {
					t.Errorf("MaxWaiters %d: waiter %d got %v, want ErrExhausted", c.max, c.allowed+1, err)
				}
				if d := time.Since(start); d != 0 {
					t.Errorf("MaxWaiters %d: refused after %v, want at once", c.max, d)
				}
			}
			if n := p.Stat().Waiters; n != c.allowed {
				t.Errorf("MaxWaiters %d: %d wait, want %d", c.max, n, c.allowed)
			}
			cancel()
			for _, l := range held {
				l.Release(nil)
			}
		}
	})
}

func TestAcquireTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 1, AcquireTimeout: 3 * time.Second})
		held := acquire(t, p)
		defer held.Release(nil)
		start := time.Now()
		_, err := p.Acquire(background, op)
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("timed out after %v, want 3s", d)
		}
		if !errors.Is(err, pool.ErrAcquireTimeout) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want ErrAcquireTimeout and context.DeadlineExceeded", err)
		}
		// The deadline of the context is nearer, and ends the wait.
		ctx, cancel := context.WithTimeout(background, time.Second)
		defer cancel()
		start = time.Now()
		if _, err = p.Acquire(ctx, op); !errors.Is(err, pool.ErrAcquireTimeout) {
			t.Errorf("got %v, want ErrAcquireTimeout", err)
		}
		if d := time.Since(start); d != time.Second {
			t.Errorf("timed out after %v, want 1s", d)
		}
		if s := p.Stat(); s.TimedOut != 2 || s.Waiters != 0 || s.Acquires != 1 {
			t.Errorf("got %+v", s)
		}
	})
}

// The maintainer examines the times of the waiters at most once a millisecond. A bound never ends
// early, and ends at most a millisecond late.
func TestShortBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, limit := range []time.Duration{100 * time.Microsecond, 999 * time.Microsecond, 10_300 * time.Microsecond} {
			p := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 1, AcquireTimeout: limit})
			held := acquire(t, p)
			time.Sleep(3300 * time.Microsecond) // between two steps of the clock
			start := time.Now()
			_, err := p.Acquire(background, op)
			if took := time.Since(start); !errors.Is(err, pool.ErrAcquireTimeout) || took < limit || took > limit+time.Millisecond {
				t.Errorf("bounded by %v, it took %v and returned %v", limit, took, err)
			}
			ctx, deadline := pool.WithDeadline(background, time.Now().Add(limit/2), nil)
			start = time.Now()
			if _, err = p.Acquire(ctx, op); !errors.Is(err, pool.ErrAcquireTimeout) || time.Since(start) > limit/2+time.Millisecond {
				t.Errorf("bounded by %v, it took %v and returned %v", limit/2, time.Since(start), err)
			}
			deadline.Cancel()
			held.Release(nil)
		}
	})
}

func TestNegativeAcquireTimeoutWaitsForTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 1, AcquireTimeout: -1})
		held := acquire(t, p)
		go func() {
			time.Sleep(24 * time.Hour)
			held.Release(nil)
		}()
		acquire(t, p).Release(nil)
	})
}

// A waiter that gives up while it gets a resource must not keep the resource.
func TestCancelledWaiterLosesNothing(t *testing.T) {
	p := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 1})
	for range 2000 {
		held := acquire(t, p)
		ctx, cancel := context.WithCancel(background)
		got := make(chan error, 1)
		go func() {
			l, err := p.Acquire(ctx, op)
			if err == nil {
				l.Release(nil)
			}
			got <- err
		}()
		go cancel()
		held.Release(nil)
		if err := <-got; err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		cancel()
	}
	s := p.Stat()
	if s.InUse != 0 || s.Waiters != 0 {
		t.Errorf("left: %+v", s)
	}
	if s.Acquires+s.Cancelled != 4000 {
		t.Errorf("%d acquired and %d cancelled, want 4000 together", s.Acquires, s.Cancelled)
	}
}

// The end of the caller's context ends the wait, even behind deadlines of layers.
func TestWaiterSeesThroughLayersDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 1, AcquireTimeout: time.Hour})
		held := acquire(t, p)
		defer held.Release(nil)
		late := errors.New("late")
		caller, cancel := context.WithCancel(background)
		ctx, d := pool.WithDeadline(caller, time.Now().Add(time.Minute), late)
		defer d.Cancel()
		time.AfterFunc(time.Second, cancel)
		start := time.Now()
		if _, err := p.Acquire(ctx, op); !errors.Is(err, context.Canceled) || time.Since(start) != time.Second {
			t.Errorf("got %v after %v, want context.Canceled after 1s", err, time.Since(start))
		}
		ctx, d = pool.WithDeadline(background, time.Now().Add(time.Minute), late)
		defer d.Cancel()
		start = time.Now()
		_, err := p.Acquire(ctx, op)
		if !errors.Is(err, late) || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Minute {
			t.Errorf("got %v after %v, want the layer's cause after 1m", err, time.Since(start))
		}
	})
}

func TestTryAcquire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		p := newPool(t, fake, pool.Config{MaxSize: 1})
		if _, err := p.TryAcquire(background, op); !errors.Is(err, pool.ErrExhausted) {
			t.Errorf("on an empty pool: %v, want ErrExhausted", err)
		}
		synctest.Wait()
		l, err := p.TryAcquire(background, op)
		if err != nil {
			t.Fatalf("after one has been opened in the background: %v", err)
		}
		if _, err := p.TryAcquire(background, op); !errors.Is(err, pool.ErrExhausted) {
			t.Errorf("on a full pool: %v, want ErrExhausted", err)
		}
		l.Release(nil)
		time.Sleep(time.Minute) // now the resource needs a check
		l, err = p.TryAcquire(background, op)
		if err != nil {
			t.Fatalf("an idle one that is checked in time: %v", err)
		}
		l.Release(nil)
		if opened, _, _, _ := fake.Counts(); opened != 1 {
			t.Errorf("%d connections were opened, want 1", opened)
		}
	})
}

func TestBrokenOutcomesCloseTheResource(t *testing.T) {
	for _, c := range []struct {
		outcome error
		closed  pool.CloseReason
	}{
		{nil, 0}, {pooltest.ErrReply, 0}, {pooltest.ErrMiss, 0}, {pooltest.ErrRefused, 0}, {errors.New("the caller's own"), 0},
		{pooltest.ErrBroken, pool.CloseBroken}, {context.DeadlineExceeded, pool.CloseBroken}, {pool.ErrAborted, pool.CloseBroken},
	} {
		p := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 1})
		acquire(t, p).Release(c.outcome)
		acquire(t, p).Release(nil)
		s := p.Stat()
		if c.closed == 0 && s.Closed.Total() != 0 || c.closed != 0 && s.Closed[c.closed] != 1 {
			t.Errorf("after %v: closed %v", c.outcome, s.Closed)
		}
	}
}

func TestStatOfWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 1})
		held := acquire(t, p)
		done := make(chan struct{})
		go func() {
			defer close(done)
			l := acquire(t, p)
			time.Sleep(5 * time.Second)
			l.Release(nil)
		}()
		time.Sleep(1500 * time.Millisecond)
		held.Release(nil)
		synctest.Wait()
		time.Sleep(time.Second)
		s := p.Stat()
		if s.Acquires != 2 || s.Waited != 2 || s.TotalWait != 1500*time.Millisecond || s.InUse != 1 || s.OldestLease != time.Second {
			t.Errorf("got %+v", s)
		}
		<-done
	})
}

// Each waiter has its own bound. A wait in progress keeps its bound when the settings change. The
// nearest of AcquireTimeout and the deadlines of the layers ends the wait at the exact time.
func TestEachWaitHasItsOwnBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 1, AcquireTimeout: 10 * time.Second})
		held := acquire(t, p)
		defer held.Release(nil)
		var wg sync.WaitGroup
		wait := func(ctx context.Context, want time.Duration) {
			wg.Go(func() {
				start := time.Now()
				_, err := p.Acquire(ctx, op)
				if took := time.Since(start); !errors.Is(err, pool.ErrAcquireTimeout) || took != want {
					t.Errorf("it took %v and returned %v, want %v", took, err, want)
				}
			})
			synctest.Wait() // the borrower waits in the queue
		}
		wait(background, 10*time.Second)
		ctx, deadline := pool.WithDeadline(background, time.Now().Add(3*time.Second), nil)
		defer deadline.Cancel()
		wait(ctx, 3*time.Second)
		if err := p.Configure(pool.Config{MaxSize: 1, AcquireTimeout: 2 * time.Second}); err != nil {
			t.Fatal(err)
		}
		wait(background, 2*time.Second)
		if err := p.Configure(pool.Config{MaxSize: 1, AcquireTimeout: 1<<63 - 1}); err != nil {
			t.Fatal(err)
		}
		wait(ctx, 3*time.Second)
		wg.Wait()
		if n := p.Stat().Waiters; n != 0 {
			t.Errorf("%d are still waiting", n)
		}
	})
}

// A check in the background helps the next TryAcquire, even if each resource is checked before each
// lease.
func TestTryAcquireAfterTheCheck(t *testing.T) {
	for _, after := range []time.Duration{time.Nanosecond, 9 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			fake := &pooltest.Fake{}
			p := newPool(t, fake, pool.Config{MaxSize: 1, CheckAfter: after})
			acquire(t, p).Release(nil)
			for range 2 { // a check allows a single lease, so the second lease notices a failed check
				l, err := p.TryAcquire(background, op)
				if err != nil {
					t.Fatalf("CheckAfter %v: %v", after, err)
				}
				l.Release(nil)
			}
			fake.Inject(pooltest.Check, 1, pooltest.Fail(pooltest.ErrBroken))
			if l, err := p.TryAcquire(background, op); err == nil {
				if v, _ := l.Value(); v.ID == 1 {
					t.Errorf("CheckAfter %v: lent without a check", after)
				}
				l.Release(nil)
			}
		})
	}
}
