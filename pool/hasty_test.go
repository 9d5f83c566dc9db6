package pool_test

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/pool"
)

// distant is a driver whose server is a round trip away.
type distant struct {
	hooks
	trip   time.Duration
	checks atomic.Int64
}

func (d *distant) Open(ctx context.Context) (int, error) {
	time.Sleep(2 * d.trip)
	return d.hooks.Open(ctx)
}

func (d *distant) Check(context.Context, int) error {
	d.checks.Add(1)
	time.Sleep(d.trip)
	return nil
}

// A check after an idle time costs a round trip. A caller with enough time for one round trip and
// not for two gets its resource without a check.
func TestChecksLeaveTheCallersTheirTime(t *testing.T) {
	for _, test := range []struct {
		name     string
		deadline time.Duration // 0: none
		cfg      pool.Config
		checks   bool
		served   int
	}{
		{"enough for one round trip", 100 * time.Millisecond, pool.Config{}, false, 5},
		{"enough for all", time.Second, pool.Config{}, true, 5},
		{"no deadline", 0, pool.Config{}, true, 5},
		{"every resource is checked", 100 * time.Millisecond, pool.Config{CheckAfter: 1}, true, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &distant{trip: 60 * time.Millisecond}
				p, err := pool.New(d, test.cfg)
				if err != nil {
					t.Fatal(err)
				}
				defer closePoolOf(t, p)
				if err := p.Warm(t.Context(), 1); err != nil {
					t.Fatal(err)
				}
				served := 0
				for range 5 {
					time.Sleep(1500 * time.Millisecond)
					ctx, cancel := t.Context(), context.CancelFunc(func() {})
					if test.deadline > 0 {
						ctx, cancel = context.WithTimeout(ctx, test.deadline)
					}
					err := p.Do(ctx, pool.Op{}, func(ctx context.Context, _ int) error {
						select {
						case <-time.After(d.trip):
							return nil
						case <-ctx.Done():
							return ctx.Err()
						}
					})
					if err == nil {
						served++
					}
					cancel()
				}
				if d.checks.Load() > 0 != test.checks || served != test.served {
					t.Errorf("%d checks and %d served, want checks: %t, and %d served", d.checks.Load(), served, test.checks, test.served)
				}
			})
		})
	}
}

// A cold pool begins a dial for each of many concurrent borrowers. A pool with broken resources
// begins only a few dials at a time.
func TestGrowthIsNotBounded(t *testing.T) {
	for _, test := range []struct {
		name   string
		cfg    pool.Config
		broken bool
		most   int64
	}{
		{"cold", pool.Config{MaxSize: 50}, false, 50},
		{"recovering", pool.Config{MaxSize: 50}, true, 10},
		{"as the user says", pool.Config{MaxSize: 50, OpenConcurrency: 3}, false, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var under, most atomic.Int64
				d := &hooks{open: func(context.Context) error {
					most.Store(max(most.Load(), under.Add(1)))
					defer under.Add(-1)
					time.Sleep(50 * time.Millisecond)
					return nil
				}}
				p, err := pool.New(d, test.cfg)
				if err != nil {
					t.Fatal(err)
				}
				defer closePoolOf(t, p)
				time.Sleep(time.Second)
				if test.broken {
					_ = p.Do(t.Context(), pool.Op{}, func(context.Context, int) error { return io.EOF })
					synctest.Wait()
					if p.Stat().Closed[pool.CloseBroken] != 1 {
						t.Fatal("the resource has not broken")
					}
				}
				var all sync.WaitGroup
				for range 50 {
					all.Go(func() {
						err := p.Do(t.Context(), pool.Op{}, func(context.Context, int) error { time.Sleep(time.Second); return nil })
						if err != nil {
							t.Error(err)
						}
					})
				}
				all.Wait()
				if most.Load() != test.most {
					t.Errorf("%d were opened at the same time, want %d", most.Load(), test.most)
				}
			})
		})
	}
}
