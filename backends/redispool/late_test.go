package redispool_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/earnorm/poolstack/backends/redispool"
	"github.com/earnorm/poolstack/pool"
)

// slowProxy forwards the bytes of a server, each piece after the time returned by delay. It counts
// connections.
type slowProxy struct {
	addr   string
	delay  func() time.Duration
	pieces bool // cut what is said into pieces
	conns  atomic.Int64
	target atomic.Pointer[string]
}

// everyThird is the delay of the replies: 10 ms, and 60 ms for every third.
func everyThird() func() time.Duration {
	var n atomic.Int64
	return func() time.Duration {
		if n.Add(1)%3 == 0 {
			return 60 * time.Millisecond
		}
		return 10 * time.Millisecond
	}
}

func newSlowProxy(t testing.TB, target string, delay func() time.Duration) *slowProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &slowProxy{addr: l.Addr().String(), delay: delay}
	p.to(target)
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.conns.Add(1)
			running.Go(func() { p.serve(ctx, c) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); stop(); running.Wait() })
	return p
}

// newSwitch makes a proxy without delays. Its target may change, like a name that leads to another
// server after a failover.
func newSwitch(t testing.TB, target string) *slowProxy {
	return newSlowProxy(t, target, func() time.Duration { return 0 })
}

func (p *slowProxy) to(target string) { p.target.Store(&target) }

func (p *slowProxy) serve(ctx context.Context, client net.Conn) {
	defer func() { _ = client.Close() }()
	server, err := net.Dial("tcp", *p.target.Load())
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	go func() { _, _ = io.Copy(server, client); _ = server.Close() }()
	buffer := make([]byte, 1<<20)
	for {
		n, err := server.Read(buffer)
		if err != nil {
			return
		}
		if d := p.delay(); d > 0 {
			select {
			case <-time.After(d):
			case <-ctx.Done():
				return
			}
		}
		write := func(c net.Conn, b []byte) error { _, err := c.Write(b); return err }
		if p.pieces {
			write = inPieces
		}
		if write(client, buffer[:n]) != nil {
			return
		}
	}
}

// callers runs 16 callers that send GETs for the given time, each GET bounded by 40 ms. It returns
// the number of successful GETs.
func callers(d time.Duration, bound boundFunc, get func(context.Context) error) (served, failed int64) {
	var yes, no atomic.Int64
	stop := time.Now().Add(d)
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for time.Now().Before(stop) {
				ctx, cancel := bound(context.Background())
				if err := get(ctx); err == nil || errors.Is(err, redis.Nil) {
					yes.Add(1)
				} else {
					no.Add(1)
				}
				cancel()
			}
		})
	}
	all.Wait()
	return yes.Load(), no.Load()
}

// boundFunc bounds a context.
type boundFunc = func(context.Context) (context.Context, context.CancelFunc)

const patienceOfCallers = 40 * time.Millisecond

func byDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, patienceOfCallers)
}

func byCancel(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	timer := time.AfterFunc(patienceOfCallers, cancel)
	return ctx, func() { timer.Stop(); cancel() }
}

