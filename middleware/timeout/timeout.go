package timeout

import (
	"cmp"
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/earnorm/poolstack/pool"
)

// Timeout is a layer that bounds time. It is made by [NewTotal] or [NewAttempt]; one may be put around several pools. All methods may be
// called concurrently.
type Timeout struct {
	kind     string
	role     pool.Role
	stage    Stage
	about    error
	standard time.Duration // what a Limit of 0 stands for, if the caller's deadline asks for nothing else
	settings atomic.Pointer[settings]
	attached pool.Attached
	known    known // for the default limit of an attempt
}

// settings are what Configure replaces.
type settings struct {
	Config

	limit time.Duration // Config.Limit, or what 0 stands for
	cause *Error
}

// NewTotal makes the layer that bounds the whole use; its place is outside of retry. The error is that of [Config.Validate].
func NewTotal(cfg Config) (*Timeout, error) {
	t := &Timeout{kind: "timeout.total", role: pool.RoleTotal, stage: StageTotal, about: ErrTotal, standard: defaultTotal}
	return t.configured(cfg)
}

// NewAttempt makes the layer that bounds each attempt; its place is inside of retry and breaker, so that the breaker judges an attempt
// that took too long. The error is that of [Config.Validate].
func NewAttempt(cfg Config) (*Timeout, error) {
	t := &Timeout{kind: "timeout.attempt", role: pool.RoleAttempt, stage: StageAttempt, about: ErrAttempt, standard: defaultAttempt}
	return t.configured(cfg)
}

func (t *Timeout) configured(cfg Config) (*Timeout, error) {
	t.known.made = time.Now()
	if err := t.Configure(cfg); err != nil {
		return nil, err
	}
	return t, nil
}

// Config returns the settings in force. A Limit of 0 stays 0, as the caller's deadline decides what the limit is.
func (t *Timeout) Config() Config { return t.settings.Load().Config }

// Configure puts other settings in force, for what begins from now on: deadlines already set stay. It is reported as a
// [pool.EventConfigured]. After an error nothing has changed.
func (t *Timeout) Configure(cfg Config) error {
	filled := cfg
	filled.Limit = cmp.Or(cfg.Limit, t.standard)
	if err := filled.Validate(); err != nil {
		return err
	}
	t.settings.Store(&settings{cfg, filled.Limit, newCause(t.stage, t.about, filled.Limit)})
	t.attached.Emit(pool.Event{Kind: pool.EventConfigured, Layer: t.kind})
	return nil
}

// Describe implements [pool.LayerDescriber].
func (t *Timeout) Describe() pool.LayerInfo {
	s := t.settings.Load()
	limit := "none"
	if s.limit > 0 {
		limit = s.limit.String()
	}
	switch {
	case s.Limit != 0:
	case t.role == pool.RoleTotal:
		limit = "the caller's deadline, or " + limit
	default:
		limit = "half of the caller's time, at least " + limit + "; none for slow operations"
	}
	return pool.LayerInfo{
		Kind: t.kind, Role: t.role, Limit: max(s.limit, 0),
		Settings: map[string]string{"limit": limit, "min_left": s.MinLeft.String()},
	}
}

// Attach implements [pool.Attacher]: the pool's observers will hear of Configure.
func (t *Timeout) Attach(p pool.PoolInfo) (detach func(), err error) { return t.attached.Add(p), nil }

// attempt is a use, or an attempt of one, on its way through the layer.
type attempt struct {
	ctx      context.Context // with the deadline, if there is one
	deadline *pool.Deadline  // nil if there is no limit, or the context's own deadline is nearer
	cause    *Error          // of the context when the deadline has passed
	began    time.Time
	learns   bool    // the default limit holds, if the operation is known to be quick
	op       *record // what is known of the operation; nil: nothing
	rest     bool    // the default limit has cut an attempt of this use, and this attempt has the rest of the time
	cut      bool    // by the limit, in the midst of what the server does
}

// Wrap implements [pool.Middleware].
func (t *Timeout) Wrap(next pool.Handler) pool.Handler {
	return func(ctx context.Context, c *pool.Call) error {
		var a attempt
		err := t.begin(ctx, c, &a)
		if err != nil {
			return err
		}
		if a.deadline == nil {
			err = next(ctx, c)
		} else {
			err = t.within(a.ctx, c, a.deadline, next)
		}
		if err != nil && a.deadline.Passed() && !errors.Is(ctx.Err(), context.Canceled) {
			err = t.timedOut(ctx, c, &a, err)
		}
		if a.learns && c.Asked() {
			t.learn(ctx, c, &a, err)
		}
		return err
	}
}

