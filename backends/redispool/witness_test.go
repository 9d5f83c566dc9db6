package redispool_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/earnorm/poolstack/backends/redispool"
	"github.com/earnorm/poolstack/pool"
)

// judge is a layer that keeps the class of the latest outcome.
type judge struct {
	class pool.Class
	asked bool
}

func (j *judge) Begin(ctx context.Context, _ *pool.Call) (context.Context, struct{}, error) {
	return ctx, struct{}{}, nil
}

func (j *judge) End(_ context.Context, c *pool.Call, _ struct{}, err error) {
	j.class, j.asked = c.Classify(err), c.Asked()
}

// What the connection of this use has not met is not laid at its server, in whatever shape it comes: nothing marks the errors here.
func TestWitnessOfForeignErrors(t *testing.T) {
	mine, theirs := launch(t), launch(t, "--maxmemory", "1", "--maxmemory-policy", "noeviction")
	j := &judge{}
	p := open(t, redispool.Options{Address: mine.addr}, pool.Config{MaxSize: 4}, pool.Bracket(j))
	other := open(t, redispool.Options{Address: theirs.addr}, pool.Config{MaxSize: 4})
	lease := func(ctx context.Context, f lendFunc) error { // two steps, released by hand, the error as it is
		l, err := other.Acquire(ctx, pool.Op{})
		if err != nil {
			return err
		}
		c, _ := l.Value()
		err = f(ctx, c)
		l.Release(err)
		return err
	}
	oom := do("set", "k", "v")
	gone := func(ctx context.Context, c *redispool.Conn) error { return c.Do(ctx, "quit").Err() }
	_ = gone
	for _, tc := range []struct {
		name string
		fn   lendFunc
		want pool.Class
	}{
		{"out of memory there, nothing asked here", func(ctx context.Context, _ *redispool.Conn) error { return lease(ctx, oom) },
			pool.Class{Fault: pool.FaultElsewhere}},
		{"out of memory there, answered here", func(ctx context.Context, c *redispool.Conn) error {
			if err := c.Incr(ctx, "n").Err(); err != nil {
				return err
			}
			return fmt.Errorf("there: %w", lease(ctx, oom))
		}, pool.Class{}},
		{"wrong type there, nothing asked here", func(ctx context.Context, _ *redispool.Conn) error { return lease(ctx, do("lpush", "k")) },
			pool.Class{Fault: pool.FaultElsewhere}},
		{"refused here, out of memory there", func(ctx context.Context, c *redispool.Conn) error {
			return errors.Join(lease(ctx, oom), c.Eval(ctx, "return redis.error_reply('LOADING x')", nil).Err())
		}, pool.Class{Fault: pool.FaultServer, Repeat: pool.RepeatIfIdempotent}},
		{"the function's own, nothing asked", func(context.Context, *redispool.Conn) error { return errors.New("invalid") },
			pool.Class{Fault: pool.FaultElsewhere}},
		{"the function's own, answered", func(ctx context.Context, c *redispool.Conn) error {
			return errors.Join(c.Ping(ctx).Err(), errors.New("invalid"))
		}, pool.Class{}},
	} {
		_ = p.Do(t.Context(), pool.Op{}, tc.fn)
		got := j.class
		if got.Fault != tc.want.Fault || got.Repeat != tc.want.Repeat || got.Broken {
			t.Errorf("%s: got %+v, want %+v", tc.name, got, tc.want)
		}
	}
	if s := p.Stat(); s.Opened != 1 {
		t.Errorf("%+v", s)
	}
	_ = p.Do(t.Context(), pool.Op{}, func(context.Context, *redispool.Conn) error { return nil })
	if j.asked {
		t.Error("a function that sent nothing has asked")
	}
	if err := p.Do(t.Context(), pool.Op{}, do("get", "none")); err != redis.Nil || !j.asked || !j.class.Miss || j.class.Fault != pool.FaultNone { //nolint:errorlint // a miss stays plain
		t.Errorf("%v: %+v", err, j)
	}
}

// Once something has been carried out, a refusal does not make the whole repeatable; what was only read, queued or aborted is nothing.
func TestWitnessOfWhatWasDone(t *testing.T) {
	s := launch(t)
	j := &judge{}
	p := open(t, redispool.Options{Address: s.addr}, pool.Config{MaxSize: 1}, pool.Bracket(j))
	refused := func(ctx context.Context, c redis.Cmdable) error {
		return c.Eval(ctx, "return redis.error_reply('TRYAGAIN later')", nil).Err()
	}
	refusedOnEntry := do("replicaof", "x") // an answer
	_ = refusedOnEntry
	for name, tc := range map[string]struct {
		fn   lendFunc
		want pool.Repeat
	}{
		"a write before": {func(ctx context.Context, c *redispool.Conn) error { c.Incr(ctx, "n"); return refused(ctx, c) }, pool.RepeatIfIdempotent},
		"a transaction before": {func(ctx context.Context, c *redispool.Conn) error {
			_, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, "n"); p.Incr(ctx, "n"); return nil })
			return errors.Join(err, refused(ctx, c))
		}, pool.RepeatIfIdempotent},
	} {
		_ = p.Do(t.Context(), pool.Op{}, tc.fn)
		if j.class.Repeat != tc.want {
			t.Errorf("%s: %+v, want %v", name, j.class, tc.want)
		}
	}
	s.redis(t).Do(t.Context(), "config", "set", "min-replicas-to-write", "1")
	for name, fn := range map[string]lendFunc{
		"nothing before": do("set", "k", "v"),
		"a read before": func(ctx context.Context, c *redispool.Conn) error {
			c.Get(ctx, "n")
			return c.Set(ctx, "k", "v", 0).Err()
		},
		"a pipeline": func(ctx context.Context, c *redispool.Conn) error {
			_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error { p.Get(ctx, "n"); p.Set(ctx, "k", "v", 0); return nil })
			return err
		},
		"a transaction": func(ctx context.Context, c *redispool.Conn) error {
			_, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Get(ctx, "n"); p.Set(ctx, "k", "v", 0); return nil })
			return err
		},
		"MULTI by hand": func(ctx context.Context, c *redispool.Conn) error {
			c.Do(ctx, "multi")
			c.Get(ctx, "n")
			return c.Set(ctx, "k", "v", 0).Err()
		},
	} {
		_ = p.Do(t.Context(), pool.Op{}, fn)
		if j.class.Repeat != pool.RepeatAlways {
			t.Errorf("%s: %+v, want always", name, j.class)
		}
	}
}
