package timeout

import (
	"cmp"
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/settings"
)

// Timeout is a layer that bounds time, made by [NewTotal] or [NewAttempt]. A Timeout may be used
// around several pools. All methods may be called concurrently. There is nothing to close.
type Timeout struct {
	live     *settings.Live[Config]
	kind     string
	role     pool.Role
	stage    Stage
	about    error
	standard time.Duration // default for a Limit of 0, see limit
	inForce  atomic.Pointer[inForce]
	attached pool.Attached
	known    known // the quick operations; used by NewAttempt with a Limit of 0
}

// inForce are the values replaced by a change of settings.
type inForce struct {
	Config

	limit time.Duration // Config.Limit, or the default for 0
	cause *Error
}

// NewTotal returns the layer that bounds the whole use. The layer's place is outside of retry. The
// error is the error of [Config.Validate].
func NewTotal(cfg Config) (*Timeout, error) {
	t := &Timeout{kind: "timeout.total", role: pool.RoleTotal, stage: StageTotal, about: ErrTotal, standard: defaultTotal}
	return t.configured(totalSpec, cfg)
}

// NewAttempt returns the layer that bounds each attempt. The layer's place is inside of retry and
// breaker, so the breaker judges an attempt over the limit. The error is the error of
// [Config.Validate].
func NewAttempt(cfg Config) (*Timeout, error) {
	t := &Timeout{kind: "timeout.attempt", role: pool.RoleAttempt, stage: StageAttempt, about: ErrAttempt, standard: defaultAttempt}
	return t.configured(attemptSpec, cfg)
}

// configured puts cfg in force in a new layer.
func (t *Timeout) configured(spec *settings.Spec[Config], cfg Config) (*Timeout, error) {
	t.known.made = time.Now()
	live, err := settings.New(spec, cfg, settings.Hooks[Config]{
		Validate: func(c Config) error { return c.validate(spec) }, Apply: t.configure, Report: t.report,
	})
	if err != nil {
		return nil, err
	}
	t.live = live
	t.configure(cfg)
	return t, nil
}

// Config returns the settings declared by NewTotal, NewAttempt or Configure: a field that was not
// set is 0.
func (t *Timeout) Config() Config { return t.live.Config() }

// Effective returns the settings in force: the merge of all sources. A Limit of 0 stays 0, because
// the limit depends on the caller's deadline.
func (t *Timeout) Effective() Config { return t.live.Effective() }

// Tuning implements [settings.Tunable].
func (t *Timeout) Tuning() *settings.Tuning { return t.live.Tuning() }

// configure puts cfg in force.
func (t *Timeout) configure(cfg Config) {
	limit := cmp.Or(cfg.Limit, t.standard)
	t.inForce.Store(&inForce{cfg, limit, newCause(t.stage, t.about, limit)})
}

func (t *Timeout) report(r settings.Result) {
	t.attached.Emit(pool.Event{Kind: pool.EventConfigured, Layer: t.kind, Settings: &r})
}

// Configure replaces the settings declared by code. A field declared by a higher source keeps its
// value (see package settings); the pools then report a warning. New settings hold for uses and
// attempts that begin later; existing deadlines stay. Configure reports a [pool.EventConfigured].
// After an error, the settings are unchanged.
func (t *Timeout) Configure(cfg Config) error { return t.live.Configure(cfg) }

// Describe implements [pool.Describer]. LayerInfo.Limit is the default for a Limit of 0.
func (t *Timeout) Describe() pool.LayerInfo {
	return pool.LayerInfo{
		Layer: t.kind, Role: t.role, Limit: max(t.inForce.Load().limit, 0), Settings: t.live.Texts(),
		Events: []pool.Event{
			{Kind: pool.EventTimeout, Reason: string(t.stage)}, {Kind: pool.EventRejected, Reason: typeBegin}, {Kind: pool.EventConfigured},
		},
	}
}

