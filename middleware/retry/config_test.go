package retry_test

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/middleware/retry"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

func TestDefaults(t *testing.T) {
	want := retry.Config{
		MaxAttempts: 4, InitialDelay: 50 * time.Millisecond, MaxDelay: time.Second, Multiplier: 2, Jitter: 0.8, Budget: 0.5,
		BudgetBurst: 100,
	}
	if got := newRetry(t, retry.Config{}).Effective(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for _, tc := range []struct{ cfg, want retry.Config }{
		{retry.Config{InitialDelay: time.Minute}, retry.Config{InitialDelay: time.Minute, MaxDelay: time.Minute}},
		{retry.Config{MaxDelay: time.Millisecond}, retry.Config{InitialDelay: time.Millisecond, MaxDelay: time.Millisecond}},
		{retry.Config{MaxDelay: time.Minute}, retry.Config{InitialDelay: 50 * time.Millisecond, MaxDelay: time.Minute}},
	} {
		got := newRetry(t, tc.cfg).Effective()
		if got.InitialDelay != tc.want.InitialDelay || got.MaxDelay != tc.want.MaxDelay {
			t.Errorf("%+v: delays %v to %v, want %v to %v", tc.cfg, got.InitialDelay, got.MaxDelay, tc.want.InitialDelay, tc.want.MaxDelay)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, tc := range []struct {
		cfg  retry.Config
		want string // "" for none
	}{
		{retry.Config{}, ""},
		{retry.Config{MaxAttempts: 1, InitialDelay: 1, MaxDelay: 1, Multiplier: 1, Jitter: 1, Budget: 1, BudgetBurst: 1}, ""},
		{retry.Config{Jitter: -1, Budget: -1}, ""},
		{retry.Config{MaxAttempts: -3}, "retry: MaxAttempts is -3: must be 0 (default 4) or more"},
		{retry.Config{InitialDelay: -time.Second}, "retry: InitialDelay is -1s: must be 0 (default 50ms) or more"},
		{retry.Config{MaxDelay: -time.Second}, "retry: MaxDelay is -1s: must be 0 (default 1s) or at least InitialDelay, which is 0s"},
		{
			retry.Config{InitialDelay: time.Second, MaxDelay: time.Millisecond},
			"retry: MaxDelay is 1ms: must be 0 (default 1s) or at least InitialDelay, which is 1s",
		},
		{retry.Config{Multiplier: 0.5}, "retry: Multiplier is 0.5: must be 0 (default 2) or from 1 on"},
		{retry.Config{Multiplier: math.NaN()}, "retry: Multiplier is NaN: must be 0 (default 2) or from 1 on"},
		{retry.Config{Multiplier: math.Inf(1)}, "retry: Multiplier is +Inf: must be 0 (default 2) or from 1 on"},
		{retry.Config{Jitter: 1.1}, "retry: Jitter is 1.1: must be 0 (default 0.8), up to 1, or negative (none)"},
		{retry.Config{Jitter: math.NaN()}, "retry: Jitter is NaN: must be 0 (default 0.8), up to 1, or negative (none)"},
		{retry.Config{Budget: 2}, "retry: Budget is 2: must be 0 (default 0.5), up to 1, or negative (no budget)"},
		{retry.Config{BudgetBurst: -1}, "retry: BudgetBurst is -1: must be between 0 (default 100, or the MaxSizes of the pools) and 2147483647"},
		{
			retry.Config{MaxAttempts: -1, Budget: 2},
			"retry: MaxAttempts is -1: must be 0 (default 4) or more\n" +
				"retry: Budget is 2: must be 0 (default 0.5), up to 1, or negative (no budget)",
		},
	} {
		_, err := retry.New(tc.cfg)
		if (err == nil) != (tc.want == "") || err != nil && err.Error() != tc.want {
			t.Errorf("%+v: got %v, want %q", tc.cfg, err, tc.want)
		}
	}
}

func TestConfigure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, attempts := newRetry(t, retry.Config{}), &counter{}
		p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, r, attempts)
		defer end()
		before := r.Config()
		if r.Configure(retry.Config{MaxAttempts: -1}) == nil || r.Config() != before {
			t.Errorf("a bad configuration was accepted: %+v", r.Config())
		}
		_ = p.Do(context.Background(), once, func(context.Context, conn) error {
			if err := r.Configure(retry.Config{MaxAttempts: 5}); err != nil {
				t.Error(err)
			}
			return pooltest.ErrRefused
		})
		if n := len(attempts.take()); n != 4 {
			t.Errorf("%d attempts of a use under way, want 4", n)
		}
		_ = p.Do(context.Background(), once, failing(pooltest.ErrRefused))
		if n := len(attempts.take()); n != 5 {
			t.Errorf("%d attempts, want 5", n)
		}
	})
}

func TestDescribe(t *testing.T) {
	want := pool.LayerInfo{Layer: "retry", Role: pool.RoleRetry, Multiplier: 4, Settings: map[string]string{
		"max_attempts": "4", "initial_delay": "50ms", "max_delay": "1s", "multiplier": "2", "jitter": "0.8",
		"budget": "0.5", "budget_burst": "100",
	}}
	got := newRetry(t, retry.Config{MaxAttempts: 4}).Describe()
	got.Events = nil // the tests of package metrics hold them against the events that happen
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Each open pool of the layer hears of new settings. No pool hears of refused settings.
func TestConfigureIsReported(t *testing.T) {
	seen := []*configured{{}, {}}
	l := newRetry(t, retry.Config{})
	first, err := pool.New(&pooltest.Fake{}, pool.Config{Name: "first"}, seen[0], l)
	if err != nil {
		t.Fatal(err)
	}
	_, end := newPool(t, &pooltest.Fake{}, pool.Config{Name: "second"}, seen[1], l)
	defer end()
	step := func(cfg retry.Config, want ...int) {
		t.Helper()
		_ = l.Configure(cfg)
		for i, s := range seen {
			if n := s.take(); n != want[i] {
				t.Errorf("%+v: pool %d heard of %d changes, want %d", cfg, i+1, n, want[i])
			}
		}
	}
	step(retry.Config{MaxAttempts: 2}, 1, 1)
	step(retry.Config{MaxAttempts: -2}, 0, 0)
	if err := first.Close(context.Background()); err != nil {
		t.Error(err)
	}
	step(retry.Config{MaxAttempts: 2}, 0, 1)
}

// configured is a layer that counts the changes of settings which the layer under test reports.
type configured struct{ n atomic.Int64 }

func (c *configured) Wrap(next pool.Handler) pool.Handler { return next }

func (c *configured) Observe(_ context.Context, e pool.Event) {
	if e.Kind == pool.EventConfigured && e.Layer == "retry" {
		c.n.Add(1)
	}
}

func (c *configured) take() int { return int(c.n.Swap(0)) }
