package redislive

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/earnorm/poolstack/backends/redispool"
	"github.com/earnorm/poolstack/examples/ledger"
	"github.com/earnorm/poolstack/examples/servers/control"
	"github.com/earnorm/poolstack/middleware"
	"github.com/earnorm/poolstack/middleware/logging"
	"github.com/earnorm/poolstack/pool"
)

// The server fails in every possible way. No write acknowledged by the standard stack is lost, and
// no write is executed twice unless the write may be repeated. The test covers direct uses, and a
// client with go-redis's methods.
func TestLedger(t *testing.T) {
	if servers == nil {
		t.Skip("there is no redis-server")
	}
	stack, err := middleware.Standard(middleware.Options{
		Logging: logging.Config{Logger: slog.New(slog.DiscardHandler)}, Without: []string{middleware.KindTracing, middleware.KindMetrics},
	})
	if err != nil {
		t.Fatal(err)
	}
	address := strings.TrimSuffix(strings.TrimPrefix(servers.RedisURL(), "redis://"), "/0")
	p, err := redispool.New(redispool.Options{Address: address, DB: 8}, pool.Config{MaxSize: 8}, stack.Layers()...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close(context.Background()) }()
	rdb, err := redispool.NewClient(p, redispool.ClientConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rdb.Close() }()
	for _, fault := range ledger.Faults(servers, control.Redis) {
		t.Run(fault.Name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			key := "ledger " + fault.Name
			op := pool.Op{Name: "RPUSH"}
			l := ledger.During(ctx, t, fault, func(ctx context.Context, name string) error {
				if strings.HasSuffix(name, "0") {
					return rdb.RPush(ctx, key, name).Err()
				}
				return p.Do(ctx, op, func(ctx context.Context, c *redispool.Conn) error { return c.RPush(ctx, key, name).Err() })
			})
			bare := redis.NewClient(&redis.Options{Addr: address, DB: 8})
			defer func() { _ = bare.Close() }()
			entries, err := bare.LRange(ctx, key, 0, -1).Result()
			if err != nil {
				t.Fatal(err)
			}
			held := map[string]int{}
			for _, name := range entries {
				held[name]++
			}
			if err := l.Compare(held); err != nil {
				t.Error(err)
			}
			t.Logf("%d acknowledged, %d held", l.Acknowledged(), len(held))
		})
	}
}