// A deadline or a cancellation does not cost a connection. Every third reply arrives after its
// caller's deadline. With the same deadlines, go-redis needs a new connection for each of them.
func TestDeadlinesCostNoConnection(t *testing.T) {
	s := need(t)
	d := 5 * time.Second
	if testing.Short() {
		d = time.Second
	}
	type result struct{ served, failed, conns int64 }
	var bare result
	results := map[string]*result{}
	var all sync.WaitGroup
	all.Go(func() {
		proxy := newSlowProxy(t, s.addr, everyThird())
		client := redis.NewClient(&redis.Options{Addr: proxy.addr, PoolSize: 16, ContextTimeoutEnabled: true})
		defer func() { _ = client.Close() }()
		bare.served, bare.failed = callers(d, byDeadline, func(ctx context.Context) error { return client.Get(ctx, "none").Err() })
		bare.conns = proxy.conns.Load()
	})
	for _, test := range []struct {
		name     string
		bound    boundFunc
		commands int
	}{{"deadlines", byDeadline, 1}, {"cancels", byCancel, 1}, {"uses of two commands", byDeadline, 2}} {
		r := &result{}
		results[test.name] = r
		proxy := newSlowProxy(t, s.addr, everyThird())
		p := open(t, redispool.Options{Address: proxy.addr}, pool.Config{MaxSize: 16})
		all.Go(func() {
			r.served, r.failed = callers(d, test.bound, func(ctx context.Context) error {
				return p.Do(ctx, pool.Op{Name: "GET"}, func(ctx context.Context, c *redispool.Conn) error {
					for range test.commands {
						if err := c.Get(ctx, "none").Err(); !errors.Is(err, redis.Nil) {
							return err
						}
					}
					return nil
				})
			})
			r.conns = proxy.conns.Load()
		})
	}
	all.Wait()
	t.Logf("go-redis: %+v", bare)
	for name, r := range results {
		t.Logf("%s: %+v", name, *r)
		if r.conns >= 50 {
			t.Errorf("%s: %d connections were dialled", name, r.conns)
		}
		if name != "uses of two commands" && r.served*10 < bare.served*13 {
			t.Errorf("%s: %d served, %d by go-redis", name, r.served, bare.served)
		}
	}
}

// The state after a use whose time ran out while the server was silent. The connection is kept,
// unless the command is meant to block or the server sends push messages.
func TestLateReplies(t *testing.T) {
	s := launch(t)
	const kept, closed = 1, 2 // connections opened
	for _, test := range []struct {
		name   string
		before lendFunc
		late   lendFunc
		opened uint64
	}{
		{"GET", nil, do("get", "k"), kept},
		{"SELECT", nil, do("select", 5), kept},
		{"SELECT before", do("select", 5), do("get", "k"), kept},
		{"in a transaction", do("multi"), do("incr", "n"), kept},
		{"EXEC", func(ctx context.Context, c *redispool.Conn) error {
			return errors.Join(do("multi")(ctx, c), do("incr", "n")(ctx, c))
		}, do("exec"), kept},
		{"WATCH", nil, do("watch", "k"), kept},
		{"a pipeline", nil, pipelined((*redispool.Conn).Pipelined, "get k", "incr n", "lrange l 0 -1", "get none"), kept},
		{"a pipeline of many", nil, func(ctx context.Context, c *redispool.Conn) error {
			_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
				for range 1000 {
					p.Get(ctx, "k")
				}
				return nil
			})
			return err
		}, kept},
		{"TxPipelined", nil, pipelined((*redispool.Conn).TxPipelined, "get k", "incr n"), kept},
		{"nested replies", nil, do("command", "info", "get", "xread"), kept},
		{"XREAD", nil, do("xread", "streams", "s", "0"), kept},
		{"XREAD that blocks", nil, do("xread", "BLOCK", 0, "streams", "s", "$"), closed},
		{"BLPOP", nil, do("blpop", "nothing", 0), closed},
		{"BLPOP in a pipeline", nil, pipelined((*redispool.Conn).Pipelined, "get k", "blpop nothing 0"), closed},
		{"WAIT", nil, do("wait", 1, 0), closed},
		{"SUBSCRIBE", nil, do("subscribe", "news"), closed},
		{"CLIENT TRACKING", do("client", "tracking", "on", "bcast"), do("get", "k"), closed},
	} {
		for name, want := range map[string]error{"deadline": context.DeadlineExceeded, "cancel": context.Canceled} {
			t.Run(test.name+"/"+name, func(t *testing.T) {
				p := open(t, redispool.Options{Address: s.addr, DB: 2}, pool.Config{MaxSize: 1})
				use(t, p, do("set", "k", "v"))
				thaw := func() {}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				err := p.Do(ctx, pool.Op{}, func(ctx context.Context, c *redispool.Conn) error {
					if test.before != nil {
						if err := test.before(ctx, c); err != nil {
							return err
						}
					}
					thaw = pauseServer(t, s)
					const soon = 60 * time.Millisecond
					if want == context.Canceled {
						defer time.AfterFunc(soon, cancel).Stop()
						return test.late(ctx, c)
					}
					ctx, cancel := context.WithTimeout(ctx, soon)
					defer cancel()
					return test.late(ctx, c)
				})
				if failed, ok := errors.AsType[*redispool.Error](err); !ok || failed.Context != want {
					t.Errorf("got %v", err)
				}
				thaw()
				use(t, p, func(ctx context.Context, c *redispool.Conn) error {
					info, err := c.ClientInfo(ctx).Result()
					if err == nil && (info.DB != 2 || info.Multi != -1 || info.Watch > 0) {
						t.Errorf("the session is %+v", info)
					}
					return err
				})
				use(t, p, func(ctx context.Context, c *redispool.Conn) error {
					if got, err := c.Get(ctx, "k").Result(); got != "v" {
						t.Errorf("got %q, %v", got, err)
					}
					return nil
				})
				if st := p.Stat(); st.Opened != test.opened {
					t.Errorf("%+v", st)
				}
			})
		}
	}
}

