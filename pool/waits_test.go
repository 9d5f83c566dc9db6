package pool_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// failing makes the next n dials take d and then fail.
func failing(fake *pooltest.Fake, n int, d time.Duration) {
	fake.Inject(pooltest.Open, n, func(ctx context.Context) error {
		if err := pooltest.Slow(d)(ctx); err != nil {
			return err
		}
		return pooltest.ErrRefused
	})
}

// A cold pool: five concurrent dials fail in a short outage. The outage costs a single waiter, the
// first.
func TestABlipCostsOneWaiter(t *testing.T) {
	// apart: the dials fail one after the other, at this distance.
	for _, apart := range []time.Duration{0, time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			fake := &pooltest.Fake{}
			p := newPool(t, fake, pool.Config{MaxSize: 10, OpenConcurrency: 5})
			var begun atomic.Int64
			fake.Inject(pooltest.Open, 5, func(ctx context.Context) error {
				_ = pooltest.Slow(20*time.Millisecond - time.Duration(begun.Add(1))*apart)(ctx)
				return pooltest.ErrRefused
			})
			b := &borrowers{}
			var wg sync.WaitGroup
			first := make(chan error, 1)
			wg.Go(func() {
				l, err := p.Acquire(background, op)
				first <- err
				l.Release(nil)
			})
			synctest.Wait()
			for range 199 {
				wg.Go(func() { b.borrow(p, time.Millisecond) })
			}
			wg.Wait()
			if err := <-first; !errors.Is(err, pool.ErrOpen) {
				t.Errorf("the first to come: %v, want ErrOpen", err)
			}
			b.wantServed(t, time.Second)
		})
	}
}

// A pool with a single place: a failed dial costs one of ten waiters.
func TestOneFailedDialCostsOneWaiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		failing(fake, 1, 20*time.Millisecond)
		b := together(newPool(t, fake, pool.Config{MaxSize: 1}), 10, time.Millisecond)
		if len(b.errs) != 1 || !errors.Is(b.errs[0], pool.ErrOpen) || b.worst > time.Second {
			t.Errorf("after %v: %v, want one ErrOpen", b.worst, b.errs)
		}
	})
}

// All waiters get an error after dials have failed for a while. A long lease or slow failures
// change nothing.
func TestAllAreToldOfAServerThatIsDown(t *testing.T) {
	for _, long := range []bool{false, true} {
		for _, slow := range []time.Duration{0, 100 * time.Millisecond, 700 * time.Millisecond} {
			t.Run(fmt.Sprintf("lease %t, failing after %v", long, slow), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					fake := &pooltest.Fake{}
					p := newPool(t, fake, pool.Config{AcquireTimeout: time.Minute})
					if long {
						defer acquire(t, p).Release(nil)
						time.Sleep(time.Minute)
					}
					failing(fake, -1, slow)
					b := together(p, 50, 0)
					if b.served > 0 || b.worst < slow+250*time.Millisecond || b.worst > 2*slow+1250*time.Millisecond {
						t.Errorf("%d served, the last was told after %v", b.served, b.worst)
					}
					for _, err := range b.errs {
						if !errors.Is(err, pool.ErrOpen) || !errors.Is(err, pooltest.ErrRefused) {
							t.Errorf("got %v, want ErrOpen", err)
						}
					}
					// A later borrower waits for a single dial.
					if b := together(p, 50, 0); b.worst > slow+500*time.Millisecond {
						t.Errorf("later ones are told after %v", b.worst)
					}
				})
			})
		}
	}
}

// The first borrower gets an error after the first failed dial, although a lease lasts long.
func TestALongLeaseIsNoHope(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		p := newPool(t, fake, pool.Config{})
		defer acquire(t, p).Release(nil)
		time.Sleep(time.Minute)
		failing(fake, -1, 0)
		b := together(p, 1, 0)
		if len(b.errs) != 1 || !errors.Is(b.errs[0], pool.ErrOpen) || b.worst > 0 {
			t.Errorf("after %v: %v, want ErrOpen at once", b.worst, b.errs)
		}
	})
}

