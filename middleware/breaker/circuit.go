package breaker

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
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
	began  time.Duration // Call.Tick
	run    uint64        // the number of failures that counted, when the use began
}

// Begin admits the use or refuses it.
func (l layer) Begin(ctx context.Context, c *pool.Call) (context.Context, admission, error) {
	p := l.b.phase.Load()
	if p.state == StateClosed {
		return ctx, newAdmission(c, p), nil
	}
	a, refusal := l.b.enter(ctx, c, p)
	if refusal != nil {
		return ctx, admission{}, l.b.refuse(ctx, c, refusal)
	}
	return ctx, a, nil
}

// newAdmission admits a use in p, a closed phase.
func newAdmission(c *pool.Call, p *phase) admission {
	return admission{window: p.window, began: c.Tick(), run: p.window.number.Load()}
}

// enter is Begin for a use that has found the breaker in p, and p is not closed.
func (b *Breaker) enter(ctx context.Context, c *pool.Call, p *phase) (admission, *OpenError) {
	concerned, refused := b.scope.Load().covers(ctx, c)
	refusal := p.refusal
	if b.wantsProbe(p, concerned) {
		var a admission
		var event *pool.Event
		a, refusal, event = b.admit(c)
		b.announce(ctx, c, a, event)
		if refusal == nil {
			if a.probe != nil {
				a.probe.patient = !refused
			}
			return a, nil
		}
	}
	if refused {
		return admission{}, refusal
	}
	return admission{began: c.Tick()}, nil
}

// wantsProbe says whether a use may be a probe, if there is a permit. A half-open breaker that has waited in vain for a use that the evidence
// concerns takes any use. An open breaker's refusals read no clock until the open period ends, and take no lock while the looks have the say.
func (b *Breaker) wantsProbe(p *phase, concerned bool) bool {
	if p.state == StateOpen {
		return concerned && p.near.Load() && b.seen.Load() && b.elapsed() >= p.until
	}
	return concerned || b.elapsed() >= p.until
}

// announce emits what the admission a has changed. An observer that panics leaves the use without an End, so that a probe's permit is
// given back here.
func (b *Breaker) announce(ctx context.Context, c *pool.Call, a admission, event *pool.Event) {
	if event == nil {
		return
	}
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
		if c.Asked() {
			b.succeed(c, &a)
		}
		return
	}
	class := b.judge(ctx, c, &a, err)
	if class.Fault == pool.FaultNone || class.Code != "" || c.Answered() {
		b.silence.end()
	}
	switch {
	case a.probe != nil && class.Fault == pool.FaultServer:
		f := b.failure(ctx, c, &a, class, err)
		report(ctx, c, b.settle(&a, workOf(c), &f, class))
	case a.probe != nil:
		if a.probe.patient && class.Fault == pool.FaultNone && b.took(c, &a) > b.scope.Load().held(workOf(c)) {
			class.Fault = pool.FaultElsewhere // the callers with less time would have failed
		}
		report(ctx, c, b.settle(&a, workOf(c), nil, class))
	case class.Fault == pool.FaultNone:
		b.succeed(c, &a)
	case class.Fault == pool.FaultServer:
		f := b.failure(ctx, c, &a, class, err)
		report(ctx, c, b.evaluate(a.window, &f))
	}
}

// failure makes a failure of what a use has met.
func (b *Breaker) failure(ctx context.Context, c *pool.Call, a *admission, class pool.Class, err error) failure {
	f := failure{run: a.run, class: class, err: err, work: workOf(c), held: forever}
	_, _, f.granted = c.Acquired()
	f.dial = !f.granted && errors.Is(err, pool.ErrOpen)
	f.answered = class.Code != "" && !f.dial && !class.Broken && !class.Narrow // a narrow answer is here for the time it took
	f.lost = f.granted && class.Code == "" && !isTimeout(err)
	f.from, f.to = b.served(c)
	if class.Narrow || timedOut(ctx, &class) {
		f.held = f.to - b.began(c, a) // the wait as well: the next caller would wait like this one
	}
	return f
}

