package logging

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

func TestMain(m *testing.M) { os.Exit(pooltest.Main(m)) }

var get = pool.Op{Name: "GET", Target: "sessions", Key: "hunter2", Idempotent: true}

// log is what has been written.
type log struct {
	t     testing.TB
	mu    sync.Mutex
	lines []string
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, strings.TrimSuffix(string(b), "\n"))
	return len(b), nil
}

// logger writes to l, without the time.
func (l *log) logger(level slog.Leveler) *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}

// take returns what has been written since the last take.
func (l *log) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.lines
	l.lines = nil
	return lines
}

func (l *log) want(lines ...string) {
	l.t.Helper()
	if got, want := strings.Join(l.take(), "\n"), strings.Join(lines, "\n"); got != want {
		l.t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

type rig struct {
	log
	fake pooltest.Fake
	pool *pool.Pool[*pooltest.Conn]
}

func newRig(t testing.TB, level slog.Leveler, cfg Config, poolCfg pool.Config, inner ...pool.Middleware) *rig {
	t.Helper()
	r := &rig{log: log{t: t}}
	cfg.Logger = r.logger(level)
	layer, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	poolCfg.Name = "cache"
	if r.pool, err = pool.New(&r.fake, poolCfg, append([]pool.Middleware{layer}, inner...)...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.pool.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return r
}

// say is a layer that reports an event in each use.
type say struct{ event pool.Event }

func (l say) Wrap(next pool.Handler) pool.Handler {
	return func(ctx context.Context, c *pool.Call) error {
		c.Emit(ctx, l.event)
		return next(ctx, c)
	}
}
