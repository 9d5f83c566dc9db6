package timeout_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/middleware/timeout"
	"github.com/earnorm/poolstack/pool"
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

// A limit that passes: who is named, what the breaker's place sees, and what the context's cause is.
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
				want := pool.Class{
					Fault: pool.FaultServer, Repeat: pool.RepeatIfIdempotent, Broken: true, Type: "timeout_" + string(tc.stage),
				}
				if got := e.Class(); got != want {
					t.Errorf("class %+v, want %+v", got, want)
				}
				if between.last.Type != tc.judged || between.last.Fault != pool.FaultServer {
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

// Only what time brought about is translated.
func TestTranslation(t *testing.T) {
	ioTimeout := &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}
	for _, tc := range []struct {
		err        error
		translated bool
	}{
		{context.DeadlineExceeded, true},
		{context.Canceled, true}, // what a client makes of a context that is over
		{ioTimeout, true},
		{fmt.Errorf("client: %w", ioTimeout), true},
		{&net.OpError{Op: "dial", Err: context.DeadlineExceeded}, true},
		{quiet{context.DeadlineExceeded}, true},
		{net.ErrClosed, true}, // a client that closes its socket when the context is over
		{pooltest.ErrReply, false},
		{pooltest.ErrMiss, false},
		{pooltest.ErrDenied, false},
		{io.EOF, false},
	} {
		for _, late := range []bool{true, false} {
			t.Run(fmt.Sprintf("%v, late %t", tc.err, late), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					seen := &recorder{}
					p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, seen, attempt(t, limit(time.Second)))
					defer end()
					err := p.Do(context.Background(), pool.Op{}, func(context.Context, conn) error {
						if late {
							wait(time.Second)
						}
						return tc.err
					})
					want := tc.translated && late
					if got := errors.Is(err, timeout.ErrAttempt); got != want || !errors.Is(err, tc.err) {
						t.Errorf("got %v (translated %t), want translated %t", err, got, want)
					}
					if n := len(seen.take()); (n == 1) != want {
						t.Errorf("got %d events, want one only if it was translated", n)
					}
					if !want && !errors.Is(err, tc.err) {
						t.Errorf("got %v, want the very error", err)
					}
				})
			})
		}
	}
}

// quiet is an error that does not own up to its being a timeout.
type quiet struct{ error }

func (q quiet) Timeout() bool { return false }
func (q quiet) Unwrap() error { return q.error }

// The caller's own deadline and cancellation stay the caller's.
func TestCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen, between := &recorder{}, &judge{}
		p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, seen, total(t, limit(time.Minute)), between, attempt(t, limit(time.Second)))
		defer end()

		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		err := p.Do(ctx, pool.Op{}, untilOver)
		if !errors.Is(err, context.DeadlineExceeded) || between.last.Fault != pool.FaultCaller {
			t.Errorf("deadline: got %v, class %+v, want the context's error, fault caller", err, between.last)
		}

		ctx, cancel = context.WithCancel(context.Background())
		time.AfterFunc(time.Millisecond, cancel)
		err = p.Do(ctx, pool.Op{}, untilOver)
		if !errors.Is(err, context.Canceled) || between.last.Fault != pool.FaultCaller {
			t.Errorf("cancel: got %v, class %+v, want the context's error, fault caller", err, between.last)
		}

		// A cancel that comes with the limit: the caller has lost interest, so it is named.
		ctx, cancel = context.WithCancel(context.Background())
		err = p.Do(ctx, pool.Op{}, func(context.Context, conn) error {
			wait(time.Second)
			cancel()
			return context.Canceled
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancel at the limit: got %v, want the context's error", err)
		}
		if events := seen.take(); events != nil {
			t.Errorf("got events %+v, want none", events)
		}
	})
}

