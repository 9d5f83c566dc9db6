package redispool_test

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/earnorm/poolstack/backends/redispool"
	"github.com/earnorm/poolstack/pool"
)

func benchGet(ctx context.Context, c *redispool.Conn) error { return c.Get(ctx, "bench").Err() }

// BenchmarkGet compares a GET through the pool with one on go-redis' own pinned connection.
func BenchmarkGet(b *testing.B) {
	s := need(b)
	ctx := context.Background()
	if err := s.redis(b).Set(ctx, "bench", "value", 0).Err(); err != nil {
		b.Fatal(err)
	}
	b.Run("goredis", func(b *testing.B) {
		client := redis.NewClient(&redis.Options{Addr: s.addr, PoolSize: 1})
		defer func() { _ = client.Close() }()
		c := client.EphemeralConn()
		defer func() { _ = c.Close() }()
		b.ReportAllocs()
		for b.Loop() {
			if err := c.Get(ctx, "bench").Err(); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, protocol := range []int{2, 3} {
		b.Run("pool"+string(rune('0'+protocol)), func(b *testing.B) {
			p := open(b, redispool.Options{Address: s.addr, Protocol: protocol}, pool.Config{})
			b.ReportAllocs()
			for b.Loop() {
				if err := p.Do(ctx, pool.Op{}, benchGet); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
