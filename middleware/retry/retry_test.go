package retry_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/middleware/retry"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

func TestSuite(t *testing.T) {
	quick := retry.Config{InitialDelay: time.Microsecond, MaxDelay: time.Millisecond}
	pooltest.RunMiddleware(t, func(t testing.TB) pool.Middleware { return newRetry(t, quick) })
}

// What is repeated, and what is returned as it is.
func TestWhatIsRepeated(t *testing.T) {
	for _, tc := range []struct {
		err              error
		idempotent, once int // attempts of an operation that is idempotent, and of one that is not
	}{
		{nil, 1, 1},
		{pooltest.ErrRefused, 4, 4},
		{pooltest.ErrBroken, 4, 1},
		{context.DeadlineExceeded, 4, 1}, // of the client, while the context is fine
		{pooltest.ErrDenied, 1, 1},
		{pooltest.ErrReply, 1, 1},
		{pooltest.ErrMiss, 1, 1},
		{pooltest.ErrClosed, 1, 1},
		{context.Canceled, 1, 1},
		{pool.ErrGranted, 1, 1},
		{pool.ErrLost, 1, 1},
		{errors.New("the caller's own"), 1, 1},
	} {
		for op, want := range map[pool.Op]int{idempotent: tc.idempotent, once: tc.once} {
			t.Run(fmt.Sprintf("%v, idempotent %t", tc.err, op.Idempotent), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					attempts := &counter{}
					p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, newRetry(t, retry.Config{}), attempts)
					defer end()
					err := p.Do(context.Background(), op, failing(tc.err))
					if got := len(attempts.take()); got != want {
						t.Errorf("%d attempts, want %d", got, want)
					}
					if want == 1 {
						if !errors.Is(err, tc.err) || err != nil && err.Error() != tc.err.Error() {
							t.Errorf("got %v, want the very error of the first attempt", err)
						}
						return
					}
					e := asError(t, err)
					if !errors.Is(err, tc.err) || !errors.Is(err, retry.ErrGaveUp) || e.Attempts != 4 || e.Reason != retry.ReasonAttempts {
						t.Errorf("got %+v, want ErrGaveUp after 4 attempts that wraps %v", e, tc.err)
					}
				})
			})
		}
	}
}

// A refusal by a full or paused pool is not retried. A failure to reach the server is retried for
// every operation.
func TestPoolErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake, attempts := &pooltest.Fake{}, &counter{}
		p, end := newPool(t, fake, pool.Config{MaxSize: 1, MaxWaiters: -1}, newRetry(t, retry.Config{MaxAttempts: 4}), attempts)
		defer end()
		check := func(name string, want int, reason error) {
			t.Helper()
			err := p.Do(context.Background(), once, failing(nil))
			if got := len(attempts.take()); got != want || !errors.Is(err, reason) {
				t.Errorf("%s: %d attempts, %v, want %d, %v", name, got, err, want, reason)
			}
		}
		l, err := p.Acquire(context.Background(), once)
		if err != nil {
			t.Fatal(err)
		}
		attempts.take()
		check("full", 1, pool.ErrExhausted)
		l.Discard(nil)
		p.Pause(nil)
		check("paused", 1, pool.ErrPaused)
		p.Resume()
		fake.Inject(pooltest.Open, -1, pooltest.Fail(pooltest.ErrBroken))
		check("unreachable", 4, pool.ErrOpen)
	})
}

