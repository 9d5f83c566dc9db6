package redispool_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/earnorm/poolstack/backends/redispool"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
)

func TestLend(t *testing.T) {
	s := need(t)
	for _, protocol := range []int{0, 2, 3} {
		t.Run(fmt.Sprint("protocol ", protocol), func(t *testing.T) {
			p := open(t, redispool.Options{Address: s.addr, DB: 3, ClientName: "lend", Protocol: protocol}, pool.Config{MaxSize: 1})
			use(t, p, func(ctx context.Context, c *redispool.Conn) error {
				info := c.ClientInfo(ctx).Val()
				if info.DB != 3 || info.Name != "lend" {
					t.Errorf("the session is in database %d and called %q", info.DB, info.Name)
				}
				if want := max(protocol, 2); protocol != 0 && info.Resp != want {
					t.Errorf("protocol %d, want %d", info.Resp, want)
				}
				if info.LibName != "" {
					t.Errorf("the client has introduced itself as %q", info.LibName)
				}
				if err := c.Set(ctx, "lend", "a", 0).Err(); err != nil {
					return err
				}
				return c.Do(ctx, "append", "lend", "b").Err()
			})
			got, err := pool.Get(t.Context(), p, pool.Op{}, func(ctx context.Context, c *redispool.Conn) (string, error) {
				return c.Get(ctx, "lend").Result()
			})
			if got != "ab" || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
			if opened := p.Stat().Opened; opened != 1 {
				t.Errorf("%d connections were opened", opened)
			}
		})
	}
}

// Opening a connection sends no more commands than necessary.
func TestHandshake(t *testing.T) {
	for _, test := range []struct {
		opts redispool.Options
		want string
	}{
		{redispool.Options{}, "hello 3, ping, command"},
		{redispool.Options{Protocol: 2, DB: 5, ClientName: "web"}, "hello 2, select 5, client setname web, ping, command"},
		{redispool.Options{Password: "pw"}, "hello 3 auth default pw, ping, command"},
		{redispool.Options{Username: "app", Password: "pw"}, "hello 3 auth app pw, ping, command"},
	} {
		var mu sync.Mutex
		var sent []string
		test.opts.Address = script(t, func(words []string) (string, bool) {
			mu.Lock()
			defer mu.Unlock()
			sent = append(sent, strings.Join(words, " "))
			switch words[0] {
			case "hello":
				return "%1\r\n$5\r\nproto\r\n:3\r\n", true
			case "ping":
				return "+PONG\r\n", true
			}
			return "+OK\r\n", true
		})
		if err := opening(t, test.opts); err != nil {
			t.Error(err)
		}
		mu.Lock()
		if got := strings.Join(sent, ", "); got != test.want {
			t.Errorf("%v: sent %s, want %s", test.opts, got, test.want)
		}
		mu.Unlock()
	}
}

func TestUnixSocket(t *testing.T) {
	need(t)
	path := filepath.Join(t.TempDir(), "s.sock")
	launch(t, "--unixsocket", path)
	opts, err := redispool.ParseURL("unix://" + path + "?db=1")
	if err != nil {
		t.Fatal(err)
	}
	p := open(t, opts, pool.Config{})
	eventually(t, func() error { // the server listens on the port a little earlier than on the path
		return p.Do(t.Context(), pool.Op{}, func(ctx context.Context, c *redispool.Conn) error { return c.Ping(ctx).Err() })
	})
	want := driver.Identity{Name: "redis " + path + "/1", System: "redis", Address: path, Namespace: "1"}
	if got := p.Identity(); got != want {
		t.Errorf("identity %+v, want %+v", got, want)
	}
}

// The default size of a pool is the default of the bare client.
func TestDefaultSize(t *testing.T) {
	d, err := redispool.NewDriver(redispool.Options{})
	if err != nil {
		t.Fatal(err)
	}
	bare := redis.NewClient(&redis.Options{})
	defer bare.Close()
	if got, want := d.DefaultSize(), bare.Options().PoolSize; got != want {
		t.Errorf("the size is %d, that of go-redis %d", got, want)
	}
}

