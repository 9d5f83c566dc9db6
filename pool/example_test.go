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

// must keeps the examples short. A program handles its errors.
func must[V any](v V, err error) V {
	if err != nil {
		panic(err)
	}
	return v
}

// examplePool makes a pool with an in-memory driver. A program uses the driver of a backend.
func examplePool(cfg pool.Config, layers ...pool.Middleware) (*pool.Pool[*pooltest.Conn], *pooltest.Fake) {
	fake := &pooltest.Fake{}
	return must(pool.New(fake, cfg, layers...)), fake
}

func ExampleNew() {
	p, err := pool.New(&pooltest.Fake{}, pool.Config{Name: "orders", MaxSize: 16})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close(context.Background())
	fmt.Println(p.Identity().Name, p.Effective().MaxSize)

	_, err = pool.New(&pooltest.Fake{}, pool.Config{MaxSize: -1})
	fmt.Println(err)
	// Output:
	// orders 16
	// pool: MaxSize is -1: must be 0 (default 10) or more
}

func ExamplePool_Do() {
	p, _ := examplePool(pool.Config{})
	defer p.Close(context.Background())
	err := p.Do(context.Background(), pool.Op{Name: "PING", Idempotent: true}, func(ctx context.Context, c *pooltest.Conn) error {
		fmt.Println("connection", c.ID)
		return c.Use(ctx)
	})
	fmt.Println(err)
	// Output:
	// connection 1
	// <nil>
}

func ExampleGet() {
	p, _ := examplePool(pool.Config{})
	defer p.Close(context.Background())
	id, err := pool.Get(context.Background(), p, pool.Op{Name: "ID"}, func(_ context.Context, c *pooltest.Conn) (int, error) {
		return c.ID, nil
	})
	fmt.Println(id, err)
	// Output: 1 <nil>
}

func ExamplePool_Acquire() {
	p, _ := examplePool(pool.Config{})
	defer p.Close(context.Background())
	lease, err := p.Acquire(context.Background(), pool.Op{Name: "session"})
	if err != nil {
		fmt.Println(err)
		return
	}
	c, ok := lease.Value()
	fmt.Println(c.ID, ok)
	err = c.Use(lease.Context())     // the context of the layers
	fmt.Println(lease.Release(err))  // err is the outcome seen by the layers
	fmt.Println(lease.Release(err))  // the lease is already over
	if _, ok := lease.Value(); !ok { // and Value returns no resource
		fmt.Println("the lease is over")
	}
	// Output:
	// 1 true
	// true
	// false
	// the lease is over
}

func ExamplePool_TryAcquire() {
	p, _ := examplePool(pool.Config{MaxSize: 1})
	defer p.Close(context.Background())
	lease := must(p.Acquire(context.Background(), pool.Op{}))
	_, err := p.TryAcquire(context.Background(), pool.Op{}) // does not wait
	fmt.Println(errors.Is(err, pool.ErrExhausted))
	lease.Release(nil)
	lease, err = p.TryAcquire(context.Background(), pool.Op{})
	fmt.Println(lease.Release(nil), err)
	// Output:
	// true
	// true <nil>
}

func ExampleLease_Discard() {
	p, _ := examplePool(pool.Config{})
	lease := must(p.Acquire(context.Background(), pool.Op{Name: "COPY"}))
	lease.Discard(nil) // half of an answer is unread, so the connection must not be lent again
	fmt.Println(p.Close(context.Background()), p.Stat().Closed[pool.CloseDiscard])
	// Output: <nil> 1
}

func ExamplePool_Warm() {
	p, _ := examplePool(pool.Config{MaxSize: 8})
	defer p.Close(context.Background())
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	fmt.Println(p.Warm(ctx, 4), p.Stat().Idle)
	// Output: <nil> 4
}

func ExamplePool_Pause() {
	p, _ := examplePool(pool.Config{})
	defer p.Close(context.Background())
	use := func() error {
		return p.Do(context.Background(), pool.Op{}, func(ctx context.Context, c *pooltest.Conn) error { return c.Use(ctx) })
	}
	p.Pause(errors.New("the database is being moved"))
	err := use()
	fmt.Println(errors.Is(err, pool.ErrPaused), err)
	p.Resume()
	fmt.Println(use())
	// Output:
	// true pool "fake memory/0": pool is paused: the database is being moved (in use 0 of 10, idle 0, opening 0, waiters 0)
	// <nil>
}