// began is when a use began, on the breaker's clock.
func (b *Breaker) began(c *pool.Call, a *admission) time.Duration {
	return b.coarse(c) + a.began - c.Tick()
}

// judge says what the outcome of a use means to the breaker.
func (b *Breaker) judge(ctx context.Context, c *pool.Call, a *admission, err error) pool.Class {
	class := c.Classify(err)
	switch {
	case class.Narrow && b.waited(c, a):
		class.Fault = pool.FaultServer
	case class.Narrow, err == nil && c.Asked():
		class.Fault = pool.FaultNone
	case err == nil:
		class.Fault = pool.FaultElsewhere
	case class.Fault != pool.FaultServer && class.Fault != pool.FaultCaller, class.Certain:
	case !timedOut(ctx, &class):
	case c.Op().Limit < 0:
		class.Fault = pool.FaultCaller
	default:
		class.Fault = b.blame(c, a, class.Fault)
	}
	return class
}

// succeed counts a success, and notes how long the server needed for it if that was long.
func (b *Breaker) succeed(c *pool.Call, a *admission) {
	w, now := a.window, c.Tick()
	if now-a.began >= 2*tick {
		if took := b.took(c, a); took >= 2*tick {
			b.needs.note(c.Op().Name, took)
		}
	}
	b.silence.end()
	if w == nil {
		return // the use has passed an open breaker
	}
	bucket := w.current.Load()
	if w.looked.Load() != int64(now) { // else the bucket was found at this very tick
		if bucket = w.at(b.nearly(c, w)); w.step >= shortStep {
			w.looked.Store(int64(now))
		}
	}
	w.success(bucket, c.Shard())
}

// took is how long a use has lasted without the wait for its resource.
func (b *Breaker) took(c *pool.Call, a *admission) time.Duration {
	wait, _, _ := c.Acquired()
	return c.Tick() - a.began - wait
}

// timedOut says whether a deadline that the breaker does not know has ended a use: one that was set further out, or by the borrower's function.
// The limit of a layer inside has a type of its own.
func timedOut(ctx context.Context, class *pool.Class) bool {
	return class.Code == "" && (passed(ctx) || class.Type == "timeout")
}

// isTimeout says whether err tells of time that has run out.
func isTimeout(err error) bool {
	t, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return ok && t.Timeout() || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)
}

// passed says whether a deadline that was set further out, by the caller or by the limit of the whole use, has passed.
func passed(ctx context.Context) bool {
	d, ok := ctx.Deadline()
	return ok && !errors.Is(ctx.Err(), context.Canceled) && time.Until(d) <= 0
}

// blame says whose fault it is that a deadline passed which the breaker does not know.
func (b *Breaker) blame(c *pool.Call, a *admission, fault pool.Fault) pool.Fault {
	if !judgesTime(c) {
		return fault
	}
	from, to, successes := b.had(c, a)
	if to-from >= b.needs.muchLonger(c.Op().Name, successes) {
		return pool.FaultServer
	}
	if c.Answered() { // an earlier command of the use: there is no silence
		return pool.FaultCaller
	}
	common := b.needs.commonly(c.Op().Name, successes)
	if b.silentFor(b.began(c, a), from, to, common) >= max(muchMore*common, quiet) {
		return pool.FaultServer
	}
	return pool.FaultCaller
}

// waited says whether a narrow answer has come after a time that is evidence by itself.
func (b *Breaker) waited(c *pool.Call, a *admission) bool {
	if c.Tick()-a.began < muchMore*2*tick || !judgesTime(c) || c.Op().Limit < 0 {
		return false // most answers are quick
	}
	from, to, successes := b.had(c, a)
	return to-from >= b.needs.muchLonger(c.Op().Name, successes)
}