func TestIdentity(t *testing.T) {
	for _, test := range []struct {
		opts redispool.Options
		want driver.Identity
	}{
		{redispool.Options{}, driver.Identity{System: "redis", Address: "localhost", Port: 6379, Namespace: "0"}},
		{redispool.Options{Address: "[::1]:7000", DB: 2}, driver.Identity{System: "redis", Address: "::1", Port: 7000, Namespace: "2"}},
		{redispool.Options{Address: "/run/r.sock"}, driver.Identity{System: "redis", Address: "/run/r.sock", Namespace: "0"}},
	} {
		d, err := redispool.NewDriver(test.opts)
		if err != nil {
			t.Fatal(err)
		}
		if got := d.Identity(); got != test.want {
			t.Errorf("%v: %+v, want %+v", test.opts, got, test.want)
		}
	}
	p := open(t, redispool.Options{Address: "cache"}, pool.Config{})
	if name := p.Identity().Name; name != "redis cache:6379/0" {
		t.Errorf("the pool is called %q", name)
	}
}

// A command that blocks ends when its context is cancelled. go-redis alone would not notice the
// cancellation.
func TestInterrupt(t *testing.T) {
	s := need(t)
	for command, block := range map[string]lendFunc{
		"BLPOP": func(ctx context.Context, c *redispool.Conn) error {
			return c.BLPop(ctx, 10*time.Second, "nothing").Err()
		},
		"PIPELINE": func(ctx context.Context, c *redispool.Conn) error {
			cmds, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
				p.BLPop(ctx, 10*time.Second, "nothing")
				p.Ping(ctx)
				return nil
			})
			if !errors.Is(cmds[0].Err(), context.Canceled) {
				t.Errorf("the command's own error is %v", cmds[0].Err())
			}
			return err
		},
	} {
		t.Run(command, func(t *testing.T) {
			p := open(t, redispool.Options{Address: s.addr}, pool.Config{MaxSize: 1})
			const tries = 3
			fastest := time.Hour // a busy machine may be slow, but not every time
			for range tries {
				fastest = min(fastest, interrupt(t, p, command, block))
			}
			if fastest > 100*time.Millisecond {
				t.Errorf("it took %v", fastest)
			}
			use(t, p, func(ctx context.Context, c *redispool.Conn) error { return c.Ping(ctx).Err() })
			if st := p.Stat(); st.Closed[pool.CloseBroken] != tries || st.Opened != tries+1 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// interrupt cancels a blocking use after 30 ms, checks its error, and returns the duration of the
// use.
func interrupt(t *testing.T, p *pool.Pool[*redispool.Conn], command string, block lendFunc) time.Duration {
	t.Helper()
	use(t, p, func(ctx context.Context, c *redispool.Conn) error { return c.Ping(ctx).Err() })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	time.AfterFunc(30*time.Millisecond, cancel)
	began := time.Now()
	err := p.Do(ctx, pool.Op{}, func(ctx context.Context, c *redispool.Conn) error {
		err := block(ctx, c)
		if later := c.Ping(context.WithoutCancel(ctx)).Err(); !errors.Is(later, net.ErrClosed) {
			t.Errorf("the next command of the same use: %v", later)
		}
		return err
	})
	took := time.Since(began)
	failed, ok := errors.AsType[*redispool.Error](err)
	if !ok || failed.Command != command || !errors.Is(err, context.Canceled) || !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
	return took
}

// A deadline reaches the socket.
func TestDeadline(t *testing.T) {
	const limit = 2 * time.Second
	s := need(t)
	p := open(t, redispool.Options{Address: s.addr}, pool.Config{MaxSize: 1})
	stall := func(ctx context.Context, c *redispool.Conn) error { return c.Do(ctx, "blpop", "nothing", 10).Err() }
	// The deadline is after the dial, on a busy machine as well.
	soon := func() time.Time { return time.Now().Add(200 * time.Millisecond) }

	began := time.Now()
	ctx, cancel := context.WithDeadline(t.Context(), soon())
	defer cancel()
	if err := p.Do(ctx, pool.Op{}, stall); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with a deadline: %v", err)
	}
	// The pool does not watch a lazy context.
	ctx, lazy := pool.WithDeadline(t.Context(), soon(), nil)
	defer lazy.Cancel()
	if err := p.Do(ctx, pool.Op{}, stall); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with a lazy deadline: %v", err)
	}
	if took := time.Since(began); took >= limit {
		t.Errorf("they took %v", took)
	}
	eventually(t, func() error {
		if n := p.Stat().Closed[pool.CloseBroken]; n != 2 {
			return fmt.Errorf("%d connections were closed", n)
		}
		return nil
	})
}

// A ReadTimeout has another error than a deadline.
func TestReadTimeout(t *testing.T) {
	addr, _, let := lateServer(t)
	p := open(t, redispool.Options{Address: addr, ReadTimeout: 50 * time.Millisecond}, pool.Config{MaxSize: 1})
	err := p.Do(t.Context(), pool.Op{}, do("get", "late"))
	if timeout, ok := errors.AsType[net.Error](err); !ok || !timeout.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	let <- struct{}{}
}

// A command with a context already done does not cost the connection.
func TestNotSent(t *testing.T) {
	s := need(t)
	p := open(t, redispool.Options{Address: s.addr}, pool.Config{MaxSize: 1})
	use(t, p, func(ctx context.Context, c *redispool.Conn) error {
		dead, cancel := context.WithCancel(ctx)
		cancel()
		err := c.Incr(dead, "notsent").Err()
		if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "INCR") {
			t.Errorf("got %v", err)
		}
		cmds, err := c.Pipelined(dead, func(p redis.Pipeliner) error { p.Incr(dead, "notsent"); return nil })
		if !errors.Is(err, context.Canceled) || !errors.Is(cmds[0].Err(), context.Canceled) {
			t.Errorf("got %v, %v", err, cmds)
		}
		if n, err := c.Exists(ctx, "notsent").Result(); n != 0 || err != nil {
			t.Errorf("it was sent: %v", err)
		}
		return nil
	})
	if st := p.Stat(); st.Closed.Total() != 0 {
		t.Errorf("%+v", st)
	}
}

