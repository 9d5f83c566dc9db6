package redispool_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/earnorm/poolstack/backends/redispool"
	"github.com/earnorm/poolstack/pool"
)

type lendFunc = func(ctx context.Context, c *redispool.Conn) error

func do(words ...any) lendFunc {
	return func(ctx context.Context, c *redispool.Conn) error { return c.Do(ctx, words...).Err() }
}

// After any changes of a borrower, the next borrower finds the session as Open left it. A use
// without changes costs no reset, and a change that RESET undoes does not cost the connection.
func TestSession(t *testing.T) {
	s := launch(t, "--user", "app", "on", ">secret", "~*", "&*", "+@all")
	const (
		kept   = "kept"   // nothing was left
		reset  = "reset"  // the same connection, after a RESET
		closed = "closed" // another connection
	)
	for _, test := range []struct {
		name string
		do   lendFunc
		want string
	}{
		{"GET", do("get", "k"), kept},
		{"SET in capitals", do("SET", "k", "v"), kept},
		{"pipeline", func(ctx context.Context, c *redispool.Conn) error {
			_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error { p.Get(ctx, "k"); p.Incr(ctx, "n"); return nil })
			return err
		}, kept},
		{"TxPipelined", func(ctx context.Context, c *redispool.Conn) error {
			_, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Get(ctx, "k"); p.Incr(ctx, "n"); return nil })
			return err
		}, kept},
		{"TxPipelined with a failing command", func(ctx context.Context, c *redispool.Conn) error {
			_, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, "k"); p.Incr(ctx, "n"); return nil })
			return wantPrefix(err, "ERR value is not an integer")
		}, kept},
		{"TxPipelined that is aborted", func(ctx context.Context, c *redispool.Conn) error {
			_, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Do(ctx, "nonsense"); p.Incr(ctx, "n"); return nil })
			if !redis.IsExecAbortError(err) || !redis.HasErrorPrefix(err, "EXECABORT") || !strings.Contains(err.Error(), "ERR unknown command") {
				return fmt.Errorf("got %w, want EXECABORT and why", err)
			}
			return nil
		}, kept},
		{"Watch and TxPipelined", func(ctx context.Context, c *redispool.Conn) error {
			return c.Watch(ctx, func(tx redis.Cmdable) error {
				_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, "n"); return nil })
				return err
			}, "n")
		}, kept},
		{"Watch without a transaction", func(ctx context.Context, c *redispool.Conn) error {
			return c.Watch(ctx, func(tx redis.Cmdable) error { return tx.Get(ctx, "n").Err() }, "n")
		}, kept},
		{"MULTI and EXEC", func(ctx context.Context, c *redispool.Conn) error {
			return errors.Join(do("multi")(ctx, c), do("incr", "n")(ctx, c), do("EXEC")(ctx, c))
		}, kept},
		{"MULTI and DISCARD", func(ctx context.Context, c *redispool.Conn) error {
			return errors.Join(do("Multi")(ctx, c), do("incr", "n")(ctx, c), do("Discard")(ctx, c))
		}, kept},
		{"WATCH and UNWATCH", func(ctx context.Context, c *redispool.Conn) error {
			return errors.Join(do("watch", "k")(ctx, c), do("unwatch")(ctx, c))
		}, kept},
		{"CLIENT ID", do("client", "id"), kept},
		{"SCRIPT LOAD", do("script", "load", "return 1"), kept},

		{"SELECT", do("select", 7), reset},
		{"SELECT in capitals", do("SELECT", 7), reset},
		{"SELECT as bytes", do([]byte("select"), 7), reset},
		{"SELECT in a pipeline", func(ctx context.Context, c *redispool.Conn) error {
			_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, "n"); p.Select(ctx, 7); return nil })
			return err
		}, reset},
		{"SELECT in a transaction", func(ctx context.Context, c *redispool.Conn) error {
			_, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Select(ctx, 7); return nil })
			return err
		}, reset},
		{"AUTH", do("auth", "app", "secret"), reset},
		{"HELLO", do("hello", 2), reset},
		{"MULTI", do("multi"), reset},
		{"MULTI in a pipeline", func(ctx context.Context, c *redispool.Conn) error {
			_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error { p.Do(ctx, "multi"); p.Do(ctx, "incr", "n"); return nil })
			return err
		}, reset},
		{"WATCH", do("watch", "k"), reset},
		{"EXEC and then WATCH, in a pipeline", func(ctx context.Context, c *redispool.Conn) error {
			_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
				p.Do(ctx, "multi")
				p.Do(ctx, "exec")
				p.Do(ctx, "watch", "k")
				return nil
			})
			return err
		}, reset},
		{"CLIENT SETNAME", do("client", "SETNAME", "mine"), reset},
		{"CLIENT SETNAME as bytes", do("client", []byte("SETNAME"), "mine"), reset},
		{"CLIENT SETNAME as a pointer", do("client", new("setname"), "mine"), reset},
		{"SELECT as a pointer", do(new("Select"), 7), reset},
		{"CLIENT TRACKING", do("client", "tracking", "on"), reset},
		{"RESET", do("reset"), reset},

		{"SUBSCRIBE", do("subscribe", "news"), closed},
		{"SUBSCRIBE to two", do("subscribe", "news", "weather"), closed},
		{"PSUBSCRIBE", do("psubscribe", "n*"), closed},
		{"CLIENT NO-EVICT", do("client", "no-evict", "on"), closed},
		{"CLIENT NO-EVICT as bytes", do("client", []byte("no-evict"), "on"), closed},
		{"CLIENT ID as what marshals itself", do("client", marshalled("id")), closed},
		{"SELECT as what marshals itself", do(marshalled("select"), 7), closed},
		{"CLIENT REPLY", func(ctx context.Context, c *redispool.Conn) error {
			if err := do("client", "reply", "off")(ctx, c); err == nil {
				return errors.New("there was a reply")
			}
			return nil
		}, closed},
		{"MULTI and TxPipelined, whose replies go-redis leaves unread", func(ctx context.Context, c *redispool.Conn) error {
			if err := do("multi")(ctx, c); err != nil {
				return err
			}
			_, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Set(ctx, "k", "stray", 0); return nil })
			if err := wantPrefix(err, "ERR MULTI calls can not be nested"); err != nil {
				return err
			}
			if got, err := c.Get(ctx, "k").Result(); err == nil {
				return fmt.Errorf("GET has read another command's reply: %q", got)
			}
			return nil
		}, closed},
		{"an argument that cannot be encoded", func(ctx context.Context, c *redispool.Conn) error {
			if err := c.Set(ctx, "k", struct{}{}, 0).Err(); err == nil {
				return errors.New("it was encoded")
			}
			return nil
		}, closed},
	} {
		for _, protocol := range []int{2, 3} {
			if test.name == "CLIENT TRACKING" && protocol == 2 {
				continue // needs a second connection there
			}
			t.Run(fmt.Sprint(test.name, "/", protocol), func(t *testing.T) {
				opts := redispool.Options{
					Address: s.addr, Protocol: protocol, DB: 2, ClientName: "pooled", ReadTimeout: 200 * time.Millisecond,
				}
				p := open(t, opts, pool.Config{MaxSize: 1})
				use(t, p, func(ctx context.Context, c *redispool.Conn) error { return c.Set(ctx, "k", "v", 0).Err() })
				first, said := session(t, p), logged.String()
				use(t, p, test.do)
				if now := logged.String(); now != said {
					t.Errorf("go-redis says %s", strings.TrimPrefix(now, said))
				}
				second := session(t, p)
				got := kept
				if st := p.Stat(); st.Closed.Total() > 0 {
					got = closed
				} else if second.resets > 0 {
					got = reset
				}
				if got != test.want {
					t.Errorf("the connection was %s, want %s", got, test.want)
				}
				if got == closed == (first.id == second.id) {
					t.Errorf("the connection was %d and is %d", first.id, second.id)
				}
				first.id, second.id, second.resets = 0, 0, 0
				if first != second {
					t.Errorf("the session was\n%+v and is\n%+v", first, second)
				}
			})
		}
	}
}

