package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/middleware"
	"github.com/earnorm/poolstack/middleware/breaker"
	"github.com/earnorm/poolstack/middleware/retry"
	"github.com/earnorm/poolstack/middleware/timeout"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// saturate makes uses of a command at a steady rate over a pool of ten connections, and returns how
// many were served.
func saturate(t *testing.T, rate int, caller time.Duration, layers ...pool.Middleware) (served int, s pool.Stat) {
	fake := &pooltest.Fake{}
	fake.Inject(pooltest.Use, -1, pooltest.Slow(100*time.Millisecond))
	p, end := newPool(t, fake, pool.Config{MaxSize: 10}, layers...)
	defer end()
	var ok atomic.Int64
	var uses sync.WaitGroup
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for range rate * 60 {
		uses.Go(func() {
			ctx := context.Background()
			if caller > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, caller)
				defer cancel()
			}
			if p.Do(ctx, pool.Op{Name: "GET", Idempotent: true}, func(ctx context.Context, c conn) error { return c.Use(ctx) }) == nil {
				ok.Add(1)
			}
		})
		<-tick.C
	}
	uses.Wait()
	return int(ok.Load()), p.Stat()
}

// A healthy server gets more uses than the pool's connections can carry. Queueing is not attributed
// to the server. (With an earlier stack, the breaker opened and rejected about 500 of the 6,600
// uses, and more than 300 connections were closed as broken.)
func TestSaturatedPool(t *testing.T) {
	for _, load := range []struct {
		rate   int
		caller time.Duration // the callers' deadlines, 0 for none
	}{{110, 0}, {110, time.Second}, {300, 5 * time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			bare, _ := saturate(t, load.rate, load.caller)
			stack := standard(t, quiet())
			served, s := saturate(t, load.rate, load.caller, stack.Layers()...)
			b := stack.Breaker.Snapshot()
			if load.caller == 0 && s.Closed[pool.CloseBroken] > 0 || b.Opened > 0 || served < bare {
				t.Errorf("%+v: served %d, %d without layers; %d connections closed as broken; the breaker opened %d times and refused %d",
					load, served, bare, s.Closed[pool.CloseBroken], b.Opened, b.Refused)
			}
			t.Logf("%+v: %d of %d served, %d without layers, %d closed as broken", load, served, load.rate*60, bare, s.Closed[pool.CloseBroken])
		})
	}
}

// An attempt begins with 5 ms of the total limit left, because the use had to wait. Its failure is
// no evidence against a server that needs 20 ms. If the server had nearly all of the time, the
// failure is evidence.
func TestTotalPassesInAnAttempt(t *testing.T) {
	for _, tc := range []struct {
		held time.Duration // by another borrower
		want breaker.State
	}{{995 * time.Millisecond, breaker.StateClosed}, {0, breaker.StateOpen}} {
		synctest.Test(t, func(t *testing.T) {
			o, fake := quiet(), &pooltest.Fake{}
			o.Total.Limit = time.Second
			stack := standard(t, o)
			p, end := newPool(t, fake, pool.Config{MaxSize: 1}, stack.Layers()...)
			defer end()
			do := func() error {
				return p.Do(context.Background(), pool.Op{Name: "GET", Idempotent: true}, func(ctx context.Context, c conn) error {
					return c.Use(ctx)
				})
			}
			fake.Inject(pooltest.Use, 100, pooltest.Slow(20*time.Millisecond))
			for range 100 {
				if err := do(); err != nil {
					t.Fatal(err)
				}
			}
			fake.Inject(pooltest.Use, -1, pooltest.Hang())
			var err error
			for range 20 {
				if tc.held > 0 {
					l, err := p.Acquire(context.Background(), pool.Op{})
					if err != nil {
						t.Fatal(err)
					}
					time.AfterFunc(tc.held, func() { l.Release(nil) })
				}
				err = do()
			}
			if got := stack.Breaker.State(); got != tc.want && (tc.want == breaker.StateClosed || got == breaker.StateClosed) {
				t.Errorf("after waits of %v the breaker is %v, want %v: %v", tc.held, got, tc.want, err)
			}
		})
	}
}

