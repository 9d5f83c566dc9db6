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
		limit = "half of the caller's time, at least " + limit
	}
	return pool.LayerInfo{
		Kind: t.kind, Role: t.role, Limit: max(s.limit, 0),
		Settings: map[string]string{"limit": limit, "min_left": s.MinLeft.String()},
	}
}

// Attach implements [pool.Attacher]: the pool's observers will hear of Configure.
func (t *Timeout) Attach(p pool.PoolInfo) (detach func(), err error) { return t.attached.Add(p), nil }

// Wrap implements [pool.Middleware].
func (t *Timeout) Wrap(next pool.Handler) pool.Handler {
	return func(ctx context.Context, c *pool.Call) error {
		inner, d, cause, err := t.begin(ctx, c)
		switch {
		case err != nil:
			return err
		case d == nil: // there is no limit, or the context's own deadline is nearer
			return next(ctx, c)
		}
		err = t.within(inner, c, d, next)
		if err == nil || !d.Passed() || errors.Is(ctx.Err(), context.Canceled) {
			return err
		}
		return t.timedOut(ctx, c, cause, err)
	}
}

// begin sets the deadline, or refuses the use. cause is the cause of the context when the deadline has passed.
func (t *Timeout) begin(ctx context.Context, c *pool.Call) (inner context.Context, d *pool.Deadline, cause *Error, err error) {
	s, now := t.settings.Load(), time.Now()
	if deadline, ok := ctx.Deadline(); ok {
		if left := deadline.Sub(now); left <= 0 || left < s.MinLeft {
			return nil, nil, nil, t.refuse(ctx, c, left)
		}
	}
	limit := t.limit(c, s, now)
	if cause = s.cause; limit != cause.Limit && limit > 0 {
		named := *cause
		named.Limit, cause = limit, &named
	}
	switch {
	case limit <= 0:
		inner = ctx
	case t.bounds(c):
		inner, d = pool.WithLimit(ctx, c, now, limit, cause)
	default:
		inner, d = pool.WithUseLimit(ctx, c, now, limit, cause)
	}
	return inner, d, cause, nil
}

// limit returns the limit of a use that begins now; 0 or less: none.
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
func (t *Timeout) timedOut(ctx context.Context, c *pool.Call, cause *Error, err error) error {
	e := translate(ctx, cause, c, err)
	if e == nil {
		return err
	}
	c.Emit(ctx, pool.Event{Kind: pool.EventTimeout, Layer: t.kind, Reason: string(e.Stage), Duration: e.Limit, Err: e})
	return e
}
