package pool

import (
	"context"
	"slices"
	"time"
)

// Looks. A layer that refuses uses, because the server is dead, must learn when the server is back.
// A look tests the server without a use.
//
//   - A look begins a dial at once if there is a free place under MaxSize. The dial does not wait
//     for the queue or for the pause after failed dials. The dial takes the place, so a look never
//     exceeds MaxSize. If no place is free, an idle resource is checked in place of the dial. If
//     all resources are lent, the look ends with ErrExhausted.
//   - If the check of the idle resource is late (progress.go), or another check or a dial is late
//     already, the pool makes a place free. The pool closes an idle resource, drops a late check,
//     or drops a dial that has lasted longer than CheckTimeout. Then the pool begins a dial in the
//     free place. Old resources and old dials may be dead where a new dial works. A look drops at
//     most one dial and begins at most one dial.
//   - A look begins no dial while another dial has lasted no longer than twice the time of a recent
//     dial, or while a new resource is checked. A slow server gets few calls. A dial beside late
//     dials counts as timely for longer (progress.go), but a look cannot wait for such a dial.
//   - During a look, a new resource is checked before the pool lends the resource. The first
//     successful check ends all looks with success, whatever the purpose of the check, and the pool
//     keeps the resource. The first failed check ends the looks with its error.
//   - If the dial fails, an idle resource is checked: a server at its maximum of clients refuses
//     the dial, and serves the idle resource. If no resource is idle, the error of the dial ends
//     the looks.
//   - Pool.Clear cancels all dials, and a look goes on with a new dial.
//   - A failed call ends no look that began after the call, unless the look relies on the call. The
//     server may be back since.
//   - The context bounds the look, not the dial. The dial serves the next look or the next
//     borrower. So a look costs the server a dial and a check. A cancelled look leaves at most a
//     dial with its place behind, until OpenTimeout has passed or a later look needs the place.

// look is a caller waiting in Look.
type look struct {
	// since is the time of the call of Look, or the start of the dial or check on which the look
	// relies.
	since time.Duration
	done  chan error // buffered, capacity 1
}

// Look tests whether the server is reachable. Look opens a resource, and the driver checks the
// resource. If Config.MaxSize allows no further resource, or if the server refuses another
// resource, Look checks an idle resource. If this check takes much longer than recent checks, Look
// closes an idle resource and opens a new resource.
//
// Look passes no layer. Look waits for no borrower and for no pause after failed dials. The checked
// resource stays in the pool. With a driver whose Open and Check do nothing, Look always succeeds.
//
// Look returns nil after a successful check. Otherwise Look returns a [UseError] with the error of
// the dial or of the check, [ErrExhausted] if all resources are lent, [ErrPaused], [ErrClosed], or
// the error of ctx. ctx should have a deadline. Look may be called concurrently.
func (p *Pool[T]) Look(ctx context.Context) error { return p.hub.markIgnored(p.look(ctx)) }

func (p *Pool[T]) look(ctx context.Context) error {
	p.mu.Lock()
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
		p.mu.Lock()
		defer p.mu.Unlock()
		p.looks = slices.DeleteFunc(p.looks, func(other *look) bool { return other == l })
		return contextCause(ctx)
	}
}

// beginLook registers a new look. The caller holds the lock and calls pump afterwards.
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

// servesLooks returns the start time of the latest call that makes a new dial for a look
// unnecessary. Such a call is the check of a new resource, or a dial that has not lasted twice the
// time of a recent dial. servesLooks returns -1 if no such call is in progress. The caller holds
// the lock.
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

// hasRoom reports whether MaxSize allows another dial. The caller holds the lock.
func (p *Pool[T]) hasRoom() bool { return len(p.all)+p.opening < p.cfg.MaxSize }

// advanceLooks begins the next step of the looks. The caller holds the lock.
func (p *Pool[T]) advanceLooks() {
	o := p.outlook()
	late := o.dials.late+o.dials.lost+o.checks.late+o.checks.lost > 0
	switch {
	case p.lookDialled:
	case p.servesLooks() >= 0:
		p.lookDialled = true // a dial for a waiter serves the looks as well
	case p.hasRoom():
		p.lookDialled = true
		p.retryOpen = 0 // if the dial fails, the failure counts
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

// dropDial cancels the oldest dial, if hung dials occupy all places and a look needs a place. A
// dial younger than CheckTimeout proves little, because the check of the new resource may take as
// long. For such a dial dropDial only schedules another try. The caller holds the lock.
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

// lookOn continues the looks after the dial c has failed: lookOn checks an idle resource, or ends
// the looks if no resource is idle. The caller holds the lock.
func (p *Pool[T]) lookOn(err error, c *call) {
	concerned := slices.ContainsFunc(p.looks, func(l *look) bool { return l.since <= c.began })
	if concerned && len(p.idle) > 0 && !p.closed {
		p.spawnCheck(p.popIdle())
		return
	}
	p.endLooks(err, c.began)
}

// endLooks ends all looks that rely on calls begun no later than began. err is the outcome of a
// dial or a check; nil means a successful check. The caller holds the lock.
func (p *Pool[T]) endLooks(err error, began time.Duration) {
	p.looks = slices.DeleteFunc(p.looks, func(l *look) bool {
		ends := l.since <= began
		if ends {
			l.done <- err
		}
		return ends
	})
}