// A use that comes good: what the layers inside and the observers see.
func TestRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen, attempts := &recorder{}, &counter{}
		p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, seen, newRetry(t, retry.Config{Jitter: -1}), attempts)
		defer end()
		begin := time.Now()
		fn := failing(pooltest.ErrRefused, pooltest.ErrBroken, nil)
		got, err := pool.Get(context.Background(), p, idempotent, func(ctx context.Context, c conn) (int, error) { return 7, fn(ctx, c) })
		if got != 7 || err != nil {
			t.Errorf("got %d, %v, want 7, nil", got, err)
		}
		if got := attempts.take(); !slices.Equal(got, []int{1, 2, 3}) {
			t.Errorf("the attempts were numbered %v, want 1, 2, 3", got)
		}
		if took := time.Since(begin); took != 150*time.Millisecond {
			t.Errorf("it took %v, want 50 ms and 100 ms", took)
		}
		events := seen.take()
		want := []pool.Event{
			{Attempt: 1, Reason: "REFUSED", Duration: 50 * time.Millisecond, Err: pooltest.ErrRefused},
			{Attempt: 2, Reason: "broken", Duration: 100 * time.Millisecond, Err: pooltest.ErrBroken},
		}
		if len(events) != len(want) {
			t.Fatalf("got events %+v, want two", events)
		}
		for i, w := range want {
			w.Kind, w.Pool, w.Layer, w.Op = pool.EventRetry, p.Identity().Name, "retry", idempotent
			if events[i] != w {
				t.Errorf("got event %+v, want %+v", events[i], w)
			}
		}
	})
}

// A retry is reported when it begins, not when it is planned: it may come to nothing in the pause.
func TestReportedWhenItBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen := &recorder{}
		p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, seen, newRetry(t, retry.Config{Jitter: -1}))
		defer end()
		time.AfterFunc(49*time.Millisecond, func() {
			if events := seen.take(); events != nil {
				t.Errorf("in the pause there are events %+v, want none", events)
			}
		})
		calls := 0
		_ = p.Do(context.Background(), once, func(context.Context, conn) error {
			if events := seen.take(); len(events) != calls {
				t.Errorf("when attempt %d runs there are events %+v", calls+1, events)
			}
			calls++
			return []error{pooltest.ErrRefused, nil}[calls-1]
		})
	})
}

// What the attempts after the first can come to, besides success and another error to repeat.
func TestLaterAttempts(t *testing.T) {
	own := errors.New("the caller's own")
	for _, tc := range []struct {
		name    string
		second  error
		as      bool    // it is returned as it is
		earlier []error // kept beside it
		class   driver.Class
	}{
		{"an answer", pooltest.ErrReply, true, nil, driver.Class{Code: "REPLY", Type: "REPLY"}},
		{"a miss", pooltest.ErrMiss, true, nil, driver.Class{Miss: true}},
		{"the caller's own", own, true, nil, driver.Class{Fault: driver.FaultElsewhere, Suspect: true, Type: "_OTHER"}},
		{"for good", pooltest.ErrDenied, false, []error{pooltest.ErrBroken}, driver.Class{Fault: driver.FaultServer, Code: "DENIED", Type: "DENIED"}},
		{
			"refused in this process", pooltest.ErrClosed, false, []error{pooltest.ErrBroken},
			driver.Class{Fault: driver.FaultLocal, Broken: true, Type: "_OTHER"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				seen, attempts, judge := &recorder{}, &counter{}, &judge{}
				p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, seen, judge, newRetry(t, retry.Config{}), attempts)
				defer end()
				err := p.Do(context.Background(), idempotent, failing(pooltest.ErrBroken, tc.second))
				if n := len(attempts.take()); n != 2 || !errors.Is(err, tc.second) {
					t.Errorf("got %v after %d attempts, want %v after 2", err, n, tc.second)
				}
				if judge.last != tc.class {
					t.Errorf("its class is %+v, want %+v", judge.last, tc.class)
				}
				if events := seen.take(); len(events) != 1 || events[0].Kind != pool.EventRetry {
					t.Errorf("got events %+v, want one retry", events)
				}
				if tc.as {
					if err != tc.second {
						t.Errorf("got %v, want the very error", err)
					}
					return
				}
				e := asError(t, err)
				if e.Attempts != 2 || e.Reason != retry.ReasonFinal || !slices.Equal(e.Earlier, tc.earlier) || errors.Is(err, retry.ErrGaveUp) {
					t.Errorf("got %+v, want final after 2 attempts, earlier %v", e, tc.earlier)
				}
				for _, earlier := range tc.earlier {
					if !errors.Is(err, earlier) {
						t.Errorf("%v does not wrap %v", err, earlier)
					}
				}
			})
		})
	}
}

