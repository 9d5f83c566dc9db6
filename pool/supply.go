package pool

// The supply for the waiters. A timely or late call of the driver counts as supply; a lost call
// does not (progress.go).
//
//   - The pool is stalled while a borrower waits, some calls are late and no call is timely. A
//     stalled pool begins a dial, and a check of another idle resource. The first success serves
//     the first waiter.
//   - After a lost check, other idle resources may be dead, too, so each waiter gets a dial. Each
//     waiter that has waited for CheckTimeout gets a dial as well. If MaxSize leaves no place for a
//     dial and at least two checks are late, the pool closes the idle resource used least recently.
//     If no resource is idle, the pool drops the oldest late check or reset: the pool cancels the
//     call and closes the resource. The next call of this kind gets twice the time of the dropped
//     call, so a slow server costs few resources. The pool drops calls one after the other. The
//     pool drops no call while dials fail or a caller waits in [Pool.Look], because a dial would
//     not help.
//   - After several resets in a row without success (maxFailedResets), the pool closes a dirty
//     resource at once. The pool does so only if a borrower waits and a dial needs the place. Of
//     every trialShare such resources, a single resource is reset all the same: the replies may
//     come again.
//   - A late reset is no evidence about the server. The use that left the replies behind has
//     already reported its error.
//
// So a hung call delays the first waiter by twice the time of a recent call, not by the timeout. A
// slow server gets one more call at a time, after pauses that double. A server without any answer
// gets OpenConcurrency dials, or a dial for each waiter if the pool was growing when the server
// fell silent.

const maxFailedResets = 8 // resets in a row without success

// pump serves the waiters with idle resources, and begins the checks and dials still needed. Every
// path that frees capacity ends with pump. The caller holds the lock.
func (p *Pool[T]) pump() {
	for p.waiters.n > 0 {
		r := p.ready()
		if r == nil {
			break
		}
		p.shelve(r)
	}
	if p.closed || p.paused != nil || p.isFull() {
		return
	}
	p.supply()
	if len(p.looks) > 0 {
		p.advanceLooks()
	}
	if p.waiters.n+len(p.warmers)+len(p.looks) > 0 && len(p.calls) > 0 {
		p.schedule(p.outlook().next)
	}
}

// isFull reports whether no work can begin for a waiter: no resource is idle, no call is in
// progress, and MaxSize leaves no place for a dial. The caller holds the lock.
func (p *Pool[T]) isFull() bool {
	return len(p.idle) == 0 && len(p.calls) == 0 && !p.hasRoom()
}

// enough is more than the possible number of resources.
const enough = int(never >> 33)

// supply begins checks and dials for the waiters, for MinIdle and for Warm, and frees a place for a
// dial if necessary. The caller holds the lock.
func (p *Pool[T]) supply() {
	o, n := p.outlook(), p.waiters.n
	hope := o.checks.supply()
	for range min(n-hope, len(p.idle)) { // idle resources come first, whatever dials are in progress
		p.spawnCheck(p.popIdle())
		hope++
	}
	if o.checks.lost > 0 {
		hope = 0
	}
	want := n + min(p.cfg.MinIdle, enough) - len(p.idle) - o.dials.supply() - hope
	want = max(want, p.warmUpTo()-(len(p.all)-p.closing)-o.dials.supply(), p.patient()-o.dials.timely)
	stalled := n+len(p.warmers) > 0 && o.stalled()
	if stalled {
		want = max(want, 1)
	}
	missing := max(min(want, p.cfg.OpenConcurrency-o.dials.supply())-p.spawnDials(o, want)-o.closes.timely, 0)
	switch {
	case n == 0:
	case len(p.idle) == 0:
		// One call at a time.
		if missing > 0 && p.failures == 0 && len(p.looks) == 0 && o.dials.timely+o.closes.timely == 0 {
			p.dropLate()
		}
	case missing > 0 && p.failures == 0 && o.checks.late+o.checks.lost > 1:
		p.makeRoom(min(missing, len(p.idle)))
	case stalled:
		p.spawnCheck(p.popIdle())
	}
}

// dropLate drops the oldest late check or reset, and reports whether there was such a call. The
// caller holds the lock.
func (p *Pool[T]) dropLate() bool {
	var first *call
	now := p.elapsed()
	for _, c := range p.calls {
		if (c.kind == callCheck || c.kind == callReset) && c.late(now) && (first == nil || c.began < first.began) {
			first = c
		}
	}
	if first != nil {
		p.drop(first)
	}
	return first != nil
}

// drop cancels a check or a reset. From now on the call counts as the close of its resource. The
// caller holds the lock.
func (p *Pool[T]) drop(c *call) {
	now := p.elapsed()
	p.paces[c.kind].took(now - c.began)
	c.kind, c.began, c.lateAt = callClose, now, plus(now, p.paces[callClose].patience(p.cfg.CheckTimeout))
	c.cancel()
}

// resetEnded counts the resets in a row without success: dropped resets and resets after their
// timeout. The caller holds the lock.
func (p *Pool[T]) resetEnded(well bool) {
	if p.vainResets++; well {
		p.vainResets = 0
	}
}

// skipsReset reports whether a dirty resource is to be closed without a reset. The caller holds the
// lock.
func (p *Pool[T]) skipsReset() bool {
	if p.vainResets < maxFailedResets || p.waiters.n <= len(p.idle) || p.hasRoom() || p.failures > 0 || len(p.looks) > 0 {
		return false
	}
	p.vainResets++
	return p.vainResets%trialShare > 0
}

// patient returns the number of waiters that have waited for CheckTimeout, but not more than the
// free places for dials. The caller holds the lock.
func (p *Pool[T]) patient() (n int) {
	room := p.cfg.MaxSize - len(p.all) - p.opening
	if room <= 0 || p.waiters.n == 0 {
		return 0
	}
	now := p.elapsed()
	for w := p.waiters.head; w != nil && n < room; w = w.next {
		if at := plus(w.since, p.cfg.CheckTimeout); at > now {
			p.schedule(at)
			break
		}
		n++
	}
	return n
}

// makeRoom closes the n idle resources used least recently. The caller holds the lock.
func (p *Pool[T]) makeRoom(n int) {
	for _, r := range p.idle[:n] {
		p.retire(r, CloseCheck)
	}
	kept := copy(p.idle, p.idle[n:])
	clear(p.idle[kept:])
	p.idle = p.idle[:kept]
}
