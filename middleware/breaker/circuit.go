package breaker

import (
	"context"
	"errors"
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
}

// Begin admits the use or refuses it.
func (l layer) Begin(ctx context.Context, c *pool.Call) (context.Context, admission, error) {
	b := l.b
	p := b.phase.Load()
	if p.state == StateClosed {
		return ctx, admission{window: p.window}, nil
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
	if err == nil && a.probe == nil {
		a.window.success(b.nearly(c, a.window), c.Shard())
		return
	}
	class := c.Classify(err)
	switch {
	case a.probe != nil:
		report(ctx, c, b.settle(a.probe, class))
	case class.Fault == pool.FaultNone:
		a.window.success(b.nearly(c, a.window), c.Shard())
	case class.Fault == pool.FaultServer:
		a.window.failure(b.elapsed())
		report(ctx, c, b.evaluate(a.window, class.Type))
	}
}

// nearly is when a success is counted: it may be as late as the pool's coarse clock, unless the window's steps are too short for that.
func (b *Breaker) nearly(c *pool.Call, w *window) time.Duration {
	if w.step < shortStep {
		return b.elapsed()
	}
	return c.Clock().Sub(b.start)
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
func (b *Breaker) evaluate(w *window, errorType string) *pool.Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.phase.Load().window != w {
		return nil
	}
	b.failing = errorType
	b.tell(failed)
	return b.follow(b.trip.Rule)
}

// tripped is asked by gobreaker, after each failure that evaluate reports, whether to open.
func (b *Breaker) tripped() bool {
	cfg := b.cfg.Load()
	n := b.phase.Load().window.counts(b.elapsed())
	rule := cfg.rule(n)
	if rule == "" {
		return false
	}
	limit := cfg.FailureRatio
	if rule == ReasonConsecutive {
		limit = float64(cfg.ConsecutiveFailures)
	}
	b.trip = Trip{At: time.Now(), Rule: rule, Counts: n, Window: cfg.Window, Limit: limit, ErrorType: b.failing}
	return true
}

// admit decides about a use that has not found the breaker closed: it ends an open period that is over, and gives out a permit.
func (b *Breaker) admit() (a admission, refusal *OpenError, event *pool.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	cfg, p, now := b.cfg.Load(), b.phase.Load(), b.elapsed()
	switch {
	case p.state == StateOpen && now >= p.until:
		b.circuit.State() // moves it to half-open
		event = b.follow(ReasonPeriodOver)
	case p.state == StateHalfOpen:
		p.round.expire(now, cfg.ProbeTimeout)
		event = b.conclude(p.round)
	}
	p = b.phase.Load()
	switch p.state {
	case StateClosed:
		return admission{window: p.window}, nil, event
	case StateHalfOpen:
		if probe := p.round.begin(now, cfg.Probes); probe != nil {
			return admission{probe: probe}, nil, event
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
	case pool.FaultCaller, pool.FaultLocal: // nothing: another may try
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
		p.window = newWindow(b.cfg.Load())
	case StateOpen:
		b.opened++
		b.draw = rand.Float64()
		b.schedule(p)
		event.Duration, event.Err = p.refusal.retryAfter(), p.refusal
	case StateHalfOpen:
		p.round = &round{}
		p.refusal = b.refusal(StateHalfOpen)
	}
	b.phase.Store(p)
	return event
}
