package pool_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// borrowers records the results of a group of borrowers.
type borrowers struct {
	mu     sync.Mutex
	served int
	worst  time.Duration // the longest wait
	errs   []error
}

// borrow acquires a resource, holds the resource for a time, and releases the resource.
func (b *borrowers) borrow(p *pool.Pool[conn], hold time.Duration) {
	b.use(p, func(pool.Lease[conn]) { time.Sleep(hold) })
}

// use acquires a resource for f, and releases the resource.
func (b *borrowers) use(p *pool.Pool[conn], f func(pool.Lease[conn])) {
	at := time.Now()
	l, err := p.Acquire(background, op)
	b.mu.Lock()
	b.worst = max(b.worst, time.Since(at))
	if err != nil {
		b.errs = append(b.errs, err)
	} else {
		b.served++
	}
	b.mu.Unlock()
	if err == nil {
		f(l)
		l.Release(nil)
	}
}

// together starts n borrowers at the same moment, and waits for all.
func together(p *pool.Pool[conn], n int, hold time.Duration) *borrowers {
	b := &borrowers{}
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() { b.borrow(p, hold) })
	}
	wg.Wait()
	return b
}

// wantServed fails the test if a borrower failed or waited for longer than bound.
func (b *borrowers) wantServed(t *testing.T, bound time.Duration) {
	t.Helper()
	t.Logf("%d served, the longest wait was %v", b.served, b.worst)
	if len(b.errs) > 0 {
		t.Errorf("%d of %d failed: %v", len(b.errs), len(b.errs)+b.served, b.errs[0])
	}
	if b.worst > bound {
		t.Errorf("somebody waited for %v, want at most %v", b.worst, bound)
	}
}

// idling makes a pool with n idle resources.
func idling(t *testing.T, fake *pooltest.Fake, n int, cfg pool.Config, layers ...pool.Middleware) *pool.Pool[conn] {
	t.Helper()
	p := newPool(t, fake, cfg, layers...)
	if err := p.Warm(background, n); err != nil {
		t.Fatal(err)
	}
	return p
}

// aCheckAndADial is the bound of a wait while MaxSize leaves places and dials are instant.
const aCheckAndADial = time.Second + 50*time.Millisecond

// All idle resources are silently dead, and dials are instant.
func TestSilentlyDead(t *testing.T) {
	for _, size := range []int{1, 2, 3, 10, 50} {
		for _, idle := range []int{1, size/2 + 1, size} {
			for _, n := range []int{1, 4, size} {
				// known: an earlier check has shown how long checks take.
				for _, known := range []bool{true, false} {
					t.Run(fmt.Sprintf("size %d idle %d borrowers %d known %t", size, idle, n, known), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							fake := &pooltest.Fake{}
							fake.Inject(pooltest.Check, -1, pooltest.Slow(time.Millisecond))
							fake.Inject(pooltest.Open, -1, pooltest.Slow(2*time.Millisecond))
							p := idling(t, fake, idle, pool.Config{MaxSize: size})
							if known {
								time.Sleep(time.Minute)
								together(p, idle, 0)
							}
							time.Sleep(time.Minute)
							fake.Inject(pooltest.Check, -1, pooltest.Hang())
							together(p, n, 0).wantServed(t, aCheckAndADial)
						})
					})
				}
			}
		}
	}
}

// The same where MaxSize leaves places: no borrower waits for the timeout of a check.
func TestSilentlyDeadWithRoom(t *testing.T) {
	for _, size := range []int{10, 50} {
		for _, n := range []int{1, 4, size - 5} {
			t.Run(fmt.Sprintf("size %d borrowers %d", size, n), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					fake := &pooltest.Fake{}
					p := idling(t, fake, 5, pool.Config{MaxSize: size})
					time.Sleep(time.Minute)
					fake.Inject(pooltest.Check, -1, pooltest.Hang())
					together(p, n, 0).wantServed(t, 200*time.Millisecond)
				})
			})
		}
	}
}

