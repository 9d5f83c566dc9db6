package breaker

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/earnorm/poolstack/pool"
)

// layer is what the breaker does at the beginning and the end of a use.
type layer struct{ b *Breaker }

// shortStep is of windows for which 10 ms matter.
const shortStep = 100 * time.Millisecond

// admission is how a use came through: in closed with the window its outcome belongs to, in half-open with a probe's permit.
type admission struct {
	window *window
	probe  *probe
	began  time.Duration // by the pool's coarse clock
	run    uint64        // window.runs
}

// Begin admits the use or refuses it.
func (l layer) Begin(ctx context.Context, c *pool.Call) (context.Context, admission, error) {
	b := l.b
	p := b.phase.Load()
	if p.state == StateClosed {
		return ctx, admission{window: p.window, began: c.Clock().Sub(b.start), run: p.window.runs.Load()}, nil
	}
	if p.state == StateOpen {
		if left := p.until - b.elapsed(); left > 0 {
			return ctx, admission{}, b.refuse(ctx, c, p.refusal, left)
		}
	}
	a, refusal, event := b.admit()
	if event != nil {
		b.announce(ctx, c, a, event)
	}
	if refusal != nil {
		return ctx, admission{}, b.refuse(ctx, c, refusal, refusal.retryAfter())
	}
	return ctx, a, nil
}

// announce emits what the admission a has changed. An observer that panics leaves the use without an End, so that a probe's permit is
// given back here.
func (b *Breaker) announce(ctx context.Context, c *pool.Call, a admission, event *pool.Event) {
	told := false
	defer func() {
		if !told && a.probe != nil {
			b.giveBack(a.probe)
		}
	}()
	c.Emit(ctx, *event)
	told = true
}

// End counts the outcome.
func (l layer) End(ctx context.Context, c *pool.Call, a admission, err error) {
	b := l.b
	if err == nil && !c.Asked() {
		if a.probe != nil {
			b.giveBack(a.probe)
		}
		return
	}
	if err == nil && a.probe == nil {
		b.succeed(c, &a)
		return
	}
	class := c.Classify(err)
	if class.Fault != pool.FaultNone && class.Code == "" && pastDeadline(ctx) {
		class.Fault = b.blame(c, &a, class.Fault)
	}
	switch {
	case a.probe != nil:
		report(ctx, c, b.settle(a.probe, class))
	case class.Fault == pool.FaultNone:
		b.succeed(c, &a)
	case class.Fault == pool.FaultServer:
		from, to := c.Served()
		f := failure{run: a.run, to: b.elapsed(), answered: class.Code != "" && !class.Broken, errorType: class.Type}
		if !from.IsZero() {
			f.from = from.Sub(b.start)
		}
		if !to.IsZero() {
			f.to = to.Sub(b.start)
		}
		report(ctx, c, b.evaluate(a.window, &f))
	}
}

// succeed counts a success, and notes how long the server needed for it if that was long.
func (b *Breaker) succeed(c *pool.Call, a *admission) {
	now := c.Clock().Sub(b.start)
	if took := now - a.began; took >= 2*tick {
		wait, _, _ := c.Acquired()
		if took -= wait; took >= 2*tick {
			a.window.needs.note(c.Op().Name, took)
		}
	}
	if a.window.step < shortStep {
		now = b.elapsed()
	}
	a.window.success(now, c.Shard())
}

// pastDeadline says whether a deadline that was set further out, by the caller or by the limit of the whole use, has passed.
func pastDeadline(ctx context.Context) bool {
	d, ok := ctx.Deadline()
	return ok && !errors.Is(ctx.Err(), context.Canceled) && time.Until(d) <= 0
}

