package timeout_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/middleware/timeout"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

func TestRefusal(t *testing.T) {
	for _, tc := range []struct {
		name  string
		left  time.Duration
		min   time.Duration
		fault driver.Fault
		ok    bool
		text  string
	}{
		{"enough", time.Second, time.Second, 0, true, ""},
		{"too little", time.Second - 1, time.Second, driver.FaultLocal, false, "too little time left to begin (999.999999ms)"},
		{"any will do", 1, 0, 0, true, ""},
		{"none", 0, 0, driver.FaultCaller, false, "no time left to begin"},
		{"past", -time.Second, 0, driver.FaultCaller, false, "no time left to begin"},
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
					want := driver.Class{Fault: tc.fault, Repeat: driver.RepeatNever, Type: "timeout_begin"}
					if e.Class() != want || e.Stage != timeout.StageBegin || e.Limit != tc.left {
						t.Errorf("got %+v, class %+v, want class %+v", e, e.Class(), want)
					}
					if !errors.Is(err, timeout.ErrNoTime) || errors.Is(err, timeout.ErrTotal) || !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("%v: want ErrNoTime and DeadlineExceeded, not ErrTotal", err)
					}
					if want := `timeout: pool "fake memory/0": ` + tc.text; err.Error() != want {
						t.Errorf("the text is %q, want %q", err, want)
					}
					if len(events) != 1 || events[0].Kind != pool.EventRejected || events[0].Layer != "timeout.total" {
						t.Errorf("got events %+v, want one rejection", events)
					}
				})
			})
		}
	}
}

// An attempt that would begin after the total limit has passed does not cost a resource, and the
// total limit is named.
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
