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
	"github.com/earnorm/poolstack/pool/pooltest"
)

// look is Look with a deadline of a second.
func look(p *pool.Pool[conn]) error {
	ctx, cancel := context.WithTimeout(background, time.Second)
	defer cancel()
	return p.Look(ctx)
}

func TestLookLeavesAnIdleResource(t *testing.T) {
	fake := &pooltest.Fake{}
	p := newPool(t, fake, pool.Config{MaxSize: 2})
	for i, want := range []int{1, 2, 2, 2} { // at MaxSize, an idle resource is checked
		if err := look(p); err != nil {
			t.Fatal(err)
		}
		if s := p.Stat(); s.Idle != want || s.Opened != uint64(want) {
			t.Errorf("after %d looks: %d idle, %d opened, want %d", i+1, s.Idle, s.Opened, want)
		}
	}
	fake.Inject(pooltest.Check, -1, pooltest.Fail(pooltest.ErrBroken))
	if err := look(p); !errors.Is(err, pooltest.ErrBroken) {
		t.Errorf("with checks that fail, Look returned %v", err)
	}
}

// Look waits neither for earlier borrowers nor for the pause after failed dials. The waiters get
// the result of the look's dial.
func TestLookPassesQueueAndBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		fake.Inject(pooltest.Open, -1, pooltest.Fail(pooltest.ErrRefused))
		p := newPool(t, fake, pool.Config{MaxSize: 3, OpenBackoff: time.Hour})
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				if _, err := p.Acquire(background, op); !errors.Is(err, pool.ErrOpen) {
					t.Errorf("a waiter was told %v", err)
				}
			})
		}
		synctest.Wait()
		if s := p.Stat(); s.Waiters != 4 {
			t.Fatalf("%d wait, want all but the one whose dial failed", s.Waiters)
		}
		begin := time.Now()
		if err := look(p); !errors.Is(err, pooltest.ErrRefused) {
			t.Errorf("Look returned %v", err)
		}
		wg.Wait()
		fake.Inject(pooltest.Open, 0, nil)
		if err := look(p); err != nil {
			t.Error(err)
		}
		acquire(t, p).Release(nil)
		if took := time.Since(begin); took != 0 {
			t.Errorf("it took %v, want no time", took)
		}
	})
}

func TestLookWithNothingToLookWith(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		p := newPool(t, fake, pool.Config{MaxSize: 1})
		l := acquire(t, p)
		if err := look(p); !errors.Is(err, pool.ErrExhausted) {
			t.Errorf("with everything lent, Look returned %v", err)
		}
		l.Release(nil)
		p.Pause(errors.New("away"))
		if err := look(p); !errors.Is(err, pool.ErrPaused) {
			t.Errorf("while paused, Look returned %v", err)
		}
		p.Resume()
		p.Clear()
		synctest.Wait()
		fake.Inject(pooltest.Open, -1, pooltest.Hang())
		begin := time.Now()
		for i := range 3 { // the dial of the first look keeps the only place
			if err := look(p); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != time.Duration(i+1)*time.Second {
				t.Errorf("look %d, while dials hang: %v after %v", i, err, time.Since(begin))
			}
			if s := p.Stat(); s.Opening != 1 {
				t.Errorf("%d dials are under way, want 1", s.Opening)
			}
		}
		told := make(chan error, 1)
		wait := func() { told <- p.Look(background) }
		go wait()
		synctest.Wait()
		p.Pause(nil)
		if err := <-told; !errors.Is(err, pool.ErrPaused) {
			t.Errorf("Pause told who looks %v", err)
		}
		p.Resume()
		time.Sleep(10 * time.Second)
		go wait()
		synctest.Wait()
		go func() { _ = p.Close(background) }()
		if err := <-told; !errors.Is(err, pool.ErrClosed) {
			t.Errorf("Close told who looks %v", err)
		}
		_ = p.Close(background)
		if err := look(p); !errors.Is(err, pool.ErrClosed) {
			t.Errorf("after Close, Look returned %v", err)
		}
	})
}

// An ended look leaves its dial behind. The new resource of this dial serves the next look, and is
// checked for this look.
func TestLookIsServedByAnEarlierDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		fake.Inject(pooltest.Open, -1, pooltest.Slow(1500*time.Millisecond))
		p := newPool(t, fake, pool.Config{MaxSize: 4})
		begin := time.Now()
		if err := look(p); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the first look: %v", err)
		}
		if err := look(p); err != nil || time.Since(begin) != 1500*time.Millisecond {
			t.Errorf("the second look: %v after %v", err, time.Since(begin))
		}
		if s := p.Stat(); s.Idle != 1 || s.Opening != 1 {
			t.Errorf("%d idle, %d being opened", s.Idle, s.Opening)
		}
	})
}

// reporter is a layer that reports conditions.
type reporter struct{ conditions []pool.Condition }

func (r *reporter) Wrap(next pool.Handler) pool.Handler { return next }
func (r *reporter) Conditions() []pool.Condition {
	if r.conditions == nil {
		panic("boom")
	}
	return r.conditions
}