func ExamplePool_Configure() {
	p, _ := examplePool(pool.Config{MaxSize: 2})
	defer p.Close(context.Background())
	cfg := p.Config() // a copy
	cfg.MaxSize = 20
	fmt.Println(p.Configure(cfg), p.Effective().MaxSize)
	cfg.MinIdle = 30
	fmt.Println(p.Configure(cfg)) // the old settings still hold
	// Output:
	// <nil> 20
	// pool: MinIdle is 30: must be between 0 and MaxSize, which is 20
}

func ExamplePool_Clear() {
	p, _ := examplePool(pool.Config{})
	ctx := context.Background()
	_ = p.Warm(ctx, 3)
	p.Clear() // for example after a failover of the server
	fmt.Println(p.Close(ctx), p.Stat().Closed[pool.CloseCleared])
	// Output: <nil> 3
}

func ExamplePool_Check() {
	p, fake := examplePool(pool.Config{})
	ctx := context.Background()
	defer p.Close(ctx)
	h := p.Check(ctx)
	fmt.Println(h.Status, h.Details)
	// A single idle connection may have died alone, so Check tries a second connection.
	fake.Inject(pooltest.Check, 2, pooltest.Fail(pooltest.ErrBroken))
	h = p.Check(ctx)
	fmt.Println(h.Status, h.Reasons)
	// Output:
	// ok map[conn:1]
	// down [check failed: pooltest: the connection is broken]
}

func ExamplePool_Stat() {
	p, _ := examplePool(pool.Config{MaxSize: 4})
	defer p.Close(context.Background())
	lease := must(p.Acquire(context.Background(), pool.Op{}))
	s := p.Stat()
	fmt.Printf("%d of %d in use, %d opened, %d acquired\n", s.InUse, s.Max, s.Opened, s.Acquires)
	lease.Release(nil)
	// Output: 1 of 4 in use, 1 opened, 1 acquired
}

// Close waits for the lent resources until its context ends.
func ExamplePool_Close() {
	p, _ := examplePool(pool.Config{MaxSize: 4})
	lease := must(p.Acquire(context.Background(), pool.Op{}))
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	fmt.Println(p.Close(ctx))
	lease.Release(nil)
	fmt.Println(p.Close(context.Background()))
	err := p.Do(context.Background(), pool.Op{}, func(context.Context, *pooltest.Conn) error { return nil })
	fmt.Println(errors.Is(err, pool.ErrClosed))
	// Output:
	// pool "fake memory/0": close: not drained, 1 lent, 0 being opened, checked or closed: context deadline exceeded
	// <nil>
	// true
}

// An Error contains the state of the pool at the time of the error.
func ExampleError() {
	p, _ := examplePool(pool.Config{MaxSize: 1, AcquireTimeout: time.Millisecond})
	defer p.Close(context.Background())
	lease := must(p.Acquire(context.Background(), pool.Op{}))
	_, err := p.Acquire(context.Background(), pool.Op{})
	var e *pool.Error
	if errors.As(err, &e) {
		fmt.Printf("%v: %d of %d in use\n", e.Reason, e.Occupancy.InUse, e.Occupancy.Max)
	}
	fmt.Println(errors.Is(err, context.DeadlineExceeded), e.Class().Fault)
	lease.Release(nil)
	// Output:
	// acquire timed out: 1 of 1 in use
	// true local
}

// announcing is a layer that prints the start and the end of each use.
type announcing struct{ name string }

func (l announcing) Begin(ctx context.Context, c *pool.Call) (context.Context, time.Time, error) {
	fmt.Println(l.name, "begins", c.Op().Name)
	return ctx, c.Started(), nil
}

func (l announcing) End(_ context.Context, c *pool.Call, started time.Time, err error) {
	fmt.Println(l.name, "ends:", err, time.Since(started) >= 0)
}

func (l announcing) Describe() pool.LayerInfo { return pool.LayerInfo{Layer: l.name} }

// The state returned by Begin is passed to End of the same use. The state may have any type.
func ExampleBracket() {
	p, _ := examplePool(pool.Config{}, pool.Bracket(announcing{"watch"}))
	defer p.Close(context.Background())
	_ = p.Do(context.Background(), pool.Op{Name: "GET"}, func(context.Context, *pooltest.Conn) error { return pooltest.ErrMiss })
	// Output:
	// watch begins GET
	// watch ends: pooltest: no such thing true
}