// The same where MaxSize leaves no place: dials take the places of the late checks.
func TestSilentlyDeadWithoutRoom(t *testing.T) {
	for _, size := range []int{1, 5, 50} {
		for _, n := range []int{1, 4, size} {
			t.Run(fmt.Sprintf("size %d borrowers %d", size, n), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					fake := &pooltest.Fake{}
					fake.Inject(pooltest.Open, -1, pooltest.Slow(time.Millisecond))
					p := idling(t, fake, size, pool.Config{MaxSize: size})
					time.Sleep(time.Minute)
					fake.Inject(pooltest.Check, -1, pooltest.Hang())
					together(p, n, 0).wantServed(t, 300*time.Millisecond)
				})
			})
		}
	}
}

// Late replies hold all places, and dials are quick. A dial takes the place of a late reset.
// Without a waiter, no reset is dropped.
func TestLateResetsGiveTheirPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		fake.Inject(pooltest.Open, -1, pooltest.Slow(2*time.Millisecond))
		fake.Inject(pooltest.Reset, -1, pooltest.Slow(800*time.Millisecond))
		p := idling(t, fake, 20, pool.Config{MaxSize: 20})
		soil := func() {
			var held []pool.Lease[conn]
			for range 20 {
				l := acquire(t, p)
				value(t, l).Soil()
				held = append(held, l)
			}
			for _, l := range held {
				l.Release(nil)
			}
		}
		soil()
		time.Sleep(time.Second)
		if s := p.Stat(); s.Opened != 20 || s.Idle != 20 {
			t.Fatalf("nobody waited: %+v", s)
		}
		soil()
		together(p, 5, time.Millisecond).wantServed(t, 100*time.Millisecond)
		time.Sleep(time.Second)
		if s := p.Stat(); s.Opened > 26 || s.CheckFailures > 0 {
			t.Errorf("%+v", s)
		}
	})
}

// Idle resources are silently dead, and the first dial hangs, too. The combination does not make
// the wait longer.
func TestHungDialBesideHungChecks(t *testing.T) {
	for _, known := range []bool{true, false} {
		for _, n := range []int{1, 4, 8} {
			for hung := range 3 {
				t.Run(fmt.Sprintf("known %t, borrowers %d, hung dials %d", known, n, hung), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						fake := &pooltest.Fake{}
						p := idling(t, fake, 8, pool.Config{MaxSize: 50})
						if known {
							time.Sleep(time.Minute)
							together(p, 8, 0)
						}
						time.Sleep(time.Minute)
						fake.Inject(pooltest.Check, -1, pooltest.Hang())
						fake.Inject(pooltest.Open, hung, pooltest.Hang())
						b := &borrowers{}
						var wg sync.WaitGroup
						for range n {
							wg.Go(func() { b.borrow(p, time.Second) })
							time.Sleep(20 * time.Millisecond)
						}
						wg.Wait()
						b.wantServed(t, aCheckAndADial)
					})
				})
			}
		}
	}
}

// A single call of the driver hangs, and a place is free.
func TestOneHungCall(t *testing.T) {
	for name, hang := range map[string]func(t *testing.T, fake *pooltest.Fake, p *pool.Pool[conn]){
		"keepalive": func(_ *testing.T, fake *pooltest.Fake, _ *pool.Pool[conn]) {
			fake.Inject(pooltest.Check, 1, pooltest.Hang())
			time.Sleep(10*time.Second + time.Millisecond) // the check has just begun
		},
		"reset": func(t *testing.T, fake *pooltest.Fake, p *pool.Pool[conn]) {
			fake.Inject(pooltest.Reset, 1, pooltest.Hang())
			l := acquire(t, p)
			value(t, l).Soil()
			l.Release(nil)
		},
		"close": func(t *testing.T, fake *pooltest.Fake, p *pool.Pool[conn]) {
			fake.Inject(pooltest.Close, 1, pooltest.Hang())
			acquire(t, p).Discard(nil)
		},
		"dial": func(t *testing.T, fake *pooltest.Fake, p *pool.Pool[conn]) {
			fake.Inject(pooltest.Open, 1, pooltest.Hang())
			acquire(t, p).Discard(nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fake := &pooltest.Fake{}
				p := idling(t, fake, 1, pool.Config{MaxSize: 2, KeepAlive: 10 * time.Second})
				hang(t, fake, p)
				together(p, 1, 0).wantServed(t, 150*time.Millisecond)
			})
		})
	}
}

