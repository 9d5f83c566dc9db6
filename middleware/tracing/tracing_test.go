package tracing

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

var get = pool.Op{Name: "GET", Target: "sessions", Key: "a-key", Idempotent: true}

func ping(ctx context.Context, c *pooltest.Conn) error { return c.Use(ctx) }

func TestConforms(t *testing.T) {
	for name, cfg := range map[string]Config{
		"default":   {},
		"commands":  {Commands: true},
		"unsampled": {SkipUnsampled: true, Filter: func(op pool.Op) bool { return op.Name == "GET" }},
		"no-op":     {TracerProvider: noop.NewTracerProvider()},
	} {
		t.Run(name, func(t *testing.T) {
			pooltest.RunMiddleware(t, func(t testing.TB) pool.Middleware {
				if cfg.TracerProvider == nil {
					cfg.TracerProvider = newRig(t, redis, Config{}, pool.Config{}).provider
				}
				layer, err := New(cfg)
				if err != nil {
					t.Fatal(err)
				}
				return layer
			})
		})
	}
}

func TestOneSpanAUse(t *testing.T) {
	const (
		redisAttrs = " db.client.connection.pool.name=cache db.namespace=3 db.operation.name=GET db.query.summary=GET sessions" +
			" db.system.name=redis"
		server = " server.address=10.0.0.1"
	)
	for _, c := range []struct {
		name string
		id   driver.Identity
		op   pool.Op
		err  error
		want string
	}{
		{"Redis", redis, get, nil, "GET sessions client Unset" + redisAttrs + server},
		{
			"Redis without a target", redis, pool.Op{Name: "PING"}, nil,
			"PING client Unset db.client.connection.pool.name=cache db.namespace=3 db.operation.name=PING db.query.summary=PING" +
				" db.system.name=redis" + server,
		},
		{
			"MongoDB", mongodb, pool.Op{Name: "find", Target: "orders"}, nil,
			"find orders client Unset db.client.connection.pool.name=orders-db db.collection.name=orders db.namespace=shop" +
				" db.operation.name=find db.system.name=mongodb server.address=db.example server.port=27018",
		},
		{
			"nameless, several hosts", driver.Identity{Name: "m", System: "mongodb"}, pool.Op{}, nil,
			"mongodb client Unset db.client.connection.pool.name=m db.system.name=mongodb",
		},
		{"nothing known", driver.Identity{}, pool.Op{}, nil, "pool client Unset db.client.connection.pool.name=pool"},
		{"miss", redis, get, pooltest.ErrMiss, "GET sessions client Unset" + redisAttrs + server},
		{
			"error reply", redis, get, pooltest.ErrReply,
			"GET sessions client Error" +
				strings.Replace(redisAttrs, " db.system", " db.response.status_code=REPLY db.system", 1) + " error.type=REPLY" + server,
		},
		{"broken", redis, get, pooltest.ErrBroken, "GET sessions client Error" + redisAttrs + " error.type=broken" + server},
		{"timeout", redis, get, context.DeadlineExceeded, "GET sessions client Error" + redisAttrs + " error.type=timeout" + server},
		{"cancelled", redis, get, context.Canceled, "GET sessions client Error" + redisAttrs + " error.type=canceled" + server},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, c.id, Config{}, pool.Config{}).warm()
			err := r.pool.Do(context.Background(), c.op, func(ctx context.Context, _ *pooltest.Conn) error {
				if !trace.SpanContextFromContext(ctx).IsSampled() {
					t.Error("the function's context has no span")
				}
				return c.err
			})
			if !errors.Is(err, c.err) {
				t.Errorf("Do returned %v", err)
			}
			r.want(false, c.want)
		})
	}
}

// The scope has the version of the module.
func TestScopeVersion(t *testing.T) {
	module := scopeVersion
	scopeVersion = func() string { return "v1.2.3" }
	defer func() { scopeVersion = module }()
	r := newRig(t, redis, Config{}, pool.Config{}).warm()
	_ = r.pool.Do(t.Context(), get, ping)
	for _, s := range r.recorder.Ended() {
		if scope := s.InstrumentationScope(); scope.Name != ScopeName || scope.Version != "v1.2.3" {
			t.Errorf("%s has the scope %q with the version %q", s.Name(), scope.Name, scope.Version)
		}
	}
}