// After a late command, the later commands of the same use get their own replies.
func TestLateReplyBeforeTheNextCommand(t *testing.T) {
	s := launch(t)
	p := open(t, redispool.Options{Address: s.addr}, pool.Config{MaxSize: 1})
	use(t, p, func(ctx context.Context, c *redispool.Conn) error {
		thaw := pauseServer(t, s)
		for range 2 { // the second finds the first's reply missing
			soon, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
			err := c.Incr(soon, "n").Err()
			cancel()
			if d := newDriver(t, redispool.Options{}); !errors.Is(err, context.DeadlineExceeded) || d.Classify(err) != late {
				t.Errorf("%v is %+v", err, d.Classify(err))
			}
		}
		thaw()
		if n, err := c.Incr(ctx, "n").Result(); n != 2 || err != nil {
			t.Errorf("got %d, %v: want 2", n, err)
		}
		return nil
	})
	if st := p.Stat(); st.Opened != 1 || st.Closed.Total() != 0 {
		t.Errorf("%+v", st)
	}
}

// The pool does not wait for the end of a reply that has begun.
func TestLateInTheMidstOfAReply(t *testing.T) {
	addr := script(t, func(words []string) (string, bool) {
		switch words[0] {
		case "hello":
			return "%0\r\n", true
		case "get":
			return "$10\r\nabc", true
		}
		return "+PONG\r\n", true
	})
	p := open(t, redispool.Options{Address: addr}, pool.Config{MaxSize: 1})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := p.Do(ctx, pool.Op{}, do("get", "k")); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	use(t, p, do("ping"))
	if st := p.Stat(); st.Opened != 2 || st.Closed[pool.CloseBroken] != 1 {
		t.Errorf("%+v", st)
	}
}

// Unexpected bytes behind a late reply cost the connection.
func TestLateReplyWithMoreBehindIt(t *testing.T) {
	answer := make(chan struct{})
	addr := script(t, func(words []string) (string, bool) {
		switch words[0] {
		case "hello":
			return "%0\r\n", true
		case "get":
			<-answer
			return "$1\r\na\r\n+STRAY\r\n", true
		}
		return "+PONG\r\n", true
	})
	p := open(t, redispool.Options{Address: addr}, pool.Config{MaxSize: 1})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := p.Do(ctx, pool.Op{}, do("get", "k")); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	close(answer)
	use(t, p, do("ping"))
	if st := p.Stat(); st.Opened != 2 || st.Closed[pool.CloseReset] != 1 {
		t.Errorf("%+v", st)
	}
}