// A single dial hangs among instant dials. No borrower waits for more than a moment, neither while
// the dial hangs nor when the dial fails.
func TestOneDialInABlackHole(t *testing.T) {
	for _, hold := range []time.Duration{0, 100 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			fake := &pooltest.Fake{}
			fake.Inject(pooltest.Open, 1, pooltest.Hang())
			p := newPool(t, fake, pool.Config{MaxSize: 30})
			all := &borrowers{}
			var wg sync.WaitGroup
			for range 25 { // one after the other
				wg.Go(func() { all.borrow(p, hold) })
				time.Sleep(10 * time.Millisecond)
			}
			wg.Wait()
			for range 800 { // until long after the failure of the dial
				all.borrow(p, 0)
				time.Sleep(10 * time.Millisecond)
			}
			all.wantServed(t, 150*time.Millisecond)
			if s := p.Stat(); s.OpenFailures != 1 {
				t.Errorf("got %+v", s)
			}
			if h := p.Check(background); h.Status != pool.StatusOK {
				t.Errorf("a later dial has succeeded, but the pool is %v: %v", h.Status, h.Reasons)
			}
		})
	}
}

// A hung dial does not delay Warm if there is a place for another dial.
func TestWarmBesideAHungDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		fake.Inject(pooltest.Open, 1, pooltest.Hang())
		p := newPool(t, fake, pool.Config{MaxSize: 8})
		at := time.Now()
		if err := p.Warm(background, 6); err != nil || time.Since(at) > 200*time.Millisecond {
			t.Errorf("warm after %v: %v", time.Since(at), err)
		}
	})
}

// Dials cancelled by Clear are no supply, whether they observe their context or not.
func TestClearDoesNotWaitForWhatItGaveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		stuck := make(chan struct{})
		fake.Inject(pooltest.Open, 4, func(context.Context) error { <-stuck; return pooltest.ErrBroken })
		p := newPool(t, fake, pool.Config{})
		var wg sync.WaitGroup
		b := &borrowers{}
		for range 4 {
			wg.Go(func() { b.borrow(p, 0) })
		}
		synctest.Wait()
		p.Clear()
		wg.Wait()
		b.wantServed(t, 0)
		close(stuck)
	})
}

// A driver method that ignores its context costs the place of its resource, and nothing else.
func TestDriverIgnoresItsContext(t *testing.T) {
	for _, step := range []pooltest.Step{pooltest.Open, pooltest.Check, pooltest.Reset, pooltest.Close} {
		t.Run(fmt.Sprint(step), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fake := &pooltest.Fake{}
				stuck := make(chan struct{})
				p := newPool(t, fake, pool.Config{MaxSize: 4})
				acquire(t, p).Release(nil)
				time.Sleep(time.Minute)
				fake.Inject(step, 3, func(context.Context) error { <-stuck; return pooltest.ErrBroken })
				for range 3 { // each call hangs and occupies a place
					l := acquire(t, p)
					switch step {
					case pooltest.Reset:
						value(t, l).Soil()
						l.Release(nil)
					case pooltest.Check:
						l.Release(nil)
						time.Sleep(time.Minute)
					default:
						l.Discard(nil)
					}
				}
				for range 50 {
					together(p, 3, time.Millisecond).wantServed(t, 150*time.Millisecond)
					time.Sleep(100 * time.Millisecond)
				}
				close(stuck)
			})
		})
	}
}

