package timeout_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/middleware/timeout"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// When the total limit cuts short the wait for a resource, the pool's error decides. A full pool is
// local. A dial in progress for no longer than usual is local, too. A hanging dial is the server's.
func TestAcquireStage(t *testing.T) {
	for _, tc := range []struct {
		name  string
		limit time.Duration
		fault pooltest.Fault
		want  driver.Fault
	}{
		{"full", time.Second, nil, driver.FaultLocal},
		{"dial hangs", time.Second, pooltest.Hang(), driver.FaultServer},
		{"dial is in time", 5 * time.Millisecond, pooltest.Slow(20 * time.Millisecond), driver.FaultLocal},
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
					e, want := asError(t, err), driver.Class{Fault: tc.want, Repeat: driver.RepeatAlways, Type: "acquire_timeout"}
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

// The attempt's limit is the server's time: the limit counts from the grant, and the pool's
// AcquireTimeout bounds the wait.
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

// A total limit that passes after a wait for most of it is not the server's fault, unless the
// server has failed in an earlier attempt.
func TestTotalAfterAWait(t *testing.T) {
	for _, tc := range []struct {
		held  time.Duration
		again bool
		want  driver.Fault
	}{
		{0, false, driver.FaultServer},
		{400 * time.Millisecond, false, driver.FaultServer},
		{500 * time.Millisecond, false, driver.FaultLocal},
		{995 * time.Millisecond, false, driver.FaultLocal},
		{500 * time.Millisecond, true, driver.FaultServer},
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

// A layer inside puts its own context around ours, and the limit passes before the pool is asked.
// The pool wrongly takes the limit for the caller's deadline.
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
		if class := e.Class(); e.Stage != timeout.StageAcquire || class.Fault != driver.FaultLocal || class.Repeat != driver.RepeatAlways {
			t.Errorf("got %v, class %+v, want acquire, local, always", e, class)
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

// A refusal by the pool that is returned after the limit has passed is still a refusal, even if its
// cause is a timeout.
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
