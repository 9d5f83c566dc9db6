package redispool_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/earnorm/poolstack/backends/redispool"
	"github.com/earnorm/poolstack/middleware/breaker"
	"github.com/earnorm/poolstack/middleware/retry"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
)

// The classes, with the names of the design.
var (
	answered    = driver.Class{}
	foreign     = driver.Class{Fault: driver.FaultElsewhere}
	miss        = driver.Class{Miss: true}
	refused     = driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatAlways}
	refusedHere = driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatAlways, Broken: true}
	permanent   = driver.Class{Fault: driver.FaultServer}
	late        = driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatIfIdempotent}
	unfit       = driver.Class{Fault: driver.FaultServer, Broken: true}
	ambiguous   = driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatIfIdempotent, Broken: true}
	gaveUp      = driver.Class{Fault: driver.FaultCaller}
	unusable    = driver.Class{Broken: true}
)

func with(c driver.Class, code string) driver.Class { c.Code = code; return c }

// narrow returns a class for a reply that refuses a single kind of work.
func narrow(c driver.Class, code string) driver.Class { c.Code, c.Narrow = code, true; return c }

func TestClassify(t *testing.T) {
	for _, test := range []struct {
		name string
		err  func(t *testing.T) error
		want driver.Class
	}{
		{"Nil", on(nil, do("get", "missing")), miss},
		{"Nil of a pop", on(nil, do("lpop", "missing")), miss},
		{"Nil, wrapped", func(*testing.T) error { return fmt.Errorf("user 1: %w", redis.Nil) }, miss},
		{"WRONGTYPE", on(nil, do("set", "k", "v"), do("lpush", "k", "v")), with(answered, "WRONGTYPE")},
		{"syntax", on(nil, do("set", "k", "v", "nonsense")), with(answered, "ERR")},
		{"unknown command", on(nil, do("nonsense")), with(answered, "ERR")},
		{"NOSCRIPT", on(nil, do("evalsha", strings.Repeat("0", 40), 0)), with(answered, "NOSCRIPT")},
		{"NOGROUP", on(nil, do("xreadgroup", "group", "g", "c", "streams", "missing", ">")), with(answered, "NOGROUP")},
		{"EXECABORT", on(nil, do("multi"), swallow(do("nonsense")), do("exec")), with(answered, "EXECABORT")},
		{"a script's own error", on(nil, do("eval", "return redis.error_reply('my own words')", 0)), answered},
		{"transaction failed", transactionFailed, driver.Class{Type: "tx_failed"}},
		{"CLIENT UNBLOCK", unblocked("client", "unblock", "ID", "error"), with(answered, "UNBLOCKED")},

		{"NOAUTH", on([]string{"--requirepass", "pw"}), with(unfit, "NOAUTH")},
		{"NOAUTH later on", lostAuthentication, with(unfit, "NOAUTH")},
		{"WRONGPASS", wrongPassword, with(permanent, "WRONGPASS")},
		{"NOPERM", on(nil, do("acl", "setuser", "weak", "on", "nopass", "+auth"), do("auth", "weak", "x"), do("get", "k")),
			narrow(permanent, "NOPERM")},
		{"OOM", on([]string{"--maxmemory", "1"}, do("set", "k", "v")), narrow(permanent, "OOM")},
		{"MISCONF", misconfigured, narrow(permanent, "MISCONF")},
		{"DENIED", scripted("-DENIED Redis is running in protected mode\r\n"), with(permanent, "DENIED")},

		{"LOADING", loading, with(refused, "LOADING")},
		{"BUSY", busy, with(refused, "BUSY")},
		{"MASTERDOWN", on(nil, do("config", "set", "replica-serve-stale-data", "no"), do("replicaof", "127.0.0.1", "1"), do("get", "k")),
			with(refused, "MASTERDOWN")},
		{"NOREPLICAS", on([]string{"--min-replicas-to-write", "1"}, do("set", "k", "v")), narrow(refused, "NOREPLICAS")},
		{"CLUSTERDOWN", scripted("-CLUSTERDOWN The cluster is down\r\n"), with(refused, "CLUSTERDOWN")},
		{"CLUSTERDOWN of a slot", on([]string{"--cluster-enabled", "yes"}, do("get", "k")), narrow(refused, "CLUSTERDOWN")},
		{"CLUSTERDOWN for writes", scripted("-CLUSTERDOWN The cluster is down and only accepts read commands\r\n"),
			narrow(refused, "CLUSTERDOWN")},
		{"TRYAGAIN", scripted("-TRYAGAIN Multiple keys request during rehashing of slot\r\n"), narrow(refused, "TRYAGAIN")},
		{"READONLY", on(nil, do("replicaof", "127.0.0.1", "1"), do("set", "k", "v")), narrow(refusedHere, "READONLY")},
		{"READONLY in a script", on(nil, do("replicaof", "127.0.0.1", "1"), do("eval", "return redis.call('set','k','v')", 0)),
			narrow(refusedHere, "READONLY")},
		{"READONLY in a transaction", on(nil, do("replicaof", "127.0.0.1", "1"), transact), narrow(refusedHere, "READONLY")},
		{"READONLY for EXEC", execRefused("replicaof", "127.0.0.1", "1"), narrow(refusedHere, "READONLY")},
		{"OOM for EXEC", execRefused("config", "set", "maxmemory", "1"), narrow(permanent, "OOM")},
		{"NOREPLICAS for EXEC", execRefused("config", "set", "min-replicas-to-write", "1"), narrow(refused, "NOREPLICAS")},
		{"NOPERM for EXEC", execRefused("acl", "setuser", "default", "-exec"), narrow(permanent, "NOPERM")},
		{"READONLY and what follows", on(nil, do("replicaof", "127.0.0.1", "1"), swallow(do("set", "k", "v")), do("get", "k")),
			narrow(refusedHere, "READONLY")},
		{"UNBLOCKED by a failover", unblocked("replicaof", "127.0.0.1", "1"), narrow(refusedHere, "UNBLOCKED")},
		{"max clients", tooMany, with(refusedHere, "ERR")},

		{"MOVED", scripted("-MOVED 3999 127.0.0.1:6381\r\n"), with(answered, "MOVED")},
		{"ASK", scripted("-ASK 3999 127.0.0.1:6381\r\n"), with(answered, "ASK")},
		{"CROSSSLOT", on([]string{"--cluster-enabled", "yes"}, formCluster, do("mget", "a", "b")), with(answered, "CROSSSLOT")},

		{"nobody listens", func(t *testing.T) error { return opening(t, redispool.Options{Address: "127.0.0.1:1"}) }, refusedHere},
		{"no such host", func(*testing.T) error {
			return &redispool.Error{Command: "CONNECT", Err: &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{IsNotFound: true}}}
		}, refusedHere},
		{"not TLS", scriptedTLS("-ERR what is this?\r\n"), unfit},
		{"not TLS, and silent", scriptedTLS(""), ambiguous},
		{"EOF", scripted(""), ambiguous},
		{"EOF in mid-reply", scripted("$10\r\nab"), ambiguous},
		{"EOF and what follows", func(t *testing.T) error {
			return scriptedUse(t, "", swallow(do("get", "k")), do("get", "k"))
		}, ambiguous},
		{"read timeout", on(nil, do("blpop", "missing", 10)), ambiguous},
		{"deadline", on(nil, func(ctx context.Context, c *redispool.Conn) error {
			ctx, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
			defer cancel()
			return c.BLPop(ctx, 10*time.Second, "missing").Err()
		}), ambiguous},
		{"deadline in a pipeline", on(nil, func(ctx context.Context, c *redispool.Conn) error {
			ctx, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
			defer cancel()
			cmds, err := c.Pipelined(ctx, func(p redis.Pipeliner) error { p.BLPop(ctx, 10*time.Second, "missing"); return nil })
			if !errors.Is(err, context.DeadlineExceeded) {
				return fmt.Errorf("got %v", err)
			}
			return cmds[0].Err()
		}), ambiguous},
		{"deadline of a command that does not block", lateGet, late},
		{"over before it was sent", on(nil, func(ctx context.Context, c *redispool.Conn) error {
			ctx, cancel := context.WithTimeout(ctx, 0)
			defer cancel()
			return c.Get(ctx, "k").Err()
		}), gaveUp},
		{"no Redis", scripted("HTTP/1.1 400 Bad Request\r\n"), unusable},
		{"an argument that cannot be encoded", on(nil, do("set", "k", struct{}{})), unusable},
		{"a reply of another type", on(nil, do("set", "k", "v"), func(ctx context.Context, c *redispool.Conn) error {
			return c.Process(ctx, redis.NewIntCmd(ctx, "get", "k"))
		}), unusable},
		{"client closed", afterClose, driver.Class{Fault: driver.FaultLocal, Broken: true}},
		{"client's pool", func(*testing.T) error { return &redispool.Error{Command: "GET", Err: redis.ErrPoolTimeout} },
			driver.Class{Fault: driver.FaultLocal, Repeat: driver.RepeatAlways}},
		{"the store of the secret cannot be reached", func(t *testing.T) error {
			return opening(t, redispool.Options{Credentials: func(context.Context) (string, string, error) { return "", "", refusedDial() }})
		}, refusedHere},

		{"the application's", func(*testing.T) error { return errors.New("no such user") }, foreign},
		{"the application's EOF", func(*testing.T) error { return fmt.Errorf("decode: %w", io.ErrUnexpectedEOF) }, foreign},
		{"the application's file", func(*testing.T) error { _, err := os.ReadFile("/no/such/file"); return err }, foreign},
		{"the application's dial", func(*testing.T) error { return refusedDial() }, foreign},
		{"the application's dial beside a command's EOF", func(*testing.T) error {
			return errors.Join(refusedDial(), &redispool.Error{Command: "INCR", Err: io.EOF})
		}, ambiguous},
		{"the application's TLS", func(*testing.T) error { return tls.RecordHeaderError{Msg: "not TLS"} }, foreign},
		{"the application's closed socket", func(*testing.T) error { return &net.OpError{Op: "read", Err: net.ErrClosed} }, foreign},
		{"the application's own client, closed", func(*testing.T) error { return redis.ErrClosed }, foreign},
		{"the application's own client's pool", func(*testing.T) error { return redis.ErrPoolTimeout }, foreign},
		{"the application's context", func(*testing.T) error { return context.DeadlineExceeded }, gaveUp},
		{"a number that is none", on(nil, do("set", "k", "v"), func(ctx context.Context, c *redispool.Conn) error {
			_, err := c.Get(ctx, "k").Int()
			return err
		}), foreign},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := newDriver(t, redispool.Options{})
			err := test.err(t)
			if err == nil {
				t.Fatal("there was no error")
			}
			t.Log(err)
			if got := d.Classify(err); got != test.want {
				t.Errorf("%v:\n got %+v\nwant %+v", err, got, test.want)
			}
		})
	}
}

