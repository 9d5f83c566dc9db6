package redispool_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/earnorm/poolstack/backends/redispool"
	"github.com/earnorm/poolstack/middleware"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
)

const masterName = "main"

// trio is a primary, two replicas and three Sentinels that watch them. PORT in args and conf stands
// for a free port.
type trio struct {
	args []string // of the servers
	conf []string // of the Sentinels

	servers   []*server // the first is the primary, to begin with
	sentinels []*server
	watchOpts redis.Options // of a client of a Sentinel, without the address
}

// newTrio launches a trio without passwords.
func newTrio(t *testing.T) *trio {
	t.Helper()
	need(t)
	c := &trio{args: []string{"--port", "PORT"}, conf: []string{"port PORT"}}
	c.launch(t)
	return c
}

// launch starts all processes, and waits until all Sentinels know one another.
func (c *trio) launch(t *testing.T) {
	t.Helper()
	for i := range 3 {
		dir := t.TempDir()
		args := append([]string{"--bind", "127.0.0.1", "--dir", dir, "--save", "", "--repl-diskless-sync-delay", "0"}, c.args...)
		if i > 0 {
			args = append(args, "--replicaof", c.servers[0].host()+" "+c.servers[0].port())
		}
		c.servers = append(c.servers, c.start(t, dir, args...))
	}
	for range 3 {
		c.sentinels = append(c.sentinels, c.watcher(t,
			fmt.Sprintf("sentinel monitor %s %s %s 2", masterName, c.servers[0].host(), c.servers[0].port()),
			"sentinel down-after-milliseconds "+masterName+" 500", "sentinel failover-timeout "+masterName+" 3000",
		))
	}
	for _, s := range c.sentinels {
		client := c.client(t, s)
		// A Sentinel asks for the replicas at once, and then after 10 s.
		if err := poll(30*time.Second, func() error { return ready(t.Context(), client) }); err != nil {
			t.Fatal(err)
		}
	}
}

// watcher starts a Sentinel.
func (c *trio) watcher(t *testing.T, conf ...string) *server {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "sentinel.conf")
	s := c.place(t, dir, file, "--sentinel")
	conf = slices.Concat([]string{"bind 127.0.0.1", "dir " + dir}, conf, c.conf)
	text := strings.ReplaceAll(strings.Join(conf, "\n")+"\n", "PORT", s.port())
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c.run(t, s)
	return s
}

func (c *trio) start(t *testing.T, dir string, args ...string) *server {
	t.Helper()
	s := c.place(t, dir, args...)
	c.run(t, s)
	return s
}

// place replaces PORT by the port of a server.
func (c *trio) place(t *testing.T, dir string, args ...string) *server {
	t.Helper()
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	s := &server{addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), dir: dir, args: []string{"redis-server"}}
	for _, a := range args {
		s.args = append(s.args, strings.ReplaceAll(a, "PORT", s.port()))
	}
	return s
}

func (c *trio) run(t *testing.T, s *server) {
	t.Helper()
	if err := s.run(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.kill)
}