// A server at its maximum of clients refuses dials, but serves the existing connections. No waiter
// gets the error of a failed dial.
func TestAServerAtItsMaximumServes(t *testing.T) {
	for _, hold := range []time.Duration{time.Millisecond, 50 * time.Millisecond, 300 * time.Millisecond} {
		t.Run(hold.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fake := &pooltest.Fake{}
				p := idling(t, fake, 5, pool.Config{MaxSize: 10})
				failing(fake, -1, 0)
				b := &borrowers{}
				var wg sync.WaitGroup
				for range 20 {
					wg.Go(func() {
						for range 100 {
							b.borrow(p, hold)
						}
					})
				}
				wg.Wait()
				b.wantServed(t, 4*hold+time.Second)
			})
		})
	}
}

// Leases that ended with broken resources have shown that the server is gone. The waiters get an
// error in spite of lent resources.
func TestBrokenLeasesAreNoHope(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		p := newPool(t, fake, pool.Config{MaxSize: 3, AcquireTimeout: time.Minute})
		long, broken, well := acquire(t, p), acquire(t, p), acquire(t, p)
		defer long.Release(nil)
		failing(fake, -1, 0)
		broken.Release(pooltest.ErrBroken)
		var wg sync.WaitGroup
		b := &borrowers{}
		for range 3 {
			wg.Go(func() { b.borrow(p, 10*time.Millisecond) })
		}
		time.Sleep(time.Millisecond)
		time.AfterFunc(time.Millisecond, func() { well.Release(nil) }) // after the first failures
		// Clear closes the resource at its release, so the resource is not lent again.
		time.AfterFunc(500*time.Millisecond, p.Clear)
		wg.Wait()
		if b.served == 0 || b.worst > time.Minute {
			t.Errorf("%d served, told after %v", b.served, b.worst)
		}
	})
}

// waitIn returns the class of a wait ended by the context.
func waitIn(t *testing.T, p *pool.Pool[conn], ctx context.Context) driver.Class {
	t.Helper()
	_, err := p.Acquire(ctx, op)
	var e *pool.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want a *pool.Error", err)
	}
	return e.Class()
}

// The fault of a wait for a dial. FaultCaller, if the caller's deadline is shorter than a dial
// takes. FaultServer, if the latest dial has failed, or if a dial takes much longer than recent
// dials.
func TestWhoseTimeAWaitWas(t *testing.T) {
	wait := func(t *testing.T, p *pool.Pool[conn], n int, deadline time.Duration) (faults []driver.Fault) {
		t.Helper()
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range n {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(background, deadline)
				defer cancel()
				class := waitIn(t, p, ctx)
				mu.Lock()
				defer mu.Unlock()
				faults = append(faults, class.Fault)
			})
		}
		wg.Wait()
		return faults
	}
	for _, c := range []struct {
		name     string
		prepare  func(fake *pooltest.Fake, p *pool.Pool[conn])
		dial     pooltest.Fault
		deadline time.Duration
		want     driver.Fault
	}{
		{name: "cold, in time", dial: pooltest.Slow(20 * time.Millisecond), deadline: 5 * time.Millisecond, want: driver.FaultCaller},
		{name: "cold, hung", dial: pooltest.Hang(), deadline: time.Second, want: driver.FaultServer},
		{name: "hung, but given no time", dial: pooltest.Hang(), deadline: 5 * time.Millisecond, want: driver.FaultCaller},
		{name: "much longer than lately", dial: pooltest.Hang(), deadline: 60 * time.Millisecond, want: driver.FaultServer,
			prepare: func(fake *pooltest.Fake, p *pool.Pool[conn]) {
				fake.Inject(pooltest.Open, -1, pooltest.Slow(20*time.Millisecond))
				_ = p.Warm(background, 1)
				p.Clear()
				synctest.Wait()
			}},
		{name: "the latest dial failed", dial: pooltest.Slow(20 * time.Millisecond), deadline: 5 * time.Millisecond, want: driver.FaultServer,
			prepare: func(fake *pooltest.Fake, p *pool.Pool[conn]) {
				fake.Inject(pooltest.Open, 1, pooltest.Fail(pooltest.ErrRefused))
				_, _ = p.Acquire(background, op)
				time.Sleep(20 * time.Millisecond)
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fake := &pooltest.Fake{}
				p := newPool(t, fake, pool.Config{})
				if c.prepare != nil {
					c.prepare(fake, p)
				}
				fake.Inject(pooltest.Open, -1, c.dial)
				for _, fault := range wait(t, p, 6, c.deadline) {
					if fault != c.want {
						t.Errorf("laid at %v, want %v", fault, c.want)
					}
				}
			})
		})
	}
}