// A server that is gone, refusing or silent, gets few dials, however many borrowers wait. Until the
// first dial is late, the pool grows: it begins a dial for each free place.
func TestNoStormOfDials(t *testing.T) {
	for name, fault := range map[string]pooltest.Fault{"refused": pooltest.Fail(pooltest.ErrRefused), "hung": pooltest.Hang()} {
		for _, long := range []bool{false, true} { // whether a lease lasts long
			t.Run(fmt.Sprintf("%s lease %t", name, long), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					fake := &pooltest.Fake{}
					p := idling(t, fake, 10, pool.Config{MaxSize: 20})
					if long {
						defer acquire(t, p).Release(nil)
					}
					time.Sleep(2 * time.Second)
					var dials, under, most atomic.Int64
					fake.Inject(pooltest.Check, -1, fault)
					fake.Inject(pooltest.Open, -1, func(ctx context.Context) error {
						dials.Add(1)
						most.Store(max(most.Load(), under.Add(1)))
						defer under.Add(-1)
						return fault(ctx)
					})
					b := &borrowers{}
					var wg sync.WaitGroup
					begin := time.Now()
					for range 50 {
						wg.Go(func() {
							for time.Since(begin) < 10*time.Second {
								b.borrow(p, 0)
								time.Sleep(10 * time.Millisecond)
							}
						})
					}
					wg.Wait()
					t.Logf("%d dials, at most %d at once, %d told, the last after %v", dials.Load(), most.Load(), len(b.errs), b.worst)
					if dials.Load() > 40 || most.Load() > 10 {
						t.Errorf("%d dials in 10 s, %d at once", dials.Load(), most.Load())
					}
				})
			})
		}
	}
}

// A server that becomes slower and still answers costs no connections.
func TestSlowServerCausesNoChurn(t *testing.T) {
	for _, times := range []int{1, 2, 10, 100, 400} {
		t.Run(fmt.Sprint(times), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fake := &pooltest.Fake{}
				slow := func(by int) {
					fake.Inject(pooltest.Open, -1, pooltest.Slow(time.Duration(by)*2*time.Millisecond))
					fake.Inject(pooltest.Check, -1, pooltest.Slow(time.Duration(by)*2*time.Millisecond))
				}
				slow(1)
				p := idling(t, fake, 20, pool.Config{MaxSize: 20})
				time.Sleep(5 * time.Second)
				together(p, 20, 0)
				slow(times)
				for range 100 { // at long intervals, so each resource needs a check
					time.Sleep(3 * time.Second)
					together(p, 5, time.Millisecond).wantServed(t, 2*time.Second)
				}
				if s := p.Stat(); s.Opened > 24 {
					t.Errorf("%d times slower: %+v", times, s)
				}
			})
		})
	}
}

// A waiter whose first check has timed out gets a dial, though other checks are timely because
// earlier checks were slow. If this dial hangs, the waiter gets another dial.
func TestSecondCheckIsNotWaitedFor(t *testing.T) {
	for hung := range 4 {
		synctest.Test(t, func(t *testing.T) {
			fake := &pooltest.Fake{}
			slow := pooltest.Slow(900 * time.Millisecond)
			fake.Inject(pooltest.Check, -1, slow)
			p := idling(t, fake, 3, pool.Config{MaxSize: 12})
			for range 10 {
				time.Sleep(time.Minute)
				together(p, 3, 0)
			}
			time.Sleep(time.Minute)
			fake.Inject(pooltest.Check, 2, pooltest.Hang())
			fake.Inject(pooltest.Open, hung, pooltest.Hang())
			b := &borrowers{}
			var wg sync.WaitGroup
			for range 2 {
				wg.Go(func() { b.borrow(p, 0) })
				time.Sleep(500 * time.Millisecond)
			}
			fake.Inject(pooltest.Check, -1, slow)
			wg.Wait()
			b.wantServed(t, aCheckAndADial+time.Duration(hung)*50*time.Millisecond)
		})
	}
}