// client returns a client of go-redis for one of the Sentinels.
func (c *trio) client(t *testing.T, s *server) *redis.SentinelClient {
	t.Helper()
	opts := c.watchOpts
	opts.Addr, opts.ContextTimeoutEnabled, opts.MaxRetries = s.addr, true, -1
	client := redis.NewSentinelClient(&opts)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// ready reports whether a Sentinel knows two other Sentinels and two replicas that follow the
// primary.
func ready(ctx context.Context, client *redis.SentinelClient) error {
	others, err := client.Sentinels(ctx, masterName).Result()
	if err != nil || len(others) < 2 {
		return fmt.Errorf("%d other Sentinels, %w", len(others), err)
	}
	replicas, err := client.Replicas(ctx, masterName).Result()
	if err != nil || len(replicas) < 2 {
		return fmt.Errorf("%d replicas, %w", len(replicas), err)
	}
	for _, r := range replicas {
		if r["master-link-status"] != "ok" || r["flags"] != "slave" {
			return fmt.Errorf("a replica is %v", r)
		}
	}
	return nil
}

func (c *trio) addresses() (all []string) {
	for _, s := range c.sentinels {
		all = append(all, s.addr)
	}
	return all
}

// primary returns the server that most Sentinels name.
func (c *trio) primary(t *testing.T) *server {
	t.Helper()
	for _, s := range c.sentinels {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		place, err := c.client(t, s).GetMasterAddrByName(ctx, masterName).Result()
		cancel()
		if err != nil {
			continue
		}
		for _, s := range c.servers {
			if s.addr == net.JoinHostPort(place[0], place[1]) {
				return s
			}
		}
	}
	t.Fatal("no Sentinel names a server")
	return nil
}

func (s *server) signal(t *testing.T, signal syscall.Signal) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.cmd.Process.Signal(signal); err != nil {
		t.Error(err)
	}
}

// pace measures one kind of client while servers fail.
type pace struct {
	served, failed atomic.Int64

	mu      sync.Mutex
	latest  time.Time
	longest time.Duration
}

// run calls use until stop is closed.
func (p *pace) run(ctx context.Context, use func(ctx context.Context) error, stop chan struct{}) {
	p.latest = time.Now()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-stop:
					return
				case <-tick.C:
				}
				ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
				err := use(ctx)
				cancel()
				if err != nil {
					p.failed.Add(1)
					continue
				}
				p.served.Add(1)
				p.mu.Lock()
				now := time.Now()
				p.longest = max(p.longest, now.Sub(p.latest))
				p.latest = now
				p.mu.Unlock()
			}
		})
	}
	all.Wait()
}

// standard returns the standard stack without logging.
func standard(t *testing.T) []pool.Middleware {
	t.Helper()
	stack, err := middleware.Standard(middleware.Options{Without: []string{middleware.KindTracing, middleware.KindMetrics, middleware.KindLogging}})
	if err != nil {
		t.Fatal(err)
	}
	return stack.Layers()
}

// options returns options for the trio, with only the given number of Sentinels.
func (c *trio) options(sentinels int) redispool.Options {
	return redispool.Options{Sentinel: &redispool.Sentinel{MasterName: masterName, Addresses: c.addresses()[:sentinels]}}
}

// at returns the address of the server that serves a use of the pool.
func at(t *testing.T, p *pool.Pool[*redispool.Conn]) (address string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	return pool.Get(ctx, p, pool.Op{Name: "CONFIG", Idempotent: true}, func(ctx context.Context, c *redispool.Conn) (string, error) {
		info, err := c.InfoMap(ctx, "server").Result()
		return "127.0.0.1:" + info["Server"]["tcp_port"], err
	})
}

// moved waits until another server than old serves the uses of the pool, and then writes a key.
func moved(t *testing.T, p *pool.Pool[*redispool.Conn], old string) {
	t.Helper()
	eventually(t, func() error {
		if now, err := at(t, p); err != nil || now == old {
			return fmt.Errorf("at %s, %w", now, err)
		}
		return nil
	})
	use(t, p, do("set", "k", "v"))
}