func TestPanic(t *testing.T) {
	r := newRig(t, driver.Identity{Name: "p"}, Config{}, pool.Config{}).warm()
	func() {
		defer func() { _ = recover() }()
		_ = r.pool.Do(context.Background(), pool.Op{}, func(context.Context, *pooltest.Conn) error { panic("secret") })
	}()
	r.want(false, "p client Error db.client.connection.pool.name=p error.type=aborted")
}

// The span of a two-step use ends at Release, in any goroutine, and includes everything done under
// the lease.
func TestTwoSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, driver.Identity{Name: "p"}, Config{Commands: true}, pool.Config{})
		l, err := r.pool.Acquire(context.Background(), get)
		if err != nil {
			t.Fatal(err)
		}
		r.want(true)
		time.Sleep(time.Second)
		ctx := driver.BeginCommand(l.Context(), driver.Command{Name: "GET"})
		time.Sleep(time.Second)
		driver.EndCommand(ctx, driver.Command{Name: "GET"}, nil)
		if n := len(r.recorder.Ended()); n != 1 {
			t.Errorf("%d spans have ended before Release, want that of the command", n)
		}
		time.Sleep(time.Second)
		var wg sync.WaitGroup
		wg.Go(func() { l.Release(pooltest.ErrReply) })
		wg.Wait()
		r.want(true,
			"GET sessions 0s-3s internal Error db.client.connection.pool.name=p error.type=REPLY",
			"  GET 1s-2s client Unset db.client.connection.pool.name=p db.operation.name=GET")
	})
}

func TestWaits(t *testing.T) {
	const busy = "HOLD 0s-%v client Unset db.client.connection.pool.name=p db.operation.name=HOLD"
	for _, c := range []struct {
		name      string
		threshold time.Duration
		wait      time.Duration
		want      []string
	}{
		{"long", 0, time.Second, []string{
			"GET sessions 0s-1s client Unset db.client.connection.pool.name=p db.collection.name=sessions db.operation.name=GET" +
				" poolstack.acquire.wait=1",
			"  acquire 0s-1s internal Unset db.client.connection.pool.name=p poolstack.connection.fresh=false",
		}},
		{"short", time.Minute, time.Second, []string{
			"GET sessions 0s-1s client Unset db.client.connection.pool.name=p db.collection.name=sessions db.operation.name=GET" +
				" poolstack.acquire.wait=1",
		}},
		{"the least threshold", 1, time.Second, []string{
			"GET sessions 0s-1s client Unset db.client.connection.pool.name=p db.collection.name=sessions db.operation.name=GET" +
				" poolstack.acquire.wait=1",
			"  acquire 0s-1s internal Unset db.client.connection.pool.name=p poolstack.connection.fresh=false",
		}},
		{"the largest threshold", math.MaxInt64, time.Second, []string{
			"GET sessions 0s-1s client Unset db.client.connection.pool.name=p db.collection.name=sessions db.operation.name=GET" +
				" poolstack.acquire.wait=1",
		}},
		{"in vain", time.Minute, 3 * time.Second, []string{
			"GET sessions 0s-2s client Error db.client.connection.pool.name=p db.collection.name=sessions db.operation.name=GET" +
				" error.type=acquire_timeout poolstack.acquire.wait=2",
			"  acquire 0s-2s internal Error db.client.connection.pool.name=p error.type=acquire_timeout",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				limits := pool.Config{MaxSize: 1, AcquireTimeout: 2 * time.Second}
				r := newRig(t, driver.Identity{Name: "p"}, Config{WaitThreshold: c.threshold}, limits).warm()
				l, err := r.pool.Acquire(context.Background(), pool.Op{Name: "HOLD"})
				if err != nil {
					t.Fatal(err)
				}
				time.AfterFunc(c.wait, func() { l.Release(nil) })
				_ = r.pool.Do(context.Background(), get, ping)
				time.Sleep(c.wait)
				synctest.Wait()
				r.want(true, append(c.want, fmt.Sprintf(busy, c.wait))...)
			})
		})
	}
}

// alone leaves no room for a second dial beside a slow one.
var alone = pool.Config{MaxSize: 1}