// judge is a layer that keeps the class of what comes out.
type judge struct{ last driver.Class }

func (j *judge) Wrap(next pool.Handler) pool.Handler {
	return func(ctx context.Context, c *pool.Call) error {
		err := next(ctx, c)
		j.last = c.Classify(err)
		return err
	}
}

// What the server asks for comes before the layer's own pause, even above MaxDelay.
func TestHint(t *testing.T) {
	for _, tc := range []struct{ hint, want time.Duration }{
		{0, 50 * time.Millisecond},
		{time.Millisecond, 51 * time.Millisecond},
		{time.Minute, time.Minute + 50*time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, newRetry(t, retry.Config{Jitter: -1}))
			defer end()
			begin := time.Now()
			if err := p.Do(context.Background(), once, failing(hint(tc.hint), nil)); err != nil {
				t.Error(err)
			}
			if took := time.Since(begin); took != tc.want {
				t.Errorf("hint %v: waited %v, want %v", tc.hint, took, tc.want)
			}
		})
	}
}

// A cancelled context ends the pause at once. Both errors are in the result, and the retry that was
// not made costs nothing.
func TestCancelInPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen, attempts, judge := &recorder{}, &counter{}, &judge{}
		r := newRetry(t, retry.Config{})
		p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, seen, judge, r, attempts)
		defer end()
		stopped := errors.New("the request was withdrawn")
		ctx, cancel := context.WithCancelCause(context.Background())
		time.AfterFunc(time.Millisecond, func() { cancel(stopped) })
		begin := time.Now()
		err := p.Do(ctx, once, failing(hint(time.Hour)))
		if took := time.Since(begin); took != time.Millisecond {
			t.Errorf("it took %v, want 1ms", took)
		}
		e := asError(t, err)
		for _, want := range []error{hint(time.Hour), context.Canceled, stopped, retry.ErrGaveUp} {
			if !errors.Is(err, want) {
				t.Errorf("%v is not %v", err, want)
			}
		}
		if n := len(attempts.take()); n != 1 || e.Attempts != 1 || e.Reason != retry.ReasonCanceled {
			t.Errorf("got %+v after %d attempts, want canceled after 1", e, n)
		}
		if judge.last.Fault != driver.FaultCaller || judge.last.Repeat != driver.RepeatNever || judge.last.Type != "canceled" {
			t.Errorf("its class is %+v, want that of a caller who cancelled", judge.last)
		}
		events := seen.take()
		if len(events) != 1 || events[0].Kind != pool.EventGaveUp || events[0].Reason != "canceled" || events[0].Attempt != 1 {
			t.Errorf("got events %+v, want only that it was given up: no retry was made", events)
		}
		if r.Budget() != 100 {
			t.Errorf("the budget is %v, want 100", r.Budget())
		}
	})
}

// A layer outside cancels during an attempt: no retry is announced.
func TestCancelledFromOutside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen := &recorder{}
		cancelling := pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
			return func(ctx context.Context, c *pool.Call) error {
				ctx, cancel := context.WithCancel(ctx)
				time.AfterFunc(time.Second, cancel)
				return next(ctx, c)
			}
		})
		silent := pool.MiddlewareFunc(func(pool.Handler) pool.Handler {
			return func(ctx context.Context, _ *pool.Call) error {
				<-ctx.Done()
				return pooltest.ErrBroken
			}
		})
		p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, seen, cancelling, newRetry(t, retry.Config{}), silent)
		defer end()
		err := p.Do(context.Background(), idempotent, failing(nil))
		if e := asError(t, err); e.Attempts != 1 || e.Reason != retry.ReasonCanceled || !errors.Is(err, context.Canceled) {
			t.Errorf("got %+v, want canceled after 1 attempt", e)
		}
		if events := seen.take(); len(events) != 1 || events[0].Kind != pool.EventGaveUp {
			t.Errorf("got events %+v, want only that it gave up", events)
		}
	})
}