// AcquireTimeout passes while dials are timely, because many borrowers wait for few dials. The
// fault is local.
func TestQueueForDialsIsLocal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		fake.Inject(pooltest.Open, -1, pooltest.Slow(50*time.Millisecond))
		p := newPool(t, fake, pool.Config{MaxSize: 100, OpenConcurrency: 1, AcquireTimeout: time.Second})
		b := together(p, 100, time.Hour)
		if len(b.errs) == 0 {
			t.Fatal("nobody failed")
		}
		for _, err := range b.errs {
			var e *pool.Error
			if !errors.As(err, &e) || e.Class().Fault != driver.FaultLocal || e.Occupancy.EndedBy != pool.EndedByPool {
				t.Errorf("got %v", err)
			}
		}
	})
}

// saturate starts n borrowers, a borrower every 3 ms, with the given deadline and time of use.
// saturate returns the number of uses that succeeded in time, and the number of uses whose deadline
// passed while they held a resource.
func saturate(p *pool.Pool[conn], n int, deadline, hold time.Duration) (done, cut int) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(background, deadline)
			defer cancel()
			err := p.Do(ctx, op, func(ctx context.Context, _ conn) error { return pooltest.Slow(hold)(ctx) })
			mu.Lock()
			defer mu.Unlock()
			var e *pool.Error
			switch {
			case err == nil:
				done++
			case !errors.As(err, &e):
				cut++
			}
		})
		time.Sleep(3 * time.Millisecond)
	}
	wg.Wait()
	return done, cut
}

// A saturated pool does not lend to a borrower with less time left than recent uses took, while the
// resource can serve another borrower.
func TestSaturatedPoolPassesOverWhoIsTooLate(t *testing.T) {
	for _, deadline := range []time.Duration{200 * time.Millisecond, 350 * time.Millisecond, 500 * time.Millisecond, time.Second} {
		synctest.Test(t, func(t *testing.T) {
			p := idling(t, &pooltest.Fake{}, 10, pool.Config{MaxSize: 10})
			// Three times the capacity, for 6 s.
			done, cut := saturate(p, 2000, deadline, 100*time.Millisecond)
			t.Logf("deadlines of %v: %d done, %d cut", deadline, done, cut)
			if done < 550 || cut > 80 {
				t.Errorf("deadlines of %v: %d done, %d cut", deadline, done, cut)
			}
		})
	}
}