// blame says whose fault it is that a deadline passed that the breaker does not know: the server's, if it has had the call for much longer
// than it lately needed, else nobody's that counts.
func (b *Breaker) blame(c *pool.Call, a *admission, fault pool.Fault) pool.Fault {
	if _, _, granted := c.Acquired(); !granted || c.TwoStep() || c.Op().Limit < 0 {
		return fault // the pool has looked at the wait; a lease is its borrower's time; an operation that is meant to block has blocked
	}
	w := a.window
	if w == nil {
		w = &window{needs: b.needs}
	}
	now := b.elapsed()
	held := now - a.began
	if from, to := c.Served(); !from.IsZero() && !to.IsZero() {
		held = to.Sub(from)
	}
	successes := int64(0)
	if len(w.buckets) > 0 {
		successes = w.counts(now).Successes
	}
	if held >= w.needs.muchLonger(c.Op().Name, successes) {
		return pool.FaultServer
	}
	return pool.FaultCaller
}

func (b *Breaker) refuse(ctx context.Context, c *pool.Call, e *OpenError, left time.Duration) error {
	b.refused.Add(1)
	if c.Observed() {
		c.Emit(ctx, pool.Event{Kind: pool.EventRejected, Layer: kind, Reason: e.errorType(), Err: e, Duration: left})
	}
	return e
}

// report emits event, if there is one. No lock is held.
func report(ctx context.Context, c *pool.Call, event *pool.Event) {
	if event != nil {
		c.Emit(ctx, *event)
	}
}

// circuitSettings makes gobreaker a bare state machine. Its own counts see no successes and are ignored; its open period, the shortest it
// can be told, is over by the time ours is; one verdict ends a round of probes.
func (b *Breaker) circuitSettings() gobreaker.Settings {
	return gobreaker.Settings{
		MaxRequests:   1,
		Timeout:       time.Nanosecond,
		ReadyToTrip:   func(gobreaker.Counts) bool { return b.tripped() },
		OnStateChange: func(_ string, _, to gobreaker.State) { b.moved, b.next = true, stateOf(to) },
	}
}

func stateOf(s gobreaker.State) State {
	switch s {
	case gobreaker.StateOpen:
		return StateOpen
	case gobreaker.StateHalfOpen:
		return StateHalfOpen
	case gobreaker.StateClosed:
	}
	return StateClosed
}

var errFailed = errors.New("failed")

// What gobreaker is given to execute: the outcome, as the call itself is over.
func succeeded() (struct{}, error) { return struct{}{}, nil }
func failed() (struct{}, error)    { return struct{}{}, errFailed }

// tell gives gobreaker an outcome. It is called under mu, like all that follow.
func (b *Breaker) tell(outcome func() (struct{}, error)) {
	_, _ = b.circuit.Execute(outcome) // it returns what it was given
}

// evaluate has the rules looked at after a failure was counted in w, unless the closed state that w belongs to is over.
func (b *Breaker) evaluate(w *window, f *failure) *pool.Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	if evidence := w.failure(b.elapsed(), f); !evidence && !f.answered || b.phase.Load().window != w {
		return nil
	}
	b.failing, b.answered = f.errorType, f.answered
	b.tell(failed)
	return b.follow(b.trip.Rule)
}

// tripped is asked by gobreaker, after each failure that evaluate reports, whether to open.
func (b *Breaker) tripped() bool {
	cfg := b.cfg.Load()
	n := b.phase.Load().window.counts(b.elapsed())
	rule := cfg.rule(n)
	if rule == "" || rule == ReasonConsecutive && !b.convincing(n) {
		return false
	}
	limit := cfg.FailureRatio
	if rule == ReasonConsecutive {
		limit = float64(cfg.ConsecutiveFailures)
	}
	b.trip = Trip{At: time.Now(), Rule: rule, Counts: n, Window: cfg.Window, Limit: limit, ErrorType: b.failing}
	return true
}

