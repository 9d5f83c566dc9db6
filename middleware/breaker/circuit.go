package breaker

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
)

// layer implements [pool.Layer]: the breaker at the beginning and at the end of an attempt.
type layer struct{ b *Breaker }

// shortStep is the length of a window's step below which 10 ms matter.
const shortStep = 100 * time.Millisecond

// admission is the state of an admitted attempt. An attempt admitted in closed has the window for
// its outcome. An attempt admitted as a probe has the probe's permit. Any other attempt has
// neither.
type admission struct {
	window *window
	probe  *probe
	began  time.Duration // Call.Tick at the beginning
	run    uint64        // run.number at the beginning
}

// Begin admits or rejects the attempt.
func (l layer) Begin(ctx context.Context, c *pool.Call) (context.Context, admission, error) {
	p := l.b.phase.Load()
	if p.state == StateClosed && p.gate == nil {
		return ctx, newAdmission(c, p), nil
	}
	a, refusal := l.b.enter(ctx, c, p)
	if refusal != nil {
		return ctx, admission{}, l.b.refuse(ctx, c, refusal)
	}
	return ctx, a, nil
}

// newAdmission admits an attempt in p, a closed phase.
func newAdmission(c *pool.Call, p *phase) admission {
	if p.window == nil { // the breaker is disabled
		return admission{began: c.Tick()}
	}
	return admission{window: p.window, began: c.Tick(), run: p.window.number.Load()}
}

