package pool_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

func TestMain(m *testing.M) { os.Exit(pooltest.Main(m)) }

type conn = *pooltest.Conn

// op is an operation that may be repeated.
var op = pool.Op{Name: "GET", Target: "things", Idempotent: true}

// newPool makes a pool with fake. At the end of the test, newPool closes the pool and fails the
// test for each complaint of fake.
func newPool(t *testing.T, fake *pooltest.Fake, cfg pool.Config, layers ...pool.Middleware) *pool.Pool[conn] {
	t.Helper()
	return newPoolOver(t, fake, fake, cfg, layers...)
}

// newPoolOver is newPool with another driver that hides some optional interfaces of fake.
func newPoolOver(t *testing.T, fake *pooltest.Fake, d driver.Driver[conn], cfg pool.Config, layers ...pool.Middleware) *pool.Pool[conn] {
	t.Helper()
	p, err := pool.New(d, cfg, layers...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		closePool(t, p)
		for _, v := range fake.Violations() {
			t.Error(v)
		}
		if _, _, alive, _ := fake.Counts(); alive != 0 {
			t.Errorf("%d connections are alive after Close", alive)
		}
	})
	return p
}

func closePool(t *testing.T, p *pool.Pool[conn]) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := p.Close(ctx); err != nil {
		t.Errorf("Close: %v", err)
	}
}

func acquire(t *testing.T, p *pool.Pool[conn]) pool.Lease[conn] {
	t.Helper()
	l, err := p.Acquire(context.Background(), op)
	if err != nil {
		t.Fatalf("Acquire: %v", err)
	}
	return l
}

// value returns the connection of the lease.
func value(t *testing.T, l pool.Lease[conn]) conn {
	t.Helper()
	c, ok := l.Value()
	if !ok {
		t.Fatal("the lease is over")
	}
	return c
}

// background is called with contexts that never end.
var background = context.Background()

// recorder is a layer that keeps the events.
type recorder struct {
	events chan pool.Event
}

func newRecorder() *recorder { return &recorder{events: make(chan pool.Event, 10000)} }

func (r *recorder) Wrap(next pool.Handler) pool.Handler     { return next }
func (r *recorder) Observe(_ context.Context, e pool.Event) { r.events <- e }
func (r *recorder) drain() (events []pool.Event) {
	for {
		select {
		case e := <-r.events:
			events = append(events, e)
		default:
			return events
		}
	}
}

// only returns the recorded events of one kind.
func (r *recorder) only(kind pool.EventKind) (events []pool.Event) {
	for _, e := range r.drain() {
		if e.Kind == kind {
			events = append(events, e)
		}
	}
	return events
}

type ctx = context.Context

func contextWithTimeout(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(background, d)
}

// use is a plain use of a connection.
func use(ctx context.Context, c conn) error { return c.Use(ctx) }
