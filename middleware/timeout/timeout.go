package timeout

import (
	"context"
	"errors"
	"sync"
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
	standard time.Duration // what a Limit of 0 stands for
	settings atomic.Pointer[settings]
	handing  sync.Pool // of *handover
	attached pool.Attached
}

// settings are what Configure replaces.
type settings struct {
	Config

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
	t.handing.New = func() any { return &handover{} }
	if err := t.Configure(cfg); err != nil {
		return nil, err
	}
	return t, nil
}

// Config returns the settings in force, with defaults filled in.
func (t *Timeout) Config() Config { return t.settings.Load().Config }

// Configure puts other settings in force, for what begins from now on: deadlines already set stay. It is reported as a
// [pool.EventConfigured]. After an error nothing has changed.
func (t *Timeout) Configure(cfg Config) error {
	if cfg.Limit == 0 {
		cfg.Limit = t.standard
	}
	if err := cfg.Validate(); err != nil {
		return err
	}
	t.settings.Store(&settings{cfg, newCause(t.stage, t.about, cfg.Limit)})
	t.attached.Emit(pool.Event{Kind: pool.EventConfigured, Layer: t.kind})
	return nil
}

// Describe implements [pool.LayerDescriber].
func (t *Timeout) Describe() pool.LayerInfo {
	cfg := t.Config()
	limit := "none"
	if cfg.Limit > 0 {
		limit = cfg.Limit.String()
	}
	return pool.LayerInfo{Kind: t.kind, Role: t.role, Settings: map[string]string{"limit": limit, "min_left": cfg.MinLeft.String()}}
}

// Attach implements [pool.Attacher]: the pool's observers will hear of Configure.
func (t *Timeout) Attach(p pool.PoolInfo) (detach func(), err error) { return t.attached.Add(p), nil }

// Wrap implements [pool.Middleware].
func (t *Timeout) Wrap(next pool.Handler) pool.Handler {
	hold := pool.Bracket(holder{t}).Wrap(next)
	return func(ctx context.Context, c *pool.Call) error {
		s := t.settings.Load()
		inner, d, err := t.begin(ctx, c, s)
		switch {
		case err != nil:
			return err
		case d == nil: // the context's own deadline is nearer
			return next(ctx, c)
		case c.TwoStep():
			err = hold(t.handOver(inner, held{d, s}), c)
		default:
			err = cancelAfter(inner, c, d, next)
		}
		if err == nil || !passed(ctx, d) {
			return err
		}
		return t.timedOut(ctx, c, s, err)
	}
}

// begin sets the deadline, or refuses the use.
func (t *Timeout) begin(ctx context.Context, c *pool.Call, s *settings) (context.Context, *pool.Deadline, error) {
	now := time.Now()
	if deadline, ok := ctx.Deadline(); ok {
		if left := deadline.Sub(now); left <= 0 || left < s.MinLeft {
			err := newRefusal(left, c.Identity().Name)
			c.Emit(ctx, pool.Event{Kind: pool.EventRejected, Layer: t.kind, Reason: err.class.Type, Err: err})
			return nil, nil, err
		}
	}
	if s.Limit < 0 {
		return ctx, nil, nil
	}
	if t.role == pool.RoleAttempt {
		inner, d := pool.WithLimit(ctx, c, now, s.Limit, s.cause)
		return inner, d, nil
	}
	inner, d := pool.WithDeadline(ctx, now.Add(s.Limit), s.cause)
	return inner, d, nil
}

// cancelAfter is the one-step use, over when next has returned.
func cancelAfter(ctx context.Context, c *pool.Call, d *pool.Deadline, next pool.Handler) error {
	defer d.Cancel()
	return next(ctx, c)
}

// passed says whether d has passed, and not because the caller had cancelled: a deadline of the caller's, if any, is later than d. ctx
// is the context that d was put on.
func passed(ctx context.Context, d *pool.Deadline) bool {
	return d.Passed() && !errors.Is(ctx.Err(), context.Canceled)
}

// timedOut returns err, translated if the limit brought it about. A two-step use that had its resource reports the event in its End.
func (t *Timeout) timedOut(ctx context.Context, c *pool.Call, s *settings, err error) error {
	e := translate(ctx, s.cause, c, err)
	if e == nil {
		return err
	}
	if _, _, granted := c.Acquired(); !granted || !c.TwoStep() {
		t.report(ctx, c, e)
	}
	return e
}

func (t *Timeout) report(ctx context.Context, c *pool.Call, e *Error) {
	c.Emit(ctx, pool.Event{Kind: pool.EventTimeout, Layer: t.kind, Reason: string(e.Stage), Duration: e.Limit, Err: e})
}

// held is what a two-step use keeps until its lease is released.
type held struct {
	d *pool.Deadline
	s *settings
}

// handover carries a held from Wrap to the holder's Begin, without an allocation. It is no context that anybody else gets to see.
type handover struct {
	context.Context

	held held
}

func (t *Timeout) handOver(ctx context.Context, h held) *handover {
	o, _ := t.handing.Get().(*handover)
	o.Context, o.held = ctx, h
	return o
}

// reported is the key under which a Call has the number of the attempt whose outcome a timeout layer has reported. Unlike in a one-step
// use the outcome itself does not say so to the layers further out, whose limits passed later.
type reported struct{}

// holder is the Bracket of two-step uses: it keeps the deadline alive until the lease is released.
type holder struct{ t *Timeout }

// Begin takes what Wrap hands over.
func (h holder) Begin(ctx context.Context, _ *pool.Call) (context.Context, held, error) {
	o, ok := ctx.(*handover)
	if !ok {
		return ctx, held{}, nil
	}
	inner, kept := o.Context, o.held
	*o = handover{}
	h.t.handing.Put(o)
	return inner, kept, nil
}

// End cancels the deadline. The borrower's outcome cannot be translated any more, but that its time was up is reported; an acquisition
// that came to nothing is left to Wrap.
func (h holder) End(ctx context.Context, c *pool.Call, kept held, err error) {
	defer kept.d.Cancel()
	if _, _, granted := c.Acquired(); err == nil || !granted || !passed(ctx, kept.d) || c.Value(reported{}) == c.Attempt() {
		return
	}
	if e := translate(ctx, kept.s.cause, c, err); e != nil {
		c.SetValue(reported{}, c.Attempt())
		h.t.report(ctx, c, e)
	}
}
