package pool_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

var errResting = errors.New("the server rests for a second")

// rest is a layer that rejects all uses for a second after a failure. Tick measures the time
// between uses.
type rest struct{ until atomic.Int64 }

func (r *rest) Begin(ctx context.Context, c *pool.Call) (context.Context, struct{}, error) {
	if int64(c.Tick()) < r.until.Load() {
		return ctx, struct{}{}, errResting
	}
	return ctx, struct{}{}, nil
}

func (r *rest) End(_ context.Context, c *pool.Call, _ struct{}, err error) {
	if c.Classify(err).Fault == driver.FaultServer {
		r.until.Store(int64(c.Tick() + time.Second))
	}
}

// A layer that repeats uses learns which attempts reach the pool. The inner layer rest rejects the
// second attempt.
func ExampleCall_BeforeAcquire() {
	repeat := pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
		return func(ctx context.Context, c *pool.Call) (err error) {
			for n := 1; n <= 2; n++ {
				c.SetAttempt(n)
				c.BeforeAcquire(func(_ context.Context, c *pool.Call) { fmt.Println("attempt", c.Attempt(), "comes to the pool") })
				if err = next(ctx, c); err == nil {
					return nil
				}
				fmt.Printf("attempt %d: %v\n", n, err)
			}
			return err
		}
	})
	p, _ := examplePool(pool.Config{}, repeat, pool.Bracket(&rest{}))
	defer p.Close(context.Background())
	_ = p.Do(context.Background(), pool.Op{Name: "GET"}, func(context.Context, *pooltest.Conn) error { return pooltest.ErrBroken })
	// Output:
	// attempt 1 comes to the pool
	// attempt 1: pooltest: the connection is broken
	// attempt 2: the server rests for a second
}

// WithUseLimit limits the whole use, with the function of the borrower. In a two-step use the limit
// covers the acquisition only, and Lift ends the limit.
func ExampleWithUseLimit() {
	errSlow := errors.New("the use took more than a minute")
	bounded := pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
		return func(ctx context.Context, c *pool.Call) error {
			ctx, deadline := pool.WithUseLimit(ctx, c, time.Now(), time.Minute, errSlow)
			defer deadline.Cancel() // without effect after Lift
			err := next(ctx, c)
			if err == nil && c.TwoStep() {
				deadline.Lift()
			}
			return err
		}
	})
	p, _ := examplePool(pool.Config{}, bounded)
	defer p.Close(context.Background())
	_ = p.Do(context.Background(), pool.Op{Name: "GET"}, func(ctx context.Context, _ *pooltest.Conn) error {
		_, limited := ctx.Deadline()
		fmt.Println("one step, limited:", limited)
		return nil
	})
	lease := must(p.Acquire(context.Background(), pool.Op{Name: "SUBSCRIBE"}))
	_, limited := lease.Context().Deadline()
	fmt.Println("two steps, limited:", limited, lease.Context().Err())
	lease.Release(nil)
	// Output:
	// one step, limited: true
	// two steps, limited: false <nil>
}

// guard is a layer that rejects all uses after a failure of the server, until a look has found a
// healthy server.
type guard struct {
	info pool.PoolInfo // set once, before the pool is used
	away atomic.Bool
}

func (g *guard) Attach(p pool.PoolInfo) (detach func(), err error) {
	g.info = p
	return nil, nil
}

func (g *guard) Begin(ctx context.Context, _ *pool.Call) (context.Context, struct{}, error) {
	if g.away.Load() {
		return ctx, struct{}{}, errors.New("the server is away")
	}
	return ctx, struct{}{}, nil
}

func (g *guard) End(_ context.Context, c *pool.Call, _ struct{}, err error) {
	if c.Classify(err).Fault == driver.FaultServer {
		g.away.Store(true)
	}
}

// Conditions reports a problem to Pool.Check.
func (g *guard) Conditions() []pool.Condition {
	if g.away.Load() {
		return []pool.Condition{{Status: pool.StatusDegraded, Reason: "the server was away when we looked last"}}
	}
	return nil
}

// Look is called from time to time. A look costs the server a connection and a check, and costs no
// use anything.
func (g *guard) Look(ctx context.Context) error {
	err := g.info.Look(ctx)
	g.away.Store(err != nil)
	return err
}

func ExampleHealthReporter() {
	g := &guard{}
	p, fake := examplePool(pool.Config{}, pool.Bracket(g))
	defer p.Close(context.Background())
	// A look should have a deadline.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	_ = p.Do(ctx, pool.Op{Name: "GET"}, func(context.Context, *pooltest.Conn) error { return pooltest.ErrBroken })
	h := p.Check(ctx)
	fmt.Println(h.Status, h.Reasons)
	fake.Inject(pooltest.Open, 1, pooltest.Fail(pooltest.ErrRefused))
	fmt.Println("a look:", g.Look(ctx))
	fmt.Println("a look:", g.Look(ctx))
	fmt.Println(p.Check(ctx).Status)
	// Output:
	// degraded [the server was away when we looked last]
	// a look: pooltest: the server refused it unexecuted
	// a look: <nil>
	// ok
}

// fairShare gives an attempt at most half of the borrower's time, whatever the limits of other
// layers.
type fairShare struct{}

func (fairShare) Wrap(next pool.Handler) pool.Handler {
	return func(ctx context.Context, c *pool.Call) error {
		deadline, ok := c.CallerDeadline()
		if !ok {
			return next(ctx, c)
		}
		left := time.Until(deadline).Round(time.Second)
		fmt.Println("the borrower gave", left)
		ctx, limit := pool.WithLimit(ctx, c, time.Now(), left/2, nil)
		defer limit.Cancel()
		return next(ctx, c)
	}
}

// A layer that divides the borrower's time asks for the borrower's own deadline, without the limits
// of other layers.
func ExampleCall_CallerDeadline() {
	p, err := pool.New(&pooltest.Fake{}, pool.Config{}, fairShare{})
	if err != nil {
		panic(err)
	}
	defer p.Close(context.Background())
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	err = p.Do(ctx, pool.Op{Name: "GET"}, func(ctx context.Context, _ *pooltest.Conn) error {
		deadline, _ := ctx.Deadline()
		fmt.Println("the use has", time.Until(deadline).Round(time.Second))
		return nil
	})
	fmt.Println(err)
	// Output:
	// the borrower gave 20s
	// the use has 10s
	// <nil>
}
