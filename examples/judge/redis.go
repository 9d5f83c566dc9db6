package main

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/earnorm/poolstack/backends/redispool"
	"github.com/earnorm/poolstack/pool"
)

// Keys of Redis.
const (
	redisValue = "judge:value"
	redisList  = "judge:list" // the mistake: reading the list as a value
)

// quiet drops the messages of go-redis about lost connections to standard error.
type quiet struct{}

// Printf implements go-redis' interface for loggers.
func (quiet) Printf(context.Context, string, ...any) {}

// fillRedis empties the server and writes the keys for reads.
func fillRedis(ctx context.Context, addr string) error {
	c := redis.NewClient(&redis.Options{Addr: addr})
	defer c.Close()
	return errors.Join(
		// Without fsync a write does not measure the disk, and still survives kill -9.
		c.ConfigSet(ctx, "appendfsync", "no").Err(),
		c.FlushAll(ctx).Err(),
		c.Set(ctx, redisValue, strings.Repeat("x", 128), 0).Err(),
		c.RPush(ctx, redisList, "x").Err(),
	)
}

// redisDo executes a use with any go-redis client. The error is the client's own.
func redisDo(ctx context.Context, c redis.Cmdable, w where, u use) error {
	switch u.kind {
	case write:
		return c.Set(ctx, w.written(), u.id, 0).Err()
	case add:
		return c.Incr(ctx, w.counter(u.id)).Err()
	case several:
		for range 2 {
			if err := c.Get(ctx, redisValue).Err(); err != nil {
				return err
			}
		}
		return c.Get(ctx, redisValue).Err()
	case miss:
		return c.Get(ctx, "judge:nothing").Err()
	case mistake:
		return c.Get(ctx, redisList).Err()
	default:
		return c.Get(ctx, redisValue).Err()
	}
}

func (w where) written() string       { return "judge:written:" + w.lane }
func (w where) counter(id int) string { return "judge:counter:" + w.lane + ":" + text(id) }

// asExpected returns nil for the error expected for the kind.
func asExpected(k kind, err error) error {
	switch {
	case k == miss && errors.Is(err, redis.Nil):
		return nil
	case k == mistake && err != nil && strings.Contains(err.Error(), "WRONGTYPE"):
		return nil
	}
	return err
}

// redisNames are the names of the operations in the stack.
var redisNames = map[kind]string{read: "GET", write: "SET", add: "INCR", several: "GET", miss: "GET", mistake: "GET", nested: "GET"}

// stackedRedis is the default stack.
type stackedRedis struct {
	where
	redisCounters
	outer, inner *pool.Pool[*redispool.Conn]
}

func newStackedRedis(w where) (client, error) {
	s := &stackedRedis{where: w, redisCounters: redisCounters{w}}
	var err error
	if s.outer, err = newRedisPool(w, w.addr, "redis"); err != nil {
		return nil, err
	}
	if w.inner != "" {
		s.inner, err = newRedisPool(w, w.inner, "inner")
	}
	return s, err
}

func newRedisPool(w where, addr, name string) (*pool.Pool[*redispool.Conn], error) {
	stack, err := newStack(w.preset)
	if err != nil {
		return nil, err
	}
	return redispool.New(redispool.Options{Address: addr}, poolConfig(w, name), stack.Layers()...)
}

func (s *stackedRedis) do(ctx context.Context, u use) error {
	op := pool.Op{Name: redisNames[u.kind], Idempotent: u.kind.repeatable()}
	return asExpected(u.kind, s.outer.Do(ctx, op, func(ctx context.Context, c *redispool.Conn) error {
		err := redisDo(ctx, c, s.where, u)
		if err == nil && u.kind == nested {
			err = s.inner.Do(ctx, op, func(ctx context.Context, c *redispool.Conn) error { return redisDo(ctx, c, s.where, u) })
		}
		return err
	}))
}

func (s *stackedRedis) warm(ctx context.Context) (bool, error) {
	return true, s.outer.Warm(ctx, s.size)
}

func (s *stackedRedis) close() {
	closing(s.outer.Close)
	if s.inner != nil {
		closing(s.inner.Close)
	}
}

// bareRedis is go-redis.
type bareRedis struct {
	where
	redisCounters
	outer, inner *redis.Client
}

func newBareRedis(w where, heedful bool) client {
	b := &bareRedis{where: w, redisCounters: redisCounters{w}}
	b.outer = redis.NewClient(&redis.Options{Addr: w.addr, PoolSize: w.size, ContextTimeoutEnabled: heedful})
	if w.inner != "" {
		b.inner = redis.NewClient(&redis.Options{Addr: w.inner, PoolSize: w.size, ContextTimeoutEnabled: heedful})
	}
	return b
}

func (b *bareRedis) do(ctx context.Context, u use) error {
	err := redisDo(ctx, b.outer, b.where, u)
	if err == nil && u.kind == nested {
		err = redisDo(ctx, b.inner, b.where, u)
	}
	return asExpected(u.kind, err)
}

func (b *bareRedis) warm(context.Context) (bool, error) { return false, nil }

func (b *bareRedis) close() {
	_ = b.outer.Close()
	if b.inner != nil {
		_ = b.inner.Close()
	}
}

// redisCounters reads the counters of a lane without the proxy.
type redisCounters struct{ at where }

func (r redisCounters) twice(ctx context.Context, adds []int) (map[int]bool, error) {
	c := redis.NewClient(&redis.Options{Addr: r.at.direct})
	defer c.Close()
	found := map[int]bool{}
	for chunk := range slices.Chunk(adds, 500) {
		keys := make([]string, len(chunk))
		for i, id := range chunk {
			keys[i] = r.at.counter(id)
		}
		values, err := c.MGet(ctx, keys...).Result()
		if err != nil {
			return nil, err
		}
		for i, v := range values {
			if s, ok := v.(string); ok && s != "1" {
				found[chunk[i]] = true
			}
		}
	}
	return found, nil
}