// judgesTime says whether the time of a use says something. Without a resource the pool has looked at what the use was waiting for; a lease is its
// borrower's time.
func judgesTime(c *pool.Call) bool {
	_, _, granted := c.Acquired()
	return granted && !c.TwoStep()
}

// had is when the server has had a call that failed. successes counts those in the window.
func (b *Breaker) had(c *pool.Call, a *admission) (from, to time.Duration, successes int64) {
	began := b.began(c, a)
	from, to = b.served(c)
	if from == 0 {
		from = began
	}
	if w := a.window; w != nil {
		w.at(to)
		successes = w.counts(to).Successes
		if since, ok := w.unanswered(); ok {
			from = min(from, max(since, began))
		}
	}
	return from, to, successes
}

// silentFor adds the time of a call to the silence, and returns how long that has lasted.
func (b *Breaker) silentFor(began, granted, ended, least time.Duration) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.silence.add(began, granted, ended, least)
}

// served is Call.Served on the breaker's clock. If the pool does not know the end, it is now.
func (b *Breaker) served(c *pool.Call) (from, to time.Duration) {
	begin, end := c.Served()
	if !begin.IsZero() {
		from = begin.Sub(b.start)
	}
	if end.IsZero() {
		return from, b.elapsed()
	}
	return from, end.Sub(b.start)
}

// coarse is the breaker's clock by the pool's coarse one.
func (b *Breaker) coarse(c *pool.Call) time.Duration { return c.Clock().Sub(b.start) }

// nearly is when a success is counted: it may be as late as the pool's coarse clock, unless the window's steps are too short for that.
func (b *Breaker) nearly(c *pool.Call, w *window) time.Duration {
	if w.step < shortStep {
		return b.elapsed()
	}
	return b.coarse(c)
}

func (b *Breaker) refuse(ctx context.Context, c *pool.Call, e *OpenError) error {
	b.refused.Add(1)
	if c.Observed() {
		c.Emit(ctx, pool.Event{Kind: pool.EventRejected, Layer: kind, Reason: e.errorType(), Err: e, Duration: e.retryAfter()})
	}
	return e
}

// report emits event, if there is one. No lock is held.
func report(ctx context.Context, c *pool.Call, event *pool.Event) {
	if event != nil {
		c.Emit(ctx, *event)
	}
}