// begin sets the deadline, and fills in a, or refuses the use.
func (t *Timeout) begin(ctx context.Context, c *pool.Call, a *attempt) error {
	s := t.settings.Load()
	a.began = time.Now()
	if deadline, ok := ctx.Deadline(); ok {
		if left := deadline.Sub(a.began); left <= 0 || left < s.MinLeft {
			return t.refuse(ctx, c, left)
		}
	}
	limit := t.limit(c, s, a.began)
	if t.learns(c, s) {
		limit = t.learned(ctx, c, limit, a)
	}
	if a.cause = s.cause; limit != a.cause.Limit && limit > 0 {
		named := *a.cause
		named.Limit, a.cause = limit, &named
	}
	switch {
	case limit <= 0:
	case t.bounds(c):
		a.ctx, a.deadline = pool.WithLimit(ctx, c, a.began, limit, a.cause)
	default:
		a.ctx, a.deadline = pool.WithUseLimit(ctx, c, a.began, limit, a.cause)
	}
	return nil
}

// limit returns the limit of a use that begins now, whatever is known of its operation; 0 or less: none.
func (t *Timeout) limit(c *pool.Call, s *settings, now time.Time) time.Duration {
	own := c.Op().Limit
	if t.role == pool.RoleAttempt && own != 0 {
		return own
	}
	if s.Limit != 0 {
		return s.limit
	}
	deadline, ok := c.CallerDeadline()
	switch {
	case !ok:
		return s.limit
	case t.role == pool.RoleTotal:
		return 0
	}
	return max(s.limit, deadline.Sub(now)/2)
}

// learns says whether the limit is the default of what the server does: neither the user nor the operation has set another.
func (t *Timeout) learns(c *pool.Call, s *settings) bool {
	return t.role == pool.RoleAttempt && s.Limit == 0 && c.Op().Limit == 0 && !c.TwoStep()
}

// learned returns the default limit if it holds for the operation; 0 if the attempt has all of the time that ctx leaves. Where ctx leaves time
// without end, that is as long as a use has by default.
func (t *Timeout) learned(ctx context.Context, c *pool.Call, limit time.Duration, a *attempt) time.Duration {
	deadline, ok := ctx.Deadline()
	a.rest = c.Attempt() > 1 && c.Value(t) != nil
	if ok && deadline.Sub(a.began) <= limit && !a.rest {
		return 0
	}
	a.learns, a.op = true, t.known.of(c)
	switch {
	case a.op.isQuick() && !a.rest:
		return limit
	case ok:
		return 0
	}
	return max(limit, defaultTotal)
}

// learn notes what an attempt that ended with err, and that may have asked the server something, tells of its operation.
func (t *Timeout) learn(ctx context.Context, c *pool.Call, a *attempt, err error) {
	switch {
	case err == nil:
		t.known.answered(c, a.op, a.began)
	case a.cut, a.rest && isOver(ctx) && !errors.Is(ctx.Err(), context.Canceled) && cutShort(c, err):
		if a.op.isQuick() {
			t.known.cutShort(a.op, a.began)
			c.SetValue(t, a.op)
		}
	case !a.op.isQuick() && c.Classify(err).Fault == pool.FaultNone: // an answer, if not a welcome one
		t.known.answered(c, a.op, a.began)
	}
}

// refuse reports and returns the error of a use that has too little time left.
func (t *Timeout) refuse(ctx context.Context, c *pool.Call, left time.Duration) error {
	err := newRefusal(left, c.Identity().Name)
	c.Emit(ctx, pool.Event{Kind: pool.EventRejected, Layer: t.kind, Reason: err.class.Type, Err: err})
	return err
}

// bounds says whether the limit is one of what the server does, counted from the grant: that of an attempt. Of a lease, an attempt's limit
// covers the acquisition, unless it is the operation's own.
func (t *Timeout) bounds(c *pool.Call) bool {
	return t.role == pool.RoleAttempt && (!c.TwoStep() || c.Op().Limit > 0)
}

// within calls next under the deadline d, which ends with the use: with its acquisition in a two-step use, or with its lease if d bounds
// that.
func (t *Timeout) within(ctx context.Context, c *pool.Call, d *pool.Deadline, next pool.Handler) (err error) {
	err = pool.ErrAborted // after a panic or Goexit
	defer func() {
		switch {
		case err != nil || !c.TwoStep():
			d.Cancel()
		case !t.bounds(c):
			d.Lift()
		}
	}()
	err = next(ctx, c)
	return err
}

// timedOut returns err, translated if the limit brought it about.
func (t *Timeout) timedOut(ctx context.Context, c *pool.Call, a *attempt, err error) error {
	e := translate(ctx, a.cause, c, err)
	if e == nil {
		return err
	}
	a.cut = e.class.Fault == pool.FaultServer
	c.Emit(ctx, pool.Event{Kind: pool.EventTimeout, Layer: t.kind, Reason: string(e.Stage), Duration: e.Limit, Err: e})
	return e
}
