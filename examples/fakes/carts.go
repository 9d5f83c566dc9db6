package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
)

// Conn is the part of a connection used by Carts. A *redispool.Conn is a Conn.
type Conn interface {
	HGetAll(ctx context.Context, key string) *redis.MapStringStringCmd
	HIncrBy(ctx context.Context, key, field string, n int64) *redis.IntCmd
}

// ErrUnavailable means that the store cannot serve now. The caller may answer without the cart.
var ErrUnavailable = errors.New("carts are unavailable")

// Carts stores shopping carts. C is a type of connections, so a test can use a fake.
type Carts[C Conn] struct{ pool *pool.Pool[C] }

// Items returns the items of a user and their numbers. A cart that does not exist is empty.
func (s Carts[C]) Items(ctx context.Context, user string) (map[string]string, error) {
	op := pool.Op{Name: "HGETALL", Target: "carts", Idempotent: true}
	items, err := pool.Get(ctx, s.pool, op, func(ctx context.Context, c C) (map[string]string, error) {
		return c.HGetAll(ctx, "cart:"+user).Result()
	})
	return items, s.explain(err)
}

// Add adds n of an item, and returns the new number. Add is not idempotent: after a lost reply, Add
// returns ErrUnavailable, and the item may have been added.
func (s Carts[C]) Add(ctx context.Context, user, item string, n int64) (int64, error) {
	op := pool.Op{Name: "HINCRBY", Target: "carts"}
	total, err := pool.Get(ctx, s.pool, op, func(ctx context.Context, c C) (int64, error) {
		return c.HIncrBy(ctx, "cart:"+user, item, n).Result()
	})
	return total, s.explain(err)
}

// explain marks the errors that are neither the caller's nor an answer of a healthy server.
func (s Carts[C]) explain(err error) error {
	if err == nil {
		return nil
	}
	switch s.pool.Classify(err).Fault {
	case driver.FaultServer, driver.FaultLocal: // local: the pool is full, or the breaker is open
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	default:
		return err
	}
}
