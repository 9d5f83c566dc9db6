package redispool_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/earnorm/poolstack/backends/redispool"
	"github.com/earnorm/poolstack/middleware/breaker"
	"github.com/earnorm/poolstack/middleware/retry"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
)

// lateServer answers "get late" when it is allowed to, and any other command at once. asked
// receives a value when "get late" has arrived.
func lateServer(t *testing.T) (addr string, asked <-chan struct{}, let chan<- struct{}) {
	t.Helper()
	came, goOn := make(chan struct{}, 8), make(chan struct{}, 8)
	addr = script(t, func(words []string) (string, bool) {
		switch strings.Join(words, " ") {
		case "get late":
			came <- struct{}{}
			<-goOn
			return "$4\r\nlate\r\n", true
		case "get own":
			return "$3\r\nown\r\n", true
		case "ping":
			return "+PONG\r\n", true
		}
		if words[0] == "hello" {
			return "%0\r\n", true
		}
		return "+OK\r\n", true
	})
	return addr, came, goOn
}

// A command obeys its own context, also a context with a cancel function of the borrower's. The use
// goes on, and the next command gets its own reply.
func TestCommandHeedsItsOwnContext(t *testing.T) {
	for name, send := range map[string]func(ctx context.Context, c *redispool.Conn) error{
		"command": func(ctx context.Context, c *redispool.Conn) error { return c.Get(ctx, "late").Err() },
		"pipeline": func(ctx context.Context, c *redispool.Conn) error {
			_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error { p.Get(ctx, "late"); p.Get(ctx, "own"); return nil })
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			addr, asked, let := lateServer(t)
			p := open(t, redispool.Options{Address: addr, ReadTimeout: time.Minute}, pool.Config{MaxSize: 1})
			use(t, p, func(ctx context.Context, c *redispool.Conn) error {
				mine, cancel := context.WithCancel(ctx)
				go func() { <-asked; cancel() }()
				err := send(mine, c)
				if !errors.Is(err, context.Canceled) || ctx.Err() != nil {
					t.Errorf("got %v", err)
				}
				if class := p.Classify(err); class.Fault != driver.FaultCaller || class.Broken || class.Repeat != driver.RepeatNever {
					t.Errorf("a cancel of the borrower's own is %+v", class)
				}
				let <- struct{}{}
				if v, err := c.Get(ctx, "own").Result(); v != "own" || err != nil {
					t.Errorf("the next command got %q, %v", v, err)
				}
				return nil
			})
			if st := p.Stat(); st.Opened != 1 || st.Closed.Total() != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// A borrower's own context that is done ends a blocking command at once. The connection is closed.
func TestBlockingCommandHeedsItsOwnContext(t *testing.T) {
	s := need(t)
	for _, protocol := range []int{2, 3} {
		p := open(t, redispool.Options{Address: s.addr, Protocol: protocol}, pool.Config{MaxSize: 1})
		blocked := func(ctx context.Context, send func(context.Context) error) {
			t.Helper()
			mine, cancel := context.WithCancel(ctx)
			defer time.AfterFunc(50*time.Millisecond, cancel).Stop()
			if err := send(mine); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		}
		use(t, p, func(ctx context.Context, c *redispool.Conn) error {
			blocked(ctx, func(ctx context.Context) error { return c.BLPop(ctx, 0, "nothing "+t.Name()).Err() })
			return nil
		})
		// This context is not derived from the context of the use.
		use(t, p, func(_ context.Context, c *redispool.Conn) error {
			blocked(context.Background(), func(ctx context.Context) error { return c.Do(ctx, "brpop", "nothing "+t.Name(), 0).Err() })
			return nil
		})
		use(t, p, do("set", "k", "v"))
		if st := p.Stat(); st.Opened != 3 || st.Closed.Total() != 2 {
			t.Errorf("%+v", st)
		}
	}
}

// A command cut by a context of the borrower's own is not a failure of the server. Later commands
// of the same use on the ended connection are not failures either: the breaker stays closed, and no
// command is repeated.
func TestOwnCutIsNoEvidence(t *testing.T) {
	s := need(t)
	for name, cut := range map[string]func(context.Context) (context.Context, context.CancelFunc){
		"cancel": func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(2*time.Millisecond, cancel)
			return ctx, cancel
		},
		"deadline": func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 2*time.Millisecond)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, layers := resilience(t)
			p := open(t, redispool.Options{Address: s.addr}, pool.Config{MaxSize: 2}, layers...)
			stop, calls, uses := time.Now().Add(time.Second), 0, 0
			for ; time.Now().Before(stop); uses++ {
				err := p.Do(t.Context(), pool.Op{Name: "worker"}, func(ctx context.Context, c *redispool.Conn) error {
					calls++
					mine, cancel := cut(ctx)
					defer cancel()
					if err := c.BLPop(mine, 0, "nothing "+t.Name()).Err(); err == nil {
						t.Error("BLPOP has returned")
					}
					return c.Incr(ctx, "polls").Err()
				})
				if err == nil { // the cut came before BLPOP was sent
					continue
				}
				if name == "cancel" && !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "the connection has ended: BLPOP: context") {
					t.Fatalf("the next command says %v", err)
				}
			}
			if snapshot := b.Snapshot(); snapshot.State != breaker.StateClosed || calls != uses && name == "cancel" {
				t.Errorf("%d uses called %d times; the breaker: %+v", uses, calls, snapshot)
			}
			if err := p.Do(t.Context(), pool.Op{Name: "other"}, do("ping")); err != nil {
				t.Error(err)
			}
		})
	}
}

// A deadline set by the borrower's function is the borrower's. A late GET is not sent again, and
// has the fault of the caller.
func TestOwnDeadline(t *testing.T) {
	s := launch(t)
	r, err := retry.New(retry.Config{InitialDelay: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	p := open(t, redispool.Options{Address: s.addr}, pool.Config{MaxSize: 1}, r)
	use(t, p, do("set", "k", "v"))
	pauseServer(t, s)
	calls := 0
	err = p.Do(t.Context(), pool.Op{Name: "GET", Idempotent: true}, func(ctx context.Context, c *redispool.Conn) error {
		calls++
		ctx, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		return c.Get(ctx, "k").Err()
	})
	if class := p.Classify(err); calls != 1 || class.Fault != driver.FaultCaller || class.Type != "timeout" ||
		!errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%d calls, %v, %+v", calls, err, class)
	}
}
