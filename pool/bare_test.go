package pool_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// bareDriver is a Fake without the optional interfaces, so a release takes the lock once.
type bareDriver struct {
	driver.Driver[conn]
	driver.Classifier
}

func newBarePool(t *testing.T, cfg pool.Config, layers ...pool.Middleware) *pool.Pool[conn] {
	t.Helper()
	fake := &pooltest.Fake{}
	return newPoolOver(t, fake, bareDriver{fake, fake}, cfg, layers...)
}

// noLayers and twoLayers are the two kinds of stacks over a bareDriver.
func noLayers() []pool.Middleware { return nil }
func twoLayers() []pool.Middleware {
	return []pool.Middleware{pool.Bracket(&pooltest.Spy{}), pool.Bracket(&pooltest.Spy{})}
}

var stacks = map[string]func() []pool.Middleware{"no layers": noLayers, "layers": twoLayers}

// warmed is a pool that a single borrower has used 50 times.
func warmed(t *testing.T, cfg pool.Config, layers ...pool.Middleware) (p *pool.Pool[conn], uses int, last conn) {
	t.Helper()
	p = newBarePool(t, cfg, layers...)
	for range 50 {
		l := acquire(t, p)
		last = value(t, l)
		l.Release(nil)
		uses++
	}
	return p, uses, last
}

// Stat counts each use.
func TestUsesAreCounted(t *testing.T) {
	for name, layers := range stacks {
		t.Run(name, func(t *testing.T) { testBooks(t, layers()) })
	}
}

func testBooks(t *testing.T, layers []pool.Middleware) {
	t.Helper()
	p, uses, _ := warmed(t, pool.Config{MaxSize: 3}, layers...)
	if s := p.Stat(); s.Acquires != uint64(uses) || s.Idle != 1 || s.InUse != 0 || s.Opened != 1 {
		t.Errorf("after %d uses: %+v", uses, s)
	}
	for range 20 {
		acquire(t, p).Release(nil)
	}
	l := acquire(t, p)
	if s := p.Stat(); s.Acquires != uint64(uses+21) || s.Idle != 0 || s.InUse != 1 {
		t.Errorf("during use %d: %+v", uses+21, s)
	}
	if _, ok := l.Value(); !ok || !l.Release(nil) {
		t.Error("the lease was over when somebody had looked")
	}
	if _, ok := l.Value(); ok || l.Release(nil) || l.Discard(nil) {
		t.Error("a lease that is over is not")
	}
	if s := p.Stat(); s.Acquires != uint64(uses+21) || s.Idle != 1 || s.InUse != 0 {
		t.Errorf("in the end: %+v", s)
	}
}

