package retry_test

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/earnorm/poolstack/middleware/retry"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

func TestMain(m *testing.M) { os.Exit(pooltest.Main(m)) }

type conn = *pooltest.Conn

var (
	idempotent = pool.Op{Name: "GET", Idempotent: true}
	once       = pool.Op{Name: "INCR"}
)

// recorder is a layer that keeps what retry reports.
type recorder struct {
	mu     sync.Mutex
	events []pool.Event
}

func (r *recorder) Wrap(next pool.Handler) pool.Handler { return next }

func (r *recorder) Observe(_ context.Context, e pool.Event) {
	if e.Layer != "retry" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// take returns what has been recorded, and forgets it.
func (r *recorder) take() []pool.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	events := r.events
	r.events = nil
	return events
}

// counter is a layer inside of retry that counts attempts and keeps their numbers.
type counter struct {
	mu       sync.Mutex
	attempts []int
}

func (k *counter) Wrap(next pool.Handler) pool.Handler {
	return func(ctx context.Context, c *pool.Call) error {
		k.mu.Lock()
		k.attempts = append(k.attempts, c.Attempt())
		k.mu.Unlock()
		return next(ctx, c)
	}
}

// take returns the numbers of the attempts made, and forgets them.
func (k *counter) take() []int {
	k.mu.Lock()
	defer k.mu.Unlock()
	attempts := k.attempts
	k.attempts = nil
	return attempts
}

func newRetry(t testing.TB, cfg retry.Config) *retry.Retry {
	t.Helper()
	r, err := retry.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// newPool makes a pool. The returned function closes the pool; the caller must call the function
// before the end of the test or of its bubble.
func newPool(t testing.TB, d driver.Driver[conn], cfg pool.Config, layers ...pool.Middleware) (*pool.Pool[conn], func()) {
	t.Helper()
	p, err := pool.New(d, cfg, layers...)
	if err != nil {
		t.Fatal(err)
	}
	return p, func() {
		if err := p.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}
}

func asError(t *testing.T, err error) *retry.Error {
	t.Helper()
	var e *retry.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want a *retry.Error", err)
	}
	return e
}

// failing returns a function for Do that returns errs one after the other, and the last for ever.
func failing(errs ...error) func(context.Context, conn) error {
	n := -1
	return func(context.Context, conn) error {
		n = min(n+1, len(errs)-1)
		return errs[n]
	}
}

// hint is an error of a server that wants to be left alone for a while.
type hint time.Duration

func (h hint) Error() string { return "busy" }

func (h hint) Class() driver.Class {
	return driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatAlways, Type: "busy", RetryAfter: time.Duration(h)}
}
