package retry

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/earnorm/poolstack/pool"
)

const kind = "retry"

// Retry is the layer. It is made by [New]. It may be put around several pools, which then share its budget. All methods may be called
// concurrently.
type Retry struct {
	settings atomic.Pointer[settings]
	changing sync.Mutex // settings, the budget's limit, pooled
	pooled   int64      // what the pools' sizes make of a BudgetBurst of 0
	budget   budget
	vain     vain
	series   sync.Pool // of *series
	attached pool.Attached
}

// New makes the layer. The error is that of [Config.Validate].
func New(cfg Config) (*Retry, error) {
	r := &Retry{pooled: defaultBudgetBurst}
	r.series.New = func() any { return newSeries() }
	if err := r.Configure(cfg); err != nil {
		return nil, err
	}
	return r, nil
}

// Config returns the settings in force, with defaults filled in. BudgetBurst stays 0 where it follows the pools.
func (r *Retry) Config() Config { return r.settings.Load().Config }

// Configure puts other settings in force, for uses that begin from now on. Nothing is reset: the budget keeps its tokens, as far as a
// smaller BudgetBurst allows; but a budget that is switched on is full, as a new layer's. It is reported as a [pool.EventConfigured]. After
// an error nothing has changed.
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
	r.budget.resize(s.burst(r.pooled))
	if old := r.settings.Load(); s.budgeted() && (old == nil || !old.budgeted()) {
		r.budget.earn(math.MaxInt64 / 2) // before anybody can miss it
	}
	r.settings.Store(s)
}

// Attach implements [pool.Attacher]: the pool's observers will hear of Configure, and the pool's size counts for the budget.
func (r *Retry) Attach(p pool.PoolInfo) (detach func(), err error) {
	forget := r.attached.Add(p)
	r.follow()
	return func() { forget(); r.follow() }, nil
}

// follow has a BudgetBurst of 0 follow the pools: their number and their sizes change. The tokens that the limit gains are there at once, as
// in a new layer.
func (r *Retry) follow() {
	r.changing.Lock()
	defer r.changing.Unlock()
	var sizes int64
	for _, p := range r.attached.Pools() {
		sizes += int64(min(p.Config().MaxSize, math.MaxInt32))
	}
	sizes = min(max(sizes, defaultBudgetBurst), math.MaxInt32)
	gained := (sizes - r.pooled) * token
	if r.pooled = sizes; gained == 0 {
		return
	}
	if s := r.settings.Load(); s.BudgetBurst == 0 {
		r.budget.resize(s.burst(r.pooled))
		r.budget.earn(max(gained, 0))
	}
}

// Budget returns how many retries the budget has tokens for, between 0 and what Config.BudgetBurst allows. It means nothing while retries
// are not budgeted.
func (r *Retry) Budget() float64 {
	if r.settings.Load().BudgetBurst == 0 {
		r.follow()
	}
	return float64(r.budget.tokens.Load()) / token
}

// Describe implements [pool.LayerDescriber]. Of a BudgetBurst that follows the pools it tells what that came to when a retry was last due.
func (r *Retry) Describe() pool.LayerInfo {
	cfg := r.Config()
	cfg.BudgetBurst = int(r.budget.limit.Load() / token)
	return cfg.describe()
}

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

// succeeded pays for later retries, if the attempt has asked the server something.
func (r *Retry) succeeded(c *pool.Call) {
	r.vain.succeeded(c)
	if s := r.settings.Load(); s.budgeted() && c.Asked() {
		r.budget.earn(s.perSuccess)
	}
}

// again makes the attempts from the second on. err and class are of the first.
func (r *Retry) again(ctx context.Context, c *pool.Call, next pool.Handler, s *settings, err error, class pool.Class) error {
	a, _ := r.series.Get().(*series)
	a.begin(s)
	defer func() { a.end(); r.series.Put(a) }()
	for n := 1; ; n++ {
		a.failed(err, &class)
		paused, reason := r.pause(ctx, c, s, n, a.delay(class.RetryAfter))
		if reason != "" {
			return r.giveUp(ctx, c, a, paused, &Error{Attempts: n, Reason: reason, Err: err, class: class})
		}
		c.SetAttempt(n + 1)
		a.announce(c, pool.Event{Kind: pool.EventRetry, Layer: kind, Attempt: n, Reason: class.Type, Duration: paused, Err: err})
		latest := next(ctx, c)
		c.OnReach(nil)
		later := c.Classify(latest)
		if !a.reached.Load() && refused(&later) {
			r.giveBack(s)
			c.SetAttempt(n)
			class.RetryAfter = later.RetryAfter
			return r.giveUp(ctx, c, a, paused, &Error{Attempts: n, Reason: ReasonRefused, Err: err, Refusal: latest, class: class})
		}
		a.report(ctx, c) // a layer inside may have answered in the pool's place
		if _, _, granted := c.Acquired(); granted && !c.Asked() {
			r.giveBack(s) // nothing was sent, so the attempt has not added to the server's load
		}
		err, class = latest, later
		switch {
		case class.Fault == pool.FaultNone: // success, or an answer, if not a welcome one
			r.succeeded(c)
			return err
		case class.Fault == pool.FaultElsewhere:
			return err
		case !mayRepeat(&class, c.Op().Idempotent):
			return &Error{
				Pool: c.Identity().Name, Attempts: n + 1, Reason: ReasonFinal,
				Err: err, Earlier: a.earlier(&class), context: contextError(ctx), class: class,
			}
		}
	}
}

