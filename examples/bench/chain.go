package main

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/sony/gobreaker/v2"

	"github.com/earnorm/poolstack/middleware/breaker"
	"github.com/earnorm/poolstack/middleware/retry"
	ourtimeout "github.com/earnorm/poolstack/middleware/timeout"
	"github.com/earnorm/poolstack/pool"
)

// The settings of every chain: a timeout of 2 s, three attempts with the shortest pause between
// attempts, and a breaker with a window of 10 s. The breaker has no reason to open.
const (
	limit    = 2 * time.Second
	attempts = 3
	shortest = time.Nanosecond
	window   = 10 * time.Second
	bucket   = time.Second
	openFor  = time.Hour
	never    = 1 << 30 // as a number of calls
)

var (
	errPassing = errors.New("the server was busy")         // retried
	errFinal   = errors.New("the server will not have it") // not retried
)

// operation is the operation at the end of a chain.
type operation func(context.Context) error

func succeed(context.Context) error { return nil }
func refuse(context.Context) error  { return errFinal }

// everySecond returns an operation that fails on every other call, beginning with the first call.
func everySecond() operation {
	failed := false
	return func(context.Context) error {
		if failed = !failed; failed {
			return errPassing
		}
		return nil
	}
}

// laps is the outermost layer. It calls the layers inside n times in a single use, so a sample
// measures only these layers. Other scenarios measure a whole use.
type laps struct {
	pool.Middleware

	n int // set before the use begins
}

func newLaps() *laps {
	l := &laps{}
	l.Middleware = pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
		return func(ctx context.Context, c *pool.Call) error {
			for range l.n {
				_ = next(ctx, c)
			}
			return nil
		}
	})
	return l
}

// innermost is a layer that runs op in place of the caller's function. If the attempt has no
// resource yet, the layer first acquires a resource: without a resource the attempt's success would
// not count. So each attempt of a retry layer contains an acquire, which the chains of other
// libraries do not contain. The layer anew measures the acquire alone.
func innermost(op operation) pool.Middleware {
	return pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
		return func(ctx context.Context, c *pool.Call) error {
			if _, _, granted := c.Acquired(); !granted {
				if err := next(ctx, c); err != nil {
					return err
				}
			}
			return op(ctx)
		}
	})
}

// anew is a layer that only begins a new attempt, as a retry layer does.
func anew() pool.Middleware {
	return pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
		return func(ctx context.Context, c *pool.Call) error {
			c.SetAttempt(1)
			return next(ctx, c)
		}
	})
}

// contestant is a subject with a close function.
type contestant struct {
	subject
	close func()
}

// ourChain runs layers around op. The pool lends a single resource for all laps of a use, or a
// resource for each attempt of a retry layer. Each sample begins with a check of the pool, because
// the check keeps the pool's clock running. The clock of a pool in real use never stops.
func ourChain(ctx context.Context, name string, workers int, op operation, layers ...pool.Middleware) contestant {
	l := newLaps()
	p := newOurs(uncont, append(append([]pool.Middleware{l}, layers...), innermost(op))...)
	run := spread(workers, func(int) { check(p.Do(ctx, pool.Op{Idempotent: true}, nothing)) })
	return contestant{loop(name, func(n int) {
		check(p.Check(ctx).Err)
		l.n = share(n, workers)
		run(n)
	}), p.close}
}

// poolChain runs the layers around a real pool, with a Call and a resource for each use.
func poolChain(ctx context.Context, name string, workers int, op operation, layers ...pool.Middleware) contestant {
	p := newOurs(uncont, layers...)
	use := func(ctx context.Context, _ *trivial) error { return op(ctx) }
	return contestant{loop(name, spread(workers, func(n int) {
		for range n {
			_ = p.Do(ctx, pool.Op{Idempotent: true}, use)
		}
	})), p.close}
}

func ourLimit(bound time.Duration) pool.Middleware {
	l, err := ourtimeout.NewTotal(ourtimeout.Config{Limit: bound})
	check(err)
	return l
}

func ourRetry() pool.Middleware {
	l, err := retry.New(retry.Config{MaxAttempts: attempts, InitialDelay: shortest, MaxDelay: shortest, Budget: 1})
	check(err)
	return l
}

// ourBreaker returns a breaker. If open is true, the breaker opens at the first failure. Otherwise
// the breaker always stays closed.
func ourBreaker(open bool) pool.Middleware {
	cfg := breaker.Config{Window: window, Buckets: int(window / bucket), MinCalls: never, ConsecutiveFailures: -1}
	if open {
		cfg = breaker.Config{ConsecutiveFailures: 1, OpenFor: openFor}
	}
	l, err := breaker.New(cfg)
	check(err)
	return l
}

