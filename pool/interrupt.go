package pool

import "context"

// A use that is over within a step of the coarse clock, as most are, must not pay for an interrupter that it does not need: it only notes
// the context that is to be watched. The maintainer sees to those that are lent at its next step. So a cancellation is noticed at once
// when a use has lasted for that long, and within a step before.
//
// The number of the lease is the fence: who ends a lease moves it on under the lock before anything else, and an interrupt makes sure
// under the lock that it is still the same.
//
// A resource whose use was interrupted is never lent as it is. If the driver is a Resetter and says that the resource is dirty, Reset
// decides about the resource; else the resource is closed.

// watched is a use in progress whose context the maintainer has watched.
type watched[T any] struct {
	r   *resource[T]
	seq uint64
	ctx context.Context
}

// watchLent has the contexts of what is lent watched from now on. Only the maintainer calls it.
func (p *Pool[T]) watchLent() {
	if p.interrupter == nil {
		return
	}
	p.lock()
	for _, r := range p.all {
		if r.watch != nil && r.lent() {
			p.watching = append(p.watching, watched[T]{r, r.seq, r.watch})
			r.watch = nil
		}
	}
	p.mu.Unlock()
	for _, w := range p.watching {
		if w.ctx.Done() == nil {
			continue
		}
		unwatch := context.AfterFunc(w.ctx, func() { p.interrupt(w.r, w.seq) })
		p.lock()
		current := w.r.seq == w.seq
		if current {
			w.r.unwatch = unwatch
		}
		p.mu.Unlock()
		if !current {
			unwatch()
		}
	}
	clear(p.watching)
	p.watching = p.watching[:0]
}

// interrupt makes the call in progress return, unless the lease with the number seq is over.
func (p *Pool[T]) interrupt(r *resource[T], seq uint64) {
	over := make(chan struct{})
	defer close(over)
	p.lock()
	current := r.seq == seq
	if current {
		r.interrupted = over
	}
	p.mu.Unlock()
	if current {
		_ = protect("Interrupt", func() error { p.interrupter.Interrupt(r.v); return nil })
	}
}

// disarm makes sure that r, whose use is over, is not interrupted any more: a resource never meets the interrupt of an earlier use. If the
// interrupt has begun, disarm waits for it and says so. The resource is then fit for nothing but Reset.
func (p *Pool[T]) disarm(r *resource[T]) (interrupted bool) {
	if r.lent() { // else its lease has been claimed
		p.lock()
		r.seq++
		p.mu.Unlock()
	}
	if r.unwatch != nil {
		r.unwatch()
		r.unwatch = nil
	}
	if r.interrupted != nil {
		<-r.interrupted
		r.interrupted = nil
		return true
	}
	return false
}
