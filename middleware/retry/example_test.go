package retry_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/earnorm/poolstack/middleware/retry"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// A read is repeated until it succeeds; a write that may have been executed is not.
func Example() {
	r, err := retry.New(retry.Config{InitialDelay: time.Millisecond})
	if err != nil {
		panic(err)
	}
	server := &pooltest.Fake{}
	p, err := pool.New(server, pool.Config{}, r)
	if err != nil {
		panic(err)
	}
	defer p.Close(context.Background())

	for _, op := range []pool.Op{{Name: "GET", Idempotent: true}, {Name: "INCR"}} {
		// The next two commands lose their connection.
		server.Inject(pooltest.Use, 2, pooltest.Fail(pooltest.ErrBroken))
		attempts := 0
		err := p.Do(context.Background(), op, func(ctx context.Context, c *pooltest.Conn) error {
			attempts++
			return c.Use(ctx)
		})
		fmt.Printf("%s: %d attempts, error: %v\n", op.Name, attempts, err)
	}
	// Output:
	// GET: 3 attempts, error: <nil>
	// INCR: 1 attempts, error: pooltest: the connection is broken
}

// The error holds the number of attempts, and the reason why no further attempt was made.
func ExampleError() {
	r, err := retry.New(retry.Config{InitialDelay: time.Minute})
	if err != nil {
		panic(err)
	}
	p, err := pool.New(&pooltest.Fake{}, pool.Config{}, r)
	if err != nil {
		panic(err)
	}
	defer p.Close(context.Background())

	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err = p.Do(ctx, pool.Op{Name: "GET"}, func(context.Context, *pooltest.Conn) error { return pooltest.ErrRefused })
	if e, ok := errors.AsType[*retry.Error](err); ok {
		fmt.Println(e.Attempts, e.Reason)
	}
	fmt.Println(err)
	// Output:
	// 1 deadline
	// retry: gave up, no time is left for another, after 1 attempt: pooltest: the server refused it unexecuted
}
