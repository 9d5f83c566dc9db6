package retry

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/settings"
)

const kind = "retry"

// Retry is the retry layer. Create a Retry with [New]. A Retry may serve several pools; the pools
// share the budget. All methods may be called concurrently. A Retry needs no closing.
type Retry struct {
	live     *settings.Live[Config]
	inForce  atomic.Pointer[inForce]
	changing sync.Mutex   // guards changes of settings, of the budget's limit and of pooled
	pooled   atomic.Int64 // the burst for a BudgetBurst of 0, from the pools' sizes; stored under changing
	budget   budget
	vain     vain
	series   sync.Pool // of *series
	attached pool.Attached
}

// New returns a Retry with the settings cfg. New returns the error of [Config.Validate] if cfg is
// invalid.
func New(cfg Config) (*Retry, error) {
	r := &Retry{}
	r.pooled.Store(defaultBudgetBurst)
	r.series.New = func() any { return newSeries() }
	live, err := settings.New(&configSpec, cfg, settings.Hooks[Config]{Fill: r.fill, Apply: r.configure, Report: r.report})
	if err != nil {
		return nil, err
	}
	r.live = live
	r.configure(cfg)
	return r, nil
}

// Config returns the settings declared by New or Configure: a field that was not set is 0.
func (r *Retry) Config() Config { return r.live.Config() }

// Effective returns the settings in force: the merge of all sources, with defaults in place of 0. A
// BudgetBurst that follows the pools has the value computed last. The value is computed when a pool
// is attached or closed, before a retry, and in [Retry.Budget].
func (r *Retry) Effective() Config { return r.live.Effective() }

// Tuning implements [settings.Tunable].
func (r *Retry) Tuning() *settings.Tuning { return r.live.Tuning() }

// fill returns cfg with defaults in place of 0.
func (r *Retry) fill(cfg Config) Config {
	cfg = cfg.withDefaults()
	setDefault(&cfg.BudgetBurst, int(r.pooled.Load()))
	return cfg
}

func (r *Retry) report(result settings.Result) {
	r.attached.Emit(pool.Event{Kind: pool.EventConfigured, Layer: kind, Settings: &result})
}

// Configure replaces the settings declared by code. A field declared by a higher source keeps its
// value (see package settings); the pools then report a warning. New settings hold for all uses
// that begin afterwards. The budget keeps its tokens, up to a smaller BudgetBurst. A budget that
// was switched off and is switched on is full, like the budget of a new layer. Configure reports a
// [pool.EventConfigured]. If cfg is invalid, Configure returns the error of [Config.Validate] and
// changes nothing.
func (r *Retry) Configure(cfg Config) error { return r.live.Configure(cfg) }

// configure puts cfg in force.
func (r *Retry) configure(cfg Config) {
	s := newInForce(cfg.withDefaults())
	s.automatic = cfg.MaxAttempts == 0
	r.changing.Lock()
	defer r.changing.Unlock()
	r.budget.resize(s.burst(r.pooled.Load()))
	if old := r.inForce.Load(); s.budgeted() && (old == nil || !old.budgeted()) {
		r.budget.earn(math.MaxInt64 / 2) // before a use can see the new settings
	}
	r.inForce.Store(s)
}

// Attach implements [pool.Attacher]. The observers of p receive the events of Configure. The
// MaxSize of p counts for a BudgetBurst of 0.
func (r *Retry) Attach(p pool.PoolInfo) (detach func(), err error) {
	forget := r.attached.Add(p)
	r.follow()
	return func() { forget(); r.follow() }, nil
}

// follow adapts a BudgetBurst of 0 to the number and the sizes of the pools. If the limit grows,
// the additional tokens are available at once, as in a new layer.
func (r *Retry) follow() {
	r.changing.Lock()
	defer r.changing.Unlock()
	var sizes int64
	for _, p := range r.attached.Pools() {
		sizes += int64(min(p.Effective().MaxSize, math.MaxInt32))
	}
	sizes = min(max(sizes, defaultBudgetBurst), math.MaxInt32)
	gained := (sizes - r.pooled.Swap(sizes)) * token
	if gained == 0 {
		return
	}
	if s := r.inForce.Load(); s.BudgetBurst == 0 {
		r.budget.resize(s.burst(r.pooled.Load()))
		r.budget.earn(max(gained, 0))
	}
}

