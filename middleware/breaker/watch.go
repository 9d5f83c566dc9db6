package breaker

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/earnorm/poolstack/pool"
)

// While the breaker is open, the pool itself looks at the server ([pool.PoolInfo].Look), so no user has to find out about a server that is
// still dead. A watch is the goroutine behind the looks.
//
//   - The first look comes at once: if it fails, the pool tells the borrowers that still wait for a dial. The later pauses begin at 100 ms
//     and double up to LookMax; each is up to half as short at random. A pause runs from the beginning of the look before, so looks that
//     hang follow without a pause. Each look is given a second.
//   - A server that answers a look with a refusal for a while (it loads its data, or serves as many clients as it can) is about to serve, and
//     such an answer costs the server little. Then the pauses do not grow beyond 200 ms. A refusal for good, as of a wrong password, is none.
//   - The watch ends with the first look that passes. If looks had failed before, or the evidence is that no resource could be had, the looks
//     see the trouble, and so they see its end: the breaker closes. Otherwise the next use after the open period is a probe.
//   - If all resources are lent, there is nothing to look with. Then the users' probes may tell, until a look fails. The watch looks again
//     after the pause: uses that hang hold all resources at first, and return the resources soon after.
//   - Configure makes the watch look at once, and so does [pool.Pool.Clear]: the server may be another one. A watch also ends after a probe has
//     closed the breaker.
//   - Attach begins a watch if the breaker is open. Detach ends the watch, and waits for the end.
//
// A dead server has about a dial a second from each instance. The probes find out about trouble that no look can see, such as commands that
// fail while checks pass, at open periods that grow.

const (
	firstLook   = 100 * time.Millisecond
	answeredMax = 2 * firstLook // the longest pause after a refusal for a while
	lookTimeout = time.Second
	lookJitter  = 0.5
)

type watch struct {
	cancel context.CancelFunc
	over   chan struct{}
	wake   chan struct{} // of capacity 1
	next   time.Time     // when the next look begins; under the breaker's mutex
}

// stop ends the watch, and waits for the end. A nil watch has ended.
func (w *watch) stop() {
	if w != nil {
		w.cancel()
		<-w.over
	}
}

// look has the pool look at once, if there is a pool and LookMax allows looks. It is called under mu when the breaker opens or is attached.
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

// lookAnew makes the watch look at once, or end if the breaker has closed, by the settings in force. It is called under mu.
func (b *Breaker) lookAnew() {
	if b.watch == nil {
		return // a look has passed already, or the probes have to tell
	}
	select {
	case b.watch.wake <- struct{}{}:
	default:
	}
}

// watchOver is the watch's goroutine.
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
			if isClosed(cleared) { // and so is the pool
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
			if class := info.Classify(err); class.Code != "" && class.Repeat == pool.RepeatAlways {
				pause = min(pause, answeredMax)
			}
		}
		timer.Reset(time.Until(next))
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// prepare plans the next look when a look begins, or ends the watch if there is nothing to look for. longest is the LookMax in force.
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

// leave says whether w was the watch. From now on there is none: the users' probes have to tell. It is called under mu.
func (b *Breaker) leave(w *watch) bool {
	if b.watch != w {
		return false
	}
	b.seen.Store(true)
	b.watch = nil
	return true
}

// allowProbes notes whether the users' probes may tell, as the looks cannot.
func (b *Breaker) allowProbes(w *watch, may bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.watch == w {
		b.seen.Store(may)
	}
}

// endWatch notes that a look has passed: the next use after the open period may be a probe. If the looks see the trouble, they see its end:
// the breaker closes.
func (b *Breaker) endWatch(w *watch, failed bool) {
	for _, event := range b.believe(w, failed) {
		b.pools.Emit(*event)
	}
}

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

func look(ctx context.Context, info pool.PoolInfo) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	return info.Look(ctx)
}

// Conditions makes the breaker a [pool.HealthReporter]: while the breaker is open, the pool is degraded, by choice. Conditions may be called
// concurrently.
func (b *Breaker) Conditions() []pool.Condition {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.phase.Load()
	if p.state != StateOpen {
		return nil
	}
	return []pool.Condition{{Status: pool.StatusDegraded, Reason: "breaker open by " + b.trip.String() + ", " + b.nextCheck(p)}}
}

// nextCheck says when the server is next looked at. It is called under mu, with the open phase.
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
