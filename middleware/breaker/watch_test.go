package breaker

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// dead makes the server refuse dials, closes what is open, and opens the breaker.
func (r *rig) dead() {
	r.t.Helper()
	r.pool.Clear()
	r.fake.Inject(pooltest.Open, -1, pooltest.Fail(pooltest.ErrBroken))
	for range 10 {
		if r.State() == StateClosed {
			_ = r.use(nil)
		}
	}
	r.wantState(StateOpen)
}

// While a server is dead, the pool looks about once a second, and no use reaches the server. When
// the server is back, uses are served within LookMax.
func TestPoolLooksForItself(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRigOn(t, Config{ConsecutiveFailures: 2, ProbeSuccesses: 1}, pool.Config{MaxSize: 2})
		r.dead()
		time.Sleep(10 * time.Second) // the looks have their pauses by now
		before, opened := r.pool.Stat().OpenFailures, r.Snapshot().Opened
		for range 600 {
			r.refused(StateOpen)
			time.Sleep(100 * time.Millisecond)
		}
		if n := r.pool.Stat().OpenFailures - before; n < 60 || n > 120 {
			t.Errorf("in a minute the pool dialled %d times, want once in half a second to a second", n)
		}
		if s := r.Snapshot(); s.Opened != opened || s.Rounds != 0 {
			t.Errorf("users were probes: %+v", s)
		}
		r.fake.Inject(pooltest.Open, 0, nil)
		time.Sleep(time.Second)
		r.uses(1, nil)
		r.wantState(StateClosed)
	})
}

// When the pool is cleared, the server may be another one: the pool looks at once, however long the
// pauses have become.
func TestClearWakesTheWatch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for range 20 {
			r := newRigOn(t, Config{ConsecutiveFailures: 2}, pool.Config{MaxSize: 2})
			r.dead()
			time.Sleep(10 * time.Second)
			r.pool.Clear() // in vain
			time.Sleep(10 * time.Second)
			r.wantState(StateOpen)
			r.fake.Inject(pooltest.Open, 0, nil)
			r.pool.Clear()
			time.Sleep(10 * time.Millisecond)
			r.wantState(StateClosed)
		}
	})
}

// A server that answers the looks with refusals is about to serve: the breaker closes soon after.
func TestLooksThatAreAnswered(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for range 20 {
			r := newRigOn(t, Config{ConsecutiveFailures: 2}, pool.Config{MaxSize: 2})
			r.pool.Clear()
			r.fake.Inject(pooltest.Open, -1, pooltest.Fail(pooltest.ErrRefused)) // with a code
			_, _ = r.use(nil), r.use(nil)
			r.wantState(StateOpen)
			time.Sleep(10 * time.Second)
			dialled := r.pool.Stat().OpenFailures
			time.Sleep(10 * time.Second)
			if n := r.pool.Stat().OpenFailures - dialled; n < 50 || n > 100 {
				t.Errorf("in 10 s the pool dialled %d times, want once in 100 to 200 ms", n)
			}
			r.fake.Inject(pooltest.Open, 0, nil)
			time.Sleep(answeredMax)
			r.wantState(StateClosed)
		}
	})
}

// A server that refuses all clients because of a wrong password is asked no more often than a
// server that does not answer.
func TestLooksThatAreAnsweredForGood(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRigOn(t, Config{ConsecutiveFailures: 2}, pool.Config{MaxSize: 2})
		r.pool.Clear()
		// with a code, and not to be repeated
		r.fake.Inject(pooltest.Open, -1, pooltest.Fail(pooltest.ErrDenied))
		_, _ = r.use(nil), r.use(nil)
		r.wantState(StateOpen)
		time.Sleep(10 * time.Second)
		dialled := r.pool.Stat().OpenFailures
		time.Sleep(10 * time.Second)
		if n := r.pool.Stat().OpenFailures - dialled; n < 10 || n > 20 {
			t.Errorf("in 10 s the pool dialled %d times, want once in 0.5 to 1 s", n)
		}
	})
}

// No resource could be acquired, and the trouble is over when the breaker opens. The first look
// passes, and no use waits for probes.
func TestLookContradictsEvidenceAboutAll(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRigOn(t, Config{}, pool.Config{MaxSize: 2})
		r.uses(2*enough, nil)
		r.pool.Clear()
		r.fake.Inject(pooltest.Open, -1, func(context.Context) error {
			time.Sleep(time.Millisecond)
			if r.State() == StateOpen {
				return nil
			}
			return pooltest.ErrBroken
		})
		for r.Snapshot().Opened == 0 {
			_ = r.use(nil)
			time.Sleep(10 * time.Millisecond)
		}
		r.wantState(StateClosed)
		r.wantMoves("closed>open "+ReasonConsecutive, "open>half-open "+ReasonLookPassed, "half-open>closed "+ReasonLookPassed)
	})
}