func ExampleChain() {
	standard := pool.Chain(pool.Bracket(announcing{"outer"}), pool.Bracket(announcing{"inner"}))
	p, _ := examplePool(pool.Config{}, standard)
	defer p.Close(context.Background())
	lease := must(p.Acquire(context.Background(), pool.Op{Name: "GET"}))
	fmt.Println("lent")
	lease.Release(nil)
	for _, l := range p.Layers() {
		fmt.Println(l.Layer)
	}
	// Output:
	// outer begins GET
	// inner begins GET
	// lent
	// inner ends: <nil> true
	// outer ends: <nil> true
	// outer
	// inner
}

// A layer that calls next again implements Middleware, and is not made with Bracket.
func ExampleMiddlewareFunc() {
	again := pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
		return func(ctx context.Context, c *pool.Call) error {
			err := next(ctx, c)
			if c.Classify(err).Repeat == driver.RepeatIfIdempotent && c.Op().Idempotent {
				c.SetAttempt(c.Attempt() + 1)
				err = next(ctx, c)
			}
			return err
		}
	})
	p, fake := examplePool(pool.Config{}, again)
	defer p.Close(context.Background())
	fake.Inject(pooltest.Use, 1, pooltest.Fail(pooltest.ErrBroken))
	err := p.Do(context.Background(), pool.Op{Name: "GET", Idempotent: true}, func(ctx context.Context, c *pooltest.Conn) error {
		err := c.Use(ctx)
		fmt.Printf("connection %d: %v\n", c.ID, err)
		return err
	})
	fmt.Println(err)
	// Output:
	// connection 1: pooltest: the connection is broken
	// connection 2: <nil>
	// <nil>
}

// A layer that rejects millions of uses makes no Event if no layer observes events.
func ExampleCall_Observed() {
	errFull := errors.New("come back later")
	shed := pool.MiddlewareFunc(func(pool.Handler) pool.Handler {
		return func(ctx context.Context, c *pool.Call) error {
			fmt.Println("observed:", c.Observed())
			if c.Observed() {
				c.Emit(ctx, pool.Event{Kind: pool.EventRejected, Layer: "shed", Reason: "full", Err: errFull})
			}
			return errFull
		}
	})
	for _, layers := range [][]pool.Middleware{{shed}, {logbook{}, shed}} {
		p, _ := examplePool(pool.Config{}, layers...)
		fmt.Println(p.Do(context.Background(), pool.Op{Name: "GET"}, func(context.Context, *pooltest.Conn) error { return nil }))
		_ = p.Close(context.Background())
	}
	// Output:
	// observed: false
	// come back later
	// observed: true
	// come back later
}

// meter is a layer that counts uses and records the end of the last use at little cost. Each
// processor mostly has a cell of its own, and the time comes from the coarse clock of the pool.
type meter struct {
	cells [8]struct {
		uses, last atomic.Int64
		_          [48]byte // its own cache line
	}
}

func (m *meter) Begin(ctx context.Context, _ *pool.Call) (context.Context, struct{}, error) {
	return ctx, struct{}{}, nil
}

func (m *meter) End(_ context.Context, c *pool.Call, _ struct{}, _ error) {
	cell := &m.cells[c.Shard()%uint32(len(m.cells))]
	cell.uses.Add(1)
	cell.last.Store(c.Clock().Unix())
}

func ExampleCall_Clock() {
	m := &meter{}
	p, _ := examplePool(pool.Config{}, pool.Bracket(m))
	defer p.Close(context.Background())
	for range 100 {
		_ = p.Do(context.Background(), pool.Op{Name: "GET"}, func(ctx context.Context, c *pooltest.Conn) error { return c.Use(ctx) })
	}
	var uses, last int64
	for i := range m.cells {
		uses += m.cells[i].uses.Load()
		last = max(last, m.cells[i].last.Load())
	}
	fmt.Println(uses, "uses, the last one long ago:", time.Since(time.Unix(last, 0)) > time.Minute)
	// Output: 100 uses, the last one long ago: false
}

