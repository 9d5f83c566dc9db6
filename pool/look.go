package pool

import (
	"context"
	"slices"
	"time"
)

// A layer refuses uses because the server is gone, and has to learn that the server is back. A look finds out without a user.
//
//   - A look begins a dial at once, past the queue and past the back-off, if a place under MaxSize is free. The dial takes the place, so a
//     look never exceeds MaxSize. If all places are taken, an idle resource is checked in place of a dial. If all resources are lent, there
//     is nothing to look with: the look ends with ErrExhausted.
//   - If that check is late (progress.go), or another check or a dial is late already, the pool closes an idle resource, drops a late check, or drops
//     a dial that has lasted longer than CheckTimeout, and begins a dial in the free place: old resources and old dials may be dead where a new one
//     is not. A look drops one dial and begins one dial at most.
//   - A look begins no dial while another dial has lasted no longer than twice the time of a recent dial, or a new resource is checked: a server
//     that is slow for all gets few calls. A dial beside late dials is in time for longer (progress.go), but a look cannot wait for that dial.
//   - During a look, a new resource is checked before the pool lends the resource. The first check that passes ends all looks with success,
//     whatever the check was for; the resource is then idle. The first check that fails ends the looks with its error.
//   - If the dial fails, an idle resource is checked: a server at the maximum of clients refuses the dial, and serves the idle resource. If
//     nothing is idle, the dial ends the looks with its error.
//   - Pool.Clear gives up all dials, and a look goes on with a new one.
//   - A failed call ends no look that began after the call, unless the look has counted on the call: the server may be back since.
//   - The context bounds the look, not the dial: the dial serves the next look or the next borrower. So a look costs the server a dial and a check.
//     A look that is given up leaves at most a dial behind, with its place, until OpenTimeout has passed or a later look needs the place.

// look is somebody who waits in Look.
type look struct {
	since time.Duration // when Look was called, or when the dial or the check began that the look counts on
	done  chan error    // of capacity 1
}

// Look finds out whether the server can be reached. Look opens a resource and has the driver check the resource. If Config.MaxSize allows no
// more, or if the server refuses another resource, Look has an idle resource checked. If that check takes much longer than checks lately took,
// Look closes an idle resource and opens a new one. Look passes no layer, waits for no borrower and for no pause after failed tries, and leaves
// the resource idle. With a driver whose Open and Check do nothing, Look always passes.
//
// Look returns nil if a check has passed. Otherwise it returns the error of the dial or of the check, [ErrExhausted] if everything is lent,
// [ErrPaused], [ErrClosed], or the error of ctx, in a [UseError]. ctx should have a deadline. Look may be called concurrently, and fails after
// Close.
func (p *Pool[T]) Look(ctx context.Context) error { return p.hub.aside(p.look(ctx)) }

func (p *Pool[T]) look(ctx context.Context) error {
	p.lock()
	l, err := p.beginLook()
	if err != nil {
		p.mu.Unlock()
		return err
	}
	p.pump()
	p.mu.Unlock()
	select {
	case err := <-l.done:
		return err
	case <-ctx.Done():
		p.lock()
		defer p.mu.Unlock()
		p.looks = slices.DeleteFunc(p.looks, func(other *look) bool { return other == l })
		return contextCause(ctx)
	}
}

// beginLook notes a caller of Look, and sets to work. It is called under the lock.
func (p *Pool[T]) beginLook() (*look, error) {
	switch {
	case p.closed:
		return nil, ErrClosed
	case p.paused != nil:
		return nil, p.paused
	case p.inUse >= p.cfg.MaxSize:
		return nil, ErrExhausted
	}
	l := &look{since: p.elapsed(), done: make(chan error, 1)}
	began := p.servesLooks()
	p.lookDropped = false
	if p.lookDialled = began >= 0; p.lookDialled {
		l.since = began
	}
	p.looks = append(p.looks, l)
	return l, nil
}

// servesLooks returns when the latest call began that saves a look its dial: the check of a new resource, or a dial in the time of a recent dial. It
// returns -1 if no such call is under way. It is called under the lock.
func (p *Pool[T]) servesLooks() time.Duration {
	now, latest := p.elapsed(), time.Duration(-1)
	recent := now - p.paces[callOpen].patience(p.cfg.OpenTimeout)
	for _, c := range p.calls {
		if c.fresh || c.kind == callOpen && c.began > recent && !c.lost(now) {
			latest = max(latest, c.began)
		}
	}
	return latest
}

func (p *Pool[T]) hasRoom() bool { return len(p.all)+p.opening < p.cfg.MaxSize }

// advanceLooks begins what the looks need next. It is called under the lock.
func (p *Pool[T]) advanceLooks() {
	o := p.outlook()
	late := o.dials.late+o.dials.lost+o.checks.late+o.checks.lost > 0
	switch {
	case p.lookDialled:
	case p.servesLooks() >= 0:
		p.lookDialled = true // by a dial for a waiter
	case p.hasRoom():
		p.lookDialled = true
		p.retryOpen = 0 // the dial counts as a try if it fails
		p.spawnDial()
	case o.closes.timely > 0, o.checks.timely > 0 && !late:
	case len(p.idle) > 0 && !late:
		p.spawnCheck(p.popIdle())
	case len(p.idle) > 0:
		p.makeRoom(1)
	case !p.dropLate() && !p.lookDropped:
		p.dropDial()
	}
}

// dropDial makes room for a look where dials hang in all places: it gives up the dial that began first, or comes back when the time is ripe. A dial
// that has lasted longer than CheckTimeout proves little, as the check of the resource may take as long. It is called under the lock.
func (p *Pool[T]) dropDial() {
	var first *call
	for _, c := range p.calls {
		if c.kind == callOpen && !c.overtaken && (first == nil || c.began < first.began) {
			first = c
		}
	}
	if first == nil {
		return
	}
	now := p.elapsed()
	if ripe := plus(first.began, max(p.cfg.CheckTimeout, p.paces[callOpen].patience(p.cfg.OpenTimeout))); now < ripe {
		p.schedule(ripe)
		return
	}
	p.lookDropped = true
	first.giveUp(now)
	first.cancel()
}

// lookOn goes on after the dial c, which has failed: with an idle resource, if there is one. It is called under the lock.
func (p *Pool[T]) lookOn(err error, c *call) {
	concerned := slices.ContainsFunc(p.looks, func(l *look) bool { return l.since <= c.began })
	if concerned && len(p.idle) > 0 && !p.closed {
		p.spawnCheck(p.popIdle())
		return
	}
	p.endLooks(err, c.began)
}

// endLooks ends all looks that count on what began at the time given. err is the outcome of a dial or a check: nil if a check has passed. It is
// called under the lock.
func (p *Pool[T]) endLooks(err error, began time.Duration) {
	p.looks = slices.DeleteFunc(p.looks, func(l *look) bool {
		ends := l.since <= began
		if ends {
			l.done <- err
		}
		return ends
	})
}