func TestBarePoolKeepsTheRules(t *testing.T) {
	cfg := pool.Config{MaxSize: 3, CheckAfter: time.Second, MaxLifetime: time.Minute}
	for _, test := range []struct {
		name string
		do   func(t *testing.T, p *pool.Pool[conn], last conn)
	}{
		{"a stale lease does not reach the next", func(t *testing.T, p *pool.Pool[conn], _ conn) {
			stale := acquire(t, p)
			stale.Release(nil)
			l := acquire(t, p)
			if stale.Release(nil) || stale.Discard(nil) {
				t.Error("a stale lease ended another")
			}
			if _, ok := stale.Value(); ok {
				t.Error("a stale lease has a value")
			}
			if !l.Release(nil) {
				t.Error("the lease was over")
			}
		}},
		{"LIFO", func(t *testing.T, p *pool.Pool[conn], last conn) {
			a := acquire(t, p)
			b := acquire(t, p)
			a.Release(nil)
			b.Release(nil)
			l := acquire(t, p)
			defer l.Release(nil)
			if got := value(t, l); got == last {
				t.Errorf("got connection %d, which was not released last", got.ID)
			}
		}},
		{"an error that breaks it", func(t *testing.T, p *pool.Pool[conn], last conn) {
			acquire(t, p).Release(pooltest.ErrBroken)
			l := acquire(t, p)
			defer l.Release(nil)
			if got := value(t, l); got == last {
				t.Error("a broken connection was lent again")
			}
		}},
		{"a panic", func(t *testing.T, p *pool.Pool[conn], last conn) {
			func() {
				defer func() { _ = recover() }()
				_ = p.Do(background, op, func(context.Context, conn) error { panic("boom") })
			}()
			l := acquire(t, p)
			defer l.Release(nil)
			if got := value(t, l); got == last {
				t.Error("a connection was lent again after a panic")
			}
		}},
		{"Discard", func(t *testing.T, p *pool.Pool[conn], last conn) {
			if !acquire(t, p).Discard(nil) {
				t.Error("the lease was over")
			}
			l := acquire(t, p)
			defer l.Release(nil)
			if got := value(t, l); got == last {
				t.Error("a discarded connection was lent again")
			}
		}},
		{"Clear", func(t *testing.T, p *pool.Pool[conn], last conn) {
			lent := acquire(t, p)
			p.Clear()
			lent.Release(nil)
			l := acquire(t, p)
			defer l.Release(nil)
			if got := value(t, l); got == last {
				t.Error("a cleared connection was lent again")
			}
		}},
		{"Pause", func(t *testing.T, p *pool.Pool[conn], _ conn) {
			p.Pause(nil)
			if _, err := p.Acquire(background, op); err == nil {
				t.Error("a paused pool lent a connection")
			}
		}},
		{"a context that is over", func(t *testing.T, p *pool.Pool[conn], _ conn) {
			ctx, cancel := context.WithCancel(background)
			cancel()
			if _, err := p.Acquire(ctx, op); err == nil {
				t.Error("a use whose context was over got a connection")
			}
		}},
		{"the lifetime", func(t *testing.T, p *pool.Pool[conn], last conn) {
			for range 100 { // the idle time stays below CheckAfter
				time.Sleep(700 * time.Millisecond)
				for range 20 {
					acquire(t, p).Release(nil)
				}
			}
			l := acquire(t, p)
			defer l.Release(nil)
			if got := value(t, l); got == last {
				t.Error("a connection beyond its lifetime was lent again")
			}
		}},
		{"a waiter", func(t *testing.T, p *pool.Pool[conn], _ conn) {
			if err := p.Configure(pool.Config{MaxSize: 1}); err != nil {
				t.Fatal(err)
			}
			for range 20 {
				acquire(t, p).Release(nil)
			}
			lent := acquire(t, p)
			var got atomic.Bool
			go func() {
				l, err := p.Acquire(background, op)
				got.Store(err == nil)
				l.Release(nil)
			}()
			synctest.Wait()
			lent.Release(nil)
			synctest.Wait()
			if !got.Load() {
				t.Error("the waiter got nothing")
			}
		}},
		{"Close waits for it", func(t *testing.T, p *pool.Pool[conn], _ conn) {
			lent := acquire(t, p)
			time.AfterFunc(time.Second, func() { lent.Release(nil) })
			start := time.Now()
			if err := p.Close(background); err != nil || time.Since(start) != time.Second {
				t.Errorf("Close returned %v after %v", err, time.Since(start))
			}
		}},
	} {
		for name, layers := range stacks {
			t.Run(test.name+", "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p, _, last := warmed(t, cfg, layers()...)
					test.do(t, p, last)
				})
			})
		}
	}
}

// A few borrowers use a pool. A connection has at most one borrower at a time, no connection is
// lost, each lease ends once, and the counters are right at the end.
func TestBarePoolUnderStress(t *testing.T) {
	for name, layers := range stacks {
		t.Run(name, func(t *testing.T) {
			acquired, s := stressBarePool(t, layers())
			if s.Acquires != acquired {
				t.Errorf("after %d leases: %+v", acquired, s)
			}
		})
	}
	t.Run("forks", func(t *testing.T) { // the layer acquires more often than the borrowers
		layers := append(twoLayers(), hedge{20 * time.Microsecond})
		if acquired, s := stressBarePool(t, append(layers, twoLayers()...)); s.Acquires < acquired {
			t.Errorf("after %d leases: %+v", acquired, s)
		}
	})
}

func stressBarePool(t *testing.T, layers []pool.Middleware) (leases uint64, end pool.Stat) {
	t.Helper()
	const borrowers, each, most = 3, 20_000, 4
	p := newBarePool(t, pool.Config{MaxSize: most}, layers...)
	hands := map[int]*atomic.Int32{}
	var mu sync.Mutex
	hand := func(c conn) *atomic.Int32 {
		mu.Lock()
		defer mu.Unlock()
		if hands[c.ID] == nil {
			hands[c.ID] = new(atomic.Int32)
		}
		return hands[c.ID]
	}
	var acquired, ended atomic.Uint64
	var wg sync.WaitGroup
	for range borrowers {
		wg.Go(func() {
			for n := range each {
				l, err := p.Acquire(background, op)
				if err != nil {
					t.Errorf("Acquire: %v", err)
					return
				}
				acquired.Add(1)
				c, ok := l.Value()
				if !ok || hand(c).Add(1) != 1 {
					t.Errorf("connection %d is in two hands, or its lease over", c.ID)
				}
				hand(c).Add(-1)
				twice := func() {
					if n%97 == 0 && l.Discard(nil) || n%31 == 0 && l.Release(pooltest.ErrReply) || l.Release(nil) {
						ended.Add(1)
					}
				}
				if n%13 == 0 {
					wg.Go(twice)
				}
				twice()
				if n%500 == 0 {
					time.Sleep(time.Duration(rand.IntN(300)) * time.Microsecond)
				}
			}
		})
	}
	stop := make(chan struct{})
	var meddler sync.WaitGroup
	meddler.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(rand.IntN(200)) * time.Microsecond):
			}
			switch i % 5 {
			case 0:
				p.Clear()
			case 1:
				if err := p.Configure(pool.Config{MaxSize: 2 + rand.IntN(3)}); err != nil {
					t.Error(err)
				}
			case 2:
				p.CloseExpired()
			default:
				if s := p.Stat(); s.Idle+s.InUse+s.Opening+s.Checking+s.Closing > 8 || s.InUse > most {
					t.Errorf("the books are wrong: %+v", s)
				}
			}
		}
	})
	wg.Wait()
	close(stop)
	meddler.Wait()
	if a, e := acquired.Load(), ended.Load(); a != e || a != borrowers*each {
		t.Errorf("%d leases, %d ended, want %d", a, e, borrowers*each)
	}
	if end = p.Stat(); end.InUse != 0 || end.Waiters != 0 {
		t.Errorf("in the end, after %d leases: %+v", acquired.Load(), end)
	}
	return acquired.Load(), end
}