// enter implements Begin for an attempt in p, a phase that is not closed or has a gate.
func (b *Breaker) enter(ctx context.Context, c *pool.Call, p *phase) (admission, *OpenError) {
	switch {
	case p.state == StateClosed:
		return b.pass(ctx, c, p)
	case p.isForced():
		return admission{}, p.refusal
	}
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

// wantsProbe reports whether an attempt may be a probe if there is a permit. In half-open, an
// attempt outside of the evidence may be a probe only from p.until on. In open, wantsProbe reads no
// clock until the end of the period is near, and takes no lock while only a look may end the
// period. So a rejection is cheap.
func (b *Breaker) wantsProbe(p *phase, concerned bool) bool {
	if p.state == StateOpen {
		return concerned && p.near.Load() && b.seen.Load() && b.elapsed() >= p.until
	}
	return concerned || b.elapsed() >= p.until
}

// announce emits event, the change made by the admission a. If an observer panics, the attempt has
// no End. So announce then gives the permit of a probe back.
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

// End counts the outcome of the attempt.
func (l layer) End(ctx context.Context, c *pool.Call, a admission, err error) {
	b := l.b
	if err == nil && a.probe == nil {
		if c.Asked() {
			report(ctx, c, b.succeed(c, &a))
		}
		return
	}
	class := b.judge(ctx, c, &a, err)
	if class.Fault == driver.FaultNone || class.Code != "" || c.Answered() {
		b.silence.end()
	}
	switch {
	case a.probe != nil && class.Fault == driver.FaultServer:
		f := b.failure(ctx, c, &a, class, err)
		report(ctx, c, b.settle(&a, workOf(c), &f, class))
	case a.probe != nil:
		if a.probe.patient && class.Fault == driver.FaultNone && b.took(c, &a) > b.scope.Load().held(workOf(c)) {
			class.Fault = driver.FaultElsewhere // callers with less time would have failed
		}
		var slow *failure
		if class.Fault == driver.FaultNone && b.isSlowProbe(c, &a) {
			class = driver.Class{Fault: driver.FaultServer, Type: typeSlow}
			slow = &failure{class: class, work: workOf(c), held: forever, granted: true}
		}
		report(ctx, c, b.settle(&a, workOf(c), slow, class))
	case class.Fault == driver.FaultNone:
		report(ctx, c, b.succeed(c, &a))
	case class.Fault == driver.FaultServer:
		f := b.failure(ctx, c, &a, class, err)
		report(ctx, c, b.evaluate(a.window, &f))
	}
}

// failure returns the failure for the outcome err of an attempt.
func (b *Breaker) failure(ctx context.Context, c *pool.Call, a *admission, class driver.Class, err error) failure {
	f := failure{run: a.run, class: class, err: err, work: workOf(c), held: forever}
	_, _, f.granted = c.Acquired()
	f.dial = !f.granted && errors.Is(err, pool.ErrOpen)
	// A late narrow answer is a failure because of its time, so the answer itself does not count.
	f.answered = class.Code != "" && !f.dial && !class.Broken && !class.Narrow
	f.lost = f.granted && class.Code == "" && !isTimeout(err)
	f.from, f.to = b.served(c)
	f.slow = f.granted && b.isSlow(c, b.took(c, a))
	if class.Narrow || timedOut(ctx, &class) {
		f.held = f.to - b.began(c, a) // with the wait: the next caller would wait as long
	}
	return f
}

// began returns the beginning of an attempt on the breaker's clock.
func (b *Breaker) began(c *pool.Call, a *admission) time.Duration {
	return b.coarse(c) + a.began - c.Tick()
}

// judge returns the class of an outcome, with the Fault as the breaker counts the outcome.
// FaultServer is a failure, FaultNone a success, and any other Fault does not count.
func (b *Breaker) judge(ctx context.Context, c *pool.Call, a *admission, err error) driver.Class {
	class := c.Classify(err)
	switch {
	case class.Narrow && b.waited(c, a):
		class.Fault = driver.FaultServer
	case class.Narrow, err == nil && c.Asked():
		class.Fault = driver.FaultNone
	case err == nil:
		class.Fault = driver.FaultElsewhere
	case class.Fault != driver.FaultServer && class.Fault != driver.FaultCaller, class.Certain:
	case !timedOut(ctx, &class):
	case c.Op().Limit < 0:
		class.Fault = driver.FaultCaller
	default:
		class.Fault = b.blame(c, a, class.Fault)
	}
	return class
}

// succeed counts a success, and returns the event to report, if there is one. If the server needed
// a long time, succeed also records the time.
func (b *Breaker) succeed(c *pool.Call, a *admission) *pool.Event {
	w, now, slow := a.window, c.Tick(), false
	if now-a.began >= 2*tick {
		if took := b.took(c, a); took >= 2*tick {
			b.needs.note(c.Op().Name, took)
			slow = b.isSlow(c, took)
		}
	}
	b.silence.end()
	if w == nil {
		return nil // the attempt passed a breaker in open or half-open, or a disabled breaker
	}
	bucket := w.current.Load()
	if w.looked.Load() != int64(now) { // else w.current was found in this tick
		if bucket = w.at(b.nearly(c, w)); w.step >= shortStep {
			w.looked.Store(int64(now))
		}
	}
	w.success(bucket, c.Shard())
	if slow {
		return b.slowed(w)
	}
	return nil
}

// isSlow reports whether an attempt of the duration took is slow.
func (b *Breaker) isSlow(c *pool.Call, took time.Duration) bool {
	limit := b.cfg.Load().SlowCall
	return limit > 0 && took >= limit && judgesTime(c) && c.Op().Limit >= 0
}

// isSlowProbe reports whether a successful probe is slow, and the breaker is open because of slow
// attempts.
func (b *Breaker) isSlowProbe(c *pool.Call, a *admission) bool {
	p := b.phase.Load()
	return p.refusal != nil && p.refusal.Trip.Rule == ReasonSlowCalls && b.isSlow(c, b.took(c, a))
}

// slowed counts a slow success, already counted as a success in w, and evaluates the rules. slowed
// locks mu.
func (b *Breaker) slowed(w *window) *pool.Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.elapsed()
	w.at(now).slow.Add(1)
	return b.open(&failure{class: driver.Class{Type: typeSlow}}, w, now)
}

// took returns the duration of an attempt without the wait for its resource.
func (b *Breaker) took(c *pool.Call, a *admission) time.Duration {
	wait, _, _ := c.Acquired()
	return c.Tick() - a.began - wait
}

// timedOut reports whether an attempt ended at a deadline unknown to the breaker. Such a deadline
// was set outside of the breaker, or by the function of the use. An error by the limit of a layer
// inside has another class.Type.
func timedOut(ctx context.Context, class *driver.Class) bool {
	return class.Code == "" && (passed(ctx) || class.Type == "timeout")
}

// isTimeout reports whether err is the result of a timeout.
func isTimeout(err error) bool {
	t, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return ok && t.Timeout() || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)
}

// passed reports whether a deadline set outside of the breaker has passed: the caller's deadline,
// or the limit of the whole use.
func passed(ctx context.Context) bool {
	d, ok := ctx.Deadline()
	return ok && !errors.Is(ctx.Err(), context.Canceled) && time.Until(d) <= 0
}

