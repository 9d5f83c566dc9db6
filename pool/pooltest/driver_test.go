package pooltest_test

import (
	"context"
	"testing"
	"time"

	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

func TestSuiteOnFake(t *testing.T) {
	pooltest.RunDriver(t, pooltest.DriverSuite[*pooltest.Conn]{
		New: func(testing.TB) driver.Driver[*pooltest.Conn] { return &pooltest.Fake{} },
		Use: func(ctx context.Context, c *pooltest.Conn) error { return c.Use(ctx) },
		Unreachable: func(testing.TB) driver.Driver[*pooltest.Conn] {
			f := &pooltest.Fake{}
			f.Inject(pooltest.Open, -1, pooltest.Fail(pooltest.ErrRefused))
			return f
		},
		Break: func(_ testing.TB, c *pooltest.Conn) { c.Break() },
		Soil: func(_ context.Context, c *pooltest.Conn) error {
			c.Soil()
			return nil
		},
		Soiled: func(_ context.Context, c *pooltest.Conn) (bool, error) { return c.Soiled(), nil },
		Block: func(ctx context.Context, c *pooltest.Conn) error {
			if d, ok := ctx.Deadline(); ok { // as the deadline of a socket
				timer := time.AfterFunc(time.Until(d), func() { new(pooltest.Fake).Interrupt(c) })
				defer timer.Stop()
			}
			return c.Block()
		},
		Secrets: []string{"s3cret!"},
	})
}
