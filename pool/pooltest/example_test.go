package pooltest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// A Fake shows how one's own code takes what a server can do to it.
func ExampleFake() {
	ctx := context.Background()
	fake := &pooltest.Fake{}
	p, err := pool.New(fake, pool.Config{MaxSize: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	use := func(ctx context.Context, c *pooltest.Conn) error { return c.Use(ctx) }

	fake.Inject(pooltest.Use, 1, pooltest.Fail(pooltest.ErrBroken)) // the next command breaks its connection
	fmt.Println(p.Do(ctx, pool.Op{Name: "GET"}, use))
	fmt.Println(p.Do(ctx, pool.Op{Name: "GET"}, use)) // on a new one

	fake.Inject(pooltest.Open, -1, pooltest.Fail(pooltest.ErrRefused)) // the server is gone
	p.Clear()
	fmt.Println(errors.Is(p.Do(ctx, pool.Op{Name: "GET"}, use), pool.ErrOpen))

	fmt.Println(p.Close(ctx), fake.Violations())
	// Output:
	// pooltest: the connection is broken
	// <nil>
	// true
	// <nil> []
}

// A driver's own test runs the suite on it; what it cannot do is left nil.
func ExampleRunDriver() {
	_ = func(t *testing.T) { // TestDriver
		pooltest.RunDriver(t, pooltest.DriverSuite[*pooltest.Conn]{
			New: func(testing.TB) pool.Driver[*pooltest.Conn] { return &pooltest.Fake{} },
			Use: func(ctx context.Context, c *pooltest.Conn) error { return c.Use(ctx) },
		})
	}
}

// A layer's own test runs the suite on fresh ones.
func ExampleRunMiddleware() {
	_ = func(t *testing.T) { // TestLayer
		pooltest.RunMiddleware(t, func(testing.TB) pool.Middleware { return pool.Bracket(&pooltest.Spy{}) })
	}
}
