package breaker_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/earnorm/poolstack/middleware/breaker"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// After five failures in a row (an explicit setting), the breaker rejects uses at once, and the
// error contains the reason.
func Example() {
	b, err := breaker.New(breaker.Config{ConsecutiveFailures: 5, OpenFor: time.Minute})
	if err != nil {
		fmt.Println(err)
		return
	}
	p, err := pool.New(&pooltest.Fake{}, pool.Config{Name: "orders"}, b)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = p.Close(context.Background()) }()

	sent := 0
	get := func(context.Context, *pooltest.Conn) error { sent++; return pooltest.ErrBroken }
	for range 8 {
		err = p.Do(context.Background(), pool.Op{Name: "GET"}, get)
	}
	var refusal *breaker.OpenError
	fmt.Println("sent:", sent, "then refused:", errors.As(err, &refusal))
	fmt.Println("because", refusal.Trip)
	fmt.Println("state:", b.State(), "refused:", b.Snapshot().Refused)
	// Output:
	// sent: 5 then refused: true
	// because 5 calls in a row failed (limit 5), the last with broken: pooltest: the connection is broken
	// state: open refused: 3
}

// Settings can be changed while the breaker works; what it has counted is kept.
func ExampleBreaker_Configure() {
	b, err := breaker.New(breaker.Config{FailureRatio: 0.5, MinCalls: 100, ConsecutiveFailures: -1})
	if err != nil {
		fmt.Println(err)
		return
	}
	p, err := pool.New(&pooltest.Fake{}, pool.Config{Name: "orders"}, b)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = p.Close(context.Background()) }()
	use := func(outcome error) {
		_ = p.Do(context.Background(), pool.Op{Name: "GET"}, func(context.Context, *pooltest.Conn) error { return outcome })
	}
	for i := range 40 {
		use([]error{nil, nil, pooltest.ErrDenied}[i%3])
	}
	fmt.Printf("%v with a failure ratio of %.2f\n", b.State(), b.Snapshot().Counts.FailureRatio())

	cfg := b.Config()
	cfg.FailureRatio, cfg.MinCalls = 0.3, 20
	if err := b.Configure(cfg); err != nil {
		fmt.Println(err)
		return
	}
	use(pooltest.ErrDenied) // the next failure meets the new thresholds
	fmt.Println(b.State(), "because", b.Snapshot().Trip)

	cfg.FailureRatio = 30
	fmt.Println(b.Configure(cfg))
	// Output:
	// closed with a failure ratio of 0.33
	// open because 14 of 41 calls failed within 10s (limit 30 %), the last with DENIED
	// breaker: FailureRatio is 30: must be negative (off), 0 (default 1) or at most 1
}

// An operator rejects all uses during the maintenance of a server, for at most an hour.
func ExampleBreaker_Force() {
	b, _ := breaker.New(breaker.Config{})
	p, err := pool.New(&pooltest.Fake{}, pool.Config{Name: "orders"}, b)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = p.Close(context.Background()) }()
	ping := func(ctx context.Context, c *pooltest.Conn) error { return c.Use(ctx) }

	err = b.Force(breaker.Forced{
		Mode: breaker.ForceOpen, Until: time.Now().Add(time.Hour), Actor: "ann", Reason: "maintenance of the server",
	})
	fmt.Println(b.State(), err)
	fmt.Println("refused:", errors.Is(p.Do(context.Background(), pool.Op{Name: "GET"}, ping), breaker.ErrOpen))

	b.Release("ann", "the maintenance is over")
	fmt.Println(b.State(), p.Do(context.Background(), pool.Op{Name: "GET"}, ping))
	// Output:
	// open <nil>
	// refused: true
	// closed <nil>
}

// Slow answers open the breaker too, and the traffic comes back in steps.
func ExampleConfig_slowCalls() {
	cfg := breaker.Config{
		SlowCall:  300 * time.Millisecond, // slower answers are of no use to the callers
		SlowRatio: 0.6,
		RampUp:    30 * time.Second,
	}
	fmt.Println(cfg.Validate())
	cfg.SlowCall = time.Millisecond
	fmt.Println(cfg.Validate())
	// Output:
	// <nil>
	// breaker: SlowCall is 1ms: must be 0 (off) or at least 50ms
}