// The primary dies, hangs or is demoted under load. The longest time without service is at most the
// time of a FailoverClient of go-redis beside the pool, also with a Sentinel that hangs. A use that
// hangs in the old primary ends when the Sentinels name the new primary.
func TestSentinelFailover(t *testing.T) {
	need(t)
	for name, fault := range map[string]func(t *testing.T, c *trio, old *server){
		"killed": func(t *testing.T, c *trio, old *server) {
			c.sentinels[0].signal(t, syscall.SIGSTOP)
			old.kill()
		},
		"hanging": func(t *testing.T, _ *trio, old *server) { old.signal(t, syscall.SIGSTOP) },
		"demoted": func(t *testing.T, c *trio, _ *server) {
			if err := c.client(t, c.sentinels[0]).Failover(t.Context(), masterName).Err(); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newTrio(t)
			o := &watch{}
			p := open(t, c.options(3), pool.Config{MaxSize: 8}, append([]pool.Middleware{o}, standard(t)...)...)
			peer := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: masterName, SentinelAddrs: c.addresses(), PoolSize: 8})
			defer func() { _ = peer.Close() }()
			old := c.primary(t)
			hung := make(chan error, 1)
			use(t, p, do("ping"))
			go func() {
				hung <- p.Do(context.Background(), pool.Op{Limit: -1}, func(ctx context.Context, c *redispool.Conn) error {
					return c.BLPop(context.WithoutCancel(ctx), time.Minute, "nothing").Err()
				})
			}()
			var ours, theirs pace
			stop := make(chan struct{})
			var both sync.WaitGroup
			both.Go(func() {
				ours.run(t.Context(), func(ctx context.Context) error {
					return p.Do(ctx, pool.Op{Name: "SET", Idempotent: true}, do("set", "k", "v"))
				}, stop)
			})
			both.Go(func() {
				theirs.run(t.Context(), func(ctx context.Context) error { return peer.Set(ctx, "k", "v", 0).Err() }, stop)
			})
			eventually(t, func() error { return errors.Join(ours.more(50), theirs.more(50)) })
			fault(t, c, old)
			eventually(t, func() error {
				if old := o.said(redispool.EventPrimaryChanged); len(old) == 0 {
					return errors.New("the primary has not changed")
				}
				return nil
			})
			a, b := ours.served.Load(), theirs.served.Load()
			eventually(t, func() error { return ours.more(a + 100) })
			_ = poll(8*time.Second, func() error { return theirs.more(b + 100) })
			close(stop)
			both.Wait()
			// The FailoverClient may never have recovered.
			theirs.longest = max(theirs.longest, time.Since(theirs.latest))
			if err := <-hung; err == nil {
				t.Error("BLPOP has found something")
			}
			t.Logf("longest gap %v, %d served, %d failed; FailoverClient %v, %d, %d", ours.longest, ours.served.Load(), ours.failed.Load(),
				theirs.longest, theirs.served.Load(), theirs.failed.Load())
			if ours.longest > theirs.longest*11/10+100*time.Millisecond {
				t.Errorf("longest gap %v, of the FailoverClient %v", ours.longest, theirs.longest)
			}
			e := o.said(redispool.EventPrimaryChanged)
			if now := c.primary(t); len(e) != 1 || e[0].From != old.addr || e[0].To != now.addr || e[0].Reason != masterName || now == old {
				t.Errorf("the pool said %+v; the primary was %s, is %s", e, old.addr, now.addr)
			}
		})
	}
}

// more reports whether so many uses have succeeded.
func (p *pace) more(n int64) error {
	if served := p.served.Load(); served < n {
		return fmt.Errorf("%d were served, want %d", served, n)
	}
	return nil
}

// watch records the events of a pool.
type watch struct {
	mu     sync.Mutex
	events []pool.Event
}

func (w *watch) Wrap(next pool.Handler) pool.Handler { return next }

func (w *watch) Observe(_ context.Context, e pool.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e)
}

func (w *watch) said(kind pool.EventKind) (events []pool.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e.Kind == kind {
			events = append(events, e)
		}
	}
	return events
}