// When the wait for a resource is cut short by the total limit, the pool's error decides: a full pool is local, and so is a dial that is
// under way for no longer than dials take; one that hangs is the server's.
func TestAcquireStage(t *testing.T) {
	for _, tc := range []struct {
		name  string
		limit time.Duration
		fault pooltest.Fault
		want  pool.Fault
	}{
		{"full", time.Second, nil, pool.FaultLocal},
		{"dial hangs", time.Second, pooltest.Hang(), pool.FaultServer},
		{"dial is in time", 5 * time.Millisecond, pooltest.Slow(20 * time.Millisecond), pool.FaultLocal},
	} {
		for _, twoStep := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, two steps %t", tc.name, twoStep), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					fake, seen := &pooltest.Fake{}, &recorder{}
					p, end := newPool(t, fake, pool.Config{MaxSize: 1}, seen, total(t, limit(tc.limit)))
					defer end()
					if tc.fault != nil {
						fake.Inject(pooltest.Open, -1, tc.fault)
					} else {
						l, err := p.Acquire(context.Background(), pool.Op{})
						if err != nil {
							t.Fatal(err)
						}
						defer l.Release(nil)
					}
					var err error
					if twoStep {
						_, err = p.Acquire(context.Background(), pool.Op{})
					} else {
						err = p.Do(context.Background(), pool.Op{}, untilOver)
					}
					e, want := asError(t, err), pool.Class{Fault: tc.want, Repeat: pool.RepeatAlways, Type: "acquire_timeout"}
					if e.Stage != timeout.StageAcquire || e.Class() != want {
						t.Errorf("got stage %v, class %+v, want acquire, %+v", e.Stage, e.Class(), want)
					}
					var poolErr *pool.Error
					if !errors.As(err, &poolErr) || !errors.Is(err, pool.ErrAcquireTimeout) || !errors.Is(err, timeout.ErrTotal) {
						t.Errorf("%v: want the pool's acquire timeout, and ErrTotal", err)
					}
					if events := seen.take(); len(events) != 1 || events[0].Reason != "acquire" {
						t.Errorf("got events %+v, want one, for reason acquire", events)
					}
				})
			})
		}
	}
}

// The attempt's limit is the server's time: the limit counts from the grant, and the pool's AcquireTimeout bounds the wait.
func TestLimitCountsFromTheGrant(t *testing.T) {
	for _, tc := range []struct {
		name            string
		caller, total   time.Duration // 0 for none
		held            time.Duration // by another borrower
		granted, passes time.Duration // when; granted 0: not at all
		is              error
	}{
		{"no wait", 0, 0, 0, 0, time.Second, timeout.ErrAttempt},
		{"a wait", 0, 0, 900 * time.Millisecond, 900 * time.Millisecond, 1900 * time.Millisecond, timeout.ErrAttempt},
		{"a wait longer than the limit", 0, 0, 1900 * time.Millisecond, 1900 * time.Millisecond, 2900 * time.Millisecond, timeout.ErrAttempt},
		{"a wait longer than AcquireTimeout", 0, 0, time.Hour, 0, 2 * time.Second, pool.ErrAcquireTimeout},
		{"the total is nearer after the wait", 0, 2 * time.Second, 1500 * time.Millisecond, 1500 * time.Millisecond, 2 * time.Second, timeout.ErrTotal},
		{"the total is nearer", 0, time.Second, time.Hour, 0, time.Second, timeout.ErrTotal},
		{"the caller's is nearer after the wait", 2 * time.Second, 0, 1500 * time.Millisecond, 1500 * time.Millisecond, 2 * time.Second, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				layers := []pool.Middleware{attempt(t, limit(time.Second))}
				if tc.total > 0 {
					layers = append([]pool.Middleware{total(t, limit(tc.total))}, layers...)
				}
				p, end := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 1}, layers...)
				defer end()
				l, err := p.Acquire(context.Background(), pool.Op{})
				if err != nil {
					t.Fatal(err)
				}
				release := time.AfterFunc(tc.held, func() { l.Release(nil) })
				ctx := context.Background()
				if tc.caller > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tc.caller)
					defer cancel()
				}
				synctest.Wait()
				begin, granted := time.Now(), time.Duration(0)
				err = p.Do(ctx, pool.Op{}, func(ctx context.Context, c conn) error {
					granted = time.Since(begin)
					if d := away(ctx); d != tc.passes-granted {
						t.Errorf("the deadline is %v away, want %v", d, tc.passes-granted)
					}
					return untilOver(ctx, c)
				})
				if took := time.Since(begin); took != tc.passes || granted != tc.granted {
					t.Errorf("granted after %v, over after %v, want %v, %v: %v", granted, took, tc.granted, tc.passes, err)
				}
				if tc.is != nil && !errors.Is(err, tc.is) || tc.is == nil && (!errors.Is(err, context.DeadlineExceeded) || isOurs(err)) {
					t.Errorf("got %v, want %v", err, tc.is)
				}
				if release.Stop() {
					l.Release(nil)
				}
			})
		})
	}
}

