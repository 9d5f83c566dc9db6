package redispool_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/earnorm/poolstack/backends/redispool"
	"github.com/earnorm/poolstack/middleware/breaker"
	"github.com/earnorm/poolstack/middleware/retry"
	"github.com/earnorm/poolstack/pool"
)

// pair has two pools, each on its own server. A use of the outer pool uses the inner pool. The
// outer pool has a retry layer and a breaker. The inner pool has the same layers if the pair is
// layered.
type pair struct {
	outer, inner *pool.Pool[*redispool.Conn]
	breaker      *breaker.Breaker // of the outer pool
	server       *server          // the inner pool's
}

func newPair(t *testing.T, layered bool, args ...string) *pair {
	t.Helper()
	p := &pair{server: launch(t, args...)}
	var layers []pool.Middleware
	p.breaker, layers = resilience(t)
	p.outer = open(t, redispool.Options{Address: launch(t).addr}, pool.Config{}, layers...)
	layers = nil
	if layered {
		_, layers = resilience(t)
	}
	p.inner = open(t, redispool.Options{Address: p.server.addr}, pool.Config{}, layers...)
	return p
}

func resilience(t *testing.T) (*breaker.Breaker, []pool.Middleware) {
	t.Helper()
	r, err := retry.New(retry.Config{InitialDelay: 1, MaxAttempts: 3})
	if err != nil {
		t.Fatal(err)
	}
	b, err := breaker.New(breaker.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return b, []pool.Middleware{r, b}
}

func set(ctx context.Context, c *redispool.Conn) error { return c.Set(ctx, "key", "value", 0).Err() }

// rejected returns how many SETs the server has refused.
func (s *server) rejected(t *testing.T) (n int) {
	t.Helper()
	_, rest, _ := strings.Cut(s.redis(t).Info(t.Context(), "commandstats").Val(), "cmdstat_set:")
	line, _, _ := strings.Cut(rest, "\n")
	_, count, _ := strings.Cut(line, "rejected_calls=")
	count, _, _ = strings.Cut(count, ",")
	n, _ = strconv.Atoi(count)
	return n
}

// Failures of the inner server, or of the way to it, do not affect the outer pool: its breaker
// stays closed and its connections stay open. Its own commands that are not idempotent are carried
// out once.
func TestInnerFailure(t *testing.T) {
	const uses = 12
	for name, c := range map[string]struct {
		args []string
		harm func(t *testing.T, p *pair)
	}{
		"OOM":      {[]string{"--maxmemory", "1", "--maxmemory-policy", "noeviction"}, func(*testing.T, *pair) {}},
		"READONLY": {[]string{"--replicaof", "127.0.0.1 1"}, func(*testing.T, *pair) {}},
		"gone":     {nil, func(_ *testing.T, p *pair) { p.server.kill() }},
		"cut": {nil, func(t *testing.T, p *pair) {
			t.Helper()
			p.server.redis(t).ClientKillByFilter(t.Context(), "TYPE", "normal", "SKIPME", "yes")
		}},
	} {
		for layers, inner := range map[string]func(p *pair, ctx context.Context) error{
			"pool with layers": func(p *pair, ctx context.Context) error { return p.inner.Do(ctx, pool.Op{Name: "SET"}, set) },
			"bare pool":        func(p *pair, ctx context.Context) error { return p.inner.Do(ctx, pool.Op{Name: "SET"}, set) },
			"lease": func(p *pair, ctx context.Context) error {
				l, err := p.inner.Acquire(ctx, pool.Op{Name: "SET"})
				if err != nil {
					return err
				}
				c, _ := l.Value()
				return l.Finish(set(l.Context(), c))
			},
			"lease, released raw": func(p *pair, ctx context.Context) error {
				l, err := p.inner.Acquire(ctx, pool.Op{Name: "SET"})
				if err != nil {
					return err
				}
				c, _ := l.Value()
				err = set(l.Context(), c)
				l.Release(err)
				return err
			},
			"client": func(p *pair, ctx context.Context) error {
				client := redis.NewClient(&redis.Options{Addr: p.server.addr, MaxRetries: -1})
				defer func() { _ = client.Close() }()
				return client.Set(ctx, "key", "value", 0).Err()
			},
		} {
			t.Run(name+", "+layers, func(t *testing.T) {
				t.Parallel()
				p := newPair(t, layers == "pool with layers", c.args...)
				if name == "cut" && layers == "client" {
					t.Skip("it dials anew, and would only succeed")
				}
				if err := p.inner.Warm(t.Context(), 1); err != nil {
					t.Fatal(err)
				}
				c.harm(t, p)
				for range uses {
					err := p.outer.Do(t.Context(), pool.Op{Name: "INCR"}, func(ctx context.Context, c *redispool.Conn) error {
						if err := c.Incr(ctx, "n").Err(); err != nil {
							return err
						}
						if name == "cut" {
							p.server.redis(t).ClientKillByFilter(ctx, "TYPE", "normal", "SKIPME", "yes")
						}
						return inner(p, ctx)
					})
					if err == nil && name != "cut" {
						t.Fatal("the inner server works")
					}
				}
				use(t, p.outer, func(ctx context.Context, c *redispool.Conn) error {
					if n, err := c.Get(ctx, "n").Int(); n != uses || err != nil {
						return fmt.Errorf("%d uses have incremented to %d: %w", uses, n, err)
					}
					return nil
				})
				if s := p.breaker.Snapshot(); s.State != breaker.StateClosed || s.Counts.Failures > 0 {
					t.Errorf("the outer breaker is %v with %+v", s.State, s.Counts)
				}
				// On a busy machine a late dial may have opened a second connection.
				if s := p.outer.Stat(); s.Closed.Total() != 0 {
					t.Errorf("the outer pool's connections: %+v", s)
				}
			})
		}
	}
}

// A use of the same pool within a use, directly or through another pool. The server gets as many
// commands as for a single use, and the answers count once.
func TestSamePoolWithin(t *testing.T) {
	for name, within := range map[string]func(a, b *pool.Pool[*redispool.Conn], ctx context.Context) error{
		"one": func(a, _ *pool.Pool[*redispool.Conn], ctx context.Context) error {
			return a.Do(ctx, pool.Op{Name: "SET", Idempotent: true}, set)
		},
		"A-A": func(a, _ *pool.Pool[*redispool.Conn], ctx context.Context) error {
			return a.Do(ctx, pool.Op{Name: "outer", Idempotent: true}, func(ctx context.Context, _ *redispool.Conn) error {
				return a.Do(ctx, pool.Op{Name: "SET", Idempotent: true}, set)
			})
		},
		"A-B-A": func(a, b *pool.Pool[*redispool.Conn], ctx context.Context) error {
			return a.Do(ctx, pool.Op{Name: "outer", Idempotent: true}, func(ctx context.Context, _ *redispool.Conn) error {
				return b.Do(ctx, pool.Op{Name: "middle", Idempotent: true}, func(ctx context.Context, _ *redispool.Conn) error {
					return a.Do(ctx, pool.Op{Name: "SET", Idempotent: true}, set)
				})
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			readOnly := launch(t, "--replicaof", "127.0.0.1 1")
			counted, layers := resilience(t)
			a := open(t, redispool.Options{Address: readOnly.addr}, pool.Config{}, layers...)
			other, layers := resilience(t)
			b := open(t, redispool.Options{Address: launch(t).addr}, pool.Config{}, layers...)
			if err := within(a, b, t.Context()); err == nil {
				t.Fatal("a replica that takes writes")
			}
			attempts := readOnly.rejected(t)
			if s := counted.Snapshot(); attempts == 0 || attempts > 3 || s.Counts.Failures > int64(attempts) {
				t.Errorf("the server was asked %d times, want at most 3; the breaker has counted %+v", attempts, s.Counts)
			}
			if s := other.Snapshot(); s.Counts.Failures > 0 {
				t.Errorf("the other pool's breaker has counted %+v", s.Counts)
			}
		})
	}
}
