package timeout_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/middleware/timeout"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

func TestConfigure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := total(t, limit(time.Second))
		p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, l)
		defer end()
		if l.Configure(timeout.Config{MinLeft: -1}) == nil || l.Config() != limit(time.Second) {
			t.Errorf("a bad configuration was accepted: %+v", l.Config())
		}
		err := p.Do(context.Background(), pool.Op{}, func(ctx context.Context, c conn) error {
			if err := l.Configure(timeout.Config{Limit: time.Minute, MinLeft: time.Second}); err != nil {
				t.Error(err)
			}
			return untilOver(ctx, c)
		})
		if e := asError(t, err); e.Limit != time.Second {
			t.Errorf("the limit was %v, want that of the beginning, 1s", e.Limit)
		}
		if e := asError(t, p.Do(context.Background(), pool.Op{}, untilOver)); e.Limit != time.Minute {
			t.Errorf("the limit was %v, want 1m", e.Limit)
		}
		want := pool.LayerInfo{
			Layer: "timeout.total", Role: pool.RoleTotal, Limit: time.Minute, Settings: map[string]string{"limit": "1m0s", "min_left": "1s"},
			Events: []pool.Event{
				{Kind: pool.EventTimeout, Reason: "total"}, {Kind: pool.EventRejected, Reason: "timeout_begin"}, {Kind: pool.EventConfigured},
			},
		}
		if got := fmt.Sprint(l.Describe()); got != fmt.Sprint(want) {
			t.Errorf("described as %s, want %v", got, want)
		}
	})
}

func TestValidate(t *testing.T) {
	for _, tc := range []struct {
		cfg  timeout.Config
		want string // "" for none
	}{
		{timeout.Config{}, ""},
		{timeout.Config{Limit: -1}, ""},
		{timeout.Config{Limit: -1, MinLeft: time.Hour}, ""},
		{timeout.Config{MinLeft: -time.Second}, "timeout.attempt: MinLeft is -1s: must be 0 (any time left will do) or more, and less than Limit"},
		{timeout.Config{Limit: time.Second, MinLeft: time.Second}, "timeout.attempt: MinLeft is 1s: must be less than Limit, which is 1s"},
		{timeout.Config{MinLeft: 20 * time.Second}, ""}, // the automatic limit depends on the caller
	} {
		_, err := timeout.NewAttempt(tc.cfg)
		if (err == nil) != (tc.want == "") || err != nil && err.Error() != tc.want {
			t.Errorf("%+v: got %v, want %q", tc.cfg, err, tc.want)
		}
		_, other := timeout.NewTotal(tc.cfg)
		if plain := tc.cfg.Validate(); (plain == nil) != (err == nil) || (other == nil) != (err == nil) {
			t.Errorf("%+v: NewAttempt returns %v, NewTotal %v and Validate %v", tc.cfg, err, other, plain)
		}
	}
}

// Each pool around which the layer stands reports the new settings, until the pool is closed. No
// pool reports rejected settings.
func TestConfigureIsReported(t *testing.T) {
	seen := []*configured{{}, {}}
	l := total(t, timeout.Config{})
	first, err := pool.New(&pooltest.Fake{}, pool.Config{Name: "first"}, seen[0], l)
	if err != nil {
		t.Fatal(err)
	}
	_, end := newPool(t, &pooltest.Fake{}, pool.Config{Name: "second"}, seen[1], l)
	defer end()
	step := func(cfg timeout.Config, want ...int) {
		t.Helper()
		_ = l.Configure(cfg)
		for i, s := range seen {
			if n := s.take(); n != want[i] {
				t.Errorf("%+v: pool %d heard of %d changes, want %d", cfg, i+1, n, want[i])
			}
		}
	}
	step(limit(time.Second), 1, 1)
	step(timeout.Config{MinLeft: -1}, 0, 0)
	if err := first.Close(context.Background()); err != nil {
		t.Error(err)
	}
	step(limit(time.Second), 0, 1)
}

// configured is a layer that counts the changes of settings which the layer under test reports.
type configured struct{ n atomic.Int64 }

func (c *configured) Wrap(next pool.Handler) pool.Handler { return next }

func (c *configured) Observe(_ context.Context, e pool.Event) {
	if e.Kind == pool.EventConfigured && e.Layer == "timeout.total" {
		c.n.Add(1)
	}
}

func (c *configured) take() int { return int(c.n.Swap(0)) }
