package redispool_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/earnorm/poolstack/backends/redispool"
	"github.com/earnorm/poolstack/middleware/retry"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
)

// judge is a layer that keeps the class of the latest outcome.
type judge struct {
	class driver.Class
	asked bool
}

func (j *judge) Begin(ctx context.Context, _ *pool.Call) (context.Context, struct{}, error) {
	return ctx, struct{}{}, nil
}

func (j *judge) End(_ context.Context, c *pool.Call, _ struct{}, err error) {
	j.class, j.asked = c.Classify(err), c.Asked()
}

// An error not met by the connection of this use is not the fault of its server, in any form. The
// errors here have no marks.
func TestWitnessOfForeignErrors(t *testing.T) {
	mine, theirs := launch(t), launch(t, "--maxmemory", "1", "--maxmemory-policy", "noeviction")
	j := &judge{}
	p := open(t, redispool.Options{Address: mine.addr}, pool.Config{MaxSize: 4}, pool.Bracket(j))
	other := open(t, redispool.Options{Address: theirs.addr}, pool.Config{MaxSize: 4})
	// Acquire, then Release with the unchanged error.
	lease := func(ctx context.Context, f lendFunc) error {
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
	for _, tc := range []struct {
		name string
		fn   lendFunc
		want driver.Class
	}{
		{"out of memory there, nothing asked here", func(ctx context.Context, _ *redispool.Conn) error { return lease(ctx, oom) },
			driver.Class{Fault: driver.FaultElsewhere}},
		{"out of memory there, answered here", func(ctx context.Context, c *redispool.Conn) error {
			if err := c.Incr(ctx, "n").Err(); err != nil {
				return err
			}
			return fmt.Errorf("there: %w", lease(ctx, oom))
		}, driver.Class{}},
		{"wrong type there, nothing asked here", func(ctx context.Context, _ *redispool.Conn) error { return lease(ctx, do("lpush", "k")) },
			driver.Class{Fault: driver.FaultElsewhere}},
		{"refused here, out of memory there", func(ctx context.Context, c *redispool.Conn) error {
			return errors.Join(lease(ctx, oom), c.Eval(ctx, "return redis.error_reply('LOADING x')", nil).Err())
		}, driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatIfIdempotent}},
		{"the function's own, nothing asked", func(context.Context, *redispool.Conn) error { return errors.New("invalid") },
			driver.Class{Fault: driver.FaultElsewhere}},
		{"the function's own, answered", func(ctx context.Context, c *redispool.Conn) error {
			return errors.Join(c.Ping(ctx).Err(), errors.New("invalid"))
		}, driver.Class{}},
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
	err := p.Do(t.Context(), pool.Op{}, do("get", "none"))
	if err != redis.Nil || !j.asked || !j.class.Miss || j.class.Fault != driver.FaultNone {
		t.Errorf("%v: %+v", err, j)
	}
}

// After a write, a refusal does not make the use repeatable. A command only read, queued or aborted
// is not a write, and neither is a write that changed nothing.
func TestWitnessOfWhatWasDone(t *testing.T) {
	s := launch(t)
	j := &judge{}
	p := open(t, redispool.Options{Address: s.addr}, pool.Config{MaxSize: 1}, pool.Bracket(j))
	use(t, p, func(ctx context.Context, c *redispool.Conn) error {
		return errors.Join(do("set", "k", "v")(ctx, c), do("sadd", "set", "a")(ctx, c), do("zadd", "z", 1, "a")(ctx, c), do("hset", "h", "f", 1)(ctx, c))
	})
	refused := do("set", "k", "v") // without a replica
	many := func(cmds ...string) lendFunc {
		return func(ctx context.Context, c *redispool.Conn) error {
			for _, cmd := range cmds {
				if err := pipelined((*redispool.Conn).Pipelined, cmd)(ctx, c); err != nil && !errors.Is(err, redis.Nil) {
					return err
				}
			}
			return nil
		}
	}
	tx := func(cmds ...string) lendFunc { return pipelined((*redispool.Conn).TxPipelined, cmds...) }
	batch := func(cmds ...string) lendFunc { return pipelined((*redispool.Conn).Pipelined, cmds...) }
	const scriptThatFails = "redis.call('incr','n') return redis.error_reply('my own words')"
	for _, test := range []struct {
		name   string
		before lendFunc
		want   driver.Repeat
	}{
		{"nothing", many(), driver.RepeatAlways},
		{"reads", many("get k", "GET none", "ping", "type k", "object encoding k", "xread streams s 0"), driver.RepeatAlways},
		{"a pipeline of reads", batch("get k", "exists k", "ping"), driver.RepeatAlways},
		{"a transaction of reads", tx("get k", "exists k"), driver.RepeatAlways},
		{"a read-only script", func(ctx context.Context, c *redispool.Conn) error { return c.EvalRO(ctx, "return 1", nil).Err() }, driver.RepeatAlways},
		{"a script that is not there", swallow(do("evalsha", "0000", 0)), driver.RepeatAlways},
		{"writes that changed nothing", many("del none", "setnx k v", "sadd set a", "srem set b", "hsetnx h f 2", "expire none 1", "lpop none",
			"set k v nx", "publish news hello"), driver.RepeatAlways},
		{"typed writes that changed nothing", func(ctx context.Context, c *redispool.Conn) error {
			_ = c.SetNX(ctx, "k", "v", 0).Err()
			return errors.Join(c.Del(ctx, "none").Err(), c.SAdd(ctx, "set", "a").Err())
		}, driver.RepeatAlways},
		{"MULTI's queue", many("multi", "incr n", "discard"), driver.RepeatAlways},
		{"MULTI's queue, left open", many("multi", "incr n"), driver.RepeatAlways},
		{"a queue in a pipeline", batch("multi", "incr n", "discard"), driver.RepeatAlways},
		{"an aborted EXEC", swallow(many("multi", "nonsense", "exec")), driver.RepeatAlways},
		{"an aborted transaction", swallow(tx("nonsense", "get k")), driver.RepeatAlways},
		{"a failed WATCH", func(ctx context.Context, c *redispool.Conn) error {
			_ = c.Watch(ctx, func(r redis.Cmdable) error {
				s.redis(t).HSet(ctx, "h", "f", 1)
				_, err := r.TxPipelined(ctx, func(p redis.Pipeliner) error { p.HGet(ctx, "h", "f"); return nil })
				return err
			}, "h")
			return nil
		}, driver.RepeatAlways},
		{"a refused write", swallow(do("lpush", "k", "v")), driver.RepeatAlways},

		{"a write", many("incr n"), driver.RepeatIfIdempotent},
		{"a write in capitals", do("INCR", "n"), driver.RepeatIfIdempotent},
		{"a write that returns 0 and changed something", many("hset h f 2"), driver.RepeatIfIdempotent},
		{"a counter at 0", many("incr zero", "decr zero"), driver.RepeatIfIdempotent},
		{"SET with GET", many("set fresh v get"), driver.RepeatIfIdempotent},
		{"an unknown command", do("config", "set", "hz", "10"), driver.RepeatIfIdempotent},
		{"a pipeline", batch("get k", "incr n"), driver.RepeatIfIdempotent},
		{"a transaction", tx("incr n", "incr n"), driver.RepeatIfIdempotent},
		{"MULTI and EXEC", many("multi", "incr n", "exec"), driver.RepeatIfIdempotent},
		{"MULTI and EXEC in a pipeline", batch("multi", "incr n", "exec"), driver.RepeatIfIdempotent},
		{"a queue, and EXEC in a pipeline", func(ctx context.Context, c *redispool.Conn) error {
			return errors.Join(many("multi", "incr n")(ctx, c), batch("get k", "exec")(ctx, c))
		}, driver.RepeatIfIdempotent},
		{"a script", do("eval", "return 1", 0), driver.RepeatIfIdempotent},
		{"a script that failed", swallow(do("eval", scriptThatFails, 0)), driver.RepeatIfIdempotent},
	} {
		err := p.Do(t.Context(), pool.Op{}, func(ctx context.Context, c *redispool.Conn) error {
			if err := test.before(ctx, c); err != nil {
				return err
			}
			s.redis(t).Do(t.Context(), "config", "set", "min-replicas-to-write", "1")
			defer s.redis(t).Do(t.Context(), "config", "set", "min-replicas-to-write", "0")
			err := refused(ctx, c)
			if err == nil { // it was queued
				err = do("exec")(ctx, c)
			}
			return err
		})
		if j.class.Code != "NOREPLICAS" || j.class.Repeat != test.want {
			t.Errorf("%s: %v is %+v, want %v", test.name, err, j.class, test.want)
		}
	}
}

// A command without an answer may have been carried out. This does not matter for a read.
func TestWitnessOfWhatWasNotAnswered(t *testing.T) {
	s := launch(t)
	j := &judge{}
	p := open(t, redispool.Options{Address: s.addr}, pool.Config{MaxSize: 1}, pool.Bracket(j))
	for name, test := range map[string]struct {
		late lendFunc
		want driver.Repeat
	}{
		"GET":                     {do("get", "k"), driver.RepeatAlways},
		"INCR":                    {do("incr", "n"), driver.RepeatIfIdempotent},
		"a pipeline of reads":     {pipelined((*redispool.Conn).Pipelined, "get k", "exists k"), driver.RepeatAlways},
		"a pipeline with a write": {pipelined((*redispool.Conn).Pipelined, "get k", "incr n"), driver.RepeatIfIdempotent},
		"a transaction":           {pipelined((*redispool.Conn).TxPipelined, "incr n", "incr n"), driver.RepeatIfIdempotent},
		"a transaction of reads":  {pipelined((*redispool.Conn).TxPipelined, "get n", "get n"), driver.RepeatAlways},
	} {
		_ = p.Do(t.Context(), pool.Op{}, func(ctx context.Context, c *redispool.Conn) error {
			thaw := pauseServer(t, s)
			soon, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
			defer cancel()
			if err := test.late(soon, c); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v", name, err)
			}
			thaw()
			s.redis(t).Do(t.Context(), "config", "set", "min-replicas-to-write", "1")
			defer s.redis(t).Do(t.Context(), "config", "set", "min-replicas-to-write", "0")
			return do("set", "k", "v")(ctx, c)
		})
		if j.class.Code != "NOREPLICAS" || j.class.Repeat != test.want {
			t.Errorf("%s: %+v, want %v", name, j.class, test.want)
		}
	}
}