// A wait for a new resource is told from one for other borrowers.
func TestFreshWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, driver.Identity{Name: "p"}, Config{}, alone)
		r.server.Inject(pooltest.Open, 1, pooltest.Slow(time.Second))
		if err := r.pool.Do(context.Background(), pool.Op{}, ping); err != nil {
			t.Fatal(err)
		}
		r.want(true,
			"p 0s-1s client Unset db.client.connection.pool.name=p poolstack.acquire.wait=1",
			"  acquire 0s-1s internal Unset db.client.connection.pool.name=p poolstack.connection.fresh=true")
	})
}

func command(ctx context.Context, cmd driver.Command, took time.Duration, err error) error {
	ctx = driver.BeginCommand(ctx, cmd)
	time.Sleep(took)
	driver.EndCommand(ctx, cmd, err)
	return err
}

func TestAttempts(t *testing.T) {
	const useAttrs = " db.client.connection.pool.name=p db.collection.name=sessions db.operation.name=GET"
	for _, c := range []struct {
		name   string
		fails  int // that many attempts, the first ones
		cancel time.Duration
		want   []string
	}{
		{"one", 0, 0, []string{"GET sessions 0s-1s client Unset" + useAttrs}},
		{"two", 1, 0, []string{
			"GET sessions 0s-3s client Unset" + useAttrs + " poolstack.attempts=2",
			"  * poolstack.retry poolstack.attempt=1 poolstack.duration=1 poolstack.layer=retry poolstack.reason=REFUSED",
			"  attempt 0s-1s internal Error db.client.connection.pool.name=p error.type=REFUSED poolstack.attempt=1",
			"  attempt 2s-3s internal Unset db.client.connection.pool.name=p poolstack.attempt=2",
		}},
		{"three, all failed", 3, 0, []string{
			"GET sessions 0s-5s client Error" + useAttrs + " db.response.status_code=REFUSED error.type=REFUSED poolstack.attempts=3",
			"  * poolstack.retry poolstack.attempt=1 poolstack.duration=1 poolstack.layer=retry poolstack.reason=REFUSED",
			"  * poolstack.retry poolstack.attempt=2 poolstack.duration=1 poolstack.layer=retry poolstack.reason=REFUSED",
			"  attempt 0s-1s internal Error db.client.connection.pool.name=p error.type=REFUSED poolstack.attempt=1",
			"  attempt 2s-3s internal Error db.client.connection.pool.name=p error.type=REFUSED poolstack.attempt=2",
			"  attempt 4s-5s internal Error db.client.connection.pool.name=p error.type=REFUSED poolstack.attempt=3",
		}},
		{"cancelled in the first pause", 3, 1500 * time.Millisecond, []string{
			"GET sessions 0s-1.5s client Error" + useAttrs + " error.type=canceled",
			"  * poolstack.gave_up poolstack.attempt=1 poolstack.duration=0.5 poolstack.layer=retry poolstack.reason=canceled",
		}},
		{"cancelled in the second pause", 3, 3500 * time.Millisecond, []string{
			"GET sessions 0s-3.5s client Error" + useAttrs + " error.type=canceled poolstack.attempts=2",
			"  * poolstack.retry poolstack.attempt=1 poolstack.duration=1 poolstack.layer=retry poolstack.reason=REFUSED",
			"  * poolstack.gave_up poolstack.attempt=2 poolstack.duration=0.5 poolstack.layer=retry poolstack.reason=canceled",
			"  attempt 0s-1s internal Error db.client.connection.pool.name=p error.type=REFUSED poolstack.attempt=1",
			"  attempt 2s-3s internal Error db.client.connection.pool.name=p error.type=REFUSED poolstack.attempt=2",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, driver.Identity{Name: "p"}, Config{}, pool.Config{}, repeat{3, time.Second})
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				if c.cancel > 0 {
					time.AfterFunc(c.cancel, cancel)
				}
				n := 0
				_ = r.pool.Do(ctx, get, func(context.Context, *pooltest.Conn) error {
					time.Sleep(time.Second)
					if n++; n <= c.fails {
						return pooltest.ErrRefused
					}
					return nil
				})
				r.want(true, c.want...)
			})
		})
	}
}

