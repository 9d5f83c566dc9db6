package retry

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/earnorm/poolstack/pool"
)

const kind = "retry"

// Retry is the layer. It is made by [New]. It may be put around several pools, which then share its budget. All methods may be called
// concurrently.
type Retry struct {
	settings atomic.Pointer[settings]
	changing sync.Mutex // settings
	budget   budget
	series   sync.Pool // of *series
	attached pool.Attached
}

// New makes the layer. The error is that of [Config.Validate].
func New(cfg Config) (*Retry, error) {
	r := &Retry{}
	r.series.New = func() any { return newSeries() }
	if err := r.Configure(cfg); err != nil {
		return nil, err
	}
	return r, nil
}

// Config returns the settings in force, with defaults filled in.
func (r *Retry) Config() Config { return r.settings.Load().Config }

// Configure puts other settings in force, for uses that begin from now on. Nothing is reset: the budget keeps its tokens, as far as a
// smaller BudgetBurst allows; but one that is switched on is full, as a new layer's. It is reported as a [pool.EventConfigured]. After an
// error nothing has changed.
func (r *Retry) Configure(cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	r.configure(newSettings(cfg.withDefaults()))
	r.attached.Emit(pool.Event{Kind: pool.EventConfigured, Layer: kind})
	return nil
}

func (r *Retry) configure(s *settings) {
	r.changing.Lock()
	defer r.changing.Unlock()
	if old := r.settings.Load(); s.budgeted() && (old == nil || !old.budgeted()) {
		r.budget.earn(s.limit, s.limit) // before anybody can miss it
	}
	r.settings.Store(s)
	if s.budgeted() {
		r.budget.cap(s.limit)
	}
}

// Budget returns how many retries the budget has tokens for, between 0 and Config.BudgetBurst. It means nothing while retries are not
// budgeted.
func (r *Retry) Budget() float64 { return float64(r.budget.tokens.Load()) / token }

// Describe implements [pool.LayerDescriber].
func (r *Retry) Describe() pool.LayerInfo { return r.Config().describe() }

// Attach implements [pool.Attacher]: the pool's observers will hear of Configure.
func (r *Retry) Attach(p pool.PoolInfo) (detach func(), err error) { return r.attached.Add(p), nil }

// Wrap implements [pool.Middleware].
func (r *Retry) Wrap(next pool.Handler) pool.Handler {
	return func(ctx context.Context, c *pool.Call) error {
		s := r.settings.Load()
		c.SetAttempt(1)
		err := next(ctx, c)
		if err == nil {
			r.succeeded(c)
			return nil
		}
		class := c.Classify(err)
		if s.MaxAttempts > 1 && mayRepeat(&class, c.Op().Idempotent) {
			return r.again(ctx, c, next, s, err, class)
		}
		if class.Fault == pool.FaultNone {
			r.succeeded(c)
		}
		return err
	}
}

// mayRepeat says whether an error of this class allows another attempt.
func mayRepeat(class *pool.Class, idempotent bool) bool {
	return class.Fault == pool.FaultServer &&
		(class.Repeat == pool.RepeatAlways || class.Repeat == pool.RepeatIfIdempotent && idempotent)
}

// succeeded pays for later retries, if the server was asked at all.
func (r *Retry) succeeded(c *pool.Call) {
	if !c.Asked() {
		return
	}
	s := r.settings.Load()
	r.earn(s, s.perSuccess)
}

// earn adds to the budget, up to the limit of s, which are the settings in force and not those under which the use began.
func (r *Retry) earn(s *settings, amount int64) {
	if !s.budgeted() || !r.budget.earn(amount, s.limit) {
		return
	}
	if now := r.settings.Load(); now.budgeted() { // if they have changed in between, Configure may have been too early to take this away
		r.budget.cap(now.limit)
	}
}

// again makes the attempts from the second on. err and class are of the first.
func (r *Retry) again(ctx context.Context, c *pool.Call, next pool.Handler, s *settings, err error, class pool.Class) error {
	a, _ := r.series.Get().(*series)
	defer r.series.Put(a)
	a.begin(s)
	for n := 1; ; n++ {
		delay, paused := a.delay(class.RetryAfter), time.Duration(0)
		reason := r.hinder(ctx, s, n, delay)
		if reason == "" {
			paused, reason = r.pause(ctx, s, delay)
		}
		if reason != "" {
			c.Emit(ctx, pool.Event{Kind: pool.EventGaveUp, Layer: kind, Attempt: n, Reason: reason, Duration: paused, Err: err})
			return gaveUp(ctx, c, n, reason, err, class)
		}
		c.Emit(ctx, pool.Event{Kind: pool.EventRetry, Layer: kind, Attempt: n, Reason: class.Type, Duration: paused, Err: err})
		c.SetAttempt(n + 1)
		earlier := err
		if err = next(ctx, c); err == nil {
			r.succeeded(c)
			return nil
		}
		class = c.Classify(err)
		switch {
		case class.Fault == pool.FaultNone: // an answer, if not a welcome one
			r.succeeded(c)
			return err
		case class.Fault == pool.FaultElsewhere:
			return err
		case !mayRepeat(&class, c.Op().Idempotent):
			return final(ctx, c, n+1, err, earlier, class)
		}
	}
}

