package timeout_test

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/middleware/timeout"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

func TestSuite(t *testing.T) {
	t.Run("total", func(t *testing.T) {
		pooltest.RunMiddleware(t, func(t testing.TB) pool.Middleware { return total(t, timeout.Config{}) })
	})
	t.Run("attempt", func(t *testing.T) {
		pooltest.RunMiddleware(t, func(t testing.TB) pool.Middleware { return attempt(t, timeout.Config{}) })
	})
	t.Run("one in the other", func(t *testing.T) {
		pooltest.RunMiddleware(t, func(t testing.TB) pool.Middleware {
			return pool.Chain(total(t, limit(time.Hour)), attempt(t, limit(time.Minute)))
		})
	})
}

// What fn sees: the nearest of all deadlines. A lease has the caller's only.
func TestDeadline(t *testing.T) {
	for _, tc := range []struct {
		name                   string
		caller, total, attempt time.Duration // 0 for none
		want                   time.Duration
	}{
		{"total", 0, 2 * time.Second, -1, 2 * time.Second},
		{"attempt", 0, -1, time.Second, time.Second},
		{"attempt in total", 0, 2 * time.Second, time.Second, time.Second},
		{"total is nearer", 0, time.Second, 2 * time.Second, time.Second},
		{"the caller's is nearer", time.Millisecond, 2 * time.Second, time.Second, time.Millisecond},
		{"the caller's is between", 1500 * time.Millisecond, 2 * time.Second, time.Second, time.Second},
		{"none", 0, -1, -1, 0},
		{"defaults", 0, 0, 0, 3 * time.Second},
		{"default of total", 0, 0, -1, 10 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, total(t, limit(tc.total)), attempt(t, limit(tc.attempt)))
				defer end()
				stand{p, t}.quicken(pool.Op{})
				ctx := context.Background()
				if tc.caller > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tc.caller)
					defer cancel()
				}
				check := func(ctx context.Context, want time.Duration) {
					t.Helper()
					if got := away(ctx); got != want {
						t.Errorf("the deadline is %v away, want %v", got, want)
					}
				}
				if err := p.Do(ctx, pool.Op{}, func(ctx context.Context, _ conn) error { check(ctx, tc.want); return nil }); err != nil {
					t.Error(err)
				}
				l, err := p.Acquire(ctx, pool.Op{})
				if err != nil {
					t.Fatal(err)
				}
				check(l.Context(), tc.caller)
				l.Release(nil)
			})
		})
	}
}

// away is how far away the deadline is, 0 if there is none.
func away(ctx context.Context) time.Duration {
	if d, ok := ctx.Deadline(); ok {
		return time.Until(d)
	}
	return 0
}

// A limit passes: the error that is returned, the class at the place of the breaker, and the cause
// of the context.
func TestPassed(t *testing.T) {
	for _, tc := range []struct {
		name           string
		total, attempt time.Duration
		stage          timeout.Stage
		is, isNot      error
		took           time.Duration
		judged         string // Class.Type as seen between the two
	}{
		{"attempt", time.Hour, time.Second, timeout.StageAttempt, timeout.ErrAttempt, timeout.ErrTotal, time.Second, "timeout_attempt"},
		{"total", time.Second, -1, timeout.StageTotal, timeout.ErrTotal, timeout.ErrAttempt, time.Second, "timeout"},
		{"total is nearer", time.Second, time.Minute, timeout.StageTotal, timeout.ErrTotal, timeout.ErrAttempt, time.Second, "timeout"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				seen, between := &recorder{}, &judge{}
				p, end := newPool(t, &pooltest.Fake{}, pool.Config{},
					seen, total(t, limit(tc.total)), between, attempt(t, limit(tc.attempt)))
				defer end()
				begin := time.Now()
				var cause error
				err := p.Do(context.Background(), pool.Op{Name: "GET"}, func(ctx context.Context, c conn) error {
					defer func() { cause = context.Cause(ctx) }()
					return untilOver(ctx, c)
				})
				if took := time.Since(begin); took != tc.took {
					t.Errorf("it took %v, want %v", took, tc.took)
				}
				e := asError(t, err)
				if e.Stage != tc.stage || e.Limit != time.Second || !e.Timeout() {
					t.Errorf("got %+v, want stage %v, limit 1s", e, tc.stage)
				}
				for _, err := range []error{err, cause} {
					if !errors.Is(err, tc.is) || errors.Is(err, tc.isNot) || !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("%v: want it to be %v and DeadlineExceeded, not %v", err, tc.is, tc.isNot)
					}
				}
				want := driver.Class{
					Fault: driver.FaultServer, Repeat: driver.RepeatIfIdempotent, Broken: true, Type: "timeout_" + string(tc.stage),
				}
				if got := e.Class(); got != want {
					t.Errorf("class %+v, want %+v", got, want)
				}
				if between.last.Type != tc.judged || between.last.Fault != driver.FaultServer {
					t.Errorf("between the two its class was %+v, want type %s, fault server", between.last, tc.judged)
				}
				events := seen.take()
				if len(events) != 1 {
					t.Fatalf("got events %+v, want one", events)
				}
				ev := events[0]
				if ev.Kind != pool.EventTimeout || ev.Layer != "timeout."+string(tc.stage) || ev.Reason != string(tc.stage) ||
					ev.Duration != time.Second || !errors.Is(ev.Err, tc.is) || ev.Op.Name != "GET" {
					t.Errorf("got event %+v", ev)
				}
			})
		})
	}
}