// refused says whether an error of this class, of an attempt that has not come to the pool, is no answer to it either.
func refused(class *pool.Class) bool {
	return class.Fault != pool.FaultNone && class.Fault != pool.FaultServer
}

// pause makes the pause after the nth attempt, and pays for the next attempt. took is how long the pause lasted, reason why there must be
// no other attempt, "" if there may.
func (r *Retry) pause(ctx context.Context, c *pool.Call, s *settings, n int, delay time.Duration) (took time.Duration, reason string) {
	switch {
	case n >= s.MaxAttempts:
		return 0, ReasonAttempts
	case ctx.Err() != nil:
		return 0, over(ctx)
	case !fits(ctx, delay):
		return 0, ReasonDeadline
	case s.budgeted() && (n == 1 && !r.vain.allows(c) || !r.spend(s)):
		return 0, ReasonBudget
	}
	if took = wait(ctx, delay); ctx.Err() == nil {
		return took, ""
	}
	r.giveBack(s)
	return took, over(ctx)
}

// fits says whether a pause of delay ends before ctx's deadline.
func fits(ctx context.Context, delay time.Duration) bool {
	deadline, ok := ctx.Deadline()
	return !ok || delay < time.Until(deadline)
}

// wait returns after delay, or when ctx ends, and says how long that took.
func wait(ctx context.Context, delay time.Duration) time.Duration {
	begin := time.Now()
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return time.Since(begin)
}

// spend pays for an attempt, if the budget allows it.
func (r *Retry) spend(s *settings) bool {
	if s.BudgetBurst == 0 {
		r.follow()
	}
	return r.budget.spend()
}

// giveBack is for an attempt that was paid for and not made.
func (r *Retry) giveBack(s *settings) {
	if s.budgeted() {
		r.budget.earn(token)
	}
}

// over says how ctx, which is over, ended.
func over(ctx context.Context) (reason string) {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return ReasonDeadline
	}
	return ReasonCanceled
}

// giveUp reports that there is no attempt more, and completes e, the error of the use. paused is how long the last pause lasted.
func (r *Retry) giveUp(ctx context.Context, c *pool.Call, a *series, paused time.Duration, e *Error) error {
	if e.Attempts > 1 && e.Reason != ReasonRefused && e.Reason != ReasonCanceled {
		r.vain.failed(c)
	}
	c.Emit(ctx, pool.Event{Kind: pool.EventGaveUp, Layer: kind, Attempt: e.Attempts, Reason: e.Reason, Duration: paused, Err: e.Err})
	e.Pool, e.Earlier = c.Identity().Name, a.earlier(&e.class)
	e.context = contextError(ctx)
	switch {
	case e.Reason == ReasonCanceled:
		e.class = pool.Class{Fault: pool.FaultCaller, Repeat: pool.RepeatNever, Type: "canceled"}
	case e.Reason == ReasonDeadline && e.context == nil:
		e.context = context.DeadlineExceeded
	}
	return e
}

// settings are what Configure replaces.
type settings struct {
	Config

	middle, spread float64 // a pause of nominally d is drawn from middle*d, give or take the share spread of it
	perSuccess     int64   // in fractions of a token; 0 if retries are not budgeted
}

func newSettings(cfg Config) *settings {
	jitter := max(cfg.Jitter, 0)
	s := &settings{Config: cfg, middle: 1 - jitter/2, spread: jitter / (2 - jitter)}
	if cfg.Budget > 0 {
		s.perSuccess = max(int64(math.Round(cfg.Budget*token)), 1)
	}
	return s
}

func (s *settings) budgeted() bool { return s.perSuccess > 0 }

// burst returns the budget's limit. pooled is what the pools' sizes make of a BudgetBurst of 0.
func (s *settings) burst(pooled int64) int64 {
	if s.BudgetBurst > 0 {
		pooled = int64(s.BudgetBurst)
	}
	return pooled * token
}