// The bound of a wait, under random schedules. With free places under MaxSize and OpenConcurrency
// and instant dials, a wait takes at most the timeout of a check and the time of a dial. Checks and
// resets hang, fail and are slow at random. Dials may hang as well, at most three at a time. Each
// hung dial then costs the time after which a dial is late, and this time doubles for each late
// call.
func TestBoundOfWaits(t *testing.T) {
	for hanging, bound := range map[int64]time.Duration{0: aCheckAndADial, 3: aCheckAndADial + time.Second} {
		for seed := range uint64(100) {
			synctest.Test(t, func(t *testing.T) {
				b := borrowAtRandom(t, rand.New(rand.NewPCG(seed, 1)), hanging)
				if len(b.errs) > 0 || b.worst > bound {
					t.Errorf("seed %d: the longest wait was %v, want %v; %d failed: %v", seed, b.worst, bound, len(b.errs), errors.Join(b.errs...))
				}
			})
		}
	}
}

// dice is a random source for concurrent use.
type dice struct {
	mu     sync.Mutex
	random *rand.Rand
}

func (d *dice) roll(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.random.IntN(n)
}

func (d *dice) upTo(most time.Duration) time.Duration { return time.Duration(d.roll(int(most))) }

// proof is a check or a reset that hangs, fails, is slow, or succeeds, at random.
func (d *dice) proof(ctx context.Context) error {
	switch d.roll(6) {
	case 0:
		return pooltest.Hang()(ctx)
	case 1:
		return pooltest.ErrBroken
	case 2:
		return pooltest.Slow(d.upTo(900 * time.Millisecond))(ctx)
	}
	return nil
}

// borrowAtRandom lets ten borrowers use a pool that always has free places.
func borrowAtRandom(t *testing.T, random *rand.Rand, hanging int64) *borrowers {
	d, fake := &dice{random: random}, &pooltest.Fake{}
	fake.Inject(pooltest.Check, -1, d.proof)
	fake.Inject(pooltest.Reset, -1, d.proof)
	var hung atomic.Int64
	fake.Inject(pooltest.Open, -1, func(ctx context.Context) error {
		if d.roll(10) > 0 || hung.Load() >= hanging {
			return nil
		}
		hung.Add(1)
		defer hung.Add(-1)
		return pooltest.Hang()(ctx)
	})
	p := newPool(t, fake, pool.Config{MaxSize: 200, OpenConcurrency: 20, KeepAlive: 3 * time.Second})
	all := &borrowers{}
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			for range 40 {
				all.use(p, func(l pool.Lease[conn]) {
					time.Sleep(d.upTo(200 * time.Millisecond))
					if c, ok := l.Value(); ok && d.roll(3) == 0 {
						c.Soil()
					}
					if d.roll(8) == 0 {
						l.Discard(nil)
					}
				})
				time.Sleep(d.upTo(3 * time.Second))
			}
		})
	}
	wg.Wait()
	if err := pool.CheckBooks(p); err != nil {
		t.Error(err)
	}
	return all
}

// TryAcquire at intervals longer than CheckAfter checks an idle resource, and gets the resource.
func TestTryAcquireWaitsForACheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		fake.Inject(pooltest.Check, -1, pooltest.Slow(time.Millisecond))
		p := idling(t, fake, 4, pool.Config{MaxSize: 4})
		for range 100 {
			time.Sleep(2 * time.Second)
			l, err := p.TryAcquire(background, op)
			if err != nil {
				t.Fatal(err)
			}
			l.Release(nil)
		}
		time.Sleep(2 * time.Second)
		var wg sync.WaitGroup
		for range 4 { // each call checks a single resource
			wg.Go(func() {
				l, err := p.TryAcquire(background, op)
				if err != nil {
					t.Error(err)
					return
				}
				time.Sleep(time.Second)
				l.Release(nil)
			})
		}
		wg.Wait()
		if s := p.Stat(); s.Refused != 0 || s.Opened != 4 {
			t.Errorf("got %+v", s)
		}
	})
}