// Waits and commands are below the attempt they belong to, if there are several.
func TestWhatIsBelowAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, mongodb, Config{Commands: true}, alone, repeat{3, time.Second})
		r.server.Inject(pooltest.Open, 2, pooltest.Slow(time.Second))
		n := 0
		err := r.pool.Do(context.Background(), pool.Op{Name: "find", Target: "orders"}, func(ctx context.Context, _ *pooltest.Conn) error {
			if n++; n == 1 {
				return command(ctx, driver.Command{Name: "find", Target: "orders"}, time.Second, pooltest.ErrBroken)
			}
			_ = command(ctx, driver.Command{Name: "find", Target: "orders", Namespace: "other"}, time.Second, nil)
			return command(ctx, driver.Command{Name: "BULK", Batch: 2}, time.Second, nil)
		})
		if err != nil {
			t.Fatal(err)
		}
		const server = " db.system.name=mongodb%s server.address=db.example server.port=27018"
		r.want(true,
			"find orders 0s-6s internal Unset db.client.connection.pool.name=orders-db poolstack.acquire.wait=2 poolstack.attempts=2",
			"  * poolstack.retry poolstack.attempt=1 poolstack.duration=1 poolstack.layer=retry poolstack.reason=broken",
			"  attempt 0s-2s internal Error db.client.connection.pool.name=orders-db error.type=broken poolstack.attempt=1",
			"    acquire 0s-1s internal Unset db.client.connection.pool.name=orders-db poolstack.connection.fresh=true",
			"    find orders 1s-2s client Error db.client.connection.pool.name=orders-db"+
				" db.collection.name=orders db.namespace=shop db.operation.name=find"+
				fmt.Sprintf(server, " error.type=broken"),
			"  attempt 3s-6s internal Unset db.client.connection.pool.name=orders-db poolstack.attempt=2",
			"    acquire 3s-4s internal Unset db.client.connection.pool.name=orders-db poolstack.connection.fresh=true",
			"    find orders 4s-5s client Unset db.client.connection.pool.name=orders-db"+
				" db.collection.name=orders db.namespace=other db.operation.name=find"+fmt.Sprintf(server, ""),
			"    BULK 5s-6s client Unset db.client.connection.pool.name=orders-db db.namespace=shop"+
				" db.operation.batch.size=2 db.operation.name=BULK"+fmt.Sprintf(server, ""))
	})
}

// In a two-step use only the acquisition is retried. The last attempt ends with the release.
func TestAttemptsInTwoSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, redis, Config{Commands: true}, alone, repeat{2, time.Second})
		r.server.Inject(pooltest.Open, 1, func(context.Context) error {
			time.Sleep(time.Second)
			return pooltest.ErrRefused
		})
		l, err := r.pool.Acquire(context.Background(), get)
		if err != nil {
			t.Fatal(err)
		}
		_ = command(l.Context(), driver.Command{Name: "GET"}, time.Second, nil)
		l.Release(nil)
		r.want(true,
			"GET sessions 0s-3s internal Unset db.client.connection.pool.name=cache poolstack.acquire.wait=1 poolstack.attempts=2",
			"  * poolstack.retry poolstack.attempt=1 poolstack.duration=1 poolstack.layer=retry poolstack.reason=REFUSED",
			"  attempt 0s-1s internal Error db.client.connection.pool.name=cache error.type=REFUSED poolstack.attempt=1",
			"    acquire 0s-1s internal Error db.client.connection.pool.name=cache error.type=REFUSED",
			"  attempt 2s-3s internal Unset db.client.connection.pool.name=cache poolstack.attempt=2",
			"    GET 2s-3s client Unset db.client.connection.pool.name=cache db.namespace=3 db.operation.name=GET db.query.summary=GET db.system.name=redis"+
				" server.address=10.0.0.1")
	})
}

// Of very many commands none is lost, and none is kept in memory to the end.
func TestManyCommands(t *testing.T) {
	r := newRig(t, redis, Config{Commands: true}, pool.Config{}).warm()
	_ = r.pool.Do(context.Background(), get, func(ctx context.Context, _ *pooltest.Conn) error {
		for range 1000 {
			_ = command(ctx, driver.Command{Name: "GET"}, 0, nil)
		}
		if n := len(r.recorder.Ended()); n < 1000-maxPending {
			t.Errorf("%d spans have ended, want at least %d", n, 1000-maxPending)
		}
		return nil
	})
	if n := len(r.recorder.Ended()); n != 1001 {
		t.Errorf("%d spans have ended, want 1001", n)
	}
	_ = r.tree(false) // no orphans
}