// A pause may take all the time but a moment, for it has to end before the deadline.
func TestPauseFits(t *testing.T) {
	for left, want := range map[time.Duration]int{50 * time.Millisecond: 1, 50*time.Millisecond + 1: 2} {
		synctest.Test(t, func(t *testing.T) {
			attempts := &counter{}
			p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, newRetry(t, retry.Config{Jitter: -1}), attempts)
			defer end()
			ctx, cancel := context.WithTimeout(context.Background(), left)
			defer cancel()
			begin := time.Now()
			_ = p.Do(ctx, once, failing(pooltest.ErrRefused))
			took := time.Since(begin)
			if got := len(attempts.take()); got != want || (took == 0) != (want == 1) {
				t.Errorf("%v before the deadline: %d attempts in %v, want %d", left, got, took, want)
			}
		})
	}
}

// The deadline passes during an attempt: nothing more is tried, and the context's cause is told.
func TestDeadlineInAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		attempts := &counter{}
		p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, &lazily{limit: time.Second}, newRetry(t, retry.Config{}), attempts)
		defer end()
		err := p.Do(context.Background(), idempotent, func(ctx context.Context, _ conn) error {
			<-ctx.Done()
			return pooltest.ErrBroken
		})
		for _, want := range []error{pooltest.ErrBroken, context.DeadlineExceeded, errLimit, retry.ErrGaveUp} {
			if !errors.Is(err, want) {
				t.Errorf("%v is not %v", err, want)
			}
		}
		if e := asError(t, err); e.Attempts != 1 || e.Reason != retry.ReasonDeadline {
			t.Errorf("got %+v, want deadline after 1 attempt", e)
		}
	})
}

var errLimit = errors.New("a limit of this test")

// lazily is a layer that sets a lazy deadline, as the timeout layers do.
type lazily struct{ limit time.Duration }

func (l *lazily) Wrap(next pool.Handler) pool.Handler {
	return func(ctx context.Context, c *pool.Call) error {
		ctx, d := pool.WithDeadline(ctx, time.Now().Add(l.limit), errLimit)
		defer d.Cancel()
		return next(ctx, c)
	}
}

// MaxAttempts 1 switches the layer off: errors pass as they are, nothing is reported.
func TestOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen := &recorder{}
		p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, seen, newRetry(t, retry.Config{MaxAttempts: 1}))
		defer end()
		if err := p.Do(context.Background(), idempotent, failing(pooltest.ErrRefused)); err.Error() != pooltest.ErrRefused.Error() {
			t.Errorf("got %v, want the very error", err)
		}
		if events := seen.take(); events != nil {
			t.Errorf("got events %+v, want none", events)
		}
	})
}

// In two steps the acquisition is repeated; once there is a grant, nothing is.
func TestAcquire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake, attempts := &pooltest.Fake{}, &counter{}
		p, end := newPool(t, fake, pool.Config{OpenBackoff: time.Millisecond}, newRetry(t, retry.Config{}), attempts)
		defer end()
		fake.Inject(pooltest.Open, 1, pooltest.Fail(pooltest.ErrBroken))
		l, err := p.Acquire(context.Background(), once)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(attempts.take()); n != 2 {
			t.Errorf("%d attempts, want 2", n)
		}
		l.Release(pooltest.ErrRefused)
		if n := len(attempts.take()); n != 0 {
			t.Errorf("%d attempts after Release, want none", n)
		}
	})
}

// A layer inside fails after the grant, and keeps the grant. No further attempt is made on top of
// the grant.
func TestGranted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		careless := pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
			return func(ctx context.Context, c *pool.Call) error {
				if err := next(ctx, c); err != nil {
					return err
				}
				return pooltest.ErrRefused
			}
		})
		fake := &pooltest.Fake{}
		p, end := newPool(t, fake, pool.Config{}, newRetry(t, retry.Config{}), careless)
		defer end()
		_, err := p.Acquire(context.Background(), once)
		if e := asError(t, err); e.Refusal != pool.ErrGranted || e.Attempts != 1 || e.Reason != retry.ReasonRefused {
			t.Errorf("got %v, want the second attempt refused with ErrGranted", err)
		}
		if n := p.Stat().InUse; n != 0 {
			t.Errorf("%d resources are lent, want none", n)
		}
	})
}

