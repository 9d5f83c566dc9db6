package retry

import (
	"context"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/earnorm/poolstack/pool"
)

// maxCauses bounds how many different causes of one use are kept.
const maxCauses = 4

// series is what the attempts of one use from the second on need. A use takes a series only after its first failure.
type series struct {
	backoff *backoff.ExponentialBackOff
	longest time.Duration
	jitter  float64

	begun   pool.Event  // reports the attempt that is under way
	reached atomic.Bool // the attempt that is under way has come to the pool
	reach   func(context.Context, *pool.Call)

	causes []cause
}

// cause is what an attempt came to.
type cause struct {
	err       error
	errorType string
}

func newSeries() *series {
	a := &series{backoff: backoff.NewExponentialBackOff(backoff.WithMaxElapsedTime(0)), causes: make([]cause, 0, maxCauses)}
	a.reach = a.report
	return a
}

// begin starts anew. Backoff adds its randomness after its cap, to both sides; so that a pause never exceeds what it nominally is, and
// those at the cap do not all end there, backoff is given the middles. Backoff counts whole nanoseconds: an interval of a few would be
// rounded down again after each step, and never grow.
func (a *series) begin(s *settings) {
	b := a.backoff
	b.InitialInterval = max(part(s.InitialDelay, s.middle), time.Microsecond)
	b.MaxInterval = part(s.MaxDelay, s.middle)
	b.Multiplier, b.RandomizationFactor = s.Multiplier, s.spread
	b.Reset()
	a.longest, a.jitter = s.MaxDelay, max(s.Jitter, 0)
}

// part returns the share of d, which is at most 1. The longest duration has no float64 of its own: the next one is beyond it.
func part(d time.Duration, share float64) time.Duration {
	if p := float64(d) * share; p < math.MaxInt64 {
		return time.Duration(p)
	}
	return d
}

// end lets go of the use.
func (a *series) end() {
	a.begun = pool.Event{}
	clear(a.causes)
	a.causes = a.causes[:0]
}

// delay returns the next pause. What the server asked for comes on top, and where that is long, a random part of a quarter of it: callers
// who were told the same time do not come back in the same instant.
func (a *series) delay(asked time.Duration) time.Duration {
	d := a.backoff.NextBackOff()
	if d < 0 || d > a.longest { // its arithmetic can go over
		d = a.longest
	}
	if asked <= 0 {
		return d
	}
	d = max(d, time.Duration(a.jitter*rand.Float64()*float64(asked/4)))
	if asked > math.MaxInt64-d {
		return math.MaxInt64
	}
	return asked + d
}

// announce has the attempt reported as begun when it comes to the pool, and not if a layer inside refuses it.
func (a *series) announce(c *pool.Call, begun pool.Event) {
	a.begun = begun
	a.reached.Store(false)
	c.OnReach(a.reach)
}

// report reports the attempt that is under way, once.
func (a *series) report(ctx context.Context, c *pool.Call) {
	if a.reached.CompareAndSwap(false, true) {
		c.Emit(ctx, a.begun)
	}
}

// failed keeps what an attempt came to: of each error.type the first, and of those the first and the latest.
func (a *series) failed(err error, class *pool.Class) {
	for i := range a.causes {
		if a.causes[i].errorType == class.Type {
			return
		}
	}
	if len(a.causes) == maxCauses {
		a.causes = append(a.causes[:1], a.causes[2:]...)
	}
	a.causes = append(a.causes, cause{err, class.Type})
}

// earlier returns what is kept beside the last attempt's error, oldest first.
func (a *series) earlier(last *pool.Class) (errs []error) {
	for _, c := range a.causes {
		if c.errorType != last.Type {
			errs = append(errs, c.err)
		}
	}
	return errs
}
