package retry_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/middleware/retry"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// In an outage the budget bounds what retries add to the load.
func TestBudgetBoundsAmplification(t *testing.T) {
	for _, tc := range []struct {
		name string
		cfg  retry.Config
		want int // calls for 1000 uses, all of which fail
	}{
		{"default", retry.Config{}, 1100},
		{"small", retry.Config{BudgetBurst: 7}, 1007},
		{"none", retry.Config{Budget: -1}, 4000},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				seen, attempts := &recorder{}, &counter{}
				p, end := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 50}, seen, newRetry(t, tc.cfg), attempts)
				defer end()
				var wg sync.WaitGroup
				for range 1000 {
					wg.Go(func() {
						if err := p.Do(context.Background(), once, failing(pooltest.ErrRefused)); !errors.Is(err, pooltest.ErrRefused) {
							t.Errorf("got %v", err)
						}
					})
				}
				wg.Wait()
				if got := len(attempts.take()); got != tc.want {
					t.Errorf("%d calls, want %d", got, tc.want)
				}
				reasons := map[string]int{}
				for _, e := range seen.take() {
					if e.Kind == pool.EventGaveUp {
						reasons[e.Reason]++
					}
				}
				if n := reasons["budget"] + reasons["attempts"]; n != 1000 || (reasons["budget"] > 0) != (tc.cfg.Budget >= 0) {
					t.Errorf("gave up for %v, want 1000 in all, for the budget where there is one", reasons)
				}
			})
		})
	}
}

// Successes, and answers that are errors, pay for later retries.
func TestBudgetEarns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRetry(t, retry.Config{BudgetBurst: 2, Budget: 0.3})
		p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, r)
		defer end()
		step := func(name string, want float64, errs ...error) {
			t.Helper()
			_ = p.Do(context.Background(), once, failing(errs...))
			if got := r.Budget(); got != want {
				t.Errorf("after %s the budget is %v, want %v", name, got, want)
			}
		}
		step("a success, full", 2, nil)
		step("one retry that succeeds", 1.3, pooltest.ErrRefused, nil)
		step("a success", 1.6, nil)
		step("an answer", 1.9, pooltest.ErrReply)
		step("an answer to a retry", 1.2, pooltest.ErrRefused, pooltest.ErrMiss)
		step("an error that allows no retry", 1.2, pooltest.ErrDenied)
		step("one retry, no budget for two", 0.2, pooltest.ErrRefused)
		step("no retry", 0.2, pooltest.ErrRefused)
		for _, want := range []float64{0.5, 0.8, 1.1, 1.4, 1.7, 2, 2} {
			step("a success", want, nil)
		}
		step("one retry", 1.3, pooltest.ErrRefused, nil)
		step("a success", 1.6, nil)
		step("a success", 1.9, nil)
		step("a success, more than it holds", 2, nil)
	})
}

func TestBudgetConfigure(t *testing.T) {
	r := newRetry(t, retry.Config{BudgetBurst: 10})
	for _, step := range []struct {
		cfg  retry.Config
		want float64
	}{
		{retry.Config{BudgetBurst: 20}, 10},              // more room, no gift
		{retry.Config{BudgetBurst: 4}, 4},                // less room
		{retry.Config{Budget: 0.5, BudgetBurst: 10}, 4},  // more room again
		{retry.Config{Budget: -1}, 4},                    // not counted
		{retry.Config{Budget: 0.5, BudgetBurst: 10}, 10}, // switched on: full, as a new one
		{retry.Config{BudgetBurst: -1}, 10},              // refused
	} {
		err := r.Configure(step.cfg)
		if (err != nil) != (step.cfg.BudgetBurst < 0) || r.Budget() != step.want {
			t.Errorf("%+v: error %v, budget %v, want %v", step.cfg, err, r.Budget(), step.want)
		}
	}
}

// A budget that is switched on while the layer is in use has retries to give at once.
func TestBudgetSwitchedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRetry(t, retry.Config{Budget: -1})
		p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, r)
		defer end()
		if err := r.Configure(retry.Config{BudgetBurst: 7}); err != nil {
			t.Fatal(err)
		}
		if err := p.Do(context.Background(), once, failing(pooltest.ErrRefused, nil)); err != nil || r.Budget() != 6.5 {
			t.Errorf("got %v, the budget is %v, want a retry that succeeds, 6.5", err, r.Budget())
		}
	})
}

// A use begun under a higher limit may return tokens late. The tokens do not lift the budget above
// the current limit.
func TestBudgetConfiguredMeanwhile(t *testing.T) {
	for name, outcome := range map[string]error{"a success": nil, "an answer": pooltest.ErrReply, "a pause cut short": pooltest.ErrRefused} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRetry(t, retry.Config{BudgetBurst: 100, Budget: 1})
				p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, r)
				defer end()
				lower := func() {
					if err := r.Configure(retry.Config{BudgetBurst: 1, Budget: 1}); err != nil {
						t.Error(err)
					}
				}
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				_ = p.Do(ctx, once, func(context.Context, conn) error {
					if outcome == pooltest.ErrRefused { // it will pause, for 10 ms at least
						time.AfterFunc(time.Millisecond, func() { lower(); cancel() })
					} else {
						lower()
					}
					return outcome
				})
				if got := r.Budget(); got != 1 {
					t.Errorf("the budget is %v, want 1, which is all that it may hold", got)
				}
			})
		})
	}
}

// Many at once: no token is lost or made, whatever is configured meanwhile.
func TestBudgetRace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := retry.Config{BudgetBurst: 50, Budget: 0.5, InitialDelay: time.Microsecond, MaxDelay: time.Microsecond}
		r, attempts := newRetry(t, cfg), &counter{}
		p, end := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 8}, r, attempts)
		defer end()
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				for range 50 {
					_ = p.Do(context.Background(), once, failing(pooltest.ErrRefused, pooltest.ErrDenied))
					_ = p.Do(context.Background(), once, failing(nil))
					if err := r.Configure(cfg); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		retries := len(attempts.take()) - 2*16*50
		// A success may earn less than a half, when the bucket is full.
		if spent, most := float64(retries), 50+0.5*16*50; r.Budget() < 0 || spent+r.Budget() > most || spent < 50 {
			t.Errorf("%v tokens spent, %v left, want at most %v", spent, r.Budget(), most)
		}
	})
}
