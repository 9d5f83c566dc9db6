package timeout_test

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/earnorm/poolstack/middleware/timeout"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

func TestMain(m *testing.M) { os.Exit(pooltest.Main(m)) }

type conn = *pooltest.Conn

// recorder is a layer that keeps the events that tests of this package look at.
type recorder struct {
	mu     sync.Mutex
	events []pool.Event
}

func (r *recorder) Wrap(next pool.Handler) pool.Handler { return next }

func (r *recorder) Observe(_ context.Context, e pool.Event) {
	if e.Kind != pool.EventTimeout && e.Kind != pool.EventRejected {
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

// judge is a layer where the breaker stands: it keeps the class of what comes out of the attempt.
type judge struct{ last driver.Class }

func (j *judge) Wrap(next pool.Handler) pool.Handler {
	return func(ctx context.Context, c *pool.Call) error {
		err := next(ctx, c)
		j.last = c.Classify(err)
		return err
	}
}

func total(t testing.TB, cfg timeout.Config) *timeout.Timeout {
	t.Helper()
	l, err := timeout.NewTotal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func attempt(t testing.TB, cfg timeout.Config) *timeout.Timeout {
	t.Helper()
	l, err := timeout.NewAttempt(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func limit(d time.Duration) timeout.Config { return timeout.Config{Limit: d} }

// newPool makes a pool that is closed when the test, or its bubble, ends; call the returned
// function in a bubble.
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

// wait lets d pass.
func wait(d time.Duration) { <-time.After(d) }

// untilOver waits for ctx, as clients do.
func untilOver(ctx context.Context, _ conn) error {
	<-ctx.Done()
	return ctx.Err()
}

func asError(t *testing.T, err error) *timeout.Error {
	t.Helper()
	var e *timeout.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want a *timeout.Error", err)
	}
	return e
}
