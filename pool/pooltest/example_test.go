package pooltest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// A Fake shows how a program handles the failures of a server.
func ExampleFake() {
	ctx := context.Background()
	fake := &pooltest.Fake{}
	p, err := pool.New(fake, pool.Config{MaxSize: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	use := func(ctx context.Context, c *pooltest.Conn) error { return c.Use(ctx) }

	// The next command breaks its connection.
	fake.Inject(pooltest.Use, 1, pooltest.Fail(pooltest.ErrBroken))
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

// A driver's own test runs the suite on the driver. Functions that do not fit the driver stay nil.
func ExampleRunDriver() {
	_ = func(t *testing.T) { // TestDriver
		pooltest.RunDriver(t, pooltest.DriverSuite[*pooltest.Conn]{
			New: func(testing.TB) driver.Driver[*pooltest.Conn] { return &pooltest.Fake{} },
			Use: func(ctx context.Context, c *pooltest.Conn) error { return c.Use(ctx) },
		})
	}
}

// A layer's own test runs the suite on new layers.
func ExampleRunMiddleware() {
	_ = func(t *testing.T) { // TestLayer
		pooltest.RunMiddleware(t, func(testing.TB) pool.Middleware { return pool.Bracket(&pooltest.Spy{}) })
	}
}