// TryAcquire waits no longer than a timely check takes, and never waits for a dial or another
// borrower.
func TestTryAcquireDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		p := newPool(t, fake, pool.Config{MaxSize: 1})
		try := func(bound time.Duration) {
			t.Helper()
			at := time.Now()
			if _, err := p.TryAcquire(background, op); !errors.Is(err, pool.ErrExhausted) || time.Since(at) > bound {
				t.Errorf("after %v: %v, want ErrExhausted within %v", time.Since(at), err, bound)
			}
		}
		fake.Inject(pooltest.Open, 1, pooltest.Slow(time.Second))
		try(0) // begins the dial
		try(0)
		time.Sleep(time.Second)
		synctest.Wait()
		l := acquire(t, p)
		try(0) // another borrower holds the resource
		l.Release(nil)
		time.Sleep(time.Minute)
		fake.Inject(pooltest.Check, 1, pooltest.Hang())
		try(32 * time.Millisecond)
		try(0) // the check is late
	})
}

// A single hung dial does not make TryAcquire fail until the dial times out.
func TestTryAcquireBehindAHungDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		fake.Inject(pooltest.Open, 1, pooltest.Hang())
		p := newPool(t, fake, pool.Config{})
		refused := 0
		for ; refused < 500; refused++ {
			if l, err := p.TryAcquire(background, op); err == nil {
				l.Release(nil)
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if refused > 12 {
			t.Errorf("%d refusals", refused)
		}
	})
}

// hooks is a driver made of functions.
type hooks struct {
	open   func(ctx context.Context) error
	opened atomic.Int64
}

func (d *hooks) Open(ctx context.Context) (int, error) {
	if d.open != nil {
		if err := d.open(ctx); err != nil {
			return 0, err
		}
	}
	return int(d.opened.Add(1)), nil
}

func (d *hooks) Check(context.Context, int) error { return nil }
func (d *hooks) Close(context.Context, int) error { return nil }

func closePoolOf(t *testing.T, p *pool.Pool[int]) {
	t.Helper()
	ctx, c := context.WithTimeout(context.Background(), time.Minute)
	defer c()
	if err := p.Close(ctx); err != nil {
		t.Error(err)
	}
}

// The replies to most uses never come, and these uses need more places than the pool has. The few
// other uses are served all the same. After resets in vain, the pool closes a dirty resource at
// once, because a late reset would occupy the place for too long.
func TestResetsInVainHoldNoPlaces(t *testing.T) {
	for _, size := range []int{1, 4, 10} {
		synctest.Test(t, func(t *testing.T) {
			const deadline = 100 * time.Millisecond
			fake := &pooltest.Fake{}
			fake.Inject(pooltest.Open, -1, pooltest.Slow(time.Millisecond))
			fake.Inject(pooltest.Reset, -1, pooltest.Hang())
			p := newPool(t, fake, pool.Config{MaxSize: size})
			var served, failed, blamed atomic.Int64
			use := func(hangs bool) {
				ctx, cancel := context.WithTimeout(background, deadline)
				defer cancel()
				err := p.Do(ctx, op, func(ctx context.Context, c conn) error {
					if !hangs {
						return nil
					}
					c.Soil()
					d, _ := ctx.Deadline()
					time.Sleep(time.Until(d) - time.Millisecond)
					return pooltest.ErrDenied // the connection is intact
				})
				switch class := p.Classify(err); {
				case hangs && errors.Is(err, pooltest.ErrDenied):
				case class.Fault == driver.FaultServer:
					blamed.Add(1)
				case hangs:
				case err == nil:
					served.Add(1)
				default:
					failed.Add(1)
				}
			}
			var all sync.WaitGroup
			rate := 30 * size // in a second; nine of ten need a place for 100 ms
			for i := range 10 * rate {
				all.Go(func() { use(i%20 > 0) })
				time.Sleep(time.Second / time.Duration(rate))
			}
			all.Wait()
			t.Logf("size %d: %d served, %d failed, %d laid at the server", size, served.Load(), failed.Load(), blamed.Load())
			if failed.Load() > 0 || blamed.Load() > 0 {
				t.Errorf("size %d: %d served, %d failed, %d laid at the server", size, served.Load(), failed.Load(), blamed.Load())
			}
		})
	}
}