func isOurs(err error) bool {
	return errors.Is(err, timeout.ErrTotal) || errors.Is(err, timeout.ErrAttempt)
}

// A total limit that passes after a wait for most of it is not the server's fault, unless the server has failed in an earlier attempt.
func TestTotalAfterAWait(t *testing.T) {
	for _, tc := range []struct {
		held  time.Duration
		again bool
		want  pool.Fault
	}{
		{0, false, pool.FaultServer},
		{400 * time.Millisecond, false, pool.FaultServer},
		{500 * time.Millisecond, false, pool.FaultLocal},
		{995 * time.Millisecond, false, pool.FaultLocal},
		{500 * time.Millisecond, true, pool.FaultServer},
	} {
		synctest.Test(t, func(t *testing.T) {
			second := pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
				return func(ctx context.Context, c *pool.Call) error {
					if tc.again && c.Op().Name != "" {
						c.SetAttempt(2)
					}
					return next(ctx, c)
				}
			})
			p, end := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 1}, total(t, limit(time.Second)), second)
			defer end()
			l, err := p.Acquire(context.Background(), pool.Op{})
			if err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(tc.held, func() { l.Release(nil) })
			e := asError(t, p.Do(context.Background(), pool.Op{Name: "GET"}, untilOver))
			if e.Class().Fault != tc.want || e.Stage != timeout.StageTotal {
				t.Errorf("after a wait of %v, repeated %t: stage %s, %+v, want fault %v", tc.held, tc.again, e.Stage, e.Class(), tc.want)
			}
		})
	}
}

// A layer inside puts a context of its own around ours, and the limit passes before the pool is asked: the pool takes that for the
// caller's deadline, which it is not.
func TestTurnedAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		slow := pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
			return func(ctx context.Context, c *pool.Call) error {
				wait(time.Second)
				return next(context.WithValue(ctx, key{}, "value"), c)
			}
		})
		p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, attempt(t, limit(time.Second)), slow)
		defer end()
		e := asError(t, p.Do(context.Background(), pool.Op{}, untilOver))
		if class := e.Class(); e.Stage != timeout.StageAcquire || class.Fault != pool.FaultLocal || class.Repeat != pool.RepeatAlways {
			t.Errorf("got %v, class %+v, want acquire, local, always", e, class)
		}
	})
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

// The pool's own acquire timeout, and whatever else it refuses for, is none of ours.
func TestPoolsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, end := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 1, AcquireTimeout: time.Second}, attempt(t, limit(2*time.Second)))
		defer end()
		l, err := p.Acquire(context.Background(), pool.Op{})
		if err != nil {
			t.Fatal(err)
		}
		var e *timeout.Error
		if err := p.Do(context.Background(), pool.Op{}, untilOver); !errors.Is(err, pool.ErrAcquireTimeout) || errors.As(err, &e) {
			t.Errorf("got %v, want the pool's acquire timeout alone", err)
		}
		l.Release(nil)
		p.Pause(nil)
		if err := p.Do(context.Background(), pool.Op{}, untilOver); !errors.Is(err, pool.ErrPaused) || errors.As(err, &e) {
			t.Errorf("got %v, want ErrPaused alone", err)
		}
	})
}

// A refusal of the pool that comes out when the limit has passed is still a refusal, even if its cause has to do with time.
func TestLateRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
			return func(ctx context.Context, c *pool.Call) error {
				defer wait(time.Second)
				return next(ctx, c)
			}
		})
		p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, attempt(t, limit(time.Second)), slow)
		defer end()
		p.Pause(os.ErrDeadlineExceeded)
		var e *timeout.Error
		if err := p.Do(context.Background(), pool.Op{}, untilOver); !errors.Is(err, pool.ErrPaused) || errors.As(err, &e) {
			t.Errorf("got %v, want ErrPaused alone", err)
		}
	})
}

