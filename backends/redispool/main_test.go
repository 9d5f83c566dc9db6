package redispool_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/earnorm/poolstack/backends/redispool"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// shared is the server of all tests that do not change it. It is nil if no server is available.
var shared *server

// logged is the log of go-redis during the tests.
var logged logBuffer

type logBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *logBuffer) Printf(_ context.Context, format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fmt.Fprintf(&b.text, format+"\n", args...)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	flag.Parse()
	redis.SetLogger(&logged)
	dir, err := os.MkdirTemp("", "redispool")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	shared, err = start(dir)
	switch {
	case err == nil:
		defer shared.kill()
		_ = os.Setenv("REDIS_URL", "redis://"+shared.addr) // for the examples
	case os.Getenv("CI") == "true":
		fmt.Fprintln(os.Stderr, "redispool: the tests need redis-server:", err)
		return 1
	default:
		fmt.Fprintln(os.Stderr, "redispool: skipping what needs redis-server:", err)
		_ = flag.Set("test.skip", "^Example")
	}
	return pooltest.Main(m)
}

// server is a redis-server on the loopback interface.
type server struct {
	addr string
	args []string
	dir  string

	mu  sync.Mutex
	cmd *exec.Cmd
}

// start starts a redis-server on a free port, with further arguments, and waits until it answers.
func start(dir string, args ...string) (*server, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &server{addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), dir: dir}
	s.args = append([]string{path, "--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--dir", dir, "--save", ""}, args...)
	return s, s.run()
}

// run starts the process and waits until it listens.
func (s *server) run() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cmd = exec.Command(s.args[0], s.args[1:]...)
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		return err
	}
	err = poll(10*time.Second, func() error {
		c, err := net.Dial("tcp", s.addr)
		if err == nil {
			_ = c.Close()
		}
		return err
	})
	if err != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		said, _ := os.ReadFile(log.Name())
		return fmt.Errorf("%w: %s", err, said)
	}
	return nil
}

// kill ends the process at once and waits for its end.
func (s *server) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

func (s *server) host() string { h, _, _ := net.SplitHostPort(s.addr); return h }
func (s *server) port() string { _, p, _ := net.SplitHostPort(s.addr); return p }

// redis returns a plain client of go-redis, to look at the server from outside the pool.
func (s *server) redis(t testing.TB) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: s.addr})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return 0, errors.New("no TCP address")
	}
	return addr.Port, nil
}

// poll calls f until it returns nil, for at most d, and returns its last error.
func poll(d time.Duration, f func() error) error {
	deadline := time.After(d)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-deadline:
			return err
		case <-tick.C:
		}
	}
}

// eventually fails the test unless f returns nil within ten seconds.
func eventually(t testing.TB, f func() error) {
	t.Helper()
	if err := poll(10*time.Second, f); err != nil {
		t.Fatal(err)
	}
}

// need skips the test if there is no redis-server. On CI, run has failed earlier.
func need(t testing.TB) *server {
	t.Helper()
	if shared == nil {
		t.Skip("there is no redis-server in PATH")
	}
	return shared
}

// launch starts a server for this test only, and kills it at the end.
func launch(t testing.TB, args ...string) *server {
	t.Helper()
	need(t)
	s, err := start(t.TempDir(), args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.kill)
	return s
}

// open makes a pool that is closed at the end of the test.
func open(t testing.TB, opts redispool.Options, cfg pool.Config, layers ...pool.Middleware) *pool.Pool[*redispool.Conn] {
	t.Helper()
	p, err := redispool.New(opts, cfg, layers...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := p.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return p
}

// get runs fn with a connection of p and fails the test on an error.
func use(t testing.TB, p *pool.Pool[*redispool.Conn], fn func(ctx context.Context, c *redispool.Conn) error) {
	t.Helper()
	if err := p.Do(t.Context(), pool.Op{}, fn); err != nil {
		t.Fatal(err)
	}
}

func config() pool.Config { return pool.Config{} }