// A waiter with too little time left is passed over and not refused. The waiter is served after a
// quick use, or if no waiter has more time.
func TestWhoIsPassedOverKeepsThePlace(t *testing.T) {
	for _, c := range []struct {
		name      string
		need      time.Duration // the measured need of the pool
		deadlines []time.Duration
		want      string
	}{
		{"need of 100 ms", 100 * time.Millisecond, []time.Duration{50 * time.Millisecond, 40 * time.Millisecond, time.Second, time.Minute}, "2 0 1 3 "},
		{"nobody has the time", 100 * time.Millisecond, []time.Duration{50 * time.Millisecond, 90 * time.Millisecond, 40 * time.Millisecond}, "0 1 2 "},
		{"the last has most", 100 * time.Millisecond, []time.Duration{50 * time.Millisecond, 40 * time.Millisecond, 60 * time.Millisecond}, "2 0 1 "},
		{"need within a step of the clock", 5 * time.Millisecond, []time.Duration{5 * time.Millisecond, time.Second, time.Minute}, "0 1 2 "},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 1})
				for range 1000 {
					together(p, 1, c.need)
				}
				held := acquire(t, p)
				time.Sleep(c.need) // otherwise this use would be the quick use
				var wg sync.WaitGroup
				order := ""
				for i, d := range c.deadlines {
					wg.Go(func() {
						ctx, cancel := context.WithTimeout(background, d)
						defer cancel()
						if err := p.Do(ctx, op, func(context.Context, conn) error { order += fmt.Sprint(i, " "); return nil }); err != nil {
							t.Errorf("waiter %d: %v", i, err)
						}
					})
					synctest.Wait()
				}
				held.Release(nil)
				wg.Wait()
				if order != c.want {
					t.Errorf("served in the order %q, want %q", order, c.want)
				}
			})
		})
	}
}

// A server at its maximum of clients refuses dials and serves the four existing connections. More
// callers come than four connections can serve. Callers with enough time go first, although MaxSize
// has places for all waiters. So many callers are served in time.
func TestWaitersOfAFullServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const connections, uses, takes, deadline = 4, 1000, 50 * time.Millisecond, 100 * time.Millisecond
		fake := &pooltest.Fake{}
		// The driver is no Interrupter, so no connection is lost.
		p := newPoolOver(t, fake, struct{ driver.Driver[conn] }{fake}, pool.Config{MaxSize: 20})
		if err := p.Warm(background, connections); err != nil {
			t.Fatal(err)
		}
		fake.Inject(pooltest.Open, -1, pooltest.Fail(pooltest.ErrRefused))
		var served atomic.Int64
		var wg sync.WaitGroup
		for range uses {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(background, deadline)
				defer cancel()
				_ = p.Do(ctx, op, func(ctx context.Context, _ conn) error {
					time.Sleep(takes)
					if ctx.Err() == nil {
						served.Add(1)
					}
					return nil
				})
			})
			time.Sleep(takes / connections * 9 / 10) // a tenth more than the capacity
		}
		wg.Wait()
		if n := served.Load(); n < uses*17/20 {
			t.Errorf("%d of %d are served", n, uses)
		}
	})
}

// A server that stalls from time to time serves every caller whose time is longer than the stall.
// The need measured in the stall costs no waiter its place in the queue. A resource of an ended use
// is reset as soon as the server answers again.
func TestStallsCostNobodyMore(t *testing.T) {
	for _, c := range []struct{ stall, every, deadline time.Duration }{
		{400 * time.Millisecond, time.Second, 200 * time.Millisecond},
		{300 * time.Millisecond, 600 * time.Millisecond, 250 * time.Millisecond},
		{300 * time.Millisecond, time.Second, 80 * time.Millisecond},
	} {
		t.Run(fmt.Sprintf("%v each %v, D %v", c.stall, c.every, c.deadline), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				answer := func(ctx context.Context) error { // after a millisecond, or at the end of the stall
					at := time.Since(start) % c.every
					return pooltest.Slow(max(c.stall-at, 0) + time.Millisecond)(ctx)
				}
				fake := &pooltest.Fake{}
				fake.Inject(pooltest.Reset, -1, answer)
				p := idling(t, fake, 20, pool.Config{MaxSize: 20})
				start = time.Now()
				var wg sync.WaitGroup
				var lost, could atomic.Int64
				for time.Since(start) < 12*time.Second {
					at := time.Since(start) % c.every
					if at+c.deadline > c.stall+2*time.Millisecond {
						could.Add(1)
					}
					wg.Go(func() {
						ctx, cancel := context.WithTimeout(background, c.deadline)
						defer cancel()
						err := p.Do(ctx, op, func(ctx context.Context, v conn) error {
							err := answer(ctx)
							if err != nil {
								v.Soil()
								return pooltest.ErrDenied // a failure that leaves the resource intact
							}
							return nil
						})
						if err != nil && at+c.deadline > c.stall+2*time.Millisecond {
							lost.Add(1)
						}
					})
					time.Sleep(5 * time.Millisecond)
				}
				wg.Wait()
				if n := lost.Load(); n > could.Load()/100 {
					t.Errorf("%d of %d lost, for whom the server was in time", n, could.Load())
				}
			})
		})
	}
}