// A cursor, a transaction or a subscription: a lease lives for as long as its borrower needs, with
// the defaults of the standard stack.
func TestLongLease(t *testing.T) {
	for _, step := range []string{"at once", "after a retry"} {
		synctest.Test(t, func(t *testing.T) {
			stack, fake := standard(t, quiet()), &pooltest.Fake{}
			p, end := newPool(t, fake, pool.Config{OpenBackoff: time.Millisecond}, stack.Layers()...)
			defer end()
			if step == "after a retry" { // the pause waits on the context that the total limit is on
				fake.Inject(pooltest.Open, 1, pooltest.Fail(pooltest.ErrBroken))
			}
			l, err := p.Acquire(context.Background(), pool.Op{Name: "cursor"})
			if err != nil {
				t.Fatal(err)
			}
			c, _ := l.Value()
			for second := range 60 {
				time.Sleep(time.Second)
				if err := c.Use(l.Context()); err != nil || l.Context().Err() != nil {
					t.Fatalf("%s, second %d: %v, %v", step, second, err, l.Context().Err())
				}
			}
			if !l.Release(nil) {
				t.Errorf("%s: the lease was over", step)
			}
			if s, b := p.Stat(), stack.Breaker.Snapshot(); s.Idle != 1 || b.State != breaker.StateClosed {
				t.Errorf("%s: %+v, the breaker %+v", step, s, b)
			}
		})
	}
}

// An operation meant to block has a negative Op.Limit. Time that runs out in the operation is
// nobody's failure, whether the time was the caller's or a layer's. All other outcomes count.
func TestBlockingOperation(t *testing.T) {
	block := func(ctx context.Context, _ conn) error { <-ctx.Done(); return ctx.Err() }
	for _, tc := range []struct {
		name     string
		fn       func(context.Context, conn) error
		caller   time.Duration // 0 for none
		limit    time.Duration
		ok       bool
		failures bool
	}{
		{
			"longer than the attempt's limit", func(context.Context, conn) error { time.Sleep(5 * time.Second); return nil },
			0, -1, true, false,
		},
		{
			"nothing came", func(context.Context, conn) error { time.Sleep(5 * time.Second); return pooltest.ErrMiss },
			0, -1, false, false,
		},
		{"longer than the total limit", block, 0, -1, false, false},
		{"longer than the caller's time", block, 5 * time.Second, -1, false, false},
		{"a limit of its own", func(context.Context, conn) error { time.Sleep(5 * time.Second); return nil }, 0, 8 * time.Second, true, false},
		{"longer than a limit of its own", block, 0, 5 * time.Second, false, true},
		{"the layer's limit", block, 0, 0, false, true},
		{
			"cut", func(context.Context, conn) error { time.Sleep(time.Second); return pooltest.ErrBroken },
			0, -1, false, true,
		},
	} {
		for _, twoStep := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, two steps %t", tc.name, twoStep), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					if twoStep && tc.caller == 0 && tc.limit <= 0 {
						tc.caller = 20 * time.Second // nothing else bounds a lease
					}
					stack, fake := standard(t, quiet()), &pooltest.Fake{}
					p, end := newPool(t, fake, pool.Config{}, stack.Layers()...)
					defer end()
					var err error
					for range 20 {
						err = once(p, tc.caller, pool.Op{Name: "BLPOP", Limit: tc.limit}, twoStep, tc.fn)
					}
					s := stack.Breaker.Snapshot()
					failures := s.Counts.Failures > 0 || s.Opened > 0
					want := tc.failures
					if twoStep && tc.limit == 0 {
						want = false // the layer's limit does not bound a lease
					}
					if (err == nil) != tc.ok || failures != want {
						t.Errorf("%v; the breaker: %+v, want failures %t", err, s, want)
					}
				})
			})
		}
	}
}

