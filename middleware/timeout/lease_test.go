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

// The limits cover the acquisition of a lease; what the borrower does with the lease takes as long
// as it takes.
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
		// asked: somebody has waited for the total limit before the grant
		for _, asked := range []bool{false, true} {
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
		fault              driver.Fault
	}{
		{0, time.Second, time.Minute, timeout.ErrAttempt, time.Second, driver.FaultServer},
		{2 * time.Second, time.Second, time.Minute, timeout.ErrAttempt, 2 * time.Second, driver.FaultServer},
		{time.Millisecond, time.Second, time.Minute, timeout.ErrAttempt, time.Millisecond, driver.FaultServer},
		{2 * time.Second, -1, time.Minute, timeout.ErrAttempt, 2 * time.Second, driver.FaultServer},
		{time.Hour, time.Second, time.Minute, timeout.ErrTotal, time.Minute, driver.FaultServer},
		// meant to block: no evidence
		{-1, time.Second, time.Minute, timeout.ErrTotal, time.Minute, driver.FaultLocal},
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
