package redispool_test

import (
	"context"
	"testing"
	"time"

	"github.com/earnorm/poolstack/backends/redispool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

func TestConformance(t *testing.T) {
	s := launch(t, "--requirepass", secret)
	opts := redispool.Options{Address: s.addr, Password: secret, DB: 4}
	pooltest.RunDriver(t, pooltest.DriverSuite[*redispool.Conn]{
		New: func(testing.TB) driver.Driver[*redispool.Conn] { return newDriver(t, opts) },
		Use: func(ctx context.Context, c *redispool.Conn) error { return c.Incr(ctx, "uses").Err() },
		Unreachable: func(testing.TB) driver.Driver[*redispool.Conn] {
			return newDriver(t, redispool.Options{Address: "127.0.0.1:1", Password: secret})
		},
		Break: func(t testing.TB, c *redispool.Conn) {
			ctx := context.Background()
			id := c.ClientID(ctx).Val()
			other, err := newDriver(t, opts).Open(ctx)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = newDriver(t, opts).Close(ctx, other) }()
			if err := other.Do(ctx, "client", "kill", "id", id).Err(); err != nil {
				t.Fatal(err)
			}
		},
		Soil: func(ctx context.Context, c *redispool.Conn) error { return c.Do(ctx, "select", 9).Err() },
		Soiled: func(ctx context.Context, c *redispool.Conn) (bool, error) {
			info, err := c.ClientInfo(ctx).Result()
			return err != nil || info.DB != 4, err
		},
		Block:   func(ctx context.Context, c *redispool.Conn) error { return c.BLPop(ctx, time.Minute, "nothing").Err() },
		Late:    func(ctx context.Context, c *redispool.Conn) error { return c.Do(ctx, "blpop", "nothing", "0.1").Err() },
		Secrets: []string{secret},
	})
}