// once makes one use, with a deadline of the caller's unless that is 0.
func once(p *pool.Pool[conn], caller time.Duration, op pool.Op, twoStep bool, fn func(context.Context, conn) error) error {
	ctx := context.Background()
	if caller > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, caller)
		defer cancel()
	}
	if !twoStep {
		return p.Do(ctx, op, fn)
	}
	l, err := p.Acquire(ctx, op)
	if err != nil {
		return err
	}
	c, _ := l.Value()
	return l.Finish(fn(l.Context(), c))
}

// house is a third party's layer that bounds the attempts.
type house struct {
	limit atomic.Int64
	pools pool.Attached
}

func (h *house) Wrap(next pool.Handler) pool.Handler               { return next }
func (h *house) Attach(p pool.PoolInfo) (detach func(), err error) { return h.pools.Add(p), nil }
func (h *house) Describe() pool.LayerInfo {
	return pool.LayerInfo{Layer: "house.limit", Role: pool.RoleAttempt, Limit: time.Duration(h.limit.Load())}
}

func (h *house) configure(limit time.Duration) error {
	h.limit.Store(int64(limit))
	h.pools.Emit(pool.Event{Kind: pool.EventConfigured, Layer: "house.limit"})
	return nil
}

// A change of settings may make limits defeat one another. Then the pool warns once for each such
// pair, whatever layer was configured, a third party's layer included.
func TestLimitsThatDefeatOneAnother(t *testing.T) {
	o, house, seen := quiet(), &house{}, &recorder{kinds: []pool.EventKind{pool.EventWarning}}
	o.Without = []string{middleware.KindAttempt}
	house.limit.Store(int64(3 * time.Second))
	stack := standard(t, o)
	p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, append(stack.Layers(), house, seen)...)
	defer end()
	take := func() (warnings []string) {
		for _, e := range seen.take() {
			warnings = append(warnings, e.Reason)
		}
		return warnings
	}
	if got := take(); got != nil {
		t.Errorf("New warns of the defaults: %q", got)
	}
	for _, step := range []struct {
		name      string
		configure func() error
		want      string // a part of the one warning; "" for none
	}{
		{"many attempts", func() error { return stack.Retry.Configure(retry.Config{MaxAttempts: 50}) }, "up to 50 attempts"},
		{"as many", func() error { return stack.Retry.Configure(retry.Config{MaxAttempts: 50, Multiplier: 3}) }, ""},
		{"few attempts", func() error { return stack.Retry.Configure(retry.Config{}) }, ""},
		{"many again", func() error { return stack.Retry.Configure(retry.Config{MaxAttempts: 50}) }, "up to 50 attempts"},
		{"few again", func() error { return stack.Retry.Configure(retry.Config{}) }, ""},
		{"a long wait", func() error { return p.Configure(pool.Config{AcquireTimeout: 4 * time.Second}) },
			"AcquireTimeout (4s) is longer than house.limit (3s)"},
		{"the default wait", func() error { return p.Configure(pool.Config{}) }, ""},
		{"a short total", func() error { return stack.Total.Configure(timeout.Config{Limit: 2 * time.Second}) },
			"house.limit (3s) never expires: timeout.total (2s)"},
		{"a short attempt", func() error { return house.configure(time.Second) }, "AcquireTimeout (2s) is longer than house.limit (1s)"},
		{"all is well", func() error {
			return errors.Join(p.Configure(pool.Config{AcquireTimeout: time.Second}), stack.Total.Configure(timeout.Config{}))
		}, ""},
		{"no attempt's limit", func() error { return house.configure(0) }, "retry without a timeout for each attempt"},
		{"a long attempt", func() error { return house.configure(20 * time.Second) }, "house.limit (20s) never expires: timeout.total (10s)"},
		{"no total", func() error { return stack.Total.Configure(timeout.Config{Limit: -1}) }, "retry without a timeout for the whole use"},
	} {
		if err := step.configure(); err != nil {
			t.Fatal(err)
		}
		// This warning is not the subject of the test.
		got := slices.DeleteFunc(take(), func(w string) bool { return strings.Contains(w, "gives a probe up") })
		if step.want == "" && got != nil || step.want != "" && (len(got) != 1 || !strings.Contains(got[0], step.want)) {
			t.Errorf("%s: warnings %q, want %q", step.name, got, step.want)
		}
	}
}
