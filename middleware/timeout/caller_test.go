package timeout_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/middleware/timeout"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// The defaults leave the time to a caller who gives a deadline. The operation is known to be quick.
func TestCallersTime(t *testing.T) {
	for _, test := range []struct {
		name    string
		caller  time.Duration // 0: no deadline
		op      time.Duration // Op.Limit
		total   timeout.Config
		attempt timeout.Config
		want    time.Duration
		is      error // nil: the caller's own deadline
	}{
		{name: "no deadline", want: 3 * time.Second, is: timeout.ErrAttempt},
		{name: "no deadline, blocking", op: -1, want: 10 * time.Second, is: timeout.ErrTotal},
		{name: "little time", caller: time.Second, want: time.Second},
		{name: "3 s are more than half", caller: 5 * time.Second, want: 3 * time.Second, is: timeout.ErrAttempt},
		{name: "half is more than 3 s", caller: 20 * time.Second, want: 10 * time.Second, is: timeout.ErrAttempt},
		{name: "blocking", caller: time.Minute, op: -1, want: time.Minute},
		{name: "the operation's limit", caller: time.Minute, op: 2 * time.Second, want: 2 * time.Second, is: timeout.ErrAttempt},
		{name: "limits that are set hold", caller: time.Minute, attempt: limit(3 * time.Second), want: 3 * time.Second, is: timeout.ErrAttempt},
		{name: "a total that is set holds", caller: time.Minute, total: limit(10 * time.Second), op: -1, want: 10 * time.Second, is: timeout.ErrTotal},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, total(t, test.total), attempt(t, test.attempt))
				defer end()
				stand{p, t}.quicken(pool.Op{})
				ctx := context.Background()
				if test.caller > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, test.caller)
					defer cancel()
				}
				begin := time.Now()
				err := p.Do(ctx, pool.Op{Limit: test.op}, untilOver)
				if took := time.Since(begin); took != test.want {
					t.Errorf("it took %v, want %v: %v", took, test.want, err)
				}
				if test.is == nil {
					if e, ok := errors.AsType[*timeout.Error](err); ok || !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("got %v (%v), want the caller's deadline", err, e)
					}
				} else if e := asError(t, err); !errors.Is(e, test.is) || e.Limit != test.want {
					t.Errorf("got %v, want %v after %v", e, test.is, test.want)
				}
			})
		})
	}
}