// The context is over when the use is, so that what somebody started under it ends.
func TestContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, total(t, limit(time.Second)))
		defer end()
		var kept context.Context
		if err := p.Do(context.Background(), pool.Op{}, func(ctx context.Context, _ conn) error { kept = ctx; return nil }); err != nil {
			t.Fatal(err)
		}
		if !errors.Is(kept.Err(), context.Canceled) {
			t.Errorf("after the use its context's error is %v, want canceled", kept.Err())
		}
	})
}

// A real socket takes its read deadline from the context. The error from the socket is an i/o
// timeout, never an error of the context.
func TestSocket(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	p, err := pool.New(dialer(silent.Addr().String()), pool.Config{}, attempt(t, limit(50*time.Millisecond)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	err = p.Do(context.Background(), pool.Op{}, func(ctx context.Context, c net.Conn) error {
		deadline, _ := ctx.Deadline()
		if err := c.SetReadDeadline(deadline); err != nil {
			return err
		}
		_, err := c.Read(make([]byte, 1))
		return err
	})
	if !errors.Is(err, timeout.ErrAttempt) || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v, want ErrAttempt that wraps the i/o timeout", err)
	}
	if n := p.Stat().Idle; n != 0 {
		t.Errorf("%d connections are idle, want 0: the one that got no answer is closed", n)
	}
}

type dialer string

func (d dialer) Open(ctx context.Context) (net.Conn, error) {
	var nd net.Dialer
	return nd.DialContext(ctx, "tcp", string(d))
}
func (dialer) Check(context.Context, net.Conn) error     { return nil }
func (dialer) Close(_ context.Context, c net.Conn) error { return c.Close() }

// B6: failsafe's timeout sets no deadline on the context, and does not return early.
func TestPitfallB6(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, end := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 1}, total(t, limit(time.Second)))
		defer end()
		begin := time.Now()
		err := p.Do(context.Background(), pool.Op{}, func(ctx context.Context, c conn) error {
			if d, ok := ctx.Deadline(); !ok || !d.Equal(begin.Add(time.Second)) {
				t.Errorf("the deadline is %v, %t, want 1s from the beginning", d, ok)
			}
			return untilOver(ctx, c) // what honours the context returns in time
		})
		if took := time.Since(begin); took != time.Second || !errors.Is(err, timeout.ErrTotal) {
			t.Errorf("returned %v after %v, want ErrTotal after 1s", err, took)
		}
		l, err := p.Acquire(context.Background(), pool.Op{})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Release(nil)
		begin = time.Now()
		err = p.Do(context.Background(), pool.Op{}, untilOver) // and so does the pool's queue
		if took := time.Since(begin); took != time.Second || !errors.Is(err, timeout.ErrTotal) {
			t.Errorf("the queue returned %v after %v, want ErrTotal after 1s", err, took)
		}
	})
}