// A layer can set the result in place of the pool.
func ExampleCall_SetResult() {
	fallback := pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
		return func(ctx context.Context, c *pool.Call) error {
			err := next(ctx, c)
			if c.Classify(err).Fault == driver.FaultServer && c.SetResult("a stale answer") == nil {
				return nil
			}
			return err
		}
	})
	p, fake := examplePool(pool.Config{}, fallback)
	defer p.Close(context.Background())
	fake.Inject(pooltest.Open, -1, pooltest.Fail(pooltest.ErrRefused))
	text, err := pool.Get(context.Background(), p, pool.Op{Name: "GET"}, func(context.Context, *pooltest.Conn) (string, error) {
		return "the answer", nil
	})
	fmt.Println(text, err)
	// Output: a stale answer <nil>
}

// A Deadline costs a single allocation. WithDeadline makes a timer only after a call of Done.
func ExampleWithDeadline() {
	late := errors.New("the attempt took too long")
	ctx, deadline := pool.WithDeadline(context.Background(), time.Now().Add(time.Millisecond), late)
	defer deadline.Cancel()
	<-ctx.Done()
	fmt.Println(ctx.Err(), deadline.Passed())
	fmt.Println(context.Cause(ctx))
	// Output:
	// context deadline exceeded true
	// the attempt took too long
}

// logbook is a layer that prints the events of the pool and of the other layers.
type logbook struct{}

func (logbook) Wrap(next pool.Handler) pool.Handler { return next }

func (logbook) Observe(_ context.Context, e pool.Event) {
	switch e.Kind {
	case pool.EventAcquired:
		fmt.Println(e.Pool, e.Layer, e.Kind, e.Op.Name, "attempt", e.Attempt)
	case pool.EventReleased:
		fmt.Println(e.Pool, e.Layer, e.Kind, e.Op.Name, e.Err)
	case pool.EventClosed:
		fmt.Println(e.Pool, e.Layer, e.Kind, e.Reason)
	}
}

func ExampleObserver() {
	p, _ := examplePool(pool.Config{Name: "orders"}, logbook{})
	_ = p.Do(context.Background(), pool.Op{Name: "GET"}, func(context.Context, *pooltest.Conn) error { return pooltest.ErrReply })
	_ = p.Close(context.Background())
	// Output:
	// orders pool acquired GET attempt 1
	// orders pool released GET pooltest: a healthy server's error reply
	// orders pool closed pool_closed
}

// alarm is a layer that observes unusual events only, and not the events of every use.
type alarm struct{ logbook }

func (alarm) WantsEvent(pool.EventKind) bool { return false }

func ExampleEventFilter() {
	p, _ := examplePool(pool.Config{Name: "orders"}, alarm{})
	_ = p.Do(context.Background(), pool.Op{Name: "GET"}, func(context.Context, *pooltest.Conn) error { return pooltest.ErrReply })
	_ = p.Close(context.Background())
	// Output:
	// orders pool closed pool_closed
}

// gauge is a layer that gets access to its pool.
type gauge struct{ logbook }

func (gauge) Observe(context.Context, pool.Event) {}
func (gauge) Attach(p pool.PoolInfo) (detach func(), err error) {
	fmt.Println("watching", p.Identity().Name, p.Stat().Max)
	return func() { fmt.Println("done with", p.Identity().Name) }, nil
}

func ExampleAttacher() {
	p, _ := examplePool(pool.Config{Name: "orders"}, gauge{})
	_ = p.Close(context.Background())
	// Output:
	// watching orders 10
	// done with orders
}

// A use of a pool inside a use of another pool. The error of the inner use is marked as a UseError.
// The layers of the outer pool (cache) treat this error as no evidence about the cache.
func ExampleUseError() {
	database, err := pool.New(&pooltest.Fake{}, pool.Config{Name: "database"})
	if err != nil {
		panic(err)
	}
	defer database.Close(context.Background())
	cache, err := pool.New(&pooltest.Fake{}, pool.Config{Name: "cache"})
	if err != nil {
		panic(err)
	}
	defer cache.Close(context.Background())

	err = cache.Do(context.Background(), pool.Op{Name: "GET"}, func(ctx context.Context, _ *pooltest.Conn) error {
		return database.Do(ctx, pool.Op{Name: "find"}, func(context.Context, *pooltest.Conn) error { return pooltest.ErrDenied })
	})
	if left, ok := errors.AsType[*pool.UseError](err); ok {
		fmt.Println(left.Pool().Name+":", left.Class().Fault, left)
	}
	fmt.Println("to the cache:", cache.Classify(err).Fault)
	// Output:
	// database: server pooltest: the server will not do this for you
	// to the cache: elsewhere
}
