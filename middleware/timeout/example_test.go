package timeout_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/earnorm/poolstack/middleware/timeout"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// A use may take 2 s in all, each attempt of it 20 ms. (Between the two, retry would make further
// attempts.)
func Example() {
	total, err := timeout.NewTotal(timeout.Config{Limit: 2 * time.Second})
	if err != nil {
		panic(err)
	}
	attempt, err := timeout.NewAttempt(timeout.Config{Limit: 20 * time.Millisecond})
	if err != nil {
		panic(err)
	}
	p, err := pool.New(&pooltest.Fake{}, pool.Config{}, total, attempt)
	if err != nil {
		panic(err)
	}
	defer p.Close(context.Background())

	err = p.Do(context.Background(), pool.Op{Name: "GET"}, func(ctx context.Context, _ *pooltest.Conn) error {
		<-ctx.Done() // the server does not answer
		return ctx.Err()
	})
	fmt.Println(err)
	fmt.Println(errors.Is(err, timeout.ErrAttempt), errors.Is(err, timeout.ErrTotal), errors.Is(err, context.DeadlineExceeded))
	// Output:
	// timeout: pool "fake memory/0": the attempt took too long (20ms): context deadline exceeded
	// true false true
}

// Limits can be changed while the pool is in use.
func ExampleTimeout_Configure() {
	total, err := timeout.NewTotal(timeout.Config{})
	if err != nil {
		panic(err)
	}
	fmt.Println("by default:", total.Describe().Settings["limit"])
	fmt.Println(total.Configure(timeout.Config{MinLeft: -time.Second}))
	fmt.Println(total.Configure(timeout.Config{Limit: time.Second}), total.Config().Limit)
	// Output:
	// by default: automatic
	// timeout.total: MinLeft is -1s: must be 0 (any time left will do) or more, and less than Limit
	// <nil> 1s
}
