//go:build !race

package timeout_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/middleware/timeout"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

func nothing(context.Context, conn) error { return nil }

// What a success costs: the lazy deadline, and the cause of a limit that an operation has of its
// own; nothing where the caller's deadline is nearer, or the operation is meant to block.
func TestAllocs(t *testing.T) {
	near, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, tc := range []struct {
		name   string
		ctx    context.Context
		layers []pool.Middleware
		op     time.Duration
		want   float64
	}{
		{"one", context.Background(), []pool.Middleware{attempt(t, limit(time.Hour))}, 0, 1},
		{"two", context.Background(), []pool.Middleware{total(t, limit(2*time.Hour)), attempt(t, limit(time.Hour))}, 0, 2},
		{"total is nearer", context.Background(), []pool.Middleware{total(t, limit(time.Minute)), attempt(t, limit(time.Hour))}, 0, 1},
		{"the caller's is nearer", near, []pool.Middleware{total(t, limit(2*time.Hour)), attempt(t, limit(time.Hour))}, 0, 0},
		{"the operation's", context.Background(), []pool.Middleware{attempt(t, limit(time.Hour))}, time.Minute, 2},
		{"the operation blocks", context.Background(), []pool.Middleware{attempt(t, limit(time.Hour))}, -1, 0},
	} {
		p, end := newPool(t, struct{ driver.Driver[conn] }{&pooltest.Fake{}}, pool.Config{}, tc.layers...)
		do := testing.AllocsPerRun(200, func() {
			if err := p.Do(tc.ctx, pool.Op{Limit: tc.op}, nothing); err != nil {
				t.Error(err)
			}
		})
		acquire := testing.AllocsPerRun(200, func() {
			l, err := p.Acquire(tc.ctx, pool.Op{Limit: tc.op})
			if err != nil {
				t.Error(err)
			}
			l.Release(nil)
		})
		if do != tc.want || acquire != tc.want {
			t.Errorf("%s: %v allocations for Do, %v for Acquire, want %v", tc.name, do, acquire, tc.want)
		}
		end()
	}
}

// The default limit costs a lazy deadline where it holds, and nothing where it does not.
func TestAllocsOfTheDefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, end := newPool(t, struct{ driver.Driver[conn] }{&pooltest.Fake{}}, pool.Config{}, total(t, timeout.Config{}), attempt(t, timeout.Config{}))
		defer end()
		s := stand{p, t}
		s.quicken(get)
		s.serve(1, report, 2*time.Second)
		for op, want := range map[pool.Op]float64{get: 2, report: 1} {
			got := testing.AllocsPerRun(200, func() {
				if err := p.Do(context.Background(), op, nothing); err != nil {
					t.Error(err)
				}
			})
			if got != want {
				t.Errorf("%s: %v allocations, want %v", op.Name, got, want)
			}
		}
	})
}
