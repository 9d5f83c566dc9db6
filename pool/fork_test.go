package pool_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"
	"weak"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// hedge starts a second attempt if the first attempt takes longer than delay. hedge takes the first
// successful attempt, cancels the other attempt, and waits for the end of the other attempt. So no
// function runs longer than its use. hedge shows the purpose of Fork. A use by Do cannot be forked.
type hedge struct{ delay time.Duration }

func (h hedge) Wrap(next pool.Handler) pool.Handler {
	type result struct {
		fork *pool.Call
		err  error
	}
	return func(ctx context.Context, c *pool.Call) error {
		results := make(chan result, 2)
		running, cancels := 0, map[*pool.Call]context.CancelFunc{}
		start := func(f *pool.Call) {
			attempt, cancel := context.WithCancel(ctx)
			f.OnEnd(func(error) { cancel() }) // with a lease: at Release, not at the grant
			cancels[f] = cancel
			running++
			go func() { results <- result{f, next(attempt, f)} }()
		}
		first := c.Fork()
		if first == nil {
			return next(ctx, c)
		}
		start(first)
		timer := time.NewTimer(h.delay)
		defer timer.Stop()
		var winner *pool.Call
		var err error
		for running > 0 {
			select {
			case <-timer.C:
				if winner == nil {
					start(c.Fork())
				}
			case r := <-results:
				running--
				delete(cancels, r.fork)
				if r.err == nil && winner == nil {
					winner = r.fork
					for _, cancel := range cancels {
						cancel()
					}
					continue
				}
				err = r.err
				r.fork.Drop()
			}
		}
		if winner == nil {
			return err
		}
		c.Adopt(winner)
		return nil
	}
}

func hedgedPool(t *testing.T) (*pool.Pool[conn], [2]*pooltest.Spy) {
	spies := [2]*pooltest.Spy{{}, {}}
	// There is a place for two attempts of every goroutine. If the slow first attempts held all
	// resources, the second attempts would get none.
	p := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 16},
		pool.Bracket(spies[0]), hedge{200 * time.Microsecond}, pool.Bracket(spies[1]))
	return p, spies
}

func balanced(t *testing.T, spies [2]*pooltest.Spy, outer int) {
	t.Helper()
	if begins, ends := spies[0].Counts(); begins != outer || ends != outer {
		t.Errorf("above the hedge %d begins and %d ends, want %d", begins, ends, outer)
	}
	if begins, ends := spies[1].Counts(); begins != ends || begins < outer {
		t.Errorf("below the hedge %d begins and %d ends", begins, ends)
	}
}

func TestHedgeInGet(t *testing.T) {
	p, spies := hedgedPool(t)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 50 {
				slow := make(chan struct{}, 1) // the first attempt receives from slow, and is slow
				slow <- struct{}{}
				got, err := pool.Get(background, p, op, func(ctx context.Context, c conn) (int, error) {
					select {
					case <-slow:
						<-ctx.Done() // until the hedge has chosen the other attempt
						return 0, ctx.Err()
					default:
						return g*1000 + i, c.Use(ctx)
					}
				})
				if got != g*1000+i || err != nil {
					t.Errorf("got %d, %v, want %d", got, err, g*1000+i)
				}
			}
		})
	}
	wg.Wait()
	balanced(t, spies, 400)
	if begins, _ := spies[1].Counts(); begins != 800 {
		t.Errorf("%d attempts, want 2 a use", begins)
	}
}

func TestHedgeInAcquire(t *testing.T) {
	p, spies := hedgedPool(t)
	p.CloseExpired()
	var wg sync.WaitGroup
	for range 32 { // more than resources, so some attempts wait long enough for a hedge
		wg.Go(func() {
			for range 50 {
				l, err := p.Acquire(background, op)
				if err != nil {
					t.Error(err)
					return
				}
				if c := value(t, l); c.Use(l.Context()) != nil || l.Context().Err() != nil {
					t.Error("the lease of the winner is not alive")
				}
				time.Sleep(10 * time.Microsecond)
				if !l.Release(nil) || l.Release(nil) {
					t.Error("a lease ends once")
				}
				if l.Context().Err() == nil {
					t.Error("the attempt's context outlives the lease")
				}
			}
		})
	}
	wg.Wait()
	balanced(t, spies, 1600)
	if n := p.Stat().InUse; n != 0 {
		t.Errorf("%d still lent", n)
	}
}

func TestForkOutcomes(t *testing.T) {
	fail := errors.New("all fail")
	p, spies := hedgedPool(t)
	if _, err := pool.Get(background, p, op, func(context.Context, conn) (int, error) { return 0, fail }); !errors.Is(err, fail) {
		t.Errorf("got %v", err)
	}
	if err := p.Do(background, op, use); err != nil { // not forked
		t.Error(err)
	}
	balanced(t, spies, 2)
	if err := spies[1].Last(); err != nil {
		t.Errorf("the end saw %v", err)
	}

	// A fork with a resource ends with ErrLost after Drop, and the pool lends the resource again.
	drop := pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
		return func(ctx context.Context, c *pool.Call) error {
			f := c.Fork()
			if err := next(ctx, f); err != nil {
				t.Error(err)
			}
			f.Drop()
			return next(ctx, c)
		}
	})
	spy, fake := &pooltest.Spy{}, &pooltest.Fake{}
	p = newPool(t, fake, pool.Config{MaxSize: 1}, drop, pool.Bracket(spy))
	l := acquire(t, p)
	if err := spy.Last(); !errors.Is(err, pool.ErrLost) {
		t.Errorf("the end of the dropped fork saw %v", err)
	}
	l.Release(nil)
	if opened, _, _, _ := fake.Counts(); opened != 1 {
		t.Errorf("%d connections opened: the dropped one was not lent on", opened)
	}
}

// The ends of a use are forgotten, even if the Call then serves only uses that fail early.
func TestEndsAreForgotten(t *testing.T) {
	// The Calls of the first use serve the other uses.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	refusing := false
	layer := pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
		return func(ctx context.Context, c *pool.Call) error {
			f := c.Fork()
			if refusing {
				f.Drop()
				return pooltest.ErrDenied
			}
			held, _ := ctx.Value(heldKey{}).(*[1 << 10]byte)
			f.OnEnd(func(error) { held[0]++ })
			if err := next(ctx, f); err != nil {
				f.Drop()
				return err
			}
			c.Adopt(f)
			return nil
		}
	})
	p := newPool(t, &pooltest.Fake{}, pool.Config{}, layer)
	var kept weak.Pointer[[1 << 10]byte]
	func() {
		held := new([1 << 10]byte)
		kept = weak.Make(held)
		l, err := p.Acquire(context.WithValue(background, heldKey{}, held), op)
		if err != nil {
			t.Fatal(err)
		}
		l.Release(nil)
	}()
	refusing = true
	for range 5 {
		for range 100 {
			_, _ = p.Acquire(background, op)
		}
		runtime.GC()
	}
	if kept.Value() != nil {
		t.Error("something is kept that a use held which is over")
	}
}

type heldKey struct{}