// INCR is acknowledged, then SET is refused, in a function with three attempts. The counter is 1.
func TestIncrementIsNotRepeated(t *testing.T) {
	s := launch(t, "--min-replicas-to-write", "0")
	r, err := retry.New(retry.Config{InitialDelay: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	p := open(t, redispool.Options{Address: s.addr}, pool.Config{}, r)
	calls := 0
	err = p.Do(t.Context(), pool.Op{Name: "order"}, func(ctx context.Context, c *redispool.Conn) error {
		calls++
		if err := c.Incr(ctx, "n").Err(); err != nil {
			return err
		}
		s.redis(t).ConfigSet(ctx, "min-replicas-to-write", "1")
		return c.Set(ctx, "k", "v", 0).Err()
	})
	if n, _ := s.redis(t).Get(t.Context(), "n").Int(); n != 1 || calls != 1 || err == nil {
		t.Errorf("n = %d after %d calls, %v", n, calls, err)
	}
}

// The primary becomes a replica of another server during a pipeline of many writes. If the pipeline
// reports success, each increment was done once.
func TestPipelineThroughFailover(t *testing.T) {
	first := launch(t)
	second := launch(t, "--replicaof", first.host()+" "+first.port(), "--repl-diskless-sync-delay", "0")
	eventually(t, func() error {
		if !strings.Contains(second.redis(t).Info(t.Context(), "replication").Val(), "master_link_status:up") {
			return errors.New("the replica is not in sync")
		}
		return nil
	})
	r, err := retry.New(retry.Config{InitialDelay: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	address := newSwitch(t, first.addr)
	p := open(t, redispool.Options{Address: address.addr}, pool.Config{MaxSize: 4}, r)
	const increments = 20_000
	var failover sync.WaitGroup
	failover.Go(func() {
		c := first.redis(t)
		eventually(t, func() error {
			if n, _ := c.Get(t.Context(), "n").Int(); n == 0 {
				return errors.New("it has not begun")
			}
			return nil
		})
		address.to(second.addr)
		c.ReplicaOf(t.Context(), second.host(), second.port())
		second.redis(t).ReplicaOf(t.Context(), "no", "one")
	})
	err = p.Do(t.Context(), pool.Op{Name: "batch"}, func(ctx context.Context, c *redispool.Conn) error {
		_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
			for range increments {
				p.Set(ctx, "k", "v", 0)
				p.Incr(ctx, "n")
			}
			return nil
		})
		return err
	})
	failover.Wait()
	n, _ := second.redis(t).Get(t.Context(), "n").Int()
	t.Logf("n = %d, %v", n, err)
	if err == nil && n != increments || n > increments {
		t.Errorf("n = %d, %v", n, err)
	}
}
