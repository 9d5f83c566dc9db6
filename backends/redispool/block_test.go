package redispool_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/earnorm/poolstack/backends/redispool"
	"github.com/earnorm/poolstack/pool"
)

// A command that blocks is waited for as long as its own timeout, by every way of sending.
// ReadTimeout is shorter.
func TestBlockingCommandsAreWaitedFor(t *testing.T) {
	s := need(t)
	key := "nothing " + t.Name()
	for name, send := range map[string]lendFunc{
		"BLPOP":  do("blpop", key, 0.6),
		"text":   do("BRPOP", key, "0.6"),
		"BLMPOP": do("blmpop", 0.6, 1, key, "left"),
		"XREAD":  do("xread", "block", 600, "streams", key, "$"),
		"method": func(ctx context.Context, c *redispool.Conn) error {
			return c.XRead(ctx, &redis.XReadArgs{Streams: []string{key, "$"}, Block: 600 * time.Millisecond}).Err()
		},
		"pipeline": func(ctx context.Context, c *redispool.Conn) error {
			_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
				p.Do(ctx, "blpop", key, 0.4)
				p.Do(ctx, "brpop", key, 0.4)
				return nil
			})
			return err
		},
		"WAIT": func(ctx context.Context, c *redispool.Conn) error {
			return acknowledged(c.Wait(ctx, 1, 300*time.Millisecond))
		},
		"WAIT by Do": func(ctx context.Context, c *redispool.Conn) error { return acknowledged(c.Do(ctx, "wait", 1, 600)) },
		"transaction": func(ctx context.Context, c *redispool.Conn) error { // where nothing blocks
			_, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error { p.BLPop(ctx, 0, key); return nil })
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := open(t, redispool.Options{Address: s.addr, ReadTimeout: 200 * time.Millisecond}, pool.Config{MaxSize: 1})
			if err := p.Do(t.Context(), pool.Op{}, send); !errors.Is(err, redis.Nil) {
				t.Errorf("got %v, want redis.Nil", err)
			}
			use(t, p, do("set", "k", "v"))
			if st := p.Stat(); st.Opened != 1 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// acknowledged returns redis.Nil for a WAIT without an acknowledgement of a replica.
func acknowledged(cmd interface{ Err() error }) error {
	if err := cmd.Err(); err != nil {
		return err
	}
	return redis.Nil
}

// The caller's deadline also bounds a command that blocks longer.
func TestBlockingCommandWithinADeadline(t *testing.T) {
	p := open(t, redispool.Options{Address: need(t).addr}, pool.Config{MaxSize: 1})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := p.Do(ctx, pool.Op{}, do("blpop", "nothing "+t.Name(), 0)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// SHUTDOWN succeeds when the connection ends.
func TestShutdown(t *testing.T) {
	for name, send := range map[string]lendFunc{
		"SHUTDOWN NOSAVE": func(ctx context.Context, c *redispool.Conn) error { return c.ShutdownNoSave(ctx).Err() },
		"SHUTDOWN":        func(ctx context.Context, c *redispool.Conn) error { return c.Shutdown(ctx).Err() },
	} {
		t.Run(name, func(t *testing.T) {
			s := launch(t)
			p := open(t, redispool.Options{Address: s.addr}, pool.Config{MaxSize: 1})
			use(t, p, send)
			eventually(t, func() error {
				c, err := net.Dial("tcp", s.addr)
				if err == nil {
					return errors.Join(errors.New("the server runs"), c.Close())
				}
				return nil
			})
			if err := p.Do(t.Context(), pool.Op{}, do("get", "k")); err == nil || !strings.Contains(err.Error(), "refused") {
				t.Errorf("a server that was shut down gives %v", err)
			}
		})
	}
}