// hinder returns why there must be no attempt after the nth, "" if there may. Then it has paid for it.
func (r *Retry) hinder(ctx context.Context, s *settings, n int, delay time.Duration) (reason string) {
	switch {
	case n >= s.MaxAttempts:
		return ReasonAttempts
	case ctx.Err() != nil:
		return over(ctx)
	case !fits(ctx, delay):
		return ReasonDeadline
	case s.budgeted() && !r.budget.spend():
		return ReasonBudget
	}
	return ""
}

// fits says whether a pause of delay ends before ctx's deadline.
func fits(ctx context.Context, delay time.Duration) bool {
	deadline, ok := ctx.Deadline()
	return !ok || delay < time.Until(deadline)
}

// pause waits, and returns how long that took. If ctx ends first it returns how, and the attempt that is not made is not paid for.
func (r *Retry) pause(ctx context.Context, s *settings, delay time.Duration) (took time.Duration, reason string) {
	begin := time.Now()
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	took = time.Since(begin)
	if ctx.Err() == nil {
		return took, ""
	}
	if s.budgeted() {
		r.earn(r.settings.Load(), token)
	}
	return took, over(ctx)
}

// over says how ctx, which is over, ended.
func over(ctx context.Context) (reason string) {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return ReasonDeadline
	}
	return ReasonCanceled
}

// gaveUp makes the error of a use whose last attempt, the nth, is not repeated for another reason than its error.
func gaveUp(ctx context.Context, c *pool.Call, n int, reason string, err error, class pool.Class) *Error {
	e := &Error{Pool: c.Identity().Name, Attempts: n, Reason: reason, Err: err, class: class}
	switch reason {
	case ReasonCanceled:
		e.context = contextError(ctx)
		e.class = pool.Class{Fault: pool.FaultCaller, Repeat: pool.RepeatNever, Type: "canceled"}
	case ReasonDeadline:
		if e.context = contextError(ctx); e.context == nil {
			e.context = context.DeadlineExceeded
		}
	}
	return e
}

// final makes the error of a use whose nth attempt, not the first, ended with an error that allows no repetition.
func final(ctx context.Context, c *pool.Call, n int, err, earlier error, class pool.Class) *Error {
	e := &Error{Pool: c.Identity().Name, Attempts: n, Reason: ReasonFinal, Err: err, class: class, context: contextError(ctx)}
	if class.Fault == pool.FaultLocal {
		e.Earlier = earlier
	}
	return e
}

// settings are what Configure replaces.
type settings struct {
	Config

	middle, spread    float64 // a pause of nominally d is drawn from middle*d, give or take the share spread of it
	perSuccess, limit int64   // of the budget, in fractions of a token; limit is 0 if there is none
}

func newSettings(cfg Config) *settings {
	jitter := max(cfg.Jitter, 0)
	s := &settings{Config: cfg, middle: 1 - jitter/2, spread: jitter / (2 - jitter)}
	if cfg.Budget > 0 {
		s.perSuccess, s.limit = int64(math.Round(cfg.Budget*token)), int64(cfg.BudgetBurst)*token
	}
	return s
}

func (s *settings) budgeted() bool { return s.limit > 0 }

// series works out the pauses of one use. It is taken up only after a first failure.
type series struct {
	backoff *backoff.ExponentialBackOff
	longest time.Duration
}

func newSeries() *series {
	return &series{backoff: backoff.NewExponentialBackOff(backoff.WithMaxElapsedTime(0))}
}

// begin starts anew. Backoff adds its randomness after its cap, to both sides; so that a pause never exceeds what it nominally is, and
// those at the cap do not all end there, backoff is given the middles.
func (a *series) begin(s *settings) {
	b := a.backoff
	b.InitialInterval = time.Duration(float64(s.InitialDelay) * s.middle)
	b.MaxInterval = time.Duration(float64(s.MaxDelay) * s.middle)
	b.Multiplier, b.RandomizationFactor = s.Multiplier, s.spread
	b.Reset()
	a.longest = s.MaxDelay
}

// delay returns the next pause, which is at least what the server asked for.
func (a *series) delay(atLeast time.Duration) time.Duration {
	d := a.backoff.NextBackOff()
	if d < 0 || d > a.longest { // its arithmetic can go over
		d = a.longest
	}
	return max(d, atLeast)
}