// Health says that the pool is degraded, why, and when the next check is.
func TestConditionWhileOpen(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRigOn(t, Config{ConsecutiveFailures: 2}, pool.Config{MaxSize: 2})
		if h := r.pool.Check(context.Background()); h.Status != pool.StatusOK {
			t.Errorf("closed: %+v", h)
		}
		r.dead()
		time.Sleep(5 * time.Second)
		dials := r.pool.Stat().OpenFailures
		h := r.pool.Check(context.Background())
		if h.Status != pool.StatusDegraded || len(h.Reasons) != 1 || r.pool.Stat().OpenFailures != dials {
			t.Fatalf("open: %+v", h)
		}
		for _, want := range []string{"breaker open by 2 calls in a row failed", "the connection is broken, ", "next check in "} {
			if !strings.Contains(h.Reasons[0], want) {
				t.Errorf("the reason is %q, want %q in it", h.Reasons[0], want)
			}
		}
		r.fake.Inject(pooltest.Open, 0, nil)
		time.Sleep(2 * time.Second)
		r.wantState(StateClosed)
		if h := r.pool.Check(context.Background()); h.Status != pool.StatusOK {
			t.Errorf("closed again: %+v", h)
		}
		r.dead()
		if err := r.pool.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		if h := r.pool.Check(context.Background()); h.Status != pool.StatusDown || !errors.Is(h.Err, pool.ErrClosed) {
			t.Errorf("closed pool: %+v", h)
		}
	})
}

// Configure has the pool look at once, and can switch looking off and leave the rest to the probes.
func TestConfigureWakesTheWatch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRigOn(t, Config{ConsecutiveFailures: 2, LookMax: time.Hour, ProbeSuccesses: 1}, pool.Config{MaxSize: 2})
		r.dead()
		time.Sleep(3 * time.Hour)
		r.fake.Inject(pooltest.Open, 0, nil)
		r.refused(StateOpen)
		r.apply(func(*Config) {})
		settle()
		r.uses(1, nil)
		r.wantState(StateClosed)

		r.dead()
		time.Sleep(time.Minute)
		r.apply(func(c *Config) { c.LookMax = -1 })
		settle()
		dials := r.pool.Stat().OpenFailures
		time.Sleep(5 * time.Hour)
		if n := r.pool.Stat().OpenFailures; n != dials {
			t.Errorf("the pool looked %d times although that is switched off", n-dials)
		}
		if err := r.use(nil); !errors.Is(err, pool.ErrOpen) {
			t.Errorf("a use returned %v, want a probe that cannot dial", err)
		}
	})
}

// settle lets everybody go on who can at this moment.
func settle() { time.Sleep(time.Nanosecond) }

// While all resources are in use, a look is impossible, so uses may be probes. The pool looks again
// soon.
func TestEverythingIsLent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRigOn(t, Config{ConsecutiveFailures: 2, ProbeSuccesses: 1}, pool.Config{MaxSize: 3})
		long := []pool.Lease[*conn]{r.lease(), r.lease()}
		r.uses(2, fail)
		r.wantState(StateOpen)
		last, err := r.pool.Acquire(context.Background(), get) // nothing hinders who is past the breaker
		if err == nil {
			t.Fatal("the breaker let a use pass")
		}
		settle()
		r.due()
		r.uses(1, nil)
		r.wantState(StateClosed)
		for _, l := range append(long, last) {
			l.Release(nil)
		}
	})
	// The server is dead. Uses that hang hold everything at first.
	bubble(t, func(t *testing.T) {
		r := newRigOn(t, Config{ConsecutiveFailures: 2}, pool.Config{MaxSize: 3})
		hung := []pool.Lease[*conn]{r.lease(), r.lease()}
		r.uses(1, fail)
		waited := make(chan pool.Lease[*conn], 1)
		_ = r.pool.Do(context.Background(), get, func(context.Context, *conn) error {
			go func() { waited <- r.lease() }()
			settle()
			return fail
		})
		hung = append(hung, <-waited)
		settle()
		r.wantState(StateOpen)
		r.fake.Inject(pooltest.Open, -1, pooltest.Fail(pooltest.ErrBroken))
		for _, l := range hung {
			l.Release(cutOff)
		}
		time.Sleep(firstLook) // until the next look has failed, a use may be a probe
		r.due()
		for range 100 {
			r.refused(StateOpen) // no user has to find out
			time.Sleep(100 * time.Millisecond)
		}
		r.fake.Inject(pooltest.Open, 0, nil)
		time.Sleep(time.Second)
		r.wantState(StateClosed)
	})
	bubble(t, func(t *testing.T) {
		r := newRigOn(t, Config{ConsecutiveFailures: 1, ProbeSuccesses: 1}, pool.Config{MaxSize: 2})
		a, b := r.lease(), r.lease()
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		_ = r.pool.Do(ctx, get, nothing) // the pool is full
		r.wantState(StateClosed)
		a.Release(fail)
		r.wantState(StateOpen)
		b.Release(nil)
		r.due()
		r.uses(1, nil)
	})
}