// A command that waits for the turn obeys its own context. Then it is not sent, and the connection
// is kept.
func TestWaitingForTurn(t *testing.T) {
	s := launch(t)
	p := open(t, redispool.Options{Address: s.addr}, pool.Config{MaxSize: 1})
	use(t, p, func(ctx context.Context, c *redispool.Conn) error {
		blocked := block(ctx, t, s, c)
		for name, send := range map[string]lendFunc{
			"INCR": do("incr", "waiting"),
			"PIPELINE INCR": func(ctx context.Context, c *redispool.Conn) error {
				cmds, err := c.Pipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, "waiting"); p.Incr(ctx, "waiting"); return nil })
				if !errors.Is(cmds[0].Err(), ctx.Err()) {
					t.Errorf("the command's own error is %v", cmds[0].Err())
				}
				return err
			},
		} {
			soon := time.Now().Add(20 * time.Millisecond)
			deadline, cancel := context.WithDeadline(ctx, soon)
			defer cancel()
			lazy, late := pool.WithDeadline(ctx, soon, nil)
			defer late.Cancel()
			cancelled, cancel := context.WithCancel(ctx)
			time.AfterFunc(20*time.Millisecond, cancel)
			for _, ctx := range []context.Context{deadline, lazy, cancelled} {
				err := send(ctx, c)
				if got, ok := errors.AsType[*redispool.Error](err); !ok || *got != (redispool.Error{Command: name, Context: ctx.Err()}) {
					t.Errorf("%s: got %v", name, err)
				}
			}
		}
		if err := s.redis(t).LPush(ctx, "blocked", "v").Err(); err != nil {
			return err
		}
		if err := <-blocked; err != nil {
			t.Errorf("the command that was in progress: %v", err)
		}
		if n, err := c.Exists(ctx, "waiting").Result(); n != 0 || err != nil {
			t.Errorf("what waited was sent: %v", err)
		}
		return nil
	})
	if st := p.Stat(); st.Closed.Total() != 0 {
		t.Errorf("%+v", st)
	}
}

// block makes a command of c wait in the server, for 3 s or until an element is pushed to the list
// "blocked".
func block(ctx context.Context, t *testing.T, s *server, c *redispool.Conn) (result chan error) {
	t.Helper()
	result = make(chan error, 1)
	go func() { result <- c.BLPop(ctx, 3*time.Second, "blocked").Err() }()
	other := s.redis(t)
	eventually(t, func() error {
		if !strings.Contains(other.ClientList(ctx).Val(), "cmd=blpop") {
			return errors.New("nobody is blocked")
		}
		return nil
	})
	return result
}

