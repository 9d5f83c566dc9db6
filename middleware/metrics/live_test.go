package metrics

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/middleware/breaker"
	"github.com/earnorm/poolstack/middleware/retry"
	"github.com/earnorm/poolstack/middleware/timeout"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// newLife makes a pool of a single resource within real layers. Every event with an instrument can
// be made to happen to the pool. newLife must be called in a synctest bubble.
func newLife(r *reader, id driver.Identity) life {
	s := newStack(r.t, stackConfig{
		total: timeout.Config{Limit: 25 * time.Second}, attempt: timeout.Config{Limit: 10 * time.Second},
		breaker: breaker.Config{ConsecutiveFailures: -1, FailureRatio: -1},
	})
	cfg := pool.Config{MaxSize: 1, MaxWaiters: 1, AcquireTimeout: time.Second, LeakAfter: time.Minute}
	return life{newRigOn(r, id, Config{}, cfg, s.layers()...), s}
}

type life struct {
	*rig
	stack *stack
}

// pass makes it all happen.
func (g life) pass() {
	g.connections()
	g.queue()
	g.limits()
	g.retries()
	g.circuit()
	g.server.subscriptions.Store(1)
	g.pool.Emit(pool.Event{Kind: "subscription_opened", Layer: "server"})
	g.pool.Emit(pool.Event{Kind: pool.EventWarning})
	g.pool.Emit(pool.Event{Kind: "primary_changed", Layer: "server", Reason: "mymaster"})
	configure(g.t, g.pool, func(c *pool.Config) { c.MinIdle = 1 })
	configure(g.t, g.layer, func(c *Config) { c.MaxOperations = 100 })
	configure(g.t, g.stack.total, func(c *timeout.Config) { c.Limit = time.Minute })
	synctest.Wait() // what is opened and closed is reported in the background
}

func (g life) do(ctx context.Context, err error) {
	_ = g.pool.Do(ctx, get, func(context.Context, *pooltest.Conn) error { return err })
}

func (g life) acquire() pool.Lease[*pooltest.Conn] {
	lease, err := g.pool.Acquire(context.Background(), get)
	if err != nil {
		g.t.Fatal(err)
	}
	return lease
}

func (g life) connections() {
	ctx := context.Background()
	g.do(ctx, nil)
	g.do(ctx, pooltest.ErrReply)
	time.Sleep(time.Minute) // so long that the connection is checked
	g.server.Inject(pooltest.Check, 1, pooltest.Fail(pooltest.ErrBroken))
	g.server.Inject(pooltest.Open, 1, pooltest.Fail(pooltest.ErrBroken))
	g.do(ctx, nil) // gets its connection at the third try
	for _, why := range []error{syscall.ECONNREFUSED, &net.DNSError{Err: "no such host"}, tls.AlertError(80)} {
		g.server.Inject(pooltest.Open, 1, pooltest.Fail(cutBy(why)))
		g.pool.Clear()
		g.do(ctx, nil)
	}
	g.server.Inject(pooltest.Open, 1, pooltest.Hang())
	g.pool.Clear()
	g.do(ctx, nil)
	time.Sleep(time.Minute)
	lease := g.acquire()
	time.Sleep(2 * time.Minute) // taken for a leak
	lease.Release(nil)
}

func (g life) queue() {
	ctx := context.Background()
	for _, patience := range []time.Duration{time.Second / 2, 2 * time.Second} {
		lease := g.acquire()
		go g.do(ctx, nil) // waits, the second time in vain
		synctest.Wait()
		g.do(ctx, nil) // is one too many
		time.Sleep(patience)
		lease.Release(nil)
	}
	g.pool.Pause(nil)
	g.do(ctx, nil)
	g.pool.Resume()
}