// oneProc keeps the records of uses on a single processor, so sync.Pool finds each record again.
func oneProc(t *testing.T) {
	t.Helper()
	before := runtime.GOMAXPROCS(1)
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
}

// A use that holds a resource adopts a fork without a resource, and calls next again. The use then
// holds two resources, and returns both.
func TestFailedForkBesideGrant(t *testing.T) {
	oneProc(t)
	type refused struct{}
	var forking bool
	outer := pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
		return func(ctx context.Context, c *pool.Call) error {
			err := next(ctx, c)
			if err != nil || !forking {
				return err
			}
			f := c.Fork()
			if err := next(context.WithValue(ctx, refused{}, true), f); !errors.Is(err, errFickle) {
				return err
			}
			c.Adopt(f)
			return next(ctx, c)
		}
	})
	inner := pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
		return func(ctx context.Context, c *pool.Call) error {
			if ctx.Value(refused{}) != nil {
				return errFickle
			}
			return next(ctx, c)
		}
	})
	p, uses, _ := warmed(t, pool.Config{MaxSize: 3}, outer, inner)
	forking = true
	l := acquire(t, p)
	if s := p.Stat(); s.InUse != 2 || s.Acquires != uint64(uses+2) {
		t.Errorf("during use %d, which holds two: %+v", uses+1, s)
	}
	if !l.Release(nil) {
		t.Error("the lease was over")
	}
	if s := p.Stat(); s.InUse != 0 || s.Idle != 2 {
		t.Errorf("in the end: %+v", s)
	}
}

// A layer breaks the contract and returns while next is running. The record of the use then serves
// another use, but the connection must not.
func TestAbandonedNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		impatient := false
		layer := pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
			return func(ctx context.Context, c *pool.Call) error {
				if !impatient {
					return next(ctx, c)
				}
				go func() { _ = next(ctx, c) }()
				synctest.Wait()
				return errFickle
			}
		})
		p := newBarePool(t, pool.Config{MaxSize: 3}, layer)
		for range 50 {
			if err := p.Do(background, op, func(context.Context, conn) error { return nil }); err != nil {
				t.Fatal(err)
			}
		}
		release, held := make(chan struct{}), 0
		impatient = true
		err := p.Do(background, op, func(_ context.Context, c conn) error {
			held = c.ID
			<-release
			return nil
		})
		if !errors.Is(err, errFickle) {
			t.Fatal(err)
		}
		impatient = false
		for range 20 {
			err := p.Do(background, op, func(_ context.Context, c conn) error {
				if c.ID == held {
					t.Errorf("connection %d is in two hands", held)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		close(release)
		synctest.Wait()
		if s := p.Stat(); s.InUse != 0 || s.Idle != 2 {
			t.Errorf("in the end: %+v", s)
		}
	})
}

// A single borrower uses a pool in every way and needs a single connection. The other connections,
// opened for a burst, are closed after MaxIdleTime.
func TestUnusedGrowOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newBarePool(t, pool.Config{MaxSize: 10, MaxIdleTime: 10 * time.Second}, twoLayers()...)
		var burst []pool.Lease[conn]
		for range 10 {
			burst = append(burst, acquire(t, p))
		}
		for _, l := range burst {
			l.Release(nil)
		}
		number := func(_ context.Context, c conn) (int, error) { return c.ID, nil }
		text := func(context.Context, conn) (string, error) { return "", nil }
		for start := time.Now(); time.Since(start) < 2*time.Minute; time.Sleep(100 * time.Millisecond) {
			for range 5 {
				_ = p.Do(background, op, func(context.Context, conn) error { return nil })
				_, _ = pool.Get(background, p, op, number)
				_, _ = pool.Get(background, p, op, text)
				acquire(t, p).Release(nil)
			}
		}
		if s := p.Stat(); s.Idle > 1 {
			t.Errorf("one borrower keeps %d connections: %+v", s.Idle, s)
		}
	})
}