// blame returns the Fault for a passed deadline unknown to the breaker. fault is the Fault from the
// class, and is returned if the time of the attempt proves nothing.
func (b *Breaker) blame(c *pool.Call, a *admission, fault driver.Fault) driver.Fault {
	if !judgesTime(c) {
		return fault
	}
	from, to, successes := b.had(c, a)
	if to-from >= b.needs.muchLonger(c.Op().Name, successes) {
		return driver.FaultServer
	}
	// The server answered an earlier command of the attempt, so there is no silence.
	if c.Answered() {
		return driver.FaultCaller
	}
	common := b.needs.commonly(c.Op().Name, successes)
	if b.silentFor(b.began(c, a), from, to, common) >= max(muchMore*common, quiet) {
		return driver.FaultServer
	}
	return driver.FaultCaller
}

// waited reports whether a narrow answer came so late that its time is evidence.
func (b *Breaker) waited(c *pool.Call, a *admission) bool {
	if c.Tick()-a.began < muchMore*2*tick || !judgesTime(c) || c.Op().Limit < 0 {
		return false // most answers are quick
	}
	from, to, successes := b.had(c, a)
	return to-from >= b.needs.muchLonger(c.Op().Name, successes)
}

// judgesTime reports whether the time of an attempt can be evidence. If the attempt got no
// resource, the pool has already judged the wait. The time of a lease is up to its caller.
func judgesTime(c *pool.Call) bool {
	_, _, granted := c.Acquired()
	return granted && !c.TwoStep()
}

// had returns the period of a failed attempt at the server, and the number of successes in the
// window. During a run of failures, the period includes the wait for the resource.
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

// silentFor adds the time of an attempt to the silence, and returns the length of the silence.
func (b *Breaker) silentFor(began, granted, ended, least time.Duration) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.silence.add(began, granted, ended, least)
}

// served returns the times of Call.Served on the breaker's clock. from is 0 if the attempt did not
// wait. If Call.Served has no end, to is now.
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

// coarse returns the time of the pool's coarse clock on the breaker's clock.
func (b *Breaker) coarse(c *pool.Call) time.Duration { return c.Clock().Sub(b.start) }

// nearly returns the time for counting a success. The pool's coarse clock is exact enough, unless
// the steps of the window are short.
func (b *Breaker) nearly(c *pool.Call, w *window) time.Duration {
	if w.step < shortStep {
		return b.elapsed()
	}
	return b.coarse(c)
}

func (b *Breaker) refuse(ctx context.Context, c *pool.Call, e *OpenError) error {
	b.refused.Add(1)
	if c.Observed() {
		c.Emit(ctx, pool.Event{Kind: pool.EventRejected, Layer: b.label(), Reason: e.errorType(), Err: e, Duration: e.retryAfter()})
	}
	return e
}

// report emits event, unless event is nil. No lock is held.
func report(ctx context.Context, c *pool.Call, event *pool.Event) {
	if event != nil {
		c.Emit(ctx, *event)
	}
}

// circuitSettings returns settings for a gobreaker without rules of its own. gobreaker receives
// only the failures that open the breaker, and a single verdict for each round of probes. The
// counts of gobreaker are ignored. Its open period is the shortest possible period, and has always
// passed when the breaker's own period ends.
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

// succeeded and failed are the functions for gobreaker to execute. Each returns the outcome of an
// attempt already finished.
func succeeded() (struct{}, error) { return struct{}{}, nil }
func failed() (struct{}, error)    { return struct{}{}, errFailed }

// tell passes an outcome to gobreaker. tell and all functions below are called under mu, unless the
// function locks mu itself.
func (b *Breaker) tell(outcome func() (struct{}, error)) {
	_, _ = b.circuit.Execute(outcome) // the result is the outcome
}

// evaluate counts the failure f in w, and evaluates the rules if the closed state of w is still the
// current state. evaluate locks mu.
func (b *Breaker) evaluate(w *window, f *failure) *pool.Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	if w == nil { // the attempt passed a breaker in open or half-open, or a disabled breaker
		if p := b.phase.Load(); p.state != StateClosed && !p.isForced() {
			b.scope.Store(b.scope.Load().with(f))
		}
		return nil
	}
	now := b.elapsed()
	if !w.failure(now, f) {
		return nil
	}
	return b.open(f, w, now)
}