// Attach implements [pool.Attacher]. The observers of the pool receive the event of Configure.
func (t *Timeout) Attach(p pool.PoolInfo) (detach func(), err error) { return t.attached.Add(p), nil }

// attempt is the state of a use or an attempt in the layer.
type attempt struct {
	ctx      context.Context // with the deadline, if there is one
	deadline *pool.Deadline  // nil if the limit does not apply
	cause    *Error          // cause of the context after the deadline
	began    time.Time
	learns   bool    // the default limit applies if the operation is quick
	op       *record // record of the operation; nil: no record
	// rest: the default limit has cut an attempt of this use, so this attempt has all of the remaining
	// time.
	rest bool
	cut  bool // the limit has cut the attempt at the server
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

// begin sets the deadline and fills in a, or rejects the use.
func (t *Timeout) begin(ctx context.Context, c *pool.Call, a *attempt) error {
	s := t.inForce.Load()
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

// limit returns the limit of a use that begins at now, without regard to the record of its
// operation. The limit is 0 or less if none applies.
func (t *Timeout) limit(c *pool.Call, s *inForce, now time.Time) time.Duration {
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

// learns reports whether the limit is the default for an attempt: neither Config.Limit nor Op.Limit
// is set.
func (t *Timeout) learns(c *pool.Call, s *inForce) bool {
	return t.role == pool.RoleAttempt && s.Limit == 0 && c.Op().Limit == 0 && !c.TwoStep()
}

// learned returns the default limit if the operation is quick and no earlier attempt of the use was
// cut. Otherwise learned returns 0, so the attempt has all of the time left by ctx. learned also
// returns 0 if the deadline of ctx is nearer than the limit. If ctx has no deadline, learned
// returns at least the default limit of a use in place of 0.
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

// learn updates the record of the operation after an attempt. err is the outcome of the attempt.
// The server may have been asked something in the attempt.
func (t *Timeout) learn(ctx context.Context, c *pool.Call, a *attempt, err error) {
	switch {
	case err == nil:
		t.known.answered(c, a.op, a.began)
	case a.cut, a.rest && isOver(ctx) && !errors.Is(ctx.Err(), context.Canceled) && cutShort(c, err):
		if a.op.isQuick() {
			t.known.cutShort(a.op, a.began)
			c.SetValue(t, a.op)
		}
	// an answer of the server, though an error
	case !a.op.isQuick() && c.Classify(err).Fault == driver.FaultNone:
		t.known.answered(c, a.op, a.began)
	}
}

// refuse reports the rejection of a use with too little time, and returns the error.
func (t *Timeout) refuse(ctx context.Context, c *pool.Call, left time.Duration) error {
	err := newRefusal(left, c.Identity().Name)
	c.Emit(ctx, pool.Event{Kind: pool.EventRejected, Layer: t.kind, Reason: err.class.Type, Err: err})
	return err
}

// bounds reports whether the limit counts from the acquisition of the resource: a limit for an
// attempt. In a two-step use, only an explicit Op.Limit counts from the acquisition. The limit of
// an attempt otherwise covers the acquisition.
func (t *Timeout) bounds(c *pool.Call) bool {
	return t.role == pool.RoleAttempt && (!c.TwoStep() || c.Op().Limit > 0)
}

// within calls next under the deadline d. d ends with the use, or with its acquisition in a
// two-step use, or with the lease if d bounds the lease.
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

// timedOut returns err, wrapped into an Error if the limit caused err.
func (t *Timeout) timedOut(ctx context.Context, c *pool.Call, a *attempt, err error) error {
	e := translate(ctx, a.cause, c, err)
	if e == nil {
		return err
	}
	a.cut = e.class.Fault == driver.FaultServer
	c.Emit(ctx, pool.Event{Kind: pool.EventTimeout, Layer: t.kind, Reason: string(e.Stage), Duration: e.Limit, Err: e})
	return e
}
