package mongolive

import (
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	meternoop "go.opentelemetry.io/otel/metric/noop"
	tracernoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/earnorm/poolstack/backends/mongopool"
	"github.com/earnorm/poolstack/examples/servers/control"
	"github.com/earnorm/poolstack/middleware"
	"github.com/earnorm/poolstack/middleware/breaker"
	"github.com/earnorm/poolstack/middleware/logging"
	"github.com/earnorm/poolstack/middleware/metrics"
	"github.com/earnorm/poolstack/middleware/tracing"
	"github.com/earnorm/poolstack/pool"
)

// newStack returns a pool for the server at address, with the standard stack at its defaults.
func newStack(t *testing.T, address string) (*middleware.Stack, *pool.Pool[*mongopool.Conn]) {
	t.Helper()
	stack, err := middleware.Standard(middleware.Options{
		Tracing: tracing.Config{TracerProvider: tracernoop.NewTracerProvider()},
		Metrics: metrics.Config{MeterProvider: meternoop.NewMeterProvider()},
		Logging: logging.Config{Logger: slog.New(slog.DiscardHandler)},
	})
	must(t, err)
	p, err := mongopool.New(mongopool.Options{URI: "mongodb://" + address + "/" + database}, pool.Config{MaxSize: 10}, stack.Layers()...)
	must(t, err)
	t.Cleanup(func() { must(t, p.Close(bounded(t))) })
	return stack, p
}

// hole is a proxy in front of the server that can swallow all bytes. A connection that existed or
// was accepted meanwhile stays silent forever.
type hole struct {
	listener net.Listener
	wg       sync.WaitGroup
	deep     atomic.Bool

	mu    sync.Mutex
	conns []*swallower
}

// swallower is the writer of a single direction.
type swallower struct {
	net.Conn

	buried atomic.Bool
}

// Write drops the bytes of a buried connection.
func (s *swallower) Write(b []byte) (int, error) {
	if s.buried.Load() {
		return len(b), nil
	}
	return s.Conn.Write(b)
}

func newHole(t *testing.T) *hole {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	h := &hole{listener: l}
	h.wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", hostOf(t, servers.MongoDBURI()))
			if err != nil {
				_ = client.Close()
				continue
			}
			up, down := &swallower{Conn: server}, &swallower{Conn: client}
			h.mu.Lock()
			h.conns = append(h.conns, up, down)
			up.buried.Store(h.deep.Load())
			down.buried.Store(h.deep.Load())
			h.mu.Unlock()
			h.wg.Go(func() { _, _ = io.Copy(up, client); _ = server.Close() })
			h.wg.Go(func() { _, _ = io.Copy(down, server); _ = client.Close() })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		h.mu.Lock()
		for _, c := range h.conns {
			_ = c.Close()
		}
		h.mu.Unlock()
		h.wg.Wait()
	})
	return h
}

// bury begins to swallow all bytes.
func (h *hole) bury() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.deep.Store(true)
	for _, c := range h.conns {
		c.buried.Store(true)
	}
}

// fill serves connections accepted from now on.
func (h *hole) fill() { h.deep.Store(false) }

func (h *hole) address() string { return h.listener.Addr().String() }

// The standard stack at its defaults detects each outage with callers' deadlines as short as 100
// ms. It reports why it is degraded. Soon after the return it serves all uses of a second.
func TestOutages(t *testing.T) {
	for _, tc := range []struct {
		name        string
		begin, end  func(t *testing.T, h *hole)
		foundWithin time.Duration // in addition to two deadlines
		reason      string
	}{
		{"killed",
			func(t *testing.T, _ *hole) { must(t, servers.Kill(bounded(t), control.MongoDB)) },
			func(t *testing.T, _ *hole) { must(t, servers.Restart(bounded(t), control.MongoDB)) },
			time.Second, "breaker open by "},
		{"frozen",
			func(t *testing.T, _ *hole) { must(t, servers.Freeze(bounded(t), control.MongoDB)) },
			func(t *testing.T, _ *hole) { must(t, servers.Thaw(bounded(t), control.MongoDB)) },
			2 * time.Second, "breaker open by "},
		{"in a black hole",
			func(_ *testing.T, h *hole) { h.bury() },
			func(_ *testing.T, h *hole) { h.fill() },
			2 * time.Second, "breaker open by "},
	} {
		for _, deadline := range []time.Duration{100 * time.Millisecond, time.Second} {
			t.Run(tc.name+"/"+deadline.String(), func(t *testing.T) {
				h := newHole(t)
				s, p := newStack(t, h.address())
				must(t, p.Warm(bounded(t), 10))
				c := &caller{p: p, deadline: deadline}
				c.load(t, time.Second, func() bool { return false })
				tc.begin(t, h)
				begin := time.Now()
				c.load(t, patience, func() bool { return s.Breaker.State() == breaker.StateOpen })
				took := time.Since(begin)
				t.Logf("found after %v", took)
				if s.Breaker.State() != breaker.StateOpen || took > tc.foundWithin+2*deadline {
					t.Errorf("the breaker was %v after %v", s.Breaker.State(), took)
				}
				if h := p.Check(bounded(t)); h.Status != pool.StatusDegraded || len(h.Reasons) != 1 || !strings.HasPrefix(h.Reasons[0], tc.reason) {
					t.Errorf("health is %v, %q, want degraded, %q", h.Status, h.Reasons, tc.reason)
				} else {
					t.Log(h.Reasons[0])
				}
				c.load(t, 2*time.Second, func() bool { return false })
				tc.end(t, h)
				begin = time.Now()
				c.load(t, patience, func() bool { return c.inRow.Load() >= 40 })
				took = time.Since(begin)
				t.Logf("served again after %v", took-time.Second)
				if took > recovery+time.Second {
					t.Errorf("served again after %v", took-time.Second)
				}
				if h := p.Check(bounded(t)); h.Status == pool.StatusDown {
					t.Errorf("health is %v, %q", h.Status, h.Reasons)
				}
			})
		}
	}
}

// caller makes 40 finds per second.
type caller struct {
	p        *pool.Pool[*mongopool.Conn]
	deadline time.Duration
	inRow    atomic.Int64 // finds served in a row without a failure
}

// load runs for d, or until enough returns true.
func (c *caller) load(t *testing.T, d time.Duration, enough func() bool) {
	t.Helper()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for end := time.Now().Add(d); time.Now().Before(end) && !enough(); <-tick.C {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), c.deadline)
			defer cancel()
			err := c.p.Do(ctx, pool.Op{Name: "find", Target: "things", Idempotent: true}, func(ctx context.Context, c *mongopool.Conn) error {
				cursor, err := c.Collection("things").Find(ctx, bson.D{})
				if err != nil {
					return err
				}
				return cursor.Close(ctx)
			})
			if err != nil {
				c.inRow.Store(0)
				return
			}
			c.inRow.Add(1)
		})
	}
}