// Quick uses with short deadlines among slow uses are served from time to time, even after a long
// time of slow uses only. Then all quick uses are served.
func TestWhoIsTooLateIsNotStarved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := idling(t, &pooltest.Fake{}, 2, pool.Config{MaxSize: 2})
		stop := make(chan struct{})
		var slow, quick sync.WaitGroup
		for range 6 { // the pool is always saturated
			slow.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						together(p, 1, 100*time.Millisecond)
					}
				}
			})
		}
		time.Sleep(30 * time.Second) // the pool has seen slow uses only
		var mu sync.Mutex
		served := 0
		for range 300 {
			quick.Go(func() {
				// At the head of the queue, 20 to 70 ms are left.
				ctx, cancel := context.WithTimeout(background, 320*time.Millisecond)
				defer cancel()
				if p.Do(ctx, op, func(context.Context, conn) error { return nil }) == nil {
					mu.Lock()
					served++
					mu.Unlock()
				}
			})
			time.Sleep(37 * time.Millisecond)
		}
		quick.Wait()
		close(stop)
		slow.Wait()
		t.Logf("%d of 300 served", served)
		if served < 150 {
			t.Errorf("%d of 300 quick uses were served", served)
		}
	})
}

// An error reports the numbers of checks and closes, the error of the last check, the owner of the
// deadline, and the number of the other waiters.
func TestErrorsSayHowThingsStood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		p := newPool(t, fake, pool.Config{MaxSize: 3, AcquireTimeout: 5 * time.Second, CheckTimeout: 10 * time.Second})
		held := []pool.Lease[conn]{acquire(t, p), acquire(t, p), acquire(t, p)}
		fake.Inject(pooltest.Check, 1, pooltest.Fail(errors.Join(errWhy, errDark)))
		held[0].Release(nil)
		time.Sleep(2 * time.Second)
		acquire(t, p).Release(nil) // the check fails, and the pool replaces the resource
		fake.Inject(pooltest.Close, -1, pooltest.Hang())
		unhung := make(chan struct{})
		defer close(unhung)
		// The reset ignores its context. Otherwise the pool would drop the reset.
		fake.Inject(pooltest.Reset, -1, func(context.Context) error { <-unhung; return nil })
		held[1].Discard(nil)
		value(t, held[2]).Soil()
		held[2].Release(nil)
		fourth := acquire(t, p)
		defer fourth.Release(nil)
		var wg sync.WaitGroup
		errs := make(chan error, 2)
		for range 2 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(background, time.Second)
				defer cancel()
				_, err := p.Acquire(ctx, op)
				errs <- err
			})
		}
		wg.Wait()
		for range 2 {
			text := (<-errs).Error()
			for _, part := range []string{
				"in use 1 of 3", "checking 1", "closing 1", "last check: the reason given; dial: no route to host", "ended by the caller's deadline",
			} {
				if !strings.Contains(text, part) {
					t.Errorf("%q does not say %q", text, part)
				}
			}
			if strings.Contains(text, "\n") {
				t.Errorf("%q has several lines", text)
			}
		}
	})
}

