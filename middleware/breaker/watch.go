package breaker

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/earnorm/poolstack/pool"
)

// While the breaker is open, the pool looks at its server itself ([pool.PoolInfo]'s Look), so that no user has to find out that the server is
// still dead. A watch is the goroutine that has the pool look.
//
//   - The first look comes at once: if it fails, the pool tells those who still wait for a dial. The pauses after that begin at 100 ms and
//     double up to LookMax; each is up to half as short at random. A pause runs from the beginning of the look before, so that looks that
//     hang follow one another. Each look is given a second.
//   - The watch ends with the first look that passes: then the next use after the open period is a probe. It also ends when the pool has nothing
//     to look with, as everything is lent: then the users' probes have to tell. Configure has it look at once, by the new settings.
//   - Attach begins a watch if the breaker is open, detach ends it and waits for it.
//
// A dead server has about one dial a second from each instance. What a look cannot see, such as that commands fail while checks pass, the
// probes find out, at open periods that grow.

const (
	firstLook   = 100 * time.Millisecond
	lookTimeout = time.Second
	lookJitter  = 0.5
)

type watch struct {
	cancel context.CancelFunc
	over   chan struct{}
	wake   chan struct{} // of capacity 1
	next   time.Time     // when the next look begins; under the breaker's mutex
}

// stop ends the watch, and waits for that. There may be none.
func (w *watch) stop() {
	if w != nil {
		w.cancel()
		<-w.over
	}
}

// look has the pool look at the server from now on, if there is a pool and LookMax allows it. It is called under mu when the breaker opens or
// is attached.
func (b *Breaker) look() {
	if b.seen = b.info == nil || b.cfg.Load().LookMax < 0; b.seen || b.watch != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &watch{cancel: cancel, over: make(chan struct{}), wake: make(chan struct{}, 1)}
	b.watch = w
	w.wake <- struct{}{}
	go b.watchOver(ctx, w, b.info)
}

// lookAnew has the settings in force tell who looks, and when. It is called under mu while the breaker is open.
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
	pause := firstLook
	for {
		select {
		case <-timer.C:
		case <-w.wake:
			pause = firstLook
		case <-ctx.Done():
			return
		}
		next, longest := b.prepare(w, pause)
		if longest < 0 || lookedWell(ctx, info) {
			b.endWatch(w)
			return
		}
		pause = min(2*pause, longest)
		timer.Reset(time.Until(next))
	}
}

// prepare plans the look after the one that begins now. longest is the LookMax in force.
func (b *Breaker) prepare(w *watch, pause time.Duration) (next time.Time, longest time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	longest = b.cfg.Load().LookMax
	pause = min(pause, max(longest, 0))
	w.next = time.Now().Add(pause - time.Duration(rand.Float64()*lookJitter*float64(pause)))
	return w.next, longest
}

func (b *Breaker) endWatch(w *watch) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.watch == w {
		b.seen, b.watch = true, nil
	}
}

// lookedWell says whether a look has passed, or nobody can know.
func lookedWell(ctx context.Context, info pool.PoolInfo) bool {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	err := info.Look(ctx)
	return err == nil || errors.Is(err, pool.ErrExhausted)
}

// Conditions makes the breaker a [pool.HealthReporter]: while it is open, the pool is degraded, by choice.
func (b *Breaker) Conditions() []pool.Condition {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.phase.Load()
	if p.state != StateOpen {
		return nil
	}
	return []pool.Condition{{Status: pool.StatusDegraded, Reason: "breaker open by " + b.trip.String() + ", " + b.nextCheck(p)}}
}

// nextCheck says when it is found out whether the server is back. It is called under mu, with the open phase.
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