// A Sentinel cut off from the others still names the old primary, which is back and acts as a
// primary. The pool has learned of the new primary and stays with it.
func TestSentinelsDisagree(t *testing.T) {
	t.Parallel()
	c := newTrio(t)
	p := open(t, c.options(3), pool.Config{MaxSize: 4})
	old := c.primary(t)
	if now, err := at(t, p); now != old.addr {
		t.Fatalf("at %s, %v", now, err)
	}
	behind := c.sentinels[2]
	behind.kill()
	old.kill()
	moved(t, p, old.addr)
	now, err := at(t, p)
	if err != nil {
		t.Fatal(err)
	}
	c.sentinels[0].signal(t, syscall.SIGSTOP)
	c.sentinels[1].signal(t, syscall.SIGSTOP)
	if err := old.run(); err != nil {
		t.Fatal(err)
	}
	if err := behind.run(); err != nil {
		t.Fatal(err)
	}
	place, err := c.client(t, behind).GetMasterAddrByName(t.Context(), masterName).Result()
	if err != nil || net.JoinHostPort(place[0], place[1]) != old.addr {
		t.Fatalf("the Sentinel names %v, %v", place, err)
	}
	for range 20 {
		p.Clear()
		if at, err := at(t, p); err != nil || at != now {
			t.Fatalf("at %s, %v; the primary is %s", at, err, now)
		}
	}
}

// Without any Sentinel the pool goes on with the primary named last. A server that is no longer the
// primary is not used.
func TestAllSentinelsAreLost(t *testing.T) {
	t.Parallel()
	c := newTrio(t)
	p := open(t, c.options(3), pool.Config{MaxSize: 2})
	now := c.primary(t)
	use(t, p, do("ping"))
	for _, s := range c.sentinels {
		s.kill()
	}
	p.Clear()
	if at, err := at(t, p); err != nil || at != now.addr {
		t.Errorf("at %s, %v", at, err)
	}
	demoted := now.redis(t)
	if err := demoted.ReplicaOf(t.Context(), c.servers[1].host(), c.servers[1].port()).Err(); err != nil {
		t.Fatal(err)
	}
	p.Clear()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := p.Do(ctx, pool.Op{}, do("get", "k"))
	if class := p.Classify(err); err == nil || class.Fault != driver.FaultServer || class.Repeat != driver.RepeatAlways {
		t.Errorf("a replica is used: %v, %+v", err, class)
	}
}