// When a connection turns out to be broken, the others are checked before they are lent.
func TestSuspicionOfTheOthers(t *testing.T) {
	for name, layers := range stacks {
		t.Run(name, func(t *testing.T) {
			fake := &pooltest.Fake{}
			p := newPoolOver(t, fake, bareDriver{fake, fake}, pool.Config{MaxSize: 4}, layers()...)
			broken := acquire(t, p)
			for range 50 {
				acquire(t, p).Release(nil)
			}
			broken.Release(pooltest.ErrBroken)
			fake.Inject(pooltest.Check, 1, pooltest.Fail(pooltest.ErrBroken))
			acquire(t, p).Release(nil)
			if s := p.Stat(); s.CheckFailures != 1 {
				t.Errorf("it was lent without a check: %+v", s)
			}
		})
	}
}

// The record of an earlier use does not keep a closed connection in memory.
func TestRecordsKeepNothingAlive(t *testing.T) {
	skipUnderRace(t) // sync.Pool drops records at random under the race detector
	oneProc(t)
	p := newBarePool(t, pool.Config{MaxSize: 2, MinIdle: 1, CheckAfter: -1}, twoLayers()...)
	if err := p.Warm(background, 2); err != nil {
		t.Fatal(err)
	}
	bottom, top := acquire(t, p), acquire(t, p)
	bottom.Release(nil) // stays at the bottom of the stack
	top.Release(nil)
	const rounds = 20
	var freed atomic.Int32
	for range rounds {
		for range 2 * 10 {
			acquire(t, p).Release(nil)
		}
		for range 3 {
			runtime.GC() // drops the record of the use
		}
		l := acquire(t, p)
		runtime.AddCleanup(value(t, l), func(int) { freed.Add(1) }, 0)
		l.Discard(nil)
		for p.Stat().Closing > 0 {
			runtime.Gosched()
		}
		if err := p.Warm(background, 2); err != nil {
			t.Fatal(err)
		}
	}
	awaitFreed(t, &freed, rounds, 4)
}

// awaitFreed waits until at most kept of n closed connections are still in memory. Records in use
// and the stack of the goroutine may keep a few connections.
func awaitFreed(t *testing.T, freed *atomic.Int32, n, kept int32) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); freed.Load() < n-kept && time.Now().Before(deadline); {
		runtime.GC()
		time.Sleep(time.Millisecond)
	}
	if f := freed.Load(); f < n-kept {
		t.Errorf("of %d closed connections %d are still in memory", n, n-f)
	}
}

// An open resource does not keep in memory the other resources served by the record of its last
// lease.
func TestLivingResourcesKeepNothingAlive(t *testing.T) {
	skipUnderRace(t) // sync.Pool drops records at random under the race detector
	t.Run("by its ends", func(t *testing.T) { testKeepsNothing(t, func(*pool.Pool[conn]) {}) })
	t.Run("by its record", func(t *testing.T) {
		testKeepsNothing(t, func(p *pool.Pool[conn]) {
			for range 2 * 10 {
				acquire(t, p).Release(nil)
			}
			forgetRecords()
		})
	})
}

// testKeepsNothing uses a first resource with a record. The same record then serves a second
// resource, after a call of serve, and the second resource is discarded. Uses with other records
// keep the first resource open.
func testKeepsNothing(t *testing.T, serve func(p *pool.Pool[conn])) {
	oneProc(t)
	const rounds = 8
	p := newBarePool(t, pool.Config{MaxSize: 2 * rounds, CheckAfter: -1}, twoLayers()...)
	var (
		freed atomic.Int32
		end   = make(chan struct{})
		held  sync.WaitGroup
	)
	hold := func(end chan struct{}) {
		began := make(chan struct{})
		held.Go(func() {
			_ = p.Do(background, op, func(context.Context, conn) error { close(began); <-end; return nil })
		})
		<-began
	}
	for range rounds {
		acquire(t, p).Release(nil)
		pass := make(chan struct{})
		hold(pass)
		serve(p)
		l := acquire(t, p)
		runtime.AddCleanup(value(t, l), func(int) { freed.Add(1) }, 0)
		l.Discard(nil)
		for p.Stat().Closing > 0 {
			runtime.Gosched()
		}
		forgetRecords()
		close(pass)
		for p.Stat().Idle == 0 {
			runtime.Gosched()
		}
		hold(end)
	}
	awaitFreed(t, &freed, rounds, 2)
	close(end)
	held.Wait()
}

// forgetRecords makes sync.Pool drop all unused records.
func forgetRecords() {
	for range 3 {
		runtime.GC()
	}
}