func TestCheckAsksTheLayers(t *testing.T) {
	r := &reporter{}
	fake := &pooltest.Fake{}
	p := newPool(t, fake, pool.Config{}, r)
	for _, test := range []struct {
		conditions []pool.Condition
		want       pool.Status
		reasons    int
	}{
		{nil, pool.StatusOK, 0}, // Conditions panics, without effect on Check
		{[]pool.Condition{{}}, pool.StatusOK, 0},
		{[]pool.Condition{{Status: pool.StatusDegraded, Reason: "slow"}, {}}, pool.StatusDegraded, 1},
		{[]pool.Condition{{Status: pool.StatusDegraded, Reason: "slow"}, {Status: pool.StatusDown, Reason: "gone"}}, pool.StatusDown, 2},
	} {
		r.conditions = test.conditions
		h := p.Check(background)
		if h.Status != test.want || len(h.Reasons) != test.reasons || h.Err != nil {
			t.Errorf("%v: %+v", test.conditions, h)
		}
	}
	p.Pause(nil)
	if h := p.Check(background); h.Status != pool.StatusDown || !errors.Is(h.Err, pool.ErrPaused) {
		t.Errorf("paused: %+v", h)
	}
}

// A server at its maximum of clients refuses another connection, and serves the connections of the
// pool. The check of an idle connection then ends the look.
func TestLookAtAServerThatIsFull(t *testing.T) {
	fake := &pooltest.Fake{}
	p := newPool(t, fake, pool.Config{MaxSize: 3})
	acquire(t, p).Release(nil)
	fake.Inject(pooltest.Open, -1, pooltest.Fail(pooltest.ErrRefused))
	if err := look(p); err != nil {
		t.Errorf("with an idle connection that works, Look returned %v", err)
	}
	l := acquire(t, p)
	if err := look(p); !errors.Is(err, pooltest.ErrRefused) {
		t.Errorf("with nothing idle, Look returned %v", err)
	}
	l.Release(nil)
	fake.Inject(pooltest.Check, -1, pooltest.Fail(pooltest.ErrBroken))
	if err := look(p); !errors.Is(err, pooltest.ErrBroken) {
		t.Errorf("with an idle connection that is dead, Look returned %v", err)
	}
}

// The network has cut all connections silently, new connections work, and MaxSize is reached. A
// look does not wait for the timeout of a check.
func TestLookWhereOldResourcesAreDead(t *testing.T) {
	for _, size := range []int{1, 2, 20} {
		synctest.Test(t, func(t *testing.T) {
			fake := &pooltest.Fake{}
			fake.Inject(pooltest.Check, -1, pooltest.Slow(time.Millisecond))
			p := idling(t, fake, size, pool.Config{MaxSize: size})
			opened := p.Stat().Opened
			var hung atomic.Int64
			fake.Inject(pooltest.Check, -1, func(ctx context.Context) error {
				if p.Stat().Opened > opened {
					return nil
				}
				hung.Add(1)
				return pooltest.Hang()(ctx)
			})
			begin := time.Now()
			if err := look(p); err != nil {
				t.Errorf("size %d: Look returned %v", size, err)
			}
			s := p.Stat()
			if took := time.Since(begin); took > 100*time.Millisecond || s.Opened != opened+1 || s.Idle+s.Checking+s.Closing > size || hung.Load() != 1 {
				t.Errorf("size %d: it took %v, and %d hung checks: %+v", size, took, hung.Load(), s)
			}
		})
	}
}

// All dials hang for a while, and later dials succeed. The first look after the change finds the
// server, however many dials hang, and whichever dial fails in the meantime.
func TestLookAfterHungDials(t *testing.T) {
	for phase := range 20 {
		synctest.Test(t, func(t *testing.T) {
			fake := &pooltest.Fake{}
			fake.Inject(pooltest.Open, -1, pooltest.Slow(50*time.Millisecond))
			p := idling(t, fake, 1, pool.Config{MaxSize: 20})
			p.Clear()
			fake.Inject(pooltest.Open, -1, pooltest.Hang())
			for range 8 {
				if err := look(p); !errors.Is(err, context.DeadlineExceeded) {
					t.Fatalf("Look returned %v", err)
				}
			}
			time.Sleep(time.Duration(phase) * 50 * time.Millisecond)
			fake.Inject(pooltest.Open, -1, pooltest.Slow(50*time.Millisecond))
			begin := time.Now()
			if err := look(p); err != nil || time.Since(begin) > 50*time.Millisecond {
				t.Errorf("phase %d: Look returned %v after %v", phase, err, time.Since(begin))
			}
		})
	}
}