// ourStack returns the layers in their order.
func ourStack(bound time.Duration, open bool) []pool.Middleware {
	return []pool.Middleware{ourLimit(bound), ourRetry(), ourBreaker(open)}
}

// failsafeExecutor composes failsafe-go's policies once, as in the library's documentation.
func failsafeExecutor(bound time.Duration, open bool) failsafe.Executor[any] {
	return failsafe.With(failsafePolicies[any](bound, open)...)
}

func failsafePolicies[R any](bound time.Duration, open bool) []failsafe.Policy[R] {
	retries := retrypolicy.NewBuilder[R]().WithMaxRetries(attempts-1).WithDelay(shortest).AbortOnErrors(errFinal, circuitbreaker.ErrOpen).Build()
	return []failsafe.Policy[R]{timeout.New[R](bound), retries, failsafeBreaker[R](open)}
}

func failsafeBreaker[R any](open bool) circuitbreaker.CircuitBreaker[R] {
	b := circuitbreaker.NewBuilder[R]().WithFailureRateThreshold(0.5, never, window).WithDelay(openFor).Build()
	if open {
		b.Open()
	}
	return b
}

// failsafeOne returns an executor with the breaker alone.
func failsafeOne(open bool) failsafe.Executor[any] {
	return failsafe.With[any](failsafeBreaker[any](open))
}

// failsafeChain runs e with the caller's context, and op with the context from the policies. A call
// to a real server does the same.
func failsafeChain(ctx context.Context, name string, workers int, op operation, e failsafe.Executor[any]) contestant {
	inner := func(x failsafe.Execution[any]) error { return op(x.Context()) }
	return contestant{loop(name, spread(workers, func(n int) {
		for range n {
			_ = e.WithContext(ctx).RunWithExecution(inner)
		}
	})), func() {}}
}

func rawBreaker(open bool) *gobreaker.CircuitBreaker[struct{}] {
	trip := func(c gobreaker.Counts) bool {
		return open || c.Requests >= never && float64(c.TotalFailures) >= 0.5*float64(c.Requests)
	}
	b := gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		Interval: window, BucketPeriod: bucket, Timeout: openFor, ReadyToTrip: trip,
	})
	if open {
		_, _ = b.Execute(func() (struct{}, error) { return struct{}{}, errFinal })
	}
	return b
}

// rawChain combines context, backoff and gobreaker by hand.
func rawChain(ctx context.Context, name string, workers int, bound time.Duration, op operation, open bool) contestant {
	b := rawBreaker(open)
	use := func() error {
		ctx, cancel := context.WithTimeout(ctx, bound)
		defer cancel()
		delays := backoff.WithContext(backoff.WithMaxRetries(backoff.NewConstantBackOff(shortest), attempts-1), ctx)
		return backoff.Retry(func() error {
			_, err := b.Execute(func() (struct{}, error) { return struct{}{}, op(ctx) })
			if errors.Is(err, errFinal) || errors.Is(err, gobreaker.ErrOpenState) {
				return backoff.Permanent(err)
			}
			return err
		}, delays)
	}
	return contestant{loop(name, spread(workers, func(n int) {
		for range n {
			_ = use()
		}
	})), func() {}}
}

// rawRetry runs backoff's Retry alone. Pauses have state, so newDelays creates new pauses for each
// use.
func rawRetry(name string, op operation, newDelays func() backoff.BackOff) contestant {
	return contestant{loop(name, func(n int) {
		ctx := context.Background()
		for range n {
			delays := backoff.WithContext(backoff.WithMaxRetries(newDelays(), attempts-1), ctx)
			_ = backoff.Retry(func() error { return backoff.Permanent(op(ctx)) }, delays)
		}
	}), func() {}}
}

// exponential returns growing pauses with jitter, as in our retry layer.
func exponential() backoff.BackOff {
	return backoff.NewExponentialBackOff(backoff.WithInitialInterval(shortest), backoff.WithMaxInterval(shortest))
}

func constant() backoff.BackOff { return backoff.NewConstantBackOff(shortest) }

// rawExecute runs gobreaker's Execute alone.
func rawExecute(name string, workers int, open bool) contestant {
	b := rawBreaker(open)
	op := func() (struct{}, error) { return struct{}{}, nil }
	return contestant{loop(name, spread(workers, func(n int) {
		for range n {
			_, _ = b.Execute(op)
		}
	})), func() {}}
}
