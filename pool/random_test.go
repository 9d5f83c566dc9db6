package pool_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// fault is a random fault of a call of the driver. Every call ends at some time.
func (d *dice) fault(ctx context.Context) error {
	switch d.roll(12) {
	case 0:
		return pooltest.Hang()(ctx)
	case 1:
		return pooltest.ErrRefused
	case 2:
		panic("at random")
	case 3:
		runtime.Goexit()
	case 4:
		time.Sleep(d.upTo(3 * time.Second)) // ignores its context
	case 5:
		return pooltest.Slow(d.upTo(300 * time.Millisecond))(ctx)
	}
	return nil
}

// disturb calls a random method of the pool.
func (d *dice) disturb(p *pool.Pool[conn]) {
	switch d.roll(8) {
	case 0:
		p.Clear()
	case 1:
		p.Pause(errWhy)
		time.Sleep(d.upTo(100 * time.Millisecond))
		p.Resume()
	case 2:
		_ = p.Configure(pool.Config{
			MaxSize: 1 + d.roll(8), OpenConcurrency: 1 + d.roll(4), MaxWaiters: d.roll(3) * 10, KeepAlive: d.upTo(2 * time.Second),
			CheckAfter: d.upTo(time.Second) - 100*time.Millisecond, MaxLifetime: d.upTo(time.Minute), MaxIdleTime: d.upTo(10 * time.Second),
		})
	case 3:
		p.CloseExpired()
	case 4:
		_ = p.Check(background)
	case 5:
		ctx, cancel := context.WithTimeout(background, d.upTo(time.Second))
		_ = p.Warm(ctx, 1)
		cancel()
	}
}

// bout is a single use in a random way, and returns the error of a failed acquisition.
func (d *dice) bout(p *pool.Pool[conn]) error {
	ctx, cancel := context.Background(), func() {}
	switch d.roll(4) {
	case 0:
		ctx, cancel = context.WithTimeout(ctx, d.upTo(500*time.Millisecond))
	case 1:
		var stop context.CancelFunc
		ctx, stop = context.WithCancel(ctx)
		timer := time.AfterFunc(d.upTo(500*time.Millisecond), stop)
		cancel = func() { timer.Stop(); stop() }
	}
	defer cancel()
	acquire := p.Acquire
	if d.roll(5) == 0 {
		acquire = p.TryAcquire
	}
	l, err := acquire(ctx, op)
	if err != nil {
		return err
	}
	time.Sleep(d.upTo(50 * time.Millisecond))
	c, ok := l.Value()
	if ok && d.roll(4) == 0 {
		c.Soil()
	}
	switch d.roll(6) {
	case 0:
		l.Discard(nil)
	case 1:
		l.Release(pooltest.ErrBroken)
	case 2:
		l.Release(pooltest.ErrReply)
	default:
		l.Release(nil)
	}
	return nil
}

// counters returns the counters of a Stat. A counter never decreases.
func counters(s pool.Stat) []uint64 {
	return append([]uint64{
		s.Acquires, s.Waited, s.Cancelled, s.TimedOut, s.Refused, s.Failed, uint64(s.TotalWait), s.Opened, s.OpenFailures, s.CheckFailures, s.Leaked,
	}, s.Closed[:]...)
}

// Random schedules of all methods of a pool, with a driver that fails at random. No waiter is
// forgotten. The counters add up and never decrease. As soon as the driver is healthy, the pool
// serves every borrower at once.
func TestRandomSchedules(t *testing.T) {
	for seed := range uint64(150) {
		synctest.Test(t, func(t *testing.T) {
			testRandomSchedule(t, &dice{random: rand.New(rand.NewPCG(seed, 2))})
			if t.Failed() {
				t.Logf("seed %d", seed)
			}
		})
		if t.Failed() {
			return
		}
	}
}

func testRandomSchedule(t *testing.T, d *dice) {
	fake := &pooltest.Fake{}
	for _, step := range []pooltest.Step{pooltest.Open, pooltest.Check, pooltest.Reset, pooltest.Close} {
		fake.Inject(step, -1, d.fault)
	}
	p := newPool(t, fake, pool.Config{MaxSize: 1 + d.roll(8), KeepAlive: time.Second, MinIdle: d.roll(2)})
	var uses, others sync.WaitGroup
	var mu sync.Mutex
	count := 0
	for range 12 {
		uses.Go(func() {
			for range 40 {
				err := d.bout(p)
				var e *pool.Error
				if err != nil && !errors.As(err, &e) {
					t.Errorf("an error that is no refusal: %v", err)
				}
				mu.Lock()
				count++
				mu.Unlock()
				time.Sleep(d.upTo(200 * time.Millisecond))
			}
		})
	}
	over := make(chan struct{})
	others.Go(func() {
		last := counters(p.Stat())
		for {
			select {
			case <-over:
				return
			case <-time.After(d.upTo(300 * time.Millisecond)):
			}
			d.disturb(p)
			if err := pool.CheckBooks(p); err != nil {
				t.Error(err)
			}
			now := counters(p.Stat())
			for i := range now {
				if now[i] < last[i] {
					t.Errorf("counter %d has gone back from %d to %d", i, last[i], now[i])
				}
			}
			last = now
		}
	})
	uses.Wait()
	close(over)
	others.Wait()
	p.Resume()
	_ = p.Configure(pool.Config{MaxSize: 4})
	for _, step := range []pooltest.Step{pooltest.Open, pooltest.Check, pooltest.Reset, pooltest.Close} {
		fake.Inject(step, 0, nil)
	}
	time.Sleep(30 * time.Second)
	if s := p.Stat(); s.Waiters+s.InUse+s.Opening+s.Checking+s.Closing > 0 || s.Idle > 4 {
		t.Errorf("at rest: %+v", s)
	}
	b := together(p, 4, time.Millisecond)
	b.wantServed(t, 0)
	s := p.Stat()
	if sum := s.Acquires + s.Cancelled + s.TimedOut + s.Refused + s.Failed; sum < uint64(count+4) || s.Opened-s.Closed.Total() != uint64(s.Idle) {
		t.Errorf("%d uses, but %d ends are counted: %+v", count+4, sum, s)
	}
}