// lateGet returns the error of a GET whose deadline passes before the reply arrives.
func lateGet(t *testing.T) error {
	t.Helper()
	s := launch(t)
	return using(t, redispool.Options{Address: s.addr}, func(ctx context.Context, c *redispool.Conn) error {
		pauseServer(t, s)
		ctx, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		return c.Get(ctx, "k").Err()
	})
}

// A failure of another service in a use is no reason to repeat Redis commands, and does not count
// against Redis.
func TestFailureOfAnotherService(t *testing.T) {
	s := launch(t)
	r, err := retry.New(retry.Config{InitialDelay: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	b, err := breaker.New(breaker.Config{})
	if err != nil {
		t.Fatal(err)
	}
	p := open(t, redispool.Options{Address: s.addr}, config(), r, b)
	err = p.Do(t.Context(), pool.Op{Name: "order"}, func(ctx context.Context, c *redispool.Conn) error {
		if err := c.Incr(ctx, "orders").Err(); err != nil {
			return err
		}
		return fmt.Errorf("send the mail: %w", refusedDial())
	})
	if op, ok := errors.AsType[*net.OpError](err); !ok || op.Op != "dial" {
		t.Errorf("got %v", err)
	}
	if n, err := s.redis(t).Get(t.Context(), "orders").Int(); n != 1 || err != nil {
		t.Errorf("INCR was executed %d times, %v", n, err)
	}
	if counts := b.Snapshot().Counts; counts.Failures != 0 {
		t.Errorf("the breaker counts %+v", counts)
	}
	if st := p.Stat(); st.Closed.Total() != 0 {
		t.Errorf("%+v", st)
	}
}

// refusedDial returns the error of a dial to a port without a listener.
func refusedDial() error {
	c, err := net.Dial("tcp", "127.0.0.1:1")
	if err == nil {
		_ = c.Close()
	}
	return err
}

// afterClose sends a command on a connection that the pool has closed.
func afterClose(t *testing.T) error {
	ctx := t.Context()
	d := newDriver(t, redispool.Options{Address: need(t).addr})
	c, err := d.Open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(ctx, c); err != nil {
		t.Error(err)
	}
	return c.Get(ctx, "k").Err()
}

func newDriver(t testing.TB, opts redispool.Options) *redispool.Driver {
	t.Helper()
	d, err := redispool.NewDriver(opts)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// opening returns the error of opening a connection.
func opening(t *testing.T, opts redispool.Options) error {
	t.Helper()
	return using(t, opts)
}

// using runs the steps in order on a single connection and returns the error of the last step.
func using(t *testing.T, opts redispool.Options, steps ...lendFunc) error {
	t.Helper()
	d := newDriver(t, opts)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c, err := d.Open(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if err := d.Close(ctx, c); err != nil {
			t.Error(err)
		}
	}()
	for i, step := range steps {
		if err = step(ctx, c); err != nil && i < len(steps)-1 {
			t.Fatalf("step %d: %v", i, err)
		}
	}
	return err
}

// on runs steps on a server of its own, started with args.
func on(args []string, steps ...lendFunc) func(*testing.T) error {
	return func(t *testing.T) error {
		t.Helper()
		s := launch(t, args...)
		return using(t, redispool.Options{Address: s.addr, ReadTimeout: 200 * time.Millisecond}, steps...)
	}
}

func swallow(f lendFunc) lendFunc {
	return func(ctx context.Context, c *redispool.Conn) error {
		if err := f(ctx, c); err == nil {
			return errors.New("there was no error to keep")
		}
		return nil
	}
}

func transact(ctx context.Context, c *redispool.Conn) error {
	_, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Set(ctx, "k", "v", 0); return nil })
	if !redis.IsExecAbortError(err) {
		return errors.New("not aborted")
	}
	return err
}

// execRefused returns the error of a transaction whose EXEC is refused because of another client's
// command.
func execRefused(words ...any) func(*testing.T) error {
	return func(t *testing.T) error {
		t.Helper()
		s := launch(t)
		return using(t, redispool.Options{Address: s.addr}, do("multi"), do("set", "k", "v"),
			func(ctx context.Context, _ *redispool.Conn) error { return s.redis(t).Do(ctx, words...).Err() }, do("exec"))
	}
}

func transactionFailed(t *testing.T) error {
	s := need(t)
	return using(t, redispool.Options{Address: s.addr}, func(ctx context.Context, c *redispool.Conn) error {
		return c.Watch(ctx, func(tx redis.Cmdable) error {
			if err := s.redis(t).Incr(ctx, "watched").Err(); err != nil {
				return err
			}
			_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, "watched"); return nil })
			return err
		}, "watched")
	})
}

