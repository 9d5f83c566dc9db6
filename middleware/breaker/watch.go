package breaker

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
)

// While the breaker is open, the pool itself looks at the server ([pool.PoolInfo].Look). So no use
// has to test a server that is still down. A watch is the goroutine of the looks.
//
//   - The first look begins at once. If this look fails, the pool also fails the waiters for a
//     dial. The later pauses begin at 100 ms and double up to LookMax. Each pause is shortened at
//     random by up to half. A pause counts from the beginning of the previous look, so a hanging
//     look is followed by a look without a pause. The timeout of a look is 1 s.
//   - A server with a temporary refusal (loading data, or at its maximum of clients) will serve
//     soon, and the answer costs the server little. So the pauses then grow to 200 ms only. A
//     permanent refusal, for example for a wrong password, does not shorten the pauses.
//   - The watch ends with the first passed look. The breaker closes if an earlier look failed, or
//     if the evidence was a failure to acquire a resource. In these cases the looks detect the
//     trouble, and so also its end. Otherwise the next use after the open period is a probe.
//   - If all resources are in use, a look is impossible. Then uses may be probes, until a look
//     fails. The watch looks again after the pause: hanging uses hold all resources at first, and
//     release the resources soon.
//   - Configure and [pool.Pool.Clear] start a look at once, because the server may be another
//     server. A watch also ends after a probe has closed the breaker.
//   - Attach starts a watch if the breaker is open. Detach stops the watch and waits for its end.
//
// A dead server receives about 1 dial a second from each instance. The probes detect trouble
// invisible to looks, such as commands that fail while checks pass. The open periods between probes
// grow.

const (
	firstLook   = 100 * time.Millisecond
	answeredMax = 2 * firstLook // maximum pause after a temporary refusal
	lookTimeout = time.Second
	lookJitter  = 0.5 // maximum share by which a pause is shortened
)

// watch is the goroutine of the looks.
type watch struct {
	cancel context.CancelFunc
	over   chan struct{}
	wake   chan struct{} // starts a look at once; of capacity 1
	next   time.Time     // beginning of the next look; guarded by Breaker.mu
}

// stop ends the watch and waits for its end. stop may be called on nil, and then does nothing.
func (w *watch) stop() {
	if w != nil {
		w.cancel()
		<-w.over
	}
}

// look starts a look at once, if there is a pool and LookMax allows looks. look is called under mu
// when the breaker opens, and when an open breaker is attached.
func (b *Breaker) look() {
	nobody := b.info == nil || b.cfg.Load().LookMax < 0
	if b.seen.Store(nobody); nobody {
		return
	}
	if b.watch != nil {
		b.lookAnew()
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &watch{cancel: cancel, over: make(chan struct{}), wake: make(chan struct{}, 1)}
	b.watch = w
	w.wake <- struct{}{}
	go b.watchOver(ctx, w, b.info)
}

// lookAnew wakes the watch. The watch then looks at once with the current settings, or ends if the
// breaker has closed. lookAnew is called under mu.
func (b *Breaker) lookAnew() {
	if b.watch == nil {
		return // a look has passed already, or there are no looks
	}
	select {
	case b.watch.wake <- struct{}{}:
	default:
	}
}

// watchOver runs the watch.
func (b *Breaker) watchOver(ctx context.Context, w *watch, info pool.PoolInfo) {
	defer close(w.over)
	defer w.cancel()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	pause, failed := firstLook, false
	cleared := info.Cleared()
	for {
		select {
		case <-timer.C:
		case <-w.wake:
			pause = firstLook
		case <-cleared:
			pause, cleared = firstLook, info.Cleared()
			if isClosed(cleared) { // the pool is closed
				cleared = nil
			}
		case <-ctx.Done():
			return
		}
		next, longest, ok := b.prepare(w, pause)
		if !ok {
			return
		}
		err := look(ctx, info)
		if err == nil {
			b.endWatch(w, failed)
			return
		}
		pause = min(2*pause, longest)
		blind := errors.Is(err, pool.ErrExhausted)
		b.allowProbes(w, blind)
		if !blind {
			failed = true
			if class := info.Classify(err); class.Code != "" && class.Repeat == driver.RepeatAlways {
				pause = min(pause, answeredMax)
			}
		}
		timer.Reset(time.Until(next))
	}
}

// isClosed reports whether c is closed.
func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// prepare returns the time of the next look, at the beginning of a look. prepare ends the watch and
// returns false if no look is needed any more. longest is the current LookMax.
func (b *Breaker) prepare(w *watch, pause time.Duration) (next time.Time, longest time.Duration, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	longest = b.cfg.Load().LookMax
	if b.watch != w || longest < 0 || b.phase.Load().state == StateClosed {
		b.leave(w)
		return time.Time{}, 0, false
	}
	pause = min(pause, longest)
	w.next = time.Now().Add(pause - time.Duration(rand.Float64()*lookJitter*float64(pause)))
	return w.next, longest, true
}

// leave ends the watch w, and reports whether w was still the watch. After this, uses may be
// probes. leave is called under mu.
func (b *Breaker) leave(w *watch) bool {
	if b.watch != w {
		return false
	}
	b.seen.Store(true)
	b.watch = nil
	return true
}

// allowProbes stores whether uses may be probes, because a look is impossible.
func (b *Breaker) allowProbes(w *watch, may bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.watch == w {
		b.seen.Store(may)
	}
}

// endWatch ends the watch after a passed look, and reports the changes of state. failed reports
// whether an earlier look failed.
func (b *Breaker) endWatch(w *watch, failed bool) {
	for _, event := range b.believe(w, failed) {
		// nil: gobreaker has not moved, because its clock has not moved since the breaker opened.
		if event != nil {
			b.pools.Emit(*event)
		}
	}
}

// believe closes the breaker if an earlier look failed, or if the evidence was a failure to acquire
// a resource. In both cases the looks detect the trouble, and so also its end. Otherwise the next
// use after the open period may be a probe. believe locks mu.
func (b *Breaker) believe(w *watch, failed bool) (events []*pool.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.leave(w) || !failed && !b.scope.Load().unreached() {
		return nil
	}
	switch b.phase.Load().state {
	case StateClosed:
		return nil
	case StateOpen:
		b.circuit.State() // moves it to half-open
		events = append(events, b.follow(ReasonLookPassed))
	case StateHalfOpen:
	}
	b.tell(succeeded)
	return append(events, b.follow(ReasonLookPassed))
}

// look calls info.Look with the timeout of a look.
func look(ctx context.Context, info pool.PoolInfo) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	return info.Look(ctx)
}

// Conditions implements [pool.HealthReporter]. While the breaker is open, the pool is degraded. In
// other states, Conditions returns nil. Conditions may be called concurrently.
func (b *Breaker) Conditions() []pool.Condition {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.phase.Load()
	if p.state != StateOpen {
		return nil
	}
	if p.isForced() {
		return []pool.Condition{{Status: pool.StatusDegraded, Reason: title(b.name) + " open: " + p.gate.forced.String()}}
	}
	return []pool.Condition{{Status: pool.StatusDegraded, Reason: title(b.name) + " open by " + b.trip.String() + ", " + b.nextCheck(p)}}
}

// nextCheck returns a text about the time of the next check. p is the open phase. nextCheck is
// called under mu.
func (b *Breaker) nextCheck(p *phase) string {
	due := p.refusal.NextProbe
	if b.watch != nil {
		due = b.watch.next
	}
	if left := time.Until(due); left > 0 {
		return "next check in " + left.Round(time.Millisecond).String()
	}
	if b.watch != nil {
		return "a check is under way"
	}
	return "the next use is the check"
}