// A driver of two pools follows the Sentinels until the second pool is closed.
func TestSentinelsOfTwoPools(t *testing.T) {
	t.Parallel()
	c := newTrio(t)
	d, err := redispool.NewDriver(c.options(3))
	if err != nil {
		t.Fatal(err)
	}
	var pools []*pool.Pool[*redispool.Conn]
	for range 2 {
		p, err := pool.New[*redispool.Conn](d, pool.Config{MaxSize: 2})
		if err != nil {
			t.Fatal(err)
		}
		use(t, p, do("ping"))
		pools = append(pools, p)
	}
	old := c.primary(t)
	if err := pools[0].Close(t.Context()); err != nil {
		t.Error(err)
	}
	if err := c.client(t, c.sentinels[0]).Failover(t.Context(), masterName).Err(); err != nil {
		t.Fatal(err)
	}
	moved(t, pools[1], old.addr)
	if err := pools[1].Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// A single Sentinel is known by its address. The pool learns of the others from it.
func TestSentinelIsLost(t *testing.T) {
	t.Parallel()
	c := newTrio(t)
	p := open(t, c.options(1), pool.Config{MaxSize: 4})
	rdb := client(t, p, redispool.ClientConfig{})
	messages := rdb.Subscribe(t.Context(), "news")
	defer func() { _ = messages.Close() }()
	channel := messages.Channel()
	old := c.primary(t)
	if now, err := at(t, p); now != old.addr {
		t.Fatalf("at %s, %v", now, err)
	}
	c.sentinels[0].kill()
	old.kill()
	moved(t, p, old.addr)
	eventually(t, func() error { // the subscription has moved, too
		if err := rdb.Publish(t.Context(), "news", "moved").Err(); err != nil {
			return err
		}
		select {
		case <-channel:
			return nil
		default:
			return errors.New("no message")
		}
	})
}

func TestSentinelReplicas(t *testing.T) {
	t.Parallel()
	c := newTrio(t)
	opts := c.options(3)
	opts.Sentinel.Replicas = true
	p := open(t, opts, pool.Config{MaxSize: 4})
	if id := p.Identity(); id.Name != "redis main replicas/0" || id.Address != "" {
		t.Errorf("the pool is %+v", id)
	}
	primary := c.primary(t)
	seen := map[string]bool{}
	for range 20 {
		p.Clear()
		now, err := at(t, p)
		if err != nil {
			t.Fatal(err)
		}
		seen[now] = true
	}
	if len(seen) != 2 || seen[primary.addr] {
		t.Errorf("connected to %v; the primary is %s", seen, primary.addr)
	}
	if h := p.Check(t.Context()); !seen[h.Details["address"]] || h.Details["role"] != "replica" {
		t.Errorf("Check says %v", h)
	}
	if err := p.Do(t.Context(), pool.Op{}, do("set", "k", "v")); !redis.IsReadOnlyError(err) || p.Classify(err).Fault != driver.FaultNone {
		t.Errorf("SET is answered with %v, %+v", err, p.Classify(err))
	}
	for _, s := range c.servers {
		if s != primary {
			s.kill()
		}
	}
	eventually(t, func() error {
		if now, err := at(t, p); err != nil || now != primary.addr {
			return fmt.Errorf("at %s, %w", now, err)
		}
		return nil
	})
	for _, s := range c.servers { // and back
		if s != primary {
			c.run(t, s)
		}
	}
	eventually(t, func() error {
		if now, err := at(t, p); err != nil || now == primary.addr {
			return fmt.Errorf("at %s, %w", now, err)
		}
		return nil
	})
	weak := c.watcher(t, "sentinel monitor main "+primary.host()+" "+primary.port()+" 2", "user default off",
		"user watch on >"+secret+" allchannels -@all +auth +hello +ping +subscribe +sentinel|get-master-addr-by-name")
	opts.Sentinel = &redispool.Sentinel{MasterName: masterName, Addresses: []string{weak.addr}, Username: "watch", Password: secret, Replicas: true}
	if now, err := at(t, open(t, opts, pool.Config{MaxSize: 1})); err == nil || !strings.Contains(err.Error(), "NOPERM") {
		t.Errorf("a user who may not ask for replicas is at %s, %v", now, err)
	}
	opts.Sentinel.Replicas = false
	if now, err := at(t, open(t, opts, pool.Config{MaxSize: 1})); now != primary.addr {
		t.Errorf("a user of few rights is at %s, %v", now, err)
	}
}

// A failover on request leaves the old primary alive, with its subscriptions. The subscriptions
// move as well.
func TestSubscriptionsMove(t *testing.T) {
	t.Parallel()
	c := newTrio(t)
	p := open(t, c.options(3), pool.Config{MaxSize: 2})
	rdb := client(t, p, redispool.ClientConfig{})
	messages := rdb.Subscribe(t.Context(), "news")
	defer func() { _ = messages.Close() }()
	if _, err := messages.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	channel := messages.Channel()
	use(t, p, do("ping"))
	old := c.primary(t)
	if err := c.client(t, c.sentinels[0]).Failover(t.Context(), masterName).Err(); err != nil {
		t.Fatal(err)
	}
	moved(t, p, old.addr)
	eventually(t, func() error {
		n, err := rdb.PubSubNumSub(t.Context(), "news").Result()
		if err != nil || n["news"] != 1 {
			return fmt.Errorf("%v at the new primary, %w", n, err)
		}
		return rdb.Publish(t.Context(), "news", "moved").Err()
	})
	if m := <-channel; m.Payload != "moved" {
		t.Errorf("got %v", m)
	}
}

func TestSentinelErrors(t *testing.T) {
	t.Parallel()
	c := newTrio(t)
	sentinel := c.watcher(t, "requirepass "+secret)
	closed, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	none := fmt.Sprintf("127.0.0.1:%d", closed)
	for name, tc := range map[string]struct {
		sentinel redispool.Sentinel
		want     string
		repeat   driver.Repeat
	}{
		"another name": {redispool.Sentinel{MasterName: "other", Addresses: c.addresses()},
			`do not know the master "other"`, driver.RepeatNever},
		"another name, and one Sentinel is down": {redispool.Sentinel{MasterName: "other", Addresses: append(c.addresses(), none)},
			`do not know the master "other"`, driver.RepeatNever},
		"nobody there": {redispool.Sentinel{MasterName: masterName, Addresses: []string{none}},
			"no Sentinel answers: Sentinel " + none, driver.RepeatAlways},
		"no password": {redispool.Sentinel{MasterName: masterName, Addresses: []string{sentinel.addr}},
			"NOAUTH", driver.RepeatNever},
		"another password": {redispool.Sentinel{MasterName: masterName, Addresses: []string{sentinel.addr}, Password: secret + secret},
			"WRONGPASS", driver.RepeatNever},
		"a server in place of a Sentinel": {redispool.Sentinel{MasterName: masterName, Addresses: []string{c.servers[0].addr}},
			"unknown command", driver.RepeatNever},
	} {
		t.Run(name, func(t *testing.T) {
			opts := redispool.Options{Sentinel: &tc.sentinel}
			p := open(t, opts, pool.Config{MaxSize: 1, OpenTimeout: 5 * time.Second})
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			err := p.Do(ctx, pool.Op{}, do("get", "k"))
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("got %v, want %s", err, tc.want)
			}
			if got := p.Classify(err); got.Fault != driver.FaultServer || got.Repeat != tc.repeat {
				t.Errorf("%v is %+v", err, got)
			}
		})
	}
}