// The interrupter ends the command in progress and the command that waits for the turn.
func TestInterruptEndsWaiting(t *testing.T) {
	s := launch(t)
	p := open(t, redispool.Options{Address: s.addr}, pool.Config{MaxSize: 1})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := p.Do(ctx, pool.Op{}, func(ctx context.Context, c *redispool.Conn) error {
		unending := context.WithoutCancel(ctx)
		blocked := block(unending, t, s, c)
		time.AfterFunc(20*time.Millisecond, cancel)
		if err := c.Get(unending, "k").Err(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the command that waited: %v", err)
		}
		return <-blocked
	})
	if !errors.Is(err, net.ErrClosed) || !errors.Is(err, context.Canceled) {
		t.Errorf("the command that was in progress: %v", err)
	}
}

// askedForDone is a context that records a call of Done. Done starts the timer of a lazy context.
type askedForDone struct {
	context.Context
	asked bool
}

func (c *askedForDone) Done() <-chan struct{} { c.asked = true; return c.Context.Done() }

// A command that gets the turn at once does not start the timer of a lazy context.
func TestTurnIsFree(t *testing.T) {
	s := need(t)
	err := using(t, redispool.Options{Address: s.addr}, func(ctx context.Context, c *redispool.Conn) error {
		asked := &askedForDone{Context: ctx}
		newDriver(t, redispool.Options{}).BeginUse(asked, c)
		_, err := c.Pipelined(asked, func(p redis.Pipeliner) error { p.Set(asked, "turn", "v", 0); return nil })
		if err = errors.Join(err, c.Get(asked, "turn").Err()); asked.asked {
			t.Error("it was asked for Done")
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// A command that panics releases the turn. The connection is closed even if the borrower recovers.
func TestSwallowedPanic(t *testing.T) {
	s := need(t)
	p := open(t, redispool.Options{Address: s.addr}, pool.Config{MaxSize: 1})
	for name, send := range map[string]lendFunc{
		"command": do("set", "k", panicking{}),
		"pipeline": func(ctx context.Context, c *redispool.Conn) error {
			_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error { p.Set(ctx, "k", panicking{}, 0); return nil })
			return err
		},
	} {
		for _, goOn := range []bool{true, false} {
			use(t, p, func(ctx context.Context, c *redispool.Conn) error {
				ctx, cancel := context.WithTimeout(ctx, time.Second)
				defer cancel()
				func() {
					defer func() { _ = recover() }()
					_ = send(ctx, c)
				}()
				if !goOn {
					return nil
				}
				if err := c.Get(ctx, "k").Err(); err == nil || errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%s: the next command of the same use: %v", name, err)
				}
				return nil
			})
			if err := p.Do(t.Context(), pool.Op{}, do("ping")); err != nil {
				t.Errorf("%s: the next use: %v", name, err)
			}
		}
	}
}

// A connection is closed after an error even if the borrower's function returns nil.
func TestSwallowedFailure(t *testing.T) {
	s := need(t)
	p := open(t, redispool.Options{Address: s.addr}, pool.Config{MaxSize: 1})
	use(t, p, func(ctx context.Context, c *redispool.Conn) error {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		if err := c.Do(ctx, "blpop", "nothing", 10).Err(); err == nil {
			t.Error("BLPOP has returned")
		}
		return nil
	})
	use(t, p, func(ctx context.Context, c *redispool.Conn) error { return c.Ping(ctx).Err() })
	if st := p.Stat(); st.Opened != 2 || st.Closed.Total() != 1 {
		t.Errorf("%+v", st)
	}
}

// A reply may make go-redis give up the connection. Then the connection is closed even if the
// borrower ignores or never sees the error.
func TestCondemningReplies(t *testing.T) {
	replica := launch(t, "--replicaof", "127.0.0.1 1")
	var moved string
	moved = script(t, func(words []string) (string, bool) {
		switch words[0] {
		case "hello":
			return "%1\r\n$5\r\nproto\r\n:3\r\n", true
		case "get":
			return "-MOVED 1 " + moved + "\r\n", true
		}
		return "+PONG\r\n", true
	})
	for _, test := range []struct {
		name, addr string
		do         lendFunc
	}{
		{"READONLY", replica.addr, swallow(do("set", "k", "v"))},
		{"READONLY behind a miss", replica.addr, func(ctx context.Context, c *redispool.Conn) error {
			_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error { p.Get(ctx, "k"); p.Set(ctx, "k", "v", 0); return nil })
			if !redis.IsReadOnlyError(err) {
				t.Errorf("got %v, want READONLY", err)
			}
			return nil
		}},
		{"MOVED to where we are", moved, do("get", "k")},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := open(t, redispool.Options{Address: test.addr}, pool.Config{MaxSize: 1})
			_ = p.Do(t.Context(), pool.Op{}, test.do)
			use(t, p, func(ctx context.Context, c *redispool.Conn) error { return c.Ping(ctx).Err() })
			if st := p.Stat(); st.Opened != 2 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// The error of the server's client limit has the server's text, and the open connections stay in
// use.
func TestConnectionLimit(t *testing.T) {
	for words, args := range map[string][]string{
		"max number of clients reached":                       {"--maxclients", "2"},
		"max number of clients + cluster connections reached": {"--maxclients", "2", "--cluster-enabled", "yes"},
	} {
		t.Run(words, func(t *testing.T) {
			s := launch(t, args...)
			p := open(t, redispool.Options{Address: s.addr}, pool.Config{MaxSize: 3, AcquireTimeout: 200 * time.Millisecond})
			// The server still has to close the connection of the readiness test.
			eventually(t, func() error { return p.Warm(t.Context(), 2) })
			d := newDriver(t, redispool.Options{Address: s.addr})
			for range 50 {
				_, err := d.Open(t.Context())
				if !strings.Contains(fmt.Sprint(err), words) {
					t.Fatalf("got %v", err)
				}
				if class := d.Classify(err); class.Fault != driver.FaultServer || class.Repeat != driver.RepeatAlways || class.Narrow {
					t.Fatalf("%v is %+v", err, class)
				}
			}
			use(t, p, func(ctx context.Context, c *redispool.Conn) error { return c.Ping(ctx).Err() })
		})
	}
}

func TestCredentials(t *testing.T) {
	s := launch(t, "--user", "default", "off", "--user", "app", "on", ">first", ">second", "~*", "&*", "+@all")
	var calls int
	opts := redispool.Options{Address: s.addr, Credentials: func(context.Context) (string, string, error) {
		calls++
		return "app", []string{"first", "second"}[calls%2], nil
	}}
	p := open(t, opts, pool.Config{MaxSize: 1})
	for range 2 {
		use(t, p, func(ctx context.Context, c *redispool.Conn) error {
			who, err := c.Do(ctx, "acl", "whoami").Text()
			if who != "app" {
				t.Errorf("authenticated as %q, %v", who, err)
			}
			return err
		})
		p.Clear()
	}
	if calls < 2 {
		t.Errorf("the callback was asked %d times", calls)
	}

	failure := errors.New("vault is sealed")
	opts.Credentials = func(context.Context) (string, string, error) { return "", "", failure }
	p = open(t, opts, pool.Config{})
	err := p.Do(t.Context(), pool.Op{}, func(context.Context, *redispool.Conn) error { return nil })
	if !errors.Is(err, failure) || !strings.Contains(err.Error(), "Credentials") {
		t.Errorf("got %v", err)
	}
}

// A Dialer dials in place of the package. Every error of a Dialer means that the server is not
// reachable.
func TestDialer(t *testing.T) {
	s := need(t)
	var network, address string
	opts := redispool.Options{Address: "somewhere:7000", Dialer: func(ctx context.Context, n, a string) (net.Conn, error) {
		network, address = n, a
		var d net.Dialer
		return d.DialContext(ctx, "tcp", s.addr)
	}}
	p := open(t, opts, pool.Config{MaxSize: 1})
	use(t, p, do("set", "k", "v"))
	if network != "tcp" || address != "somewhere:7000" {
		t.Errorf("asked for %s %s", network, address)
	}
	for _, failure := range []error{errors.New("the tunnel is down"), nil} {
		opts.Dialer = func(context.Context, string, string) (net.Conn, error) { return nil, failure }
		d := newDriver(t, opts)
		_, err := d.Open(t.Context())
		if class := d.Classify(err); class.Fault != driver.FaultServer || class.Repeat != driver.RepeatAlways ||
			!errors.Is(err, failure) && failure != nil {
			t.Errorf("%v is %+v", err, class)
		}
	}
}
