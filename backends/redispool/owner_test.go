package redispool_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/earnorm/poolstack/backends/redispool"
	"github.com/earnorm/poolstack/pool"
)

// Every reply belongs to its command: each ECHO carries its own token, and returns this token or an
// error. This holds with any deadlines and cancellations. The server's bytes arrive late, and in
// pieces.
func TestRepliesBelongToTheirAskers(t *testing.T) {
	s := need(t)
	for _, protocol := range []int{2, 3} {
		t.Run(fmt.Sprint("protocol ", protocol), func(t *testing.T) {
			t.Parallel()
			proxy := newSlowProxy(t, s.addr, func() time.Duration {
				if rand.IntN(3) > 0 {
					return 0
				}
				return time.Duration(rand.IntN(8000)) * time.Microsecond
			})
			proxy.pieces = true
			p := open(t, redispool.Options{Address: proxy.addr, Protocol: protocol, DB: 3}, pool.Config{MaxSize: 4})
			var o owners
			stop := time.Now().Add(3 * time.Second)
			var all sync.WaitGroup
			for range 12 {
				all.Go(func() {
					for time.Now().Before(stop) && !t.Failed() {
						o.use(t, p)
					}
				})
			}
			all.Wait()
			st := p.Stat()
			t.Logf("%d answered, %d not; %d connections; closed %v", o.answered.Load(), o.failed.Load(), st.Opened, st.Closed)
			if o.answered.Load() == 0 || o.failed.Load() == 0 {
				t.Error("nothing was tried")
			}
		})
	}
}

// owners counts the commands of the test.
type owners struct{ tokens, answered, failed atomic.Int64 }

func (o *owners) token() string {
	token := fmt.Sprint("token:", o.tokens.Add(1), ":")
	switch rand.IntN(8) {
	case 0:
		return token + strings.Repeat("x", rand.IntN(100_000))
	case 1:
		return token + "\r\n-ERR no\r\n$3\r\n>2\r\n"
	}
	return token
}

// use acquires a connection for a random time, and sends a few commands.
func (o *owners) use(t *testing.T, p *pool.Pool[*redispool.Conn]) {
	ctx, cancel := chance(t.Context())
	defer cancel()
	_ = p.Do(ctx, pool.Op{}, func(ctx context.Context, c *redispool.Conn) (err error) {
		for range 1 + rand.IntN(4) {
			inner, cancel := ctx, context.CancelFunc(func() {})
			if rand.IntN(3) == 0 {
				inner, cancel = chance(ctx)
			}
			switch rand.IntN(8) {
			case 0:
				err = o.pipeline(inner, t, c.Pipelined)
			case 1:
				err = o.pipeline(inner, t, c.TxPipelined)
			case 2:
				err = c.Do(inner, "select", 1+rand.IntN(2)).Err()
			case 3:
				err = c.Watch(inner, func(tx redis.Cmdable) error { return o.echo(inner, t, tx) }, "k")
			case 4: // two at once
				var second sync.WaitGroup
				second.Go(func() { _ = o.echo(inner, t, c) })
				err = o.echo(inner, t, c)
				second.Wait()
			default:
				err = o.echo(inner, t, c)
			}
			cancel()
			if err != nil && rand.IntN(2) == 0 {
				return err
			}
		}
		return nil
	})
	_ = p.Do(t.Context(), pool.Op{}, func(ctx context.Context, c *redispool.Conn) error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
		defer cancel()
		if info, err := c.ClientInfo(ctx).Result(); err == nil && (info.DB != 3 || info.Multi != -1 || info.Watch > 0) {
			t.Errorf("the session is %+v", info)
		}
		return nil
	})
}

// chance bounds ctx by a deadline (lazy or not), cancels ctx after a while, or returns ctx
// unchanged.
func chance(ctx context.Context) (context.Context, context.CancelFunc) {
	d := time.Duration(rand.IntN(12_000)) * time.Microsecond
	switch rand.IntN(4) {
	case 0:
		return context.WithTimeout(ctx, d)
	case 1:
		ctx, lazy := pool.WithDeadline(ctx, time.Now().Add(d), nil)
		return ctx, lazy.Cancel
	case 2:
		ctx, cancel := context.WithCancel(ctx)
		timer := time.AfterFunc(d, cancel)
		return ctx, func() { timer.Stop(); cancel() }
	}
	return ctx, func() {}
}

func (o *owners) echo(ctx context.Context, t *testing.T, c redis.Cmdable) error {
	token := o.token()
	return o.look(t, c.Echo(ctx, token), token)
}

func (o *owners) look(t *testing.T, cmd *redis.StringCmd, token string) error {
	switch got, err := cmd.Result(); {
	case err != nil:
		o.failed.Add(1)
		if reply, ok := errors.AsType[redis.Error](err); ok && !strings.HasPrefix(reply.Error(), "EXECABORT") {
			t.Errorf("ECHO is answered with %v", err)
		}
		return err
	case got != token:
		t.Errorf("asked for %.30q, got %.30q", token, got)
	}
	o.answered.Add(1)
	return nil
}

func (o *owners) pipeline(ctx context.Context, t *testing.T, send func(context.Context, func(redis.Pipeliner) error) ([]redis.Cmder, error)) error {
	tokens := make([]string, 2+rand.IntN(20))
	cmds := make([]*redis.StringCmd, len(tokens))
	_, err := send(ctx, func(p redis.Pipeliner) error {
		for i := range tokens {
			tokens[i] = o.token()
			cmds[i] = p.Echo(ctx, tokens[i])
		}
		return nil
	})
	for i, cmd := range cmds {
		if e := o.look(t, cmd, tokens[i]); e != nil && err == nil {
			t.Errorf("a pipeline without an error has a command with %v", e)
		}
	}
	return err
}

// inPieces writes b in pieces of random size, some of them after a pause.
func inPieces(w net.Conn, b []byte) error {
	for len(b) > 0 {
		n := 1 + rand.IntN(len(b))
		if _, err := w.Write(b[:n]); err != nil {
			return err
		}
		if b = b[n:]; rand.IntN(4) == 0 {
			<-time.After(time.Duration(rand.IntN(3000)) * time.Microsecond)
		}
	}
	return nil
}