func (g life) retries() {
	for _, err := range []error{
		pooltest.ErrRefused, pooltest.ErrBroken, context.DeadlineExceeded,
		cutBy(syscall.ECONNREFUSED), cutBy(syscall.ECONNRESET), cutBy(io.EOF),
	} {
		g.do(context.Background(), err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	g.do(ctx, pooltest.ErrRefused) // there is no time for a pause
	ctx, cancel = context.WithCancel(context.Background())
	time.AfterFunc(time.Millisecond, cancel)
	g.do(ctx, pooltest.ErrRefused) // the pause is cancelled
	configure(g.t, g.stack.retry, func(c *retry.Config) { c.BudgetBurst = 1 })
	g.do(context.Background(), pooltest.ErrRefused)
}

// cutBy is the end of a connection, with its cause.
func cutBy(why error) error { return fmt.Errorf("%w: %w", pooltest.ErrBroken, why) }

func (g life) limits() {
	hold := func(ctx context.Context, _ *pooltest.Conn) error {
		<-ctx.Done()
		return ctx.Err()
	}
	// Two attempts hit the limit of an attempt, and the third hits the limit of the whole use.
	_ = g.pool.Do(context.Background(), get, hold)
	configure(g.t, g.stack.attempt, func(c *timeout.Config) { c.Limit = time.Minute })
	_ = g.pool.Do(context.Background(), get, hold) // hits the limit of the whole use
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	configure(g.t, g.stack.attempt, func(c *timeout.Config) { c.MinLeft = 2 * time.Second })
	g.do(ctx, nil)
	time.Sleep(time.Second)
	g.do(ctx, nil)
	configure(g.t, g.stack.attempt, func(c *timeout.Config) { c.MinLeft = 0 })
}

func (g life) circuit() {
	ctx := context.Background()
	configure(g.t, g.stack.breaker, func(c *breaker.Config) { c.ConsecutiveFailures, c.FailureRatio = 1, 0.5 })
	configure(g.t, g.stack.retry, func(c *retry.Config) { c.Budget = -1 })
	g.do(ctx, pooltest.ErrRefused) // opens it, so that another attempt is refused
	configure(g.t, g.stack.retry, func(c *retry.Config) { c.Budget = 0 })
	g.do(ctx, nil)              // refused
	time.Sleep(5 * time.Second) // it is half-open then
	probe := g.acquire()
	g.do(ctx, nil) // refused
	probe.Release(pooltest.ErrDenied)
	time.Sleep(10 * time.Second)
	g.do(ctx, nil)
	g.operator()
}

// operator forces states, from each state of the breaker.
func (g life) operator() {
	b, ctx := g.stack.breaker, context.Background()
	force := func(m breaker.Mode) {
		if err := b.Force(breaker.Forced{Mode: m, Until: time.Now().Add(time.Hour), Reason: "a test"}); err != nil {
			g.t.Error(err)
		}
	}
	halfOpen := func() {
		b.Reset("", "")
		g.do(ctx, pooltest.ErrRefused) // opens the breaker
		time.Sleep(time.Minute)
		lease := g.acquire() // a probe
		if b.State() != breaker.StateHalfOpen {
			g.t.Error("the breaker is not half-open")
		}
		lease.Release(context.Canceled)
	}
	halfOpen()
	force(breaker.ForceOpen) // from half-open
	force(breaker.ForceClosed)
	force(breaker.Disable)
	halfOpen()
	b.Release("", "")          // nothing is forced
	force(breaker.ForceClosed) // from half-open
	b.Release("", "")
	force(breaker.ForceOpen) // from closed
	b.Reset("", "")

	configure(g.t, b, func(c *breaker.Config) {
		c.SlowCall, c.SlowRatio, c.MinCalls, c.RampUp = 100*time.Millisecond, 0.1, 1, time.Hour
	})
	_ = g.pool.Do(ctx, get, func(context.Context, *pooltest.Conn) error { time.Sleep(time.Second); return nil })
	if b.State() != breaker.StateOpen {
		g.t.Error("a slow call has not opened the breaker")
	}
	time.Sleep(time.Minute)
	for range 20 {
		g.do(ctx, nil) // a probe, and then uses in the ramp-up
	}
	b.Reset("", "")
}