// open opens the breaker if the closed state of w is still the current state, no operator keeps the
// breaker closed, and the rules open the breaker after f.
func (b *Breaker) open(f *failure, w *window, now time.Duration) *pool.Event {
	if p := b.phase.Load(); p.window != w || p.isForced() || !b.trips(f, w, now) {
		return nil
	}
	b.tell(failed)
	return b.follow(b.trip.Rule)
}

// trips reports whether the rules open the breaker after the failure f, already counted in w. If
// so, trips stores the reason.
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
	case cfg.SlowCall > 0 && n.Calls() >= int64(cfg.MinCalls) && n.SlowRatio() >= cfg.SlowRatio:
		t.Rule, t.Limit, t.SlowCall, t.ErrorType = ReasonSlowCalls, cfg.SlowRatio, cfg.SlowCall, typeSlow
	default:
		return false
	}
	t.At = time.Now()
	if t.Rule != ReasonSlowCalls {
		t.Cause = rootCause(f.err, &f.class)
	}
	b.trip = t
	b.scope.Store(w.scope)
	if t.Rule != ReasonConsecutive || cfg.ConsecutiveFailures > 0 {
		b.scope.Store(whole)
	}
	return true
}

// admit decides about an attempt that found the breaker not closed. admit ends an open period
// already over, and gives out permits. admit locks mu.
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
			// An operation meant to block would prove nothing soon.
			return admission{began: c.Tick()}, nil, event
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

// isOthersTurn reports whether c must leave the permits to other operations.
func (b *Breaker) isOthersTurn(c *pool.Call, p *phase, cfg *Config) bool {
	s := b.scope.Load()
	return len(s.ops) > 1 && workOf(c) == b.shy && time.Since(p.since) < cfg.OpenFor
}

// settle ends a probe of the operation w. f is nil unless the probe failed. settle counts nothing
// if the round of the probe is over, or if the probe has already counted as lost. settle locks mu.
func (b *Breaker) settle(a *admission, w work, f *failure, class driver.Class) *pool.Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := a.probe.round
	if b.phase.Load().round != r || !r.end(a.probe) {
		return nil
	}
	r.expire(b.elapsed(), b.cfg.Load().ProbeTimeout)
	switch class.Fault {
	case driver.FaultNone:
		r.successes++
		b.scope.Store(b.scope.Load().afterProbe(w, nil))
	case driver.FaultServer:
		passing := class.Code != "" && class.Repeat == driver.RepeatAlways
		r.fail(ReasonProbeFailed, describe(class.Type, rootCause(f.err, &class)), passing)
		b.scope.Store(b.scope.Load().afterProbe(w, f))
		b.shy = w
	case driver.FaultCaller, driver.FaultLocal, driver.FaultElsewhere: // no outcome: next use may probe
	}
	return b.conclude(r)
}

// giveBack ends a probe without an outcome. giveBack locks mu.
func (b *Breaker) giveBack(p *probe) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p.round.end(p)
}

// conclude passes the verdict on the round r to gobreaker, if there is a verdict.
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

// isProven reports whether each rejected operation has succeeded, or the half-open state has lasted
// for Config.Window. An operation may be rare, or may never be used again.
func (b *Breaker) isProven() bool {
	return b.scope.Load().served() || b.elapsed() >= b.phase.Load().until
}

// follow begins the phase for the new state of gobreaker, and returns the event to report. follow
// returns nil if gobreaker has not changed its state.
func (b *Breaker) follow(reason string) *pool.Event {
	if !b.moved {
		return nil
	}
	b.moved = false
	p := &phase{state: b.next, since: time.Now()}
	event := &pool.Event{
		Kind: pool.EventStateChanged, Layer: b.label(), From: b.phase.Load().state.String(), To: p.state.String(), Reason: reason,
	}
	switch p.state {
	case StateClosed:
		p.gate = b.newRamp(b.rejected, &OpenError{Trip: b.trip})
		b.clear()
		p.window = newWindow(b.cfg.Load(), b.needs)
		b.lookAnew()
	case StateOpen:
		if b.opened++; b.phase.Load().state == StateClosed {
			b.rejected = b.scope.Load()
		}
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

// clear forgets why the breaker was open.
func (b *Breaker) clear() {
	b.trip, b.rounds, b.doublings, b.probed, b.shy = Trip{}, 0, 0, "", work{}
}
