package pool

import "context"

// Interrupts.
//
// Most uses end within a step of the coarse clock, and must not pay for an interrupt without need.
// A use only records the context to be watched (resource.watch). At its next step the maintainer
// begins to watch the contexts of the lent resources. In a use longer than a step, a cancellation
// interrupts the use at once. In the first step of a use, a cancellation interrupts the use at the
// end of the step.
//
// The number of the lease (resource.seq) protects a resource from the interrupt of an earlier
// lease. The end of a lease first changes the number under the lock. An interrupt first compares
// the number under the lock.
//
// A resource is not lent directly after an interrupt. If the driver is a Resetter and reports the
// resource as dirty, Reset decides about the resource. Otherwise the pool closes the resource.

// watched is a use in progress whose context is about to be watched.
type watched[T any] struct {
	r   *resource[T]
	seq uint64
	ctx context.Context
}

// watchLent begins to watch the contexts of all lent resources not watched so far. Only the
// maintainer calls watchLent.
func (p *Pool[T]) watchLent() {
	if p.interrupter == nil {
		return
	}
	p.mu.Lock()
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
		p.mu.Lock()
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

// interrupt makes the call in progress on r return. interrupt does nothing if the lease with the
// number seq is over.
func (p *Pool[T]) interrupt(r *resource[T], seq uint64) {
	over := make(chan struct{})
	defer close(over)
	p.mu.Lock()
	current := r.seq == seq
	if current {
		r.interrupted = over
	}
	p.mu.Unlock()
	if current {
		_ = protect("Interrupt", func() error { p.interrupter.Interrupt(r.v); return nil })
	}
}

// disarm prevents later interrupts of r. The use of r is over, and the interrupt of an earlier use
// must not hit a later use. If an interrupt has begun, disarm waits for its end and returns true.
// An interrupted resource may be lent again only after Reset.
func (p *Pool[T]) disarm(r *resource[T]) (interrupted bool) {
	if r.lent() { // otherwise the lease has been claimed and its number changed
		p.mu.Lock()
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