// circuitSettings makes gobreaker a bare state machine. It hears of the failures that open the breaker, and of the verdicts on probes; its own
// counts are ignored; its open period, the shortest it can be told, is over by the time ours is; one verdict ends a round of probes.
func (b *Breaker) circuitSettings() gobreaker.Settings {
	return gobreaker.Settings{
		MaxRequests:   1,
		Timeout:       time.Nanosecond,
		ReadyToTrip:   func(gobreaker.Counts) bool { return true },
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
	if w == nil { // the use has passed an open breaker
		if b.phase.Load().state != StateClosed {
			b.scope.Store(b.scope.Load().with(f))
		}
		return nil
	}
	now := b.elapsed()
	if !w.failure(now, f) || b.phase.Load().window != w || !b.trips(f, w, now) {
		return nil
	}
	b.tell(failed)
	return b.follow(b.trip.Rule)
}

// trips says whether the breaker has to open after the failure f, which w has counted, and notes why.
func (b *Breaker) trips(f *failure, w *window, now time.Duration) bool {
	cfg, n := b.cfg.Load(), w.counts(now)
	t := Trip{Counts: n, Window: cfg.Window, ErrorType: f.class.Type}
	since, _ := w.unanswered()
	limit, convincing := cfg.convincing(n, since, now)
	switch {
	case cfg.FailureRatio > 0 && n.Calls() >= int64(cfg.MinCalls) && n.FailureRatio() >= cfg.FailureRatio:
		t.Rule, t.Limit = ReasonFailureRatio, cfg.FailureRatio
	case convincing:
		t.Rule, t.Limit = ReasonConsecutive, float64(limit)
	default:
		return false
	}
	t.At, t.Cause = time.Now(), rootCause(f.err, &f.class)
	b.trip = t
	b.scope.Store(w.scope)
	if t.Rule == ReasonFailureRatio || cfg.ConsecutiveFailures > 0 {
		b.scope.Store(whole)
	}
	return true
}

// admit decides about a use that has not found the breaker closed: it ends an open period that is over, and gives out a permit.
func (b *Breaker) admit(c *pool.Call) (a admission, refusal *OpenError, event *pool.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	cfg, p, now := b.cfg.Load(), b.phase.Load(), b.elapsed()
	switch {
	case p.state == StateOpen && now >= p.until && b.seen.Load():
		b.circuit.State() // moves it to half-open
		event = b.follow(ReasonPeriodOver)
	case p.state == StateHalfOpen:
		p.round.expire(now, cfg.ProbeTimeout)
		event = b.conclude(p.round)
	}
	p = b.phase.Load()
	switch p.state {
	case StateClosed:
		return newAdmission(c, p), nil, event
	case StateHalfOpen:
		if c.Op().Limit < 0 {
			return admission{began: c.Tick()}, nil, event // an operation that is meant to block proves nothing soon
		}
		if b.isOthersTurn(c, p, cfg) {
			break
		}
		if probe := p.round.begin(now, cfg.Probes); probe != nil {
			return admission{probe: probe, began: c.Tick()}, nil, event
		}
	case StateOpen:
	}
	return admission{}, p.refusal, event
}

// isOthersTurn says whether c has to leave the permits to other operations.
func (b *Breaker) isOthersTurn(c *pool.Call, p *phase, cfg *Config) bool {
	s := b.scope.Load()
	return len(s.ops) > 1 && workOf(c) == b.shy && time.Since(p.since) < cfg.OpenFor
}

// settle ends a probe of the work w; f is nil unless it failed. It counts nothing when its round is over, or when it was given up as lost.
func (b *Breaker) settle(a *admission, w work, f *failure, class pool.Class) *pool.Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := a.probe.round
	if b.phase.Load().round != r || !r.end(a.probe) {
		return nil
	}
	r.expire(b.elapsed(), b.cfg.Load().ProbeTimeout)
	switch class.Fault {
	case pool.FaultNone:
		r.successes++
		b.scope.Store(b.scope.Load().afterProbe(w, nil))
	case pool.FaultServer:
		passing := class.Code != "" && class.Repeat == pool.RepeatAlways
		r.fail(ReasonProbeFailed, describe(class.Type, rootCause(f.err, &class)), passing)
		b.scope.Store(b.scope.Load().afterProbe(w, f))
		b.shy = w
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
		if !r.passing {
			b.doublings++
		}
		b.probed = r.errorType
		b.tell(failed)
		return b.follow(r.reason)
	case cfg.ProbeSuccesses > 0 && r.successes >= cfg.ProbeSuccesses, cfg.ProbeSuccesses == 0 && r.successes > 0 && b.isProven():
		b.tell(succeeded)
		return b.follow(ReasonProbesPassed)
	}
	return nil
}

// isProven says whether each refused operation has succeeded, or the half-open state has waited for long enough: an operation may be rare, or
// never come back.
func (b *Breaker) isProven() bool {
	return b.scope.Load().served() || b.elapsed() >= b.phase.Load().until
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
		b.trip, b.rounds, b.doublings, b.probed, b.shy = Trip{}, 0, 0, "", work{}
		p.window = newWindow(b.cfg.Load(), b.needs)
		b.lookAnew()
	case StateOpen:
		b.opened++
		b.needs.outlast(b.trip.Counts.Successes)
		b.draw = rand.Float64()
		b.schedule(p)
		b.look()
		event.Duration, event.Err = p.refusal.retryAfter(), p.refusal
	case StateHalfOpen:
		p.round, p.until = &round{}, b.elapsed()+b.cfg.Load().Window
		p.refusal = b.refusal(StateHalfOpen)
	}
	b.phase.Store(p)
	return event
}