func TestRefusal(t *testing.T) {
	for _, tc := range []struct {
		name  string
		left  time.Duration
		min   time.Duration
		fault pool.Fault
		ok    bool
	}{
		{"enough", time.Second, time.Second, 0, true},
		{"too little", time.Second - 1, time.Second, pool.FaultLocal, false},
		{"any will do", 1, 0, 0, true},
		{"none", 0, 0, pool.FaultCaller, false},
		{"past", -time.Second, 0, pool.FaultCaller, false},
	} {
		for _, twoStep := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, two steps %t", tc.name, twoStep), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					seen := &recorder{}
					p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, seen, total(t, timeout.Config{MinLeft: tc.min}))
					defer end()
					if err := p.Warm(context.Background(), 1); err != nil {
						t.Fatal(err)
					}
					ctx, cancel := context.WithTimeout(context.Background(), tc.left)
					defer cancel()
					called := false
					var err error
					if twoStep {
						var l pool.Lease[conn]
						l, err = p.Acquire(ctx, pool.Op{})
						called = l.Release(nil)
					} else {
						err = p.Do(ctx, pool.Op{}, func(context.Context, conn) error { called = true; return nil })
					}
					if called != tc.ok || (err == nil) != tc.ok {
						t.Fatalf("called %t, error %v, want it called: %t", called, err, tc.ok)
					}
					events := seen.take()
					if tc.ok {
						if events != nil {
							t.Errorf("got events %+v, want none", events)
						}
						return
					}
					e := asError(t, err)
					want := pool.Class{Fault: tc.fault, Repeat: pool.RepeatNever, Type: "timeout_begin"}
					if e.Class() != want || e.Stage != timeout.StageBegin || e.Limit != tc.left {
						t.Errorf("got %+v, class %+v, want class %+v", e, e.Class(), want)
					}
					if !errors.Is(err, timeout.ErrNoTime) || errors.Is(err, timeout.ErrTotal) || !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("%v: want ErrNoTime and DeadlineExceeded, not ErrTotal", err)
					}
					if len(events) != 1 || events[0].Kind != pool.EventRejected || events[0].Layer != "timeout.total" {
						t.Errorf("got events %+v, want one rejection", events)
					}
				})
			})
		}
	}
}

// An attempt that would begin after the total limit has passed does not cost a resource, and the total limit is named.
func TestAttemptAfterTotal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
			return func(ctx context.Context, c *pool.Call) error {
				wait(time.Second)
				return next(ctx, c)
			}
		})
		fake := &pooltest.Fake{}
		p, end := newPool(t, fake, pool.Config{}, total(t, limit(time.Second)), late, attempt(t, limit(time.Second)))
		defer end()
		err := p.Do(context.Background(), pool.Op{}, untilOver)
		if e := asError(t, err); !errors.Is(err, timeout.ErrTotal) || !errors.Is(err, timeout.ErrNoTime) || e.Stage != timeout.StageTotal {
			t.Errorf("got %v, want ErrTotal that wraps ErrNoTime", err)
		}
		if opened, _, _, _ := fake.Counts(); opened != 0 {
			t.Errorf("%d connections were opened, want 0", opened)
		}
	})
}

// When both limits have passed by the time the use returns, the one that passed first is named.
func TestFirstIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen := &recorder{}
		p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, seen, total(t, limit(2*time.Second)), attempt(t, limit(time.Second)))
		defer end()
		err := p.Do(context.Background(), pool.Op{}, func(context.Context, conn) error {
			wait(time.Minute)
			return os.ErrDeadlineExceeded
		})
		if !errors.Is(err, timeout.ErrAttempt) || errors.Is(err, timeout.ErrTotal) {
			t.Errorf("got %v, want ErrAttempt alone", err)
		}
		if events := seen.take(); len(events) != 1 || events[0].Layer != "timeout.attempt" {
			t.Errorf("got events %+v, want that of the attempt", events)
		}
	})
}

