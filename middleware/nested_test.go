package middleware_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/middleware"
	"github.com/earnorm/poolstack/middleware/breaker"
	"github.com/earnorm/poolstack/middleware/retry"
	"github.com/earnorm/poolstack/middleware/timeout"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// strict is a driver that tells its connections' errors from a context's, as the real backends do.
type strict struct{ *pooltest.Fake }

func (d strict) Classify(err error) driver.Class {
	if !errors.Is(err, pooltest.ErrBroken) && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)) {
		return driver.Class{}
	}
	return d.Fake.Classify(err)
}

// The usual shape of a cache in front of a database: within a use of the cache's pool, a use of the
// database's pool. Whatever happens to the database, the cache is healthy. The breaker of the cache
// does not change, and a write to the cache, which is not idempotent, is not repeated.
func TestCacheInFrontOfADatabase(t *testing.T) {
	for _, tc := range []struct {
		name      string
		fault     pooltest.Fault
		step      pooltest.Step
		configure func(cache, database *middleware.Options) // nil for nothing
	}{
		{"no connection", pooltest.Fail(pooltest.ErrRefused), pooltest.Open, nil},
		{"hanging dial", pooltest.Hang(), pooltest.Open, nil},
		{"late answer", pooltest.Hang(), pooltest.Use, nil},
		{"late answer in all", pooltest.Hang(), pooltest.Use, func(_, database *middleware.Options) {
			database.Attempt.Limit, database.Total.Limit = -1, 100*time.Millisecond
		}},
		{"late answer, later than the cache's limit", pooltest.Hang(), pooltest.Use, func(cache, _ *middleware.Options) {
			cache.Attempt.Limit = 20 * time.Millisecond
		}},
		{"refused unexecuted", pooltest.Fail(pooltest.ErrRefused), pooltest.Use, nil},
		{"open breaker", pooltest.Fail(pooltest.ErrRefused), pooltest.Use, func(_, database *middleware.Options) {
			database.Breaker.ConsecutiveFailures = 1
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var cacheDriver, databaseDriver pooltest.Fake
				databaseDriver.Inject(tc.step, -1, tc.fault)
				outer, inner := quiet(), quiet()
				inner.Attempt.Limit = 50 * time.Millisecond
				if tc.configure != nil {
					tc.configure(&outer, &inner)
				}
				stack := standard(t, outer)
				cache, closeCache := newPool(t, strict{&cacheDriver}, pool.Config{Name: "cache"}, stack.Layers()...)
				defer closeCache()
				database, closeDatabase := newPool(t, &databaseDriver, pool.Config{Name: "database"}, standard(t, inner).Layers()...)
				defer closeDatabase()

				const uses = 20
				written := 0
				for range uses {
					err := cache.Do(t.Context(), pool.Op{Name: "INCR"}, func(ctx context.Context, c conn) error {
						if err := c.Use(ctx); err != nil {
							return err
						}
						written++
						return database.Do(ctx, pool.Op{Name: "find"}, func(ctx context.Context, c conn) error { return c.Use(ctx) })
					})
					if err == nil {
						t.Fatal("the database works")
					}
				}
				if written != uses {
					t.Errorf("%d uses that are not idempotent wrote %d times", uses, written)
				}
				if s := stack.Breaker.Snapshot(); s.State != breaker.StateClosed || s.Counts.Failures > 0 {
					t.Errorf("the cache's breaker is %v with %+v", s.State, s.Counts)
				}
				if s := cache.Stat(); s.Opened != 1 {
					t.Errorf("the cache's connections: %+v", s)
				}
			})
		})
	}
}

// If the cache's own limit cuts short the wait for the database, this wait is no wait for the
// cache's resource: the use has already written to the resource.
func TestLimitPassesInAnotherPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cacheDriver, databaseDriver pooltest.Fake
		databaseDriver.Inject(pooltest.Open, -1, pooltest.Hang())
		r, err := retry.New(retry.Config{})
		if err != nil {
			t.Fatal(err)
		}
		limit, err := timeout.NewAttempt(timeout.Config{Limit: 20 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		cache, closeCache := newPool(t, &cacheDriver, pool.Config{Name: "cache"}, r, limit)
		defer closeCache()
		database, closeDatabase := newPool(t, &databaseDriver, pool.Config{Name: "database"})
		defer closeDatabase()
		written := 0
		err = cache.Do(t.Context(), pool.Op{Name: "INCR"}, func(ctx context.Context, c conn) error {
			written++
			return database.Do(ctx, pool.Op{Name: "find"}, func(context.Context, conn) error { return nil })
		})
		if written != 1 {
			t.Errorf("a use that is not idempotent wrote %d times: %v", written, err)
		}
	})
}

// Within a use of another pool, that one's limits are the caller's.
func TestLimitOfAnotherPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var outerDriver, innerDriver pooltest.Fake
		innerDriver.Inject(pooltest.Use, -1, pooltest.Hang())
		limit, err := timeout.NewAttempt(timeout.Config{Limit: 20 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		stack := standard(t, quiet())
		outer, closeOuter := newPool(t, &outerDriver, pool.Config{Name: "outer"}, limit)
		defer closeOuter()
		inner, closeInner := newPool(t, &innerDriver, pool.Config{Name: "inner"}, stack.Layers()...)
		defer closeInner()
		for _, use := range []func(ctx context.Context, c conn) error{
			func(ctx context.Context, c conn) error { return c.Use(ctx) },
			func(ctx context.Context, _ conn) error { <-ctx.Done(); return context.Cause(ctx) },
		} {
			err := outer.Do(t.Context(), pool.Op{}, func(ctx context.Context, _ conn) error { return inner.Do(ctx, pool.Op{}, use) })
			if s := stack.Breaker.Snapshot(); err == nil || s.Counts.Failures > 0 {
				t.Errorf("%v: the inner breaker has %+v", err, s.Counts)
			}
		}
	})
}
