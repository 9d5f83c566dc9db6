package pool

import (
	"context"
	"slices"
)

// A layer refuses uses because the server is gone, and has to learn that the server is back. A look finds out without a user.
//
//   - A look begins a dial at once, past the queue and past the back-off, if a place under MaxSize is free. The dial takes the place, so a
//     look never exceeds MaxSize. If all places are taken, an idle resource is checked in place of a dial. If all resources are lent, there
//     is nothing to look with: the look ends with ErrExhausted.
//   - If that check is late (progress.go), the pool closes another idle resource, or drops the late check, and begins a dial in the free place:
//     old resources may be dead where a new one is not. A look begins one dial at most.
//   - A look begins no dial while another dial has lasted no longer than twice the time of a recent dial, or a new resource is checked: a server
//     that is slow for all gets few calls. A dial beside late dials is in time for longer (progress.go), but a look cannot wait for that dial.
//   - During a look, a new resource is checked before the pool lends the resource. The first check that passes ends all looks with success,
//     whatever the check was for; the resource is then idle. The first check that fails ends all looks with its error.
//   - If the dial fails, an idle resource is checked: a server at the maximum of clients refuses the dial, and serves the idle resource. If
//     nothing is idle, the dial ends all looks with its error.
//   - The context bounds the look, not the dial: the dial has OpenTimeout, and serves the next look or the next borrower. So a look costs the
//     server a dial and a check. A look that is given up leaves at most a dial behind, with its place, until OpenTimeout has passed.

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
	done := make(chan error, 1)
	p.lock()
	if err := p.beginLook(done); err != nil {
		p.mu.Unlock()
		return err
	}
	p.pump()
	p.mu.Unlock()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		p.lock()
		defer p.mu.Unlock()
		p.looks = slices.DeleteFunc(p.looks, func(other chan error) bool { return other == done })
		return contextCause(ctx)
	}
}

// beginLook notes a caller of Look, and sets to work. It is called under the lock.
func (p *Pool[T]) beginLook(done chan error) error {
	switch {
	case p.closed:
		return ErrClosed
	case p.paused != nil:
		return p.paused
	case p.inUse >= p.cfg.MaxSize:
		return ErrExhausted
	}
	p.looks = append(p.looks, done)
	since := p.elapsed() - p.paces[callOpen].patience(p.cfg.OpenTimeout)
	p.lookDialled = slices.ContainsFunc(p.calls, func(c *call) bool { return c.fresh || c.kind == callOpen && c.began > since })
	switch {
	case p.lookDialled:
	case p.hasRoom():
		p.lookDial()
	case len(p.idle) > 0:
		p.spawnCheck(p.popIdle())
	}
	return nil
}

func (p *Pool[T]) hasRoom() bool { return len(p.all)+p.opening < p.cfg.MaxSize }

// lookDial begins the dial of a look. It is called under the lock.
func (p *Pool[T]) lookDial() {
	p.lookDialled = true
	p.retryOpen = 0 // the dial counts as a try if it fails
	p.spawnDial()
}

// widen goes on with a look whose check is late. It is called under the lock.
func (p *Pool[T]) widen() {
	o := p.outlook()
	switch {
	case p.lookDialled || o.checks.timely > 0 || o.closes != (tally{}):
	case o.dials.timely > 0:
		p.lookDialled = true // for a waiter, and for the look as well
	case p.hasRoom():
		p.lookDial()
	case len(p.idle) > 0:
		p.makeRoom(1)
	default:
		p.dropLate()
	}
}

// lookOn goes on after a dial that has failed: with an idle resource, if there is one. It is called under the lock.
func (p *Pool[T]) lookOn(err error) {
	if len(p.looks) > 0 && len(p.idle) > 0 && !p.closed {
		p.spawnCheck(p.popIdle())
		return
	}
	p.tellLooks(err)
}

// tellLooks ends all looks with the outcome of a dial or a check: nil if a check has passed. It is called under the lock.
func (p *Pool[T]) tellLooks(err error) {
	for _, done := range p.looks {
		done <- err
	}
	clear(p.looks)
	p.looks = p.looks[:0]
}