// What came of earlier attempts, as retry keeps that in its error, does not keep the total limit from being named.
func TestEarlierAttempts(t *testing.T) {
	for _, refused := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			fake, seen := &pooltest.Fake{}, &recorder{}
			pause := time.Duration(0)
			if refused {
				fake.Inject(pooltest.Open, 1, pooltest.Fail(pooltest.ErrRefused))
				pause = time.Second
			}
			twice := pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
				return func(ctx context.Context, c *pool.Call) error {
					first := next(ctx, c)
					wait(pause)
					c.SetAttempt(2)
					return errors.Join(next(ctx, c), first)
				}
			})
			p, end := newPool(t, fake, pool.Config{OpenBackoff: 1}, seen, total(t, limit(1500*time.Millisecond)), twice, attempt(t, limit(time.Second)))
			defer end()
			err := p.Do(context.Background(), pool.Op{}, untilOver)
			events := seen.take()
			if e := asError(t, err); e.Stage != timeout.StageTotal || events[len(events)-1].Layer != "timeout.total" {
				t.Errorf("refused %t: got %v, events %+v, want the total limit", refused, err, events)
			}
		})
	}
}

// A function that returns the context's cause is understood, too.
func TestReturnedCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, total(t, limit(time.Second)))
		defer end()
		err := p.Do(context.Background(), pool.Op{}, func(ctx context.Context, _ conn) error {
			<-ctx.Done()
			return context.Cause(ctx)
		})
		if e := asError(t, err); e.Stage != timeout.StageTotal || e.Err == nil {
			t.Errorf("got %+v, want stage total, wrapping what came back", e)
		}
	})
}

// The limits cover the acquisition of a lease; what the borrower does with the lease takes as long as it takes.
func TestLease(t *testing.T) {
	for _, tc := range []struct {
		name  string
		limit time.Duration // Op.Limit
		over  time.Duration // when the lease's context is over; 0: not at all
	}{
		{"the layers' limits", 0, 0},
		{"the operation's own", 30 * time.Second, 30 * time.Second},
		{"one that blocks", -1, 0},
	} {
		for _, asked := range []bool{false, true} { // whether somebody has waited for the total limit before the grant
			t.Run(fmt.Sprintf("%s, asked %t", tc.name, asked), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					seen := &recorder{}
					ask := pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
						return func(ctx context.Context, c *pool.Call) error {
							if asked {
								ctx.Done()
							}
							return next(ctx, c)
						}
					})
					p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, seen, total(t, timeout.Config{}), ask, attempt(t, timeout.Config{}))
					defer end()
					caller, cancel := context.WithCancel(context.Background())
					l, err := p.Acquire(caller, pool.Op{Limit: tc.limit})
					if err != nil {
						t.Fatal(err)
					}
					if d := away(l.Context()); d != tc.over {
						t.Errorf("the lease's deadline is %v away, want %v", d, tc.over)
					}
					derived, drop := context.WithCancel(l.Context())
					defer drop()
					wait(time.Minute)
					for _, ctx := range []context.Context{l.Context(), derived} {
						if over := ctx.Err() != nil; over != (tc.over > 0) {
							t.Errorf("after a minute the lease's context: %v", ctx.Err())
						}
						if tc.over > 0 && (ctx.Err() != context.DeadlineExceeded || !errors.Is(context.Cause(ctx), timeout.ErrAttempt)) {
							t.Errorf("the lease's context: %v, %v, want ErrAttempt", ctx.Err(), context.Cause(ctx))
						}
					}
					cancel()
					if l.Context().Err() == nil || derived.Err() == nil {
						t.Error("the lease's context does not hear of the caller")
					}
					l.Release(os.ErrDeadlineExceeded)
					if events := seen.take(); events != nil {
						t.Errorf("got events %+v, want none: the outcome is the borrower's", events)
					}
				})
			})
		}
	}
}

// The limit that a lease has by its operation counts from the grant, and ends with the lease.
func TestLeaseOfAnOperation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, end := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 1}, total(t, timeout.Config{}), attempt(t, timeout.Config{}))
		defer end()
		first, err := p.Acquire(context.Background(), pool.Op{})
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(1500*time.Millisecond, func() { first.Release(nil) })
		l, err := p.Acquire(context.Background(), pool.Op{Limit: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		if d := away(l.Context()); d != time.Minute {
			t.Errorf("the lease's deadline is %v away, want 1m", d)
		}
		derived, drop := context.WithCancel(l.Context())
		defer drop()
		l.Release(nil)
		if !errors.Is(derived.Err(), context.Canceled) {
			t.Errorf("after Release what was derived from the lease's context is %v, want canceled", derived.Err())
		}
	})
}