// convincing says whether a run of failures says more than that some calls fail. Where calls fail now and then, as many in a row come about by
// chance: with enough traffic for FailureRatio, a run must be as long as chance does not make it in a million calls. And what happens to connections, unlike an answer, may be over in a moment, which retry bridges.
func (b *Breaker) convincing(n Counts) bool {
	w, cfg := b.phase.Load().window, b.cfg.Load()
	if !b.answered && b.elapsed()-w.firstEnd < min(cfg.OpenFor, lasting) {
		return false
	}
	failures, calls := n.Failures-n.Consecutive, n.Calls()-n.Consecutive
	if cfg.FailureRatio < 0 || failures <= 0 || calls < int64(cfg.MinCalls) {
		return true
	}
	return float64(n.Consecutive)*math.Log(float64(failures)/float64(calls)) <= chance
}

const (
	lasting = 250 * time.Millisecond
	chance  = -13.8 // the logarithm of one in a million
)

// admit decides about a use that has not found the breaker closed: it ends an open period that is over, and gives out a permit.
func (b *Breaker) admit() (a admission, refusal *OpenError, event *pool.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	cfg, p, now := b.cfg.Load(), b.phase.Load(), b.elapsed()
	switch {
	case p.state == StateOpen && now >= p.until && b.seen:
		b.circuit.State() // moves it to half-open
		event = b.follow(ReasonPeriodOver)
	case p.state == StateHalfOpen:
		p.round.expire(now, cfg.ProbeTimeout)
		event = b.conclude(p.round)
	}
	p = b.phase.Load()
	switch p.state {
	case StateClosed:
		return admission{window: p.window, began: now, run: p.window.runs.Load()}, nil, event
	case StateHalfOpen:
		if probe := p.round.begin(now, cfg.Probes); probe != nil {
			return admission{probe: probe, began: now}, nil, event
		}
	case StateOpen:
	}
	return admission{}, p.refusal, event
}

// settle ends a probe. It counts nothing when its round is over, or when it was given up as lost.
func (b *Breaker) settle(p *probe, class pool.Class) *pool.Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := p.round
	if b.phase.Load().round != r || !r.end(p) {
		return nil
	}
	r.expire(b.elapsed(), b.cfg.Load().ProbeTimeout)
	switch class.Fault {
	case pool.FaultNone:
		r.successes++
	case pool.FaultServer:
		r.fail(ReasonProbeFailed, class.Type)
	case pool.FaultCaller, pool.FaultLocal, pool.FaultElsewhere: // nothing: another may try
	}
	return b.conclude(r)
}

// giveBack ends a probe that was none.
func (b *Breaker) giveBack(p *probe) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p.round.end(p)
}

// conclude gives gobreaker the verdict of the current round if there is one.
func (b *Breaker) conclude(r *round) *pool.Event {
	cfg := b.cfg.Load()
	switch {
	case r.failures > cfg.ProbeFailures:
		b.rounds++
		b.probed = r.errorType
		b.tell(failed)
		return b.follow(r.reason)
	case r.successes >= cfg.ProbeSuccesses:
		b.tell(succeeded)
		return b.follow(ReasonProbesPassed)
	}
	return nil
}

// follow begins the phase that gobreaker has moved to, and returns what is to be reported; nil when it has not moved.
func (b *Breaker) follow(reason string) *pool.Event {
	if !b.moved {
		return nil
	}
	b.moved = false
	p := &phase{state: b.next, since: time.Now()}
	event := &pool.Event{
		Kind: pool.EventStateChanged, Layer: kind, From: b.phase.Load().state.String(), To: p.state.String(), Reason: reason,
	}
	switch p.state {
	case StateClosed:
		b.trip, b.rounds, b.probed = Trip{}, 0, ""
		p.window = newWindow(b.cfg.Load(), b.needs)
	case StateOpen:
		b.opened++
		b.draw = rand.Float64()
		b.schedule(p)
		b.look()
		event.Duration, event.Err = p.refusal.retryAfter(), p.refusal
	case StateHalfOpen:
		p.round = &round{}
		p.refusal = b.refusal(StateHalfOpen)
	}
	b.phase.Store(p)
	return event
}