// The network has cut all connections of a full pool silently, and all dials hang for a while. The
// first look after the outage finds the server, for any number of hung dials and any OpenTimeout.
func TestLookAfterAnOutageOfAFullPool(t *testing.T) {
	const dial = 130 * time.Millisecond
	for looks := range 20 {
		synctest.Test(t, func(t *testing.T) {
			fake := &pooltest.Fake{}
			fake.Inject(pooltest.Open, -1, pooltest.Slow(dial))
			p := idling(t, fake, 20, pool.Config{MaxSize: 20})
			fake.Inject(pooltest.Open, -1, pooltest.Hang())
			fake.Inject(pooltest.Check, -1, pooltest.Hang())
			for range looks {
				if err := look(p); err == nil {
					t.Fatal("Look passed")
				}
			}
			opened := p.Stat().Opened
			fake.Inject(pooltest.Open, -1, pooltest.Slow(dial))
			fake.Inject(pooltest.Check, -1, func(ctx context.Context) error {
				if p.Stat().Opened > opened {
					return nil
				}
				return pooltest.Hang()(ctx)
			})
			begin := time.Now()
			if err := look(p); err != nil || time.Since(begin) > 500*time.Millisecond {
				t.Errorf("after %d looks in vain: Look returned %v after %v: %+v", looks, err, time.Since(begin), p.Stat())
			}
		})
	}
}

// Hung dials occupy all places of a small pool. A look cancels the oldest dial, and finds the
// server.
func TestLookWhereDialsHangInAllPlaces(t *testing.T) {
	for size := range 5 {
		for looks := range 15 {
			synctest.Test(t, func(t *testing.T) {
				fake := &pooltest.Fake{}
				fake.Inject(pooltest.Open, -1, pooltest.Slow(20*time.Millisecond))
				p := idling(t, fake, 1, pool.Config{MaxSize: size + 1})
				p.Clear()
				fake.Inject(pooltest.Open, -1, pooltest.Hang())
				for range looks {
					if err := look(p); err == nil {
						t.Fatal("Look passed")
					}
				}
				opened, failures := p.Stat().Opened, p.Stat().OpenFailures
				fake.Inject(pooltest.Open, -1, pooltest.Slow(20*time.Millisecond))
				begin := time.Now()
				if err := look(p); err != nil || time.Since(begin) > 500*time.Millisecond {
					t.Errorf("size %d, after %d looks in vain: %v after %v: %+v", size+1, looks, err, time.Since(begin), p.Stat())
				}
				if s := p.Stat(); s.Opened > opened+1 || s.OpenFailures > failures+1 {
					t.Errorf("size %d, after %d looks in vain: the look began %d dials and dropped %d", size+1, looks, s.Opened-opened, s.OpenFailures-failures)
				}
			})
		}
	}
}

// A call that fails during a look gives no information if the call began before the look: the
// server may be back since. If the look relies on the call, the failure ends the look.
func TestLookAndEarlierCalls(t *testing.T) {
	dial := func(p *pool.Pool[conn]) { _ = p.Warm(background, 2) }
	check := func(p *pool.Pool[conn]) { _ = p.Do(background, op, func(context.Context, conn) error { return nil }) }
	for _, tc := range []struct {
		name   string
		step   pooltest.Step
		idle   int
		begin  func(*pool.Pool[conn]) // begins a call of the driver
		fails  time.Duration          // after the start of the call
		ahead  time.Duration          // the start of the look, after the start of the call
		passes bool
	}{
		{"a dial in time", pooltest.Open, 0, dial, 60 * time.Millisecond, 20 * time.Millisecond, false},
		{"a hung check", pooltest.Check, 1, check, 10 * time.Second, 9980 * time.Millisecond, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			fake := &pooltest.Fake{}
			fake.Inject(pooltest.Open, -1, pooltest.Slow(40*time.Millisecond))
			p := idling(t, fake, 1, pool.Config{MaxSize: 4, OpenTimeout: time.Minute, CheckTimeout: time.Minute})
			if tc.idle == 0 {
				defer acquire(t, p).Release(nil)
			}
			time.Sleep(time.Minute)
			var begun atomic.Bool
			fake.Inject(tc.step, -1, func(ctx context.Context) error {
				if begun.Swap(true) {
					return pooltest.Slow(40 * time.Millisecond)(ctx)
				}
				_ = pooltest.Slow(tc.fails)(ctx)
				return pooltest.ErrBroken
			})
			go tc.begin(p)
			time.Sleep(tc.ahead)
			if err := look(p); (err == nil) != tc.passes {
				t.Errorf("%s: Look returned %v", tc.name, err)
			}
		})
	}
}

// A server takes two seconds for each reply, and a look begins each second. A look begins no dial
// while another dial is timely or a new resource is checked.
func TestLooksAtASlowServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		var calls atomic.Int64
		slow := func(ctx context.Context) error {
			calls.Add(1)
			return pooltest.Slow(2 * time.Second)(ctx)
		}
		fake.Inject(pooltest.Open, -1, slow)
		fake.Inject(pooltest.Check, -1, slow)
		p := newPool(t, fake, pool.Config{MaxSize: 20})
		const looks = 20
		for range looks {
			if err := look(p); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("Look returned %v", err)
			}
		}
		if n := calls.Load(); n < looks/2 || n > looks {
			t.Errorf("%d looks cost %d calls, want one each at most", looks, n)
		}
	})
}