// Op.Limit takes the place of the attempt's limit.
func TestOperationsLimit(t *testing.T) {
	for _, tc := range []struct {
		op, attempt, total time.Duration
		is                 error
		took               time.Duration
		fault              pool.Fault
	}{
		{0, time.Second, time.Minute, timeout.ErrAttempt, time.Second, pool.FaultServer},
		{2 * time.Second, time.Second, time.Minute, timeout.ErrAttempt, 2 * time.Second, pool.FaultServer},
		{time.Millisecond, time.Second, time.Minute, timeout.ErrAttempt, time.Millisecond, pool.FaultServer},
		{2 * time.Second, -1, time.Minute, timeout.ErrAttempt, 2 * time.Second, pool.FaultServer},
		{time.Hour, time.Second, time.Minute, timeout.ErrTotal, time.Minute, pool.FaultServer},
		{-1, time.Second, time.Minute, timeout.ErrTotal, time.Minute, pool.FaultLocal}, // meant to block: no evidence
	} {
		synctest.Test(t, func(t *testing.T) {
			p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, total(t, limit(tc.total)), attempt(t, limit(tc.attempt)))
			defer end()
			begin := time.Now()
			e := asError(t, p.Do(context.Background(), pool.Op{Limit: tc.op}, untilOver))
			if took := time.Since(begin); took != tc.took || e.Limit != tc.took || !errors.Is(e, tc.is) || e.Class().Fault != tc.fault {
				t.Errorf("%+v: after %v: %v, limit %v, %+v", tc, took, e, e.Limit, e.Class())
			}
		})
	}
}

// A layer inside fails after the grant because the time is up: that is reported once, too.
func TestFailureAfterGrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen := &recorder{}
		slow := pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
			return func(ctx context.Context, c *pool.Call) error {
				if err := next(ctx, c); err != nil {
					return err
				}
				return untilOver(ctx, nil)
			}
		})
		p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, seen, attempt(t, limit(time.Second)), slow)
		defer end()
		_, err := p.Acquire(context.Background(), pool.Op{})
		if events := seen.take(); !errors.Is(err, timeout.ErrAttempt) || len(events) != 1 {
			t.Errorf("got %v, events %+v, want ErrAttempt and one event", err, events)
		}
	})
}

func TestErrorText(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		p, end := newPool(t, fake, pool.Config{Name: "sessions"}, total(t, limit(1500*time.Millisecond)), attempt(t, limit(time.Second)))
		defer end()
		err := p.Do(context.Background(), pool.Op{}, untilOver)
		if got, want := err.Error(), "timeout: the attempt took too long (1s): context deadline exceeded"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		fake.Inject(pooltest.Open, -1, pooltest.Hang())
		err = p.Do(context.Background(), pool.Op{}, untilOver)
		want := `timeout: the use took too long (1.5s) while it waited for a resource: pool "sessions": `
		if !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %q, want it to begin with %q", err, want)
		}
	})
}

// A real socket whose read deadline is the context's: what comes back is an i/o timeout, and never a context's error.
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

// A client that comes back so late that the caller's own deadline has passed as well was kept waiting by the server all the same.
func TestLateBeyondTheCallersDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &judge{}
		p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, j, attempt(t, limit(20*time.Millisecond)))
		defer end()
		ctx, cancel := context.WithTimeout(context.Background(), 25*time.Millisecond)
		defer cancel()
		err := p.Do(ctx, pool.Op{}, func(ctx context.Context, _ conn) error {
			<-ctx.Done()
			time.Sleep(10 * time.Millisecond)
			return context.DeadlineExceeded
		})
		if !errors.Is(err, timeout.ErrAttempt) || j.last.Fault != pool.FaultServer {
			t.Errorf("%v: got %+v", err, j.last)
		}
	})
}