// The error of a refused waiter counts the seven other waiters, for every reason.
func TestErrorsCountTheOtherWaiters(t *testing.T) {
	for name, refuse := range map[string]func(p *pool.Pool[conn], cancel func(), l pool.Lease[conn]){
		"paused": func(p *pool.Pool[conn], _ func(), _ pool.Lease[conn]) { p.Pause(errWhy) },
		"closed": func(p *pool.Pool[conn], _ func(), l pool.Lease[conn]) {
			time.AfterFunc(time.Millisecond, func() { l.Release(nil) })
			closePool(t, p)
		},
		"timed out": func(*pool.Pool[conn], func(), pool.Lease[conn]) { time.Sleep(2 * time.Second) },
		"cancelled": func(_ *pool.Pool[conn], cancel func(), _ pool.Lease[conn]) { cancel() },
		"exhausted": func(p *pool.Pool[conn], _ func(), _ pool.Lease[conn]) {},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 1, MaxWaiters: 8})
				l := acquire(t, p)
				ctx, cancel := context.WithCancel(background)
				defer cancel()
				errs := make(chan error, 9)
				for i := range 8 {
					c := background
					if i == 0 {
						c = ctx
					}
					go func() {
						l, err := p.Acquire(c, op)
						errs <- err
						l.Release(nil)
					}()
				}
				synctest.Wait()
				want := 7
				if name == "exhausted" {
					want = 8
					_, err := p.Acquire(background, op)
					errs <- err
				}
				refuse(p, cancel, l)
				var e *pool.Error
				if err := <-errs; !errors.As(err, &e) || e.Occupancy.Waiters != want {
					t.Errorf("got %v, want waiters %d", err, want)
				}
				l.Release(nil)
			})
		})
	}
}

// All resources are lent for 4 s. By default a caller with much time waits for two thirds of the
// time. A deadline of a layer does not count as the caller's deadline.
func TestPatientCallersWaitLonger(t *testing.T) {
	for _, c := range []struct {
		name           string
		acquire, layer time.Duration
		deadline       time.Duration // of the caller
		want           time.Duration // the end of the wait with an error; 0: served
	}{
		{name: "no deadline", want: 2 * time.Second},
		{name: "no deadline but the layer's", layer: time.Minute, want: 2 * time.Second},
		{name: "a short deadline", deadline: time.Second, want: time.Second},
		{name: "a deadline of 2.5 s", deadline: 2500 * time.Millisecond, want: 2 * time.Second},
		{name: "a deadline of 4.5 s", deadline: 4500 * time.Millisecond, want: 3 * time.Second},
		{name: "much time", deadline: 10 * time.Second},
		{name: "much time within a layer's", deadline: 10 * time.Second, layer: time.Minute},
		{name: "much time, but a shorter layer's", deadline: 10 * time.Second, layer: 3 * time.Second, want: 3 * time.Second},
		{name: "an explicit bound", acquire: 3 * time.Second, deadline: 10 * time.Second, want: 3 * time.Second},
		{name: "no bound", acquire: -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var layers []pool.Middleware
				if c.layer > 0 {
					layers = append(layers, &limiting{limit: c.layer})
				}
				p := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 1, AcquireTimeout: c.acquire}, layers...)
				l := acquire(t, p)
				time.AfterFunc(4*time.Second, func() { l.Release(nil) })
				ctx, cancel := background, func() {}
				if c.deadline > 0 {
					ctx, cancel = context.WithTimeout(background, c.deadline)
				}
				defer cancel()
				began := time.Now()
				err := p.Do(ctx, op, func(context.Context, conn) error { return nil })
				took := time.Since(began).Round(100 * time.Millisecond)
				if (c.want == 0) != (err == nil) || c.want > 0 && (took != c.want || !errors.Is(err, pool.ErrAcquireTimeout)) {
					t.Errorf("%v after %v, want an end after %v", err, took, c.want)
				}
				time.Sleep(5 * time.Second)
			})
		})
	}
}
