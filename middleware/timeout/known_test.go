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
	"github.com/earnorm/poolstack/pool/pooltest"
)

// The numbers of the rule in known.go.
const (
	quickUses, quickTime = 20, 10 * time.Second
	slowUses, slowTime   = 1000, time.Minute
	maxOps               = 256
)

// stand is a pool with the defaults of both limits, in a bubble.
type stand struct {
	*pool.Pool[conn]

	t *testing.T
}

// onStand runs f in a bubble with a pool. inner stands between the two limits, where retry stands.
func onStand(t *testing.T, f func(s stand), inner ...pool.Middleware) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		layers := append([]pool.Middleware{total(t, timeout.Config{})}, inner...)
		p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, append(layers, attempt(t, timeout.Config{}))...)
		defer end()
		f(stand{p, t})
	})
}

// serve makes n uses that take d each, one after the other.
func (s stand) serve(n int, op pool.Op, d time.Duration) {
	s.t.Helper()
	for range n {
		if err := s.Do(context.Background(), op, func(ctx context.Context, _ conn) error { return pooltest.Slow(d)(ctx) }); err != nil {
			s.t.Fatal(err)
		}
	}
}

// quicken makes the operation known as quick.
func (s stand) quicken(op pool.Op) {
	s.t.Helper()
	s.serve(quickUses, op, time.Millisecond)
	wait(quickTime)
	s.serve(1, op, time.Millisecond)
}

// want checks how much time an attempt of the operation has, for a caller without a deadline. The
// use of the check fails.
func (s stand) want(op pool.Op, want time.Duration) {
	s.t.Helper()
	err := s.Do(context.Background(), op, func(ctx context.Context, _ conn) error {
		if got := away(ctx); got != want {
			s.t.Errorf("%+v has %v, want %v", op, got, want)
		}
		return pooltest.ErrReply
	})
	if !errors.Is(err, pooltest.ErrReply) {
		s.t.Error(err)
	}
}

// hang makes a use that gets no answer.
func (s stand) hang(op pool.Op) {
	if err := s.Do(context.Background(), op, untilOver); err == nil {
		s.t.Error("a use without an answer succeeded")
	}
}

var (
	get    = pool.Op{Name: "get"}
	report = pool.Op{Name: "report"}
)

const (
	limited = 3 * time.Second
	whole   = 10 * time.Second
)

// An operation that needs 6 s is served to callers with 10 s, each time and from the first time on,
// beside an operation of 1 ms.
func TestSlowOperation(t *testing.T) {
	onStand(t, func(s stand) {
		for range 25 {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			if err := s.Do(ctx, report, func(ctx context.Context, _ conn) error { return pooltest.Slow(6 * time.Second)(ctx) }); err != nil {
				t.Error(err)
			}
			cancel()
			s.serve(1, get, time.Millisecond)
		}
		s.want(get, limited)
		s.want(report, whole)
		s.want(pool.Op{Name: "get", Target: "elsewhere"}, whole)
	})
}

// What makes an operation quick, and what ends that.
func TestKnown(t *testing.T) {
	for _, tc := range []struct {
		name string
		f    func(s stand)
		want time.Duration
	}{
		{"nothing is known", func(stand) {}, whole},
		{"quick", func(s stand) { s.quicken(get) }, limited},
		{"too few successes", func(s stand) { s.serve(quickUses-1, get, 0); wait(quickTime) }, whole},
		{"too short a time", func(s stand) { s.serve(quickUses, get, 0); wait(quickTime - 1) }, whole},
		{"misses", func(s stand) {
			for range quickUses + 1 {
				_ = s.Do(context.Background(), get, func(context.Context, conn) error { return pooltest.ErrMiss })
				wait(time.Second)
			}
		}, limited},
		{"a success of 1.5 s", func(s stand) { s.quicken(get); s.serve(1, get, 1500*time.Millisecond) }, whole},
		{"a success of 1.4 s", func(s stand) { s.quicken(get); s.serve(1, get, 1400*time.Millisecond) }, limited},
		{"one cut", func(s stand) { s.quicken(get); s.hang(get) }, limited},
		{"two cuts", func(s stand) { s.quicken(get); s.hang(get); s.hang(get) }, whole},
		{"two cuts and quick successes between", func(s stand) { s.quicken(get); s.hang(get); s.serve(50, get, 0); s.hang(get) }, whole},
		{"many cuts at once", func(s stand) {
			s.quicken(get)
			for range 5 {
				go s.hang(get)
			}
			wait(limited + 1)
		}, limited},
		{"the next cuts after many", func(s stand) {
			s.quicken(get)
			for range 5 {
				go s.hang(get)
			}
			wait(limited + 1)
			s.hang(get)
		}, whole},
		{"cuts of others", func(s stand) { s.quicken(get); s.quicken(report); s.hang(report); s.hang(report) }, limited},
		{"forgotten", func(s stand) {
			s.quicken(get)
			s.serve(1, get, 2*time.Second)
			s.serve(slowUses, get, time.Millisecond)
			wait(slowTime)
			s.serve(1, get, 0)
		}, limited},
		{"too few successes to forget", func(s stand) {
			s.quicken(get)
			s.serve(1, get, 2*time.Second)
			wait(slowTime)
			s.serve(slowUses-1, get, 0)
		}, whole},
		{"too short a time to forget", func(s stand) {
			s.quicken(get)
			s.serve(1, get, 2*time.Second)
			s.serve(slowUses+1, get, 0)
		}, whole},
	} {
		t.Run(tc.name, func(t *testing.T) {
			onStand(t, func(s stand) { s.t = t; tc.f(s); s.want(get, tc.want) })
		})
	}
}

