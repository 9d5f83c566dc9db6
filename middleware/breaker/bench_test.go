package breaker

import (
	"context"
	"testing"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

func nothing(context.Context, *conn) error { return nil }
func failing(context.Context, *conn) error { return fail }

// plain is a pool with nothing but the breaker around it.
func plain(tb testing.TB, layers ...pool.Middleware) *pool.Pool[*conn] {
	tb.Helper()
	p, err := pool.New(&pooltest.Fake{}, pool.Config{CheckAfter: -1}, layers...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = p.Close(context.Background()) })
	return p
}

// callKey is the key of what a use does with its Call.
type callKey struct{}

// calls returns a function that calls f with the Call of a use with a resource. (Successes without
// a resource do not count.) All Calls belong to the same pool, so each processor has its own shard.
func calls(tb testing.TB) func(f func(c *pool.Call)) {
	tb.Helper()
	p := plain(tb, pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
		return func(ctx context.Context, c *pool.Call) error {
			err := next(ctx, c)
			if f, ok := ctx.Value(callKey{}).(func(c *pool.Call)); ok {
				f(c)
			}
			return err
		}
	}))
	return func(f func(c *pool.Call)) {
		_ = p.Do(context.WithValue(context.Background(), callKey{}, f), get, nothing)
	}
}

// The breaker alone, beside gobreaker.
func BenchmarkSuccess(b *testing.B) {
	ctx := context.Background()
	b.Run("breaker", func(b *testing.B) {
		l, within := layer{must(b, Config{})}, calls(b)
		within(func(c *pool.Call) {
			for b.Loop() {
				_, a, _ := l.Begin(ctx, c)
				l.End(ctx, c, a, nil)
			}
		})
	})
	b.Run("gobreaker", func(b *testing.B) {
		cb := gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{Interval: 10 * time.Second, BucketPeriod: time.Second})
		for b.Loop() {
			_, _ = cb.Execute(succeeded)
		}
	})
	b.Run("breaker parallel", func(b *testing.B) {
		l, within := layer{must(b, Config{})}, calls(b)
		b.RunParallel(func(pb *testing.PB) {
			within(func(c *pool.Call) {
				for pb.Next() {
					_, a, _ := l.Begin(ctx, c)
					l.End(ctx, c, a, nil)
				}
			})
		})
	})
	b.Run("gobreaker parallel", func(b *testing.B) {
		cb := gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{Interval: 10 * time.Second, BucketPeriod: time.Second})
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				_, _ = cb.Execute(succeeded)
			}
		})
	})
}

// A pool with the breaker around it, beside one without, and the other outcomes.
func BenchmarkPool(b *testing.B) {
	ctx := context.Background()
	run := func(name string, fn func(context.Context, *conn) error, cfg Config, layers ...pool.Middleware) {
		b.Run(name, func(b *testing.B) {
			p := plain(b, append(layers, must(b, cfg))...)
			if cfg.ConsecutiveFailures == 1 {
				_ = p.Do(ctx, get, failing)
			}
			b.ReportAllocs()
			for b.Loop() {
				_ = p.Do(ctx, get, fn)
			}
		})
	}
	b.Run("base", func(b *testing.B) {
		p := plain(b, pool.MiddlewareFunc(func(next pool.Handler) pool.Handler { return next }))
		for b.Loop() {
			_ = p.Do(ctx, get, nothing)
		}
	})
	run("success", nothing, Config{})
	run("failure", failing, Config{FailureRatio: -1, ConsecutiveFailures: -1})
	run("refusal", nothing, Config{ConsecutiveFailures: 1, OpenFor: time.Hour})
	run("refusal observed", nothing, Config{ConsecutiveFailures: 1, OpenFor: time.Hour}, &deaf{})
}

// deaf is an observer that does nothing.
type deaf struct{}

func (*deaf) Wrap(next pool.Handler) pool.Handler { return next }
func (*deaf) Observe(context.Context, pool.Event) {}