// numb ignores its contexts while it opens, once it is told to.
type numb struct {
	pooltest.Fake

	hang    atomic.Bool
	release chan struct{}
	opens   atomic.Int64
}

func (d *numb) Open(ctx context.Context) (*conn, error) {
	d.opens.Add(1)
	if d.hang.Load() {
		<-d.release
		return nil, errors.New("released")
	}
	return d.Fake.Open(ctx)
}

// A look hangs because the driver ignores its context. The look delays Close only until the context
// of Close is over, and delays nothing that comes after. No look begins after detach, and the
// breaker looks at the server of its next pool.
func TestDetachWhileALookHangs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := &numb{release: make(chan struct{})}
		b := must(t, Config{ConsecutiveFailures: 1})
		p, err := pool.New(d, pool.Config{MaxSize: 4}, b)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Do(context.Background(), get, func(context.Context, *conn) error { d.hang.Store(true); return cutOff }); err == nil {
			t.Fatal("the use has succeeded")
		}
		time.Sleep(500 * time.Millisecond)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		begin := time.Now()
		if err := p.Close(ctx); err == nil || time.Since(begin) != time.Second {
			t.Errorf("Close returned %v after %v, want an error after its second", err, time.Since(begin))
		}
		n := d.opens.Load()
		time.Sleep(time.Minute)
		if got := d.opens.Load(); got != n || n == 0 {
			t.Errorf("after detach there were %d looks", got-n)
		}
		close(d.release)

		var next pooltest.Fake
		p, err = pool.New(&next, pool.Config{MaxSize: 4}, b)
		if err != nil {
			t.Fatal(err)
		}
		settle()
		if s := p.Stat(); s.Opened != 1 {
			t.Errorf("the next pool was looked at %d times, want once", s.Opened)
		}
		for range 3 {
			if err := p.Do(context.Background(), get, nothing); err != nil {
				t.Error(err)
			}
		}
		if b.State() != StateClosed {
			t.Errorf("the breaker is %v", b.State())
		}
		if err := p.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// The breakers of fifty instances opened together, and a look finds the server well. The instances
// do not all probe within the same 100 ms.
func TestInstancesDoNotProbeTogether(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const instances = 50
		var mu sync.Mutex
		var probes []time.Duration
		begin := time.Now()
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for range instances {
			r := newRigOn(t, Config{ConsecutiveFailures: 2}, pool.Config{MaxSize: 2})
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					case <-time.After(time.Millisecond):
					}
					_ = r.pool.Do(context.Background(), get, func(context.Context, *conn) error {
						mu.Lock()
						defer mu.Unlock()
						probes = append(probes, time.Since(begin))
						return fail
					})
				}
			})
		}
		time.Sleep(20 * time.Second)
		close(stop)
		wg.Wait()
		slots := map[int64]int{}
		late := 0
		for _, at := range probes {
			if at > 20*time.Millisecond { // those that opened the breakers came together
				slots[at.Milliseconds()/100]++
			}
			if at > 10*time.Second {
				late++
			}
		}
		for slot, n := range slots {
			if n > 45 && slot < 5 || n > 25 && slot >= 5 {
				t.Errorf("%d of %d probed within the 100 ms from %d00 ms on", n, instances, slot)
			}
		}
		if each := float64(late) / instances / 10; each < 1.2 || each > 2.5 {
			t.Errorf("each sends %.2f probes a second", each)
		}
	})
}

// A look may pass at the very moment of the opening, where a clock has large steps. gobreaker then
// stays open, so the breaker does too, until a use after the open period.
func TestLookPassesAtTheMomentOfOpening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := must(t, Config{ConsecutiveFailures: 1, OpenFor: time.Second, OpenMax: time.Second})
		p, err := pool.New(&pooltest.Fake{}, pool.Config{}, b)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = p.Close(context.Background()) }()
		use := func(err error) error {
			return p.Do(context.Background(), pool.Op{}, func(context.Context, *pooltest.Conn) error { return err })
		}
		_ = use(pooltest.ErrDenied)
		b.mu.Lock()
		w := b.watch
		b.mu.Unlock()
		if b.State() != StateOpen || w == nil {
			t.Fatalf("%v, with the watch %v", b.State(), w)
		}
		b.endWatch(w, true) // the look after a failed look passes, at the same time
		if s := b.State(); s != StateOpen {
			t.Errorf("the breaker is %v, and gobreaker is open", s)
		}
		time.Sleep(time.Second)
		if err := use(nil); err != nil || b.State() != StateClosed {
			t.Errorf("after the open period: %v, %v", err, b.State())
		}
	})
}