// A wait for a resource is not the operation's time.
func TestKnownWithoutTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, end := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 1}, attempt(t, timeout.Config{}))
		defer end()
		s := stand{p, t}
		s.quicken(get)
		l, err := p.Acquire(context.Background(), report)
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(1900*time.Millisecond, func() { l.Release(nil) })
		s.serve(1, get, time.Millisecond)
		s.want(get, limited)
	})
}

// What is known is bounded: the operations beyond 256 share a record.
func TestKnownIsBounded(t *testing.T) {
	onStand(t, func(s stand) {
		for i := range maxOps {
			s.serve(1, pool.Op{Name: fmt.Sprint("op ", i)}, time.Millisecond)
		}
		s.want(pool.Op{Name: "one more"}, whole)
		s.quicken(pool.Op{Name: "one more"})
		s.want(pool.Op{Name: "and another"}, limited)
		s.want(pool.Op{Name: "op 1"}, whole)
		s.serve(1, pool.Op{Name: "and another"}, 2*time.Second)
		s.want(pool.Op{Name: "one more"}, whole)
	})
}

// A limit that is set holds, whatever the operation needs. So does the limit of an acquisition.
func TestSetLimitsDoNotLearn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, total(t, timeout.Config{}), attempt(t, limit(limited)))
		defer end()
		s := stand{p, t}
		s.hang(get)
		s.hang(get)
		s.want(get, limited)
		s.want(pool.Op{Name: "get", Limit: time.Second}, time.Second)
	})
}

// Without a total limit, an attempt has as long as a use has by default.
func TestUnknownWithoutTotal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, attempt(t, timeout.Config{}))
		defer end()
		begin := time.Now()
		err := p.Do(context.Background(), get, untilOver)
		if e := asError(t, err); e.Stage != timeout.StageAttempt || e.Limit != whole || time.Since(begin) != whole {
			t.Errorf("after %v: %v, want the attempt's limit of %v", time.Since(begin), err, whole)
		}
	})
}

// repeat is a layer that makes a second attempt of a use that failed.
var repeat = pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
	return func(ctx context.Context, c *pool.Call) error {
		if err := next(ctx, c); err == nil {
			return nil
		}
		c.SetAttempt(2)
		return next(ctx, c)
	}
})

// After a cut, the next attempt of the use has the rest of the time. If that is not enough either,
// the operation is slow.
func TestRestAfterCut(t *testing.T) {
	for _, takes := range []time.Duration{time.Millisecond, 6 * time.Second, 8 * time.Second} {
		onStand(t, func(s stand) {
			s.quicken(get)
			var had []time.Duration
			err := s.Do(context.Background(), get, func(ctx context.Context, c conn) error {
				had = append(had, away(ctx))
				if len(had) == 1 {
					return untilOver(ctx, c)
				}
				return pooltest.Slow(takes)(ctx)
			})
			if (err == nil) != (takes < whole-limited) {
				t.Errorf("%v: %v", takes, err)
			}
			if got := fmt.Sprint(had); got != "[3s 7s]" {
				t.Errorf("%v: the attempts had %v, want 3s and 7s", takes, got)
			}
			if takes > time.Second {
				s.want(get, whole)
			} else {
				s.want(get, limited)
			}
		}, repeat)
	}
}
