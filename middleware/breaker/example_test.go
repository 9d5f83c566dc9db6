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