// Budget returns the number of tokens in the budget, between 0 and the burst. A retry costs 1. The
// result has no meaning while retries are not budgeted.
func (r *Retry) Budget() float64 {
	if r.inForce.Load().BudgetBurst == 0 {
		r.follow()
	}
	return float64(r.budget.tokens.Load()) / token
}

// Describe implements [pool.Describer]. The settings are those of [Retry.Effective]. The Multiplier
// leaves out the attempts beyond the default MaxAttempts, because these attempts send nothing.
func (r *Retry) Describe() pool.LayerInfo {
	return pool.LayerInfo{
		Layer: kind, Role: pool.RoleRetry, Multiplier: r.Effective().MaxAttempts, Settings: r.live.Texts(), Events: knownEvents,
	}
}

// Wrap implements [pool.Middleware].
func (r *Retry) Wrap(next pool.Handler) pool.Handler {
	return func(ctx context.Context, c *pool.Call) error {
		s := r.inForce.Load()
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
		if class.Fault == driver.FaultNone {
			r.succeeded(c)
		}
		return err
	}
}

// mayRepeat reports whether an error of this class allows another attempt.
func mayRepeat(class *driver.Class, idempotent bool) bool {
	return class.Fault == driver.FaultServer &&
		(class.Repeat == driver.RepeatAlways || class.Repeat == driver.RepeatIfIdempotent && idempotent)
}

// succeeded records a success. The success earns tokens if the attempt may have sent the server
// something.
func (r *Retry) succeeded(c *pool.Call) {
	r.vain.succeeded(c)
	if s := r.inForce.Load(); s.budgeted() && c.Asked() {
		r.budget.earn(s.perSuccess)
	}
}

// again makes the attempts after the first attempt. err and class are the first attempt's.
func (r *Retry) again(ctx context.Context, c *pool.Call, next pool.Handler, s *inForce, err error, class driver.Class) error {
	a, _ := r.series.Get().(*series)
	a.begin(s)
	defer func() { a.end(); r.series.Put(a) }()
	began := time.Now()
	for n := 1; ; n++ {
		a.failed(err, &class)
		delay, free := a.delay(class.RetryAfter), false
		if n >= s.MaxAttempts && s.bridges(err, began) {
			delay, free = min(delay, bridgePause), true
		}
		paused, reason := r.pause(ctx, c, s, n, delay, free)
		if reason != "" {
			return r.giveUp(ctx, c, a, paused, &Error{Attempts: n, Reason: reason, Err: err, class: class})
		}
		c.SetAttempt(n + 1)
		a.announce(c, pool.Event{Kind: pool.EventRetry, Layer: kind, Attempt: n, Reason: class.Type, Duration: paused, Err: err})
		latest := next(ctx, c)
		c.BeforeAcquire(nil)
		later := c.Classify(latest)
		if !a.reached.Load() && refused(&later) {
			if !free {
				r.giveBack(s)
			}
			c.SetAttempt(n)
			class.RetryAfter = later.RetryAfter
			return r.giveUp(ctx, c, a, paused, &Error{Attempts: n, Reason: ReasonRefused, Err: err, Refusal: latest, class: class})
		}
		a.report(ctx, c) // for an attempt that a layer inside answered in place of the pool
		if _, _, granted := c.Acquired(); granted && !c.Asked() && !free {
			r.giveBack(s) // nothing was sent: the attempt added no load to the server
		}
		err, class = latest, later
		switch {
		case class.Fault == driver.FaultNone: // a success, or an error answered by a healthy server
			r.succeeded(c)
			return err
		case class.Fault == driver.FaultElsewhere:
			return err
		case !mayRepeat(&class, c.Op().Idempotent):
			return &Error{
				Pool: c.Identity().Name, Attempts: n + 1, Reason: ReasonFinal,
				Err: err, Earlier: a.earlier(&class), context: contextError(ctx), class: class,
			}
		}
	}
}

// refused reports whether a layer inside refused an attempt that has not reached the pool. With
// another fault, the layer answered in place of the pool.
func refused(class *driver.Class) bool {
	return class.Fault != driver.FaultNone && class.Fault != driver.FaultServer
}