// Servers and Sentinels each require their own password and TLS.
func TestSentinelSecured(t *testing.T) {
	need(t)
	t.Parallel()
	a := newAuthority(t, "ours")
	cert, key := a.issue(t, "byip", "127.0.0.1", time.Now().Add(time.Hour))
	c := trio{
		args: []string{
			"--port", "0", "--tls-port", "PORT", "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", a.file,
			"--tls-replication", "yes", "--tls-auth-clients", "no", "--requirepass", "server-pw", "--masterauth", "server-pw",
		},
		conf: []string{
			"port 0", "tls-port PORT", "tls-cert-file " + cert, "tls-key-file " + key, "tls-ca-cert-file " + a.file, "tls-replication yes",
			"tls-auth-clients no", "sentinel auth-pass main server-pw", "user default off", "user watch on >sentinel-pw allchannels +@all",
			"sentinel sentinel-user watch", "sentinel sentinel-pass sentinel-pw",
		},
		watchOpts: redis.Options{Username: "watch", Password: "sentinel-pw", TLSConfig: trust(t, a)},
	}
	c.launch(t)
	opts := redispool.Options{
		Password: "server-pw", TLS: &redispool.TLS{CAFile: a.file},
		Sentinel: &redispool.Sentinel{
			MasterName: masterName, Addresses: c.addresses(), Username: "watch", Password: "sentinel-pw", TLS: &redispool.TLS{CAFile: a.file},
		},
	}
	p := open(t, opts, pool.Config{MaxSize: 2})
	old, err := at(t, p)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range c.servers {
		if s.addr == old {
			s.kill()
		}
	}
	moved(t, p, old)
	opts.Sentinel.TLS = nil
	plain := open(t, opts, pool.Config{MaxSize: 1})
	if now, err := at(t, plain); err == nil {
		t.Errorf("at %s: the Sentinels speak without TLS", now)
	}
}

// trust returns a TLS configuration for a client of go-redis.
func trust(t *testing.T, a *authority) *tls.Config {
	t.Helper()
	pem, err := os.ReadFile(a.file)
	if err != nil {
		t.Fatal(err)
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool()}
	c.RootCAs.AppendCertsFromPEM(pem)
	return c
}
