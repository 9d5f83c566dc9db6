package pool_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// A dial goes on after its caller has left, and serves the next borrower.
func TestCancellationDoesNotEndOpening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		fake.Inject(pooltest.Open, 1, pooltest.Slow(2*time.Second))
		p := newPool(t, fake, pool.Config{MaxSize: 1})
		ctx, cancel := context.WithTimeout(background, time.Second)
		defer cancel()
		if _, err := p.Acquire(ctx, op); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want context.DeadlineExceeded", err)
		}
		start := time.Now()
		acquire(t, p).Release(nil)
		if d := time.Since(start); d != time.Second {
			t.Errorf("the next waited for %v, want the second that was left", d)
		}
		if opened, _, _, _ := fake.Counts(); opened != 1 {
			t.Errorf("%d connections were opened, want 1", opened)
		}
	})
}

func TestOpenConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		fake.Inject(pooltest.Open, -1, pooltest.Slow(time.Second))
		p := newPool(t, fake, pool.Config{MaxSize: 10, OpenConcurrency: 3})
		for range 10 {
			go func() { acquire(t, p).Release(nil) }()
		}
		synctest.Wait()
		if n := p.Stat().Opening; n != 3 {
			t.Errorf("%d are being opened, want 3", n)
		}
		time.Sleep(10 * time.Second)
	})
}

// Each of these faults gives an error to the waiters, and has no other effect.
func TestOpenFailures(t *testing.T) {
	for name, c := range map[string]struct {
		fault pooltest.Fault
		want  string
	}{
		"an error":  {pooltest.Fail(pooltest.ErrDenied), pooltest.ErrDenied.Error()},
		"a panic":   {pooltest.Panic("boom"), "the driver's Open panicked: boom"},
		"a Goexit":  {pooltest.Exit(), "runtime.Goexit"},
		"a timeout": {pooltest.Hang(), "deadline exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fake := &pooltest.Fake{}
				fake.Inject(pooltest.Open, 1, c.fault)
				p := newPool(t, fake, pool.Config{MaxSize: 1, OpenTimeout: time.Second})
				start := time.Now()
				_, err := p.Acquire(background, op)
				if !errors.Is(err, pool.ErrOpen) || !contains(err.Error(), c.want) {
					t.Errorf("got %v, want ErrOpen with %q", err, c.want)
				}
				if d := time.Since(start); d > time.Second {
					t.Errorf("told after %v", d)
				}
				var classified driver.Classified
				if !errors.As(err, &classified) || classified.Class().Fault != driver.FaultServer {
					t.Errorf("the class of %v is not the server's", err)
				}
				acquire(t, p).Release(nil) // the next dial succeeds
				if s := p.Stat(); s.OpenFailures != 1 || s.Failed != 1 {
					t.Errorf("got %+v", s)
				}
			})
		})
	}
}

// A dead server gets a single dial at a time, after growing pauses, however many borrowers wait.
func TestOpenBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		fake.Inject(pooltest.Open, -1, pooltest.Fail(pooltest.ErrRefused))
		p := newPool(t, fake, pool.Config{MaxSize: 10, MinIdle: 5, OpenBackoff: 800 * time.Millisecond})
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { // until the server is back
				for {
					l, err := p.Acquire(background, op)
					if err == nil {
						l.Release(nil)
						return
					}
					if !errors.Is(err, pool.ErrOpen) {
						t.Errorf("got %v, want ErrOpen", err)
						return
					}
				}
			})
		}
		time.Sleep(60 * time.Second)
		n := p.Stat().OpenFailures
		if n < 60 || n > 120 { // 60 s in pauses of 600 to 800 ms, after a few shorter pauses
			t.Errorf("%d tries in 60 s", n)
		}
		fake.Inject(pooltest.Open, 0, nil) // the server is back
		start := time.Now()
		if err := p.Warm(background, 0); err != nil {
			t.Error(err)
		}
		if d := time.Since(start); d > time.Second {
			t.Errorf("whole again after %v", d)
		}
		wg.Wait()
	})
}

// While a resource is lent, its release may still serve the waiters.
func TestOpenFailureLeavesWaitersToWhatComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		p := newPool(t, fake, pool.Config{MaxSize: 2, AcquireTimeout: 2 * time.Second})
		held := acquire(t, p)
		fake.Inject(pooltest.Open, -1, pooltest.Fail(pooltest.ErrDenied))
		time.AfterFunc(time.Second/2, func() { held.Release(nil) })
		l := acquire(t, p)
		// No resource is released in time: the error contains the error of the dial.
		_, err := p.Acquire(background, op)
		if !errors.Is(err, pool.ErrAcquireTimeout) || !errors.Is(err, pooltest.ErrDenied) {
			t.Errorf("got %v, want a timeout that wraps what opening met", err)
		}
		var classified driver.Classified
		if errors.As(err, &classified); classified.Class().Fault != driver.FaultServer || classified.Class().Repeat != driver.RepeatNever {
			t.Errorf("got class %+v", classified.Class())
		}
		l.Release(nil)
	})
}

// If the last lent resource breaks, the waiters get an error as soon as the next dial fails.
func TestWaitersAreToldWhenNothingCanComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		p := newPool(t, fake, pool.Config{MaxSize: 1, AcquireTimeout: time.Hour})
		held := acquire(t, p)
		fake.Inject(pooltest.Open, -1, pooltest.Fail(pooltest.ErrRefused))
		got := make(chan error, 1)
		go func() {
			_, err := p.Acquire(background, op)
			got <- err
		}()
		synctest.Wait()
		held.Release(pooltest.ErrBroken)
		select {
		case err := <-got:
			if !errors.Is(err, pool.ErrOpen) {
				t.Errorf("got %v, want ErrOpen", err)
			}
		case <-time.After(time.Second):
			t.Error("still waiting after a second")
		}
	})
}

func TestMinIdleIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		p := newPool(t, fake, pool.Config{MaxSize: 4, MinIdle: 3})
		synctest.Wait()
		if n := p.Stat().Idle; n != 3 {
			t.Errorf("%d idle after New, want 3", n)
		}
		l := acquire(t, p)
		time.Sleep(20 * time.Millisecond)
		if s := p.Stat(); s.Idle != 3 || s.InUse != 1 {
			t.Errorf("idle %d in use %d, want 3 and 1", s.Idle, s.InUse)
		}
		l.Discard(nil)
		time.Sleep(time.Minute) // now the clock is at rest
		l = acquire(t, p)
		time.Sleep(20 * time.Millisecond)
		l.Release(nil)
		if s := p.Stat(); s.Idle != 4 || s.Closed[pool.CloseDiscard] != 1 {
			t.Errorf("got %+v", s)
		}
	})
}

func TestWarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		fake.Inject(pooltest.Open, -1, pooltest.Slow(time.Second))
		p := newPool(t, fake, pool.Config{MaxSize: 8, OpenConcurrency: 2})
		start := time.Now()
		if err := p.Warm(background, 6); err != nil {
			t.Fatal(err)
		}
		if s, d := p.Stat(), time.Since(start); s.Idle != 6 || d != 3*time.Second {
			t.Errorf("%d idle after %v, want 6 after 3s", s.Idle, d)
		}
		if err := p.Warm(background, 9); err == nil || !contains(err.Error(), "size is 9: must be between 0 and MaxSize, which is 8") {
			t.Errorf("got %v", err)
		}
		fake.Inject(pooltest.Open, -1, pooltest.Fail(pooltest.ErrDenied))
		if err := p.Warm(background, 8); !errors.Is(err, pooltest.ErrDenied) {
			t.Errorf("got %v, want what opening met", err)
		}
		synctest.Wait() // for the end of the other dial
		fake.Inject(pooltest.Open, -1, pooltest.Hang())
		ctx, cancel := context.WithTimeout(background, time.Second)
		defer cancel()
		if err := p.Warm(ctx, 8); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want context.DeadlineExceeded", err)
		}
	})
}

// A dial that began before the call of Warm does not count for Warm: the cause of its failure may
// be gone.
func TestWarmMindsNoOlderDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		fake.Inject(pooltest.Open, 1, func(ctx context.Context) error {
			return errors.Join(pooltest.Slow(time.Second)(ctx), pooltest.ErrDenied)
		})
		p := newPool(t, fake, pool.Config{MaxSize: 2, OpenConcurrency: 1})
		first := make(chan error, 1)
		go func() { first <- p.Warm(background, 1) }()
		synctest.Wait()
		time.Sleep(500 * time.Millisecond)
		if err := p.Warm(background, 2); err != nil {
			t.Errorf("got %v of a dial that began before", err)
		}
		if err := <-first; !errors.Is(err, pooltest.ErrDenied) {
			t.Errorf("got %v, want what the dial met", err)
		}
	})
}

// A resource in a slow Close keeps its place: the pool never has more than MaxSize resources.
func TestClosingCountsAsOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		fake.Inject(pooltest.Close, -1, pooltest.Slow(500*time.Millisecond))
		p := newPool(t, fake, pool.Config{MaxSize: 1})
		acquire(t, p).Discard(nil)
		start := time.Now()
		acquire(t, p).Release(nil)
		if d := time.Since(start); d != 500*time.Millisecond {
			t.Errorf("replaced after %v, want when the old one was closed, after 500ms", d)
		}
		if _, _, _, peak := fake.Counts(); peak != 1 {
			t.Errorf("%d were alive at once", peak)
		}
	})
}

func TestCloseFailuresAreSurvived(t *testing.T) {
	for name, fault := range map[string]pooltest.Fault{
		"an error": pooltest.Fail(pooltest.ErrDenied), "a panic": pooltest.Panic("boom"), "a Goexit": pooltest.Exit(), "a hang": pooltest.Hang(),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fake := &pooltest.Fake{}
				fake.Inject(pooltest.Close, 1, fault)
				events := newRecorder()
				p := newPool(t, fake, pool.Config{MaxSize: 1}, events)
				acquire(t, p).Discard(nil)
				acquire(t, p).Release(nil)
				synctest.Wait() // the place is free before the event of the close
				closed := events.only(pool.EventClosed)
				if len(closed) != 1 || closed[0].Err == nil || closed[0].Reason != "discarded" {
					t.Errorf("got %+v", closed)
				}
			})
		})
	}
}

// A successful dial ends the failures, but not the pause after the last failure. A dial that fails
// within this pause must begin another pause.
func TestOpenBacksOffAfterASuccessBetweenFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		var tries atomic.Int64
		fake.Inject(pooltest.Open, -1, func(ctx context.Context) error {
			switch n := tries.Add(1); {
			case n == 1: // fails while the next dial is in progress
				time.Sleep(time.Millisecond)
			case n == 2:
				time.Sleep(2 * time.Millisecond)
				return nil
			case n > 1000: // dials without a pause would never end
				<-ctx.Done()
			}
			return pooltest.ErrRefused
		})
		newPool(t, fake, pool.Config{MinIdle: 2})
		time.Sleep(10 * time.Second)
		if n := tries.Load(); n > 40 {
			t.Errorf("%d tries in 10 s, want pauses between them", n)
		}
	})
}
