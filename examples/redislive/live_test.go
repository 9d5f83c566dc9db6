package redislive

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/earnorm/poolstack/backends/redispool"
	"github.com/earnorm/poolstack/examples/servers/control"
	"github.com/earnorm/poolstack/examples/servers/local"
	"github.com/earnorm/poolstack/middleware"
	"github.com/earnorm/poolstack/middleware/breaker"
	"github.com/earnorm/poolstack/middleware/logging"
	"github.com/earnorm/poolstack/middleware/timeout"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

var servers *local.Servers // nil where there is no redis-server

func TestMain(m *testing.M) {
	local.Child()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if _, err := exec.LookPath("redis-server"); err == nil { // miniredis does not block as Redis does
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if servers, err = local.Start(ctx, local.Options{Redis: local.RedisServer}); err != nil {
			panic(err)
		}
	} else if os.Getenv("CI") == "true" {
		panic(err)
	}
	status := m.Run()
	if servers != nil {
		if err := servers.Close(); err != nil {
			panic(err)
		}
	}
	// A fault that cuts a link during a transfer may leave a goroutine of toxiproxy behind.
	if left := pooltest.Leaked("/toxiproxy/v2/toxics."); status == 0 && len(left) > 0 {
		panic(strings.Join(left, "\n\n"))
	}
	return status
}

// The limits of the stack, short enough for a test.
const (
	attempt = 400 * time.Millisecond
	wait    = time.Second // of BLPOP, whose shortest timeout is 1 s
	total   = 1500 * time.Millisecond
	longer  = 2 * time.Second // longer than the other limits
)

func newPool(t *testing.T, o redispool.Options) (*pool.Pool[*redispool.Conn], *middleware.Stack) {
	t.Helper()
	if servers == nil {
		t.Skip("there is no redis-server")
	}
	stack, err := middleware.Standard(middleware.Options{
		Logging: logging.Config{Logger: slog.New(slog.DiscardHandler)},
		Total:   timeout.Config{Limit: total},
		Attempt: timeout.Config{Limit: attempt},
		Without: []string{middleware.KindTracing, middleware.KindMetrics},
	})
	if err != nil {
		t.Fatal(err)
	}
	o.Address = strings.TrimSuffix(strings.TrimPrefix(servers.RedisURL(), "redis://"), "/0")
	d, err := redispool.NewDriver(o)
	if err != nil {
		t.Fatal(err)
	}
	p, err := pool.New(d, pool.Config{MaxSize: 16, AcquireTimeout: attempt}, stack.Layers()...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := p.Close(ctx); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return p, stack
}

// consume runs sixteen consumers. Each consumer waits twice for an element in a queue.
func consume(p *pool.Pool[*redispool.Conn], op pool.Op, wait, deadline time.Duration) (errs []error) {
	var mu sync.Mutex
	var consumers sync.WaitGroup
	for range 16 {
		consumers.Go(func() {
			for range 2 {
				ctx, cancel := context.WithTimeout(context.Background(), deadline)
				err := p.Do(ctx, op, func(ctx context.Context, c *redispool.Conn) error {
					return c.BLPop(ctx, wait, "empty").Err()
				})
				cancel()
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}
	consumers.Wait()
	return errs
}

// Consumers wait on an empty queue for longer than the attempt's limit. With a negative Op.Limit
// the wait is not a failure. With the layer's limit the wait is a failure, but not evidence against
// the server.
func TestBlockingPop(t *testing.T) {
	p, stack := newPool(t, redispool.Options{})
	for _, err := range consume(p, pool.Op{Name: "BLPOP", Limit: -1}, wait, time.Minute) {
		if err != redis.Nil { // a miss leaves a use as it is
			t.Errorf("on an empty queue: %v, want redis.Nil", err)
		}
	}
	if s := stack.Breaker.Snapshot(); s.State != breaker.StateClosed || s.Counts.Failures > 0 {
		t.Errorf("the breaker: %+v", s)
	}
	if s := p.Stat(); s.Closed[pool.CloseBroken] > 0 || s.Opened > 16 {
		t.Errorf("opened %d, closed as broken %d", s.Opened, s.Closed[pool.CloseBroken])
	}
	// The use's timeout and the caller's deadline expire during the command. Neither is evidence
	// against the server.
	for _, deadline := range []time.Duration{time.Minute, attempt} {
		for _, err := range consume(p, pool.Op{Name: "BLPOP", Limit: -1}, 0, deadline) {
			if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, breaker.ErrOpen) {
				t.Errorf("with a deadline of %v: %v", deadline, err)
			}
		}
	}
	if s := stack.Breaker.Snapshot(); s.State != breaker.StateClosed || s.Counts.Failures > 0 || s.Opened > 0 {
		t.Errorf("the breaker: %+v", s)
	}
	if consume(p, pool.Op{Name: "BLPOP"}, wait, time.Minute); stack.Breaker.Snapshot().Counts.Failures == 0 && stack.Breaker.Snapshot().Opened == 0 {
		t.Error("the layer's limit has not passed in an operation that does not say that it blocks")
	}
}

// A subscription and a transaction outlive the limits of the layers.
func TestLongLease(t *testing.T) {
	p, stack := newPool(t, redispool.Options{})
	l, err := p.Acquire(context.Background(), pool.Op{Name: "MULTI"})
	if err != nil {
		t.Fatal(err)
	}
	c, _ := l.Value()
	ctx := l.Context()
	for began := time.Now(); time.Since(began) < longer; {
		if err := c.BLPop(ctx, wait, "empty").Err(); !errors.Is(err, redis.Nil) {
			t.Fatalf("after %v: %v", time.Since(began), err)
		}
	}
	_, err = c.TxPipelined(ctx, func(tx redis.Pipeliner) error { tx.Incr(ctx, "n"); return nil })
	if err != nil || !l.Release(err) {
		t.Errorf("after %v: %v", longer, err)
	}
	if s := p.Stat(); s.Idle != 1 || stack.Breaker.State() != breaker.StateClosed {
		t.Errorf("%+v", s)
	}
}

// The server freezes, and the caller has no deadline. The client's ReadTimeout bounds a command in
// a lease.
func TestFrozenLease(t *testing.T) {
	p, _ := newPool(t, redispool.Options{ReadTimeout: longer})
	l, err := p.Acquire(context.Background(), pool.Op{Name: "GET"})
	if err != nil {
		t.Fatal(err)
	}
	bounded, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := servers.Freeze(bounded, control.Redis); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := servers.Thaw(bounded, control.Redis); err != nil {
			t.Error(err)
		}
	}()
	c, _ := l.Value()
	began := time.Now()
	for err == nil && bounded.Err() == nil { // the signal takes effect a moment after it was sent
		began = time.Now()
		err = c.Get(l.Context(), "key").Err()
		if errors.Is(err, redis.Nil) {
			err = nil
		}
	}
	if took := time.Since(began); took < longer || took > 3*longer {
		t.Errorf("the command returned after %v, want about %v: %v", took, longer, err)
	}
	// The late reply is read before the next lease.
	if class := p.Classify(l.Finish(err)); class.Fault != driver.FaultServer || class.Broken {
		t.Errorf("%v: %+v", err, class)
	}
}
