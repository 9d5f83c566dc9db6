package retry

import (
	"context"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
)

// maxCauses is the maximum number of errors kept of a use, each with another error.type.
const maxCauses = 4

// series is the state of the attempts of a use after the first attempt. A use takes a series only
// after the first failure.
type series struct {
	backoff *backoff.ExponentialBackOff
	longest time.Duration
	jitter  float64

	begun   pool.Event  // the event of the attempt in progress
	reached atomic.Bool // the attempt in progress has reached the pool
	reach   func(context.Context, *pool.Call)

	causes []cause
}

// cause is the error of an attempt and its error.type.
type cause struct {
	err       error
	errorType string
}

func newSeries() *series {
	a := &series{backoff: backoff.NewExponentialBackOff(backoff.WithMaxElapsedTime(0)), causes: make([]cause, 0, maxCauses)}
	a.reach = a.report
	return a
}

// begin prepares the series for a use. Package backoff applies the cap first, and then adds
// randomness to both sides. So backoff gets the middle of each pause: no pause exceeds the nominal
// pause, and pauses at the cap are random too. Package backoff counts whole nanoseconds and rounds
// down, so an interval of a few nanoseconds would never grow. The first interval is therefore at
// least a microsecond.
func (a *series) begin(s *inForce) {
	b := a.backoff
	b.InitialInterval = max(part(s.InitialDelay, s.middle), time.Microsecond)
	b.MaxInterval = part(s.MaxDelay, s.middle)
	b.Multiplier, b.RandomizationFactor = s.Multiplier, s.spread
	b.Reset()
	a.longest, a.jitter = s.MaxDelay, max(s.Jitter, 0)
}

// part returns the given share of d; the share is at most 1. The float64 next to the longest
// duration exceeds the longest duration. Then part returns d.
func part(d time.Duration, share float64) time.Duration {
	if p := float64(d) * share; p < math.MaxInt64 {
		return time.Duration(p)
	}
	return d
}

// end drops all references to the use.
func (a *series) end() {
	a.begun = pool.Event{}
	clear(a.causes)
	a.causes = a.causes[:0]
}

// delay returns the next pause: the time asked for by the server, plus the layer's own pause. If a
// random part of a quarter of the asked time is longer than the own pause, the random part replaces
// the own pause. So callers do not return at the same instant.
func (a *series) delay(asked time.Duration) time.Duration {
	d := a.backoff.NextBackOff()
	if d < 0 || d > a.longest { // the arithmetic of backoff can overflow
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

// announce prepares the event of the next attempt. The event is emitted when the attempt reaches
// the pool, and never if a layer inside refuses the attempt.
func (a *series) announce(c *pool.Call, begun pool.Event) {
	a.begun = begun
	a.reached.Store(false)
	c.BeforeAcquire(a.reach)
}

// report emits the event of the attempt in progress, once.
func (a *series) report(ctx context.Context, c *pool.Call) {
	if a.reached.CompareAndSwap(false, true) {
		c.Emit(ctx, a.begun)
	}
}

// failed keeps the error of an attempt: the first error of each error.type. If there are more types
// than maxCauses, failed keeps the first type and the latest types.
func (a *series) failed(err error, class *driver.Class) {
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

// earlier returns the kept errors of other types than the last attempt's error, oldest first.
func (a *series) earlier(last *driver.Class) (errs []error) {
	for _, c := range a.causes {
		if c.errorType != last.Type {
			errs = append(errs, c.err)
		}
	}
	return errs
}
