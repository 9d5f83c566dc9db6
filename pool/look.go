package pool

import (
	"context"
	"slices"
)

// A layer that refuses uses because the server is gone has to learn that the server is back. A look finds that out without a user.
//
//   - A look begins a dial at once, whoever waits and however long the back-off still lasts, if a place under MaxSize is free. The place is
//     the dial's, so that a look never exceeds MaxSize. If all places are taken, an idle resource is checked in place of a dial. If all
//     places are lent, there is nothing to look with: the look ends with ErrExhausted.
//   - While somebody looks, a resource that was opened is checked before anybody gets the resource. The first check that passes ends all
//     looks with success, whoever asked for the check; what was checked is then idle. The first dial or check that fails ends them with
//     its error.
//   - The context bounds the look, not the dial: that one has OpenTimeout, and serves whoever comes next. So a look costs the server one
//     dial and one check; a look that is given up leaves at most one dial behind, and its place with it, until OpenTimeout has passed.

// Look finds out whether the server can be reached: it opens a resource and has the driver check it, or has an idle one checked if
// Config.MaxSize allows no more. It passes no layer, waits for no borrower and for no pause after tries that failed, and leaves the resource
// idle. A driver whose Open and Check do nothing always passes.
//
// It returns nil if a check has passed; else the error that opening or checking has met, [ErrExhausted] if everything is lent, [ErrPaused],
// [ErrClosed], or the error of ctx, which should bound it. Look may be called concurrently, and fails after Close.
func (p *Pool[T]) Look(ctx context.Context) error {
	done := make(chan error, 1)
	p.lock()
	if err := p.beginLook(done); err != nil {
		p.mu.Unlock()
		return err
	}
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

// beginLook notes somebody who waits in Look, and sets to work. It is called under the lock.
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
	switch {
	case len(p.all)+p.opening < p.cfg.MaxSize:
		p.opening++
		p.retryOpen = 0 // a try of its own: if it fails, it counts
		base, gen, timeout := p.opens, p.gen, p.cfg.OpenTimeout
		c := p.begin(callOpen, timeout)
		p.spawn(func() { p.open(base, gen, timeout, c) })
	case len(p.idle) > 0:
		p.spawnCheck(p.popIdle())
	}
	return nil
}

// tellLooks ends all looks with what a dial or a check has met: nil if a check has passed. It is called under the lock.
func (p *Pool[T]) tellLooks(err error) {
	for _, done := range p.looks {
		done <- err
	}
	clear(p.looks)
	p.looks = p.looks[:0]
}