// pause waits before the attempt after the nth attempt, and pays for the next attempt. took is the
// length of the pause. reason tells why no further attempt may follow; reason is "" if another
// attempt may follow. A free attempt is beyond MaxAttempts, and costs no token.
func (r *Retry) pause(ctx context.Context, c *pool.Call, s *inForce, n int, delay time.Duration, free bool) (took time.Duration, reason string) {
	switch {
	case n >= s.MaxAttempts && !free:
		return 0, ReasonAttempts
	case ctx.Err() != nil:
		return 0, over(ctx)
	case !fits(ctx, delay):
		return 0, ReasonDeadline
	case s.budgeted() && !free && (n == 1 && !r.vain.allows(c) || !r.spend(s)):
		return 0, ReasonBudget
	}
	if took = wait(ctx, delay); ctx.Err() == nil {
		return took, ""
	}
	if !free {
		r.giveBack(s)
	}
	return took, over(ctx)
}

// The default number of attempts ends a use about 200 ms after its first failure. Within that time
// a server that restarts, or a proxy that moves, is often not back: a bare go-redis client dials
// for two seconds. So while the pool cannot open a connection, further attempts follow, for at most
// bridge after the first failure. Nothing is sent meanwhile, and the pool makes a dial at a time,
// whatever the number of attempts. If the server is down, the breaker ends the attempts.
const (
	bridge      = 500 * time.Millisecond
	bridgePause = 100 * time.Millisecond
)

// bridges reports whether an attempt beyond MaxAttempts may follow err, because the pool could not
// open a connection. began is the time of the first failure. A MaxAttempts that is set holds as it
// is.
func (s *inForce) bridges(err error, began time.Time) bool {
	return s.automatic && errors.Is(err, pool.ErrOpen) && time.Since(began) < bridge
}

// fits reports whether a pause of delay ends before the deadline of ctx.
func fits(ctx context.Context, delay time.Duration) bool {
	deadline, ok := ctx.Deadline()
	return !ok || delay < time.Until(deadline)
}

// wait waits for delay, or until ctx ends, and returns the time waited.
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

// spend pays for an attempt, and reports whether the budget had a token.
func (r *Retry) spend(s *inForce) bool {
	if s.BudgetBurst == 0 {
		r.follow()
	}
	return r.budget.spend()
}

// giveBack returns the token of an attempt that was not made, or that sent nothing.
func (r *Retry) giveBack(s *inForce) {
	if s.budgeted() {
		r.budget.earn(token)
	}
}

// over returns the reason for the end of ctx, ReasonDeadline or ReasonCanceled. ctx must be over.
func over(ctx context.Context) (reason string) {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return ReasonDeadline
	}
	return ReasonCanceled
}

// giveUp reports that no further attempt follows, and completes e, the error of the use. paused is
// the length of the last pause.
func (r *Retry) giveUp(ctx context.Context, c *pool.Call, a *series, paused time.Duration, e *Error) error {
	if e.Attempts > 1 && e.Reason != ReasonRefused && e.Reason != ReasonCanceled {
		r.vain.failed(c)
	}
	c.Emit(ctx, pool.Event{Kind: pool.EventGaveUp, Layer: kind, Attempt: e.Attempts, Reason: e.Reason, Duration: paused, Err: e.Err})
	e.Pool, e.Earlier = c.Identity().Name, a.earlier(&e.class)
	e.context = contextError(ctx)
	switch {
	case e.Reason == ReasonCanceled:
		e.class = driver.Class{Fault: driver.FaultCaller, Repeat: driver.RepeatNever, Type: "canceled"}
	case e.Reason == ReasonDeadline && e.context == nil:
		e.context = context.DeadlineExceeded
	}
	return e
}

// inForce holds the Config in force and the values computed from the Config. A change replaces
// both.
type inForce struct {
	Config

	// A nominal pause d is drawn from middle*d, plus or minus the share spread.
	middle, spread float64
	perSuccess     int64 // millionths of a token for each success; 0: no budget
	automatic      bool  // MaxAttempts is not set
}

func newInForce(cfg Config) *inForce {
	jitter := max(cfg.Jitter, 0)
	s := &inForce{Config: cfg, middle: 1 - jitter/2, spread: jitter / (2 - jitter)}
	if cfg.Budget > 0 {
		s.perSuccess = max(int64(math.Round(cfg.Budget*token)), 1)
	}
	return s
}

func (s *inForce) budgeted() bool { return s.perSuccess > 0 }

// burst returns the budget's limit in millionths of a token. pooled is the burst for a BudgetBurst
// of 0.
func (s *inForce) burst(pooled int64) int64 {
	if s.BudgetBurst > 0 {
		pooled = int64(s.BudgetBurst)
	}
	return pooled * token
}
