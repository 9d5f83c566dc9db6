package pooltest_test

import (
	"context"
	"os"
	"testing"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

func TestMain(m *testing.M) { os.Exit(pooltest.Main(m)) }

func TestSuiteOnBracket(t *testing.T) {
	pooltest.RunMiddleware(t, func(testing.TB) pool.Middleware { return pool.Bracket(&pooltest.Spy{}) })
}

func TestSuiteOnMiddleware(t *testing.T) {
	pooltest.RunMiddleware(t, func(testing.TB) pool.Middleware {
		return pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
			return func(ctx context.Context, c *pool.Call) error { return next(ctx, c) }
		})
	})
}

func TestSuiteOnChain(t *testing.T) {
	pooltest.RunMiddleware(t, func(testing.TB) pool.Middleware {
		return pool.Chain(pool.Bracket(&pooltest.Spy{}), pool.Chain(), pool.Bracket(&pooltest.Spy{}))
	})
}