// unblocked returns the error of a BLPOP ended by another client, which sends words. ID in words
// stands for the first client's ID.
func unblocked(words ...any) func(*testing.T) error {
	return func(t *testing.T) error {
		t.Helper()
		s := launch(t)
		other := s.redis(t)
		return using(t, redispool.Options{Address: s.addr}, func(ctx context.Context, c *redispool.Conn) error {
			id := c.ClientID(ctx).Val()
			done := make(chan error, 1)
			go func() { done <- c.BLPop(ctx, 0, "missing").Err() }()
			eventually(t, func() error {
				if list := other.ClientList(ctx).Val(); !strings.Contains(list, "cmd=blpop") {
					return errors.New("nobody is blocked")
				}
				return nil
			})
			sent := append([]any(nil), words...)
			for i := range sent {
				if sent[i] == "ID" {
					sent[i] = id
				}
			}
			if err := other.Do(ctx, sent...).Err(); err != nil {
				t.Error(err)
			}
			return <-done
		})
	}
}

func lostAuthentication(t *testing.T) error {
	s := launch(t, "--requirepass", "pw")
	return using(t, redispool.Options{Address: s.addr, Password: "pw"}, do("reset"), do("get", "k"))
}

func wrongPassword(t *testing.T) error {
	s := launch(t, "--requirepass", "pw")
	err := opening(t, redispool.Options{Address: s.addr, Password: "s3cret!"})
	c := redis.NewClient(&redis.Options{Addr: s.addr, Password: "pw"})
	defer func() { _ = c.Close() }()
	if log, lerr := c.ACLLog(t.Context(), 10).Result(); lerr != nil || len(log) != 1 || log[0].Count != 1 {
		t.Errorf("the server has seen the password more than once: %+v, %v", log, lerr)
	}
	return err
}