// marshalled is a word with an encoding for go-redis that differs from its printed form.
type marshalled string

func (m marshalled) MarshalBinary() ([]byte, error) { return []byte(m), nil }
func (marshalled) String() string                   { return "get" }

// state is the part of a session that a borrower can see.
type state struct {
	id, db, resp, multi, watch, sub, psub int
	name, user, flags, tracking           string
	resets                                int
}

func session(t *testing.T, p *pool.Pool[*redispool.Conn]) (s state) {
	t.Helper()
	use(t, p, func(ctx context.Context, c *redispool.Conn) error {
		info, err := c.ClientInfo(ctx).Result()
		if err != nil {
			return err
		}
		s = state{
			id: int(info.ID), db: info.DB, resp: info.Resp, multi: info.Multi, watch: info.Watch, sub: info.Sub, psub: info.PSub,
			name: info.Name, user: info.User, flags: fmt.Sprint(info.Flags), tracking: fmt.Sprint(c.Do(ctx, "client", "trackinginfo").Val()),
		}
		return nil
	})
	s.resets = resets(t, p)
	return s
}

// resets returns the number of RESETs received by the server since the last call.
func resets(t *testing.T, p *pool.Pool[*redispool.Conn]) (n int) {
	t.Helper()
	use(t, p, func(ctx context.Context, c *redispool.Conn) error {
		stats, err := c.InfoMap(ctx, "commandstats").Result()
		if err != nil {
			return err
		}
		for name, value := range stats["Commandstats"] {
			if name == "cmdstat_reset" {
				_, err = fmt.Sscanf(value, "calls=%d", &n)
			}
		}
		return errors.Join(err, c.ConfigResetStat(ctx).Err())
	})
	return n
}

func wantPrefix(err error, prefix string) error {
	var reply redis.Error
	if !errors.As(err, &reply) || !strings.HasPrefix(reply.Error(), prefix) {
		return fmt.Errorf("got %w, want %s", err, prefix)
	}
	return nil
}
