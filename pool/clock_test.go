package pool_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/pool"
)

// clockReader compares the Call's clock with the real one at both ends of each use.
type clockReader struct {
	t       *testing.T
	lateEnd time.Duration // the latest at the end of a use
}

func (r *clockReader) Begin(ctx context.Context, c *pool.Call) (context.Context, struct{}, error) {
	r.compare(c)
	return ctx, struct{}{}, nil
}

func (r *clockReader) End(_ context.Context, c *pool.Call, _ struct{}, _ error) {
	r.lateEnd = max(r.lateEnd, r.compare(c))
}

func (r *clockReader) compare(c *pool.Call) (late time.Duration) {
	late = time.Since(c.Clock())
	if late < 0 || late > 10*time.Millisecond {
		r.t.Errorf("the clock of a Call is %v late", late)
	}
	return late
}

// The coarse clock is right after any rest and any length of use, for every way to lend a resource.
func TestCallClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &clockReader{t: t}
		p := newBarePool(t, pool.Config{}, pool.Bracket(r))
		for _, length := range []time.Duration{0, 7 * time.Millisecond, 300 * time.Millisecond, 5 * time.Second, time.Hour} {
			for _, rest := range []time.Duration{0, 3 * time.Millisecond, 900 * time.Millisecond, 2 * time.Second, time.Hour} {
				for range 20 {
					l := acquire(t, p)
					time.Sleep(length)
					l.Release(nil)
				}
				time.Sleep(rest)
			}
		}
		late := acquire(t, p)
		over, cancel := context.WithCancel(background)
		cancel()
		if err := p.Close(over); err == nil {
			t.Error("Close has not waited for the lease")
		}
		time.Sleep(time.Hour)
		late.Release(nil)
		if r.lateEnd == 0 {
			t.Error("it has been exact all the time, as if it were the real one")
		}
	})
}