// misconfigured makes a server fail to save.
func misconfigured(t *testing.T) error {
	return using(t, redispool.Options{Address: fullDisk(t).addr}, do("set", "k", "v"))
}

// fullDisk returns a server that has failed to save, so it refuses writes.
func fullDisk(t *testing.T) *server {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "gone")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s := launch(t, "--dir", dir, "--save", "3600 1000")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	c := s.redis(t)
	c.Set(t.Context(), "k", "v", 0)
	eventually(t, func() error {
		_ = c.BgSave(t.Context()).Err()
		if info := c.Info(t.Context(), "persistence").Val(); !strings.Contains(info, "rdb_last_bgsave_status:err") {
			return errors.New("the server has saved")
		}
		return nil
	})
	return s
}

// loading opens a connection to a server that is slow to load its data.
func loading(t *testing.T) error {
	s := launch(t)
	ctx := t.Context()
	c := s.redis(t)
	for i := range 400 {
		if err := c.Set(ctx, strconv.Itoa(i), strings.Repeat("v", 2000), 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Save(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	s.kill()
	s.args = append(s.args, "--key-load-delay", "10000", "--loading-process-events-interval-bytes", "1024")
	if err := s.run(); err != nil {
		t.Fatal(err)
	}
	return opening(t, redispool.Options{Address: s.addr})
}

// busy sends a command while the server runs an endless script.
func busy(t *testing.T) error {
	s := launch(t, "--busy-reply-threshold", "1")
	return using(t, redispool.Options{Address: s.addr}, func(ctx context.Context, c *redispool.Conn) error {
		other := s.redis(t)
		done := make(chan error, 1)
		go func() { done <- other.Eval(ctx, "while true do end", nil).Err() }()
		var err error
		eventually(t, func() error {
			if err = c.Get(ctx, "k").Err(); err == nil || errors.Is(err, redis.Nil) {
				return errors.New("the server is not busy")
			}
			return nil
		})
		if kerr := c.ScriptKill(ctx).Err(); kerr != nil {
			t.Error(kerr)
		}
		<-done
		return err
	})
}

func tooMany(t *testing.T) error {
	s := launch(t, "--maxclients", "1")
	c := s.redis(t)
	eventually(t, func() error { return c.Ping(t.Context()).Err() })
	return opening(t, redispool.Options{Address: s.addr})
}

// formCluster makes a cluster of one server.
func formCluster(ctx context.Context, c *redispool.Conn) error {
	if err := c.ClusterAddSlotsRange(ctx, 0, 16383).Err(); err != nil {
		return err
	}
	return poll(10*time.Second, func() error {
		if info := c.ClusterInfo(ctx).Val(); !strings.Contains(info, "cluster_state:ok") {
			return errors.New("the cluster is not formed")
		}
		return nil
	})
}

// scriptedTLS returns the error of a TLS handshake with a server that sends this answer.
func scriptedTLS(reply string) func(*testing.T) error {
	return func(t *testing.T) error {
		t.Helper()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var server sync.WaitGroup
		server.Go(func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer func() { _ = c.Close() }()
			_, _ = io.WriteString(c, reply)
			_, _ = io.Copy(io.Discard, c)
		})
		t.Cleanup(func() { _ = l.Close(); server.Wait() })
		return opening(t, redispool.Options{Address: l.Addr().String(), TLS: &redispool.TLS{}, DialTimeout: 100 * time.Millisecond})
	}
}

// scripted returns the error of a GET with this reply. "" makes the server hang up.
func scripted(reply string) func(*testing.T) error {
	return func(t *testing.T) error {
		t.Helper()
		return scriptedUse(t, reply, do("get", "k"))
	}
}

func scriptedUse(t *testing.T, reply string, steps ...lendFunc) error {
	t.Helper()
	addr := script(t, func(words []string) (string, bool) {
		switch words[0] {
		case "hello":
			return "%1\r\n$5\r\nproto\r\n:3\r\n", true
		case "ping":
			return "+PONG\r\n", true
		case "get":
			return reply, strings.HasPrefix(reply, "-")
		}
		return "+OK\r\n", true
	})
	return using(t, redispool.Options{Address: addr}, steps...)
}

// script starts a server. For each command, given in lower case, the server sends the result of
// reply. It hangs up afterwards if goOn is false.
func script(t *testing.T, reply func(words []string) (answer string, goOn bool)) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { serve(c, reply) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); conns.Wait() })
	return l.Addr().String()
}

func serve(c net.Conn, reply func([]string) (string, bool)) {
	defer func() { _ = c.Close() }()
	r := bufio.NewReader(c)
	for {
		words, err := readWords(r)
		if err != nil {
			return
		}
		answer, goOn := reply(words)
		if _, err := io.WriteString(c, answer); err != nil || !goOn {
			return
		}
	}
}

// readWords reads a command as clients send it: an array of strings.
func readWords(r *bufio.Reader) ([]string, error) {
	var n int
	if _, err := fmt.Fscanf(r, "*%d\r\n", &n); err != nil {
		return nil, err
	}
	words := make([]string, n)
	for i := range words {
		var size int
		if _, err := fmt.Fscanf(r, "$%d\r\n", &size); err != nil {
			return nil, err
		}
		word := make([]byte, size+len("\r\n"))
		if _, err := io.ReadFull(r, word); err != nil {
			return nil, err
		}
		words[i] = strings.ToLower(string(word[:size]))
	}
	return words, nil
}