func TestErrorText(t *testing.T) {
	for _, tc := range []struct {
		cfg     retry.Config
		errs    []error
		timeout time.Duration
		want    string
	}{
		{retry.Config{}, []error{hint(0)}, time.Minute, "retry: gave up after 4 attempts: busy"},
		{
			retry.Config{}, []error{hint(time.Hour)}, time.Minute,
			"retry: gave up, no time is left for another, after 1 attempt: busy",
		},
		{
			retry.Config{BudgetBurst: 1}, []error{hint(0)}, time.Minute,
			"retry: gave up, the retry budget is used up, after 2 attempts: busy",
		},
		{
			retry.Config{}, []error{hint(0), pooltest.ErrDenied}, time.Minute,
			"retry: failed after 2 attempts: pooltest: the server will not do this for you (before: busy)",
		},
		{
			retry.Config{}, []error{hint(0), pooltest.ErrClosed}, time.Minute,
			"retry: failed after 2 attempts: pooltest: the connection is closed (before: busy)",
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, newRetry(t, tc.cfg))
			defer end()
			ctx, cancel := context.WithTimeout(context.Background(), tc.timeout)
			defer cancel()
			if err := p.Do(ctx, once, failing(tc.errs...)); err == nil || err.Error() != tc.want {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
}

// B7: backoff v4 starts a wait of 10 s with 50 ms left on the context, and loses the operation's
// error.
func TestPitfallB7(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen := &recorder{}
		r := newRetry(t, retry.Config{InitialDelay: 10 * time.Second, MaxDelay: 10 * time.Second})
		p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, seen, r)
		defer end()
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		begin := time.Now()
		err := p.Do(ctx, idempotent, failing(pooltest.ErrBroken))
		if took := time.Since(begin); took != 0 {
			t.Errorf("it took %v, want no time: the pause cannot end in time", took)
		}
		e := asError(t, err)
		if !errors.Is(err, pooltest.ErrBroken) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v: want both the operation's error and the deadline", err)
		}
		if e.Attempts != 1 || e.Reason != retry.ReasonDeadline || e.Class().Fault != driver.FaultServer {
			t.Errorf("got %+v, class %+v, want deadline after 1 attempt, fault server", e, e.Class())
		}
		events := seen.take()
		if len(events) != 1 || events[0].Kind != pool.EventGaveUp || events[0].Reason != "deadline" {
			t.Errorf("got events %+v, want that it gave up for the deadline", events)
		}
		if r.Budget() != 100 {
			t.Errorf("the budget is %v, want 100: nothing was sent", r.Budget())
		}
	})
}

// B9: four attempts of ours times the client's own four are sixteen calls to a server that is down.
// Here the number of calls is the product of the multipliers of the described layers. A second
// retry layer would multiply the calls, and is refused.
func TestPitfallB9(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		fake := &pooltest.Fake{}
		fake.Inject(pooltest.Use, -1, func(context.Context) error { calls++; return pooltest.ErrBroken })
		p, end := newPool(t, fake, pool.Config{}, newRetry(t, retry.Config{}))
		defer end()
		err := p.Do(context.Background(), idempotent, func(ctx context.Context, c conn) error { return c.Use(ctx) })
		worst := 1
		for _, l := range p.Layers() {
			worst *= max(1, l.Multiplier)
		}
		if calls != 4 || worst != 4 || !errors.Is(err, pooltest.ErrBroken) {
			t.Errorf("%d calls, at worst %d, want 4 and 4: %v", calls, worst, err)
		}
		if _, err := pool.New(fake, pool.Config{}, newRetry(t, retry.Config{}), newRetry(t, retry.Config{})); err == nil {
			t.Error("two retries were accepted")
		}
	})
}
