package pool

// The supply for the waiters. A call of the driver is supply while the call is timely or late, and none when the call is lost (progress.go).
//
//   - The pool is stalled while somebody waits, some calls are late and none is in time. A stalled pool begins a dial, and a check of another
//     idle resource. Whatever ends well first serves the first waiter.
//   - After a lost check other idle resources may be dead, too: each waiter gets a dial. So does each waiter that has waited for CheckTimeout.
//     If MaxSize leaves no room for a dial and two checks or more are late, the pool closes the idle resource with the earliest last use.
//     If there is no idle resource, the pool drops the late check or reset that began first: the pool cancels the call and closes the resource.
//     The next call of that kind gets twice the time that the dropped call had, so a server that is slow for all costs few resources.
//     The pool drops one at a time, and none while dials fail or somebody looks at the server ([Pool.Look]): a dial would not help.
//   - After hopeless resets in a row without success, the pool closes a dirty resource at once where somebody waits and a dial needs the place.
//     One in trialShare such resources is reset all the same: the replies may come again.
//   - A late reset is no evidence about the server. The use that left the replies to come has told of them.
//
// So a hung call costs the first waiter twice the time of a recent call, not the timeout. A slow server gets one more call at a time, at
// pauses that double. A server without any answer gets OpenConcurrency dials, or a
// dial for each waiter where the pool grew when the server fell silent.

const hopeless = 8 // resets in a row

// pump serves the waiters: with idle resources, after a check where a check is due, else with new resources. Every path that frees capacity
// ends here. The caller holds the lock.
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

// isFull says that nothing can be begun for a waiter: no resource is idle, no call is under way, and MaxSize leaves no room for a dial. The
// caller holds the lock.
func (p *Pool[T]) isFull() bool {
	return len(p.idle) == 0 && len(p.calls) == 0 && !p.hasRoom()
}

// enough is more resources than can exist.
const enough = int(never >> 33)

// supply begins checks and dials for the waiters, for MinIdle and for Warm, and makes room for a dial if need be. The caller holds the lock.
func (p *Pool[T]) supply() {
	o, n := p.outlook(), p.waiters.n
	hope := o.checks.supply()
	for range min(n-hope, len(p.idle)) { // idle resources are tried first, whatever dials are under way
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
		if missing > 0 && p.failures == 0 && len(p.looks) == 0 && o.dials.timely+o.closes.timely == 0 { // one at a time
			p.dropLate()
		}
	case missing > 0 && p.failures == 0 && o.checks.late+o.checks.lost > 1:
		p.makeRoom(min(missing, len(p.idle)))
	case stalled:
		p.spawnCheck(p.popIdle())
	}
}

// dropLate drops the late check or reset that began first, and says whether there was one. The caller holds the lock.
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

// drop cancels a check or a reset. The call is the close of its resource from now on. The caller holds the lock.
func (p *Pool[T]) drop(c *call) {
	now := p.elapsed()
	p.paces[c.kind].took(now - c.began)
	c.kind, c.began, c.lateAt = callClose, now, plus(now, p.paces[callClose].patience(p.cfg.CheckTimeout))
	c.cancel()
}

// resetEnded counts the resets in a row without success: those that were dropped, or ran out of time.
func (p *Pool[T]) resetEnded(well bool) {
	if p.vainResets++; well {
		p.vainResets = 0
	}
}

// inVain says whether a dirty resource is closed without a try to reset it. The caller holds the lock.
func (p *Pool[T]) inVain() bool {
	if p.vainResets < hopeless || p.waiters.n <= len(p.idle) || p.hasRoom() || p.failures > 0 || len(p.looks) > 0 {
		return false
	}
	p.vainResets++
	return p.vainResets%trialShare > 0
}

// patient is the number of waiters that have waited for CheckTimeout, at most the room for dials. The caller holds the lock.
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

// makeRoom closes the n idle resources with the earliest last use. The caller holds the lock.
func (p *Pool[T]) makeRoom(n int) {
	for _, r := range p.idle[:n] {
		p.retire(r, CloseCheck)
	}
	kept := copy(p.idle, p.idle[n:])
	clear(p.idle[kept:])
	p.idle = p.idle[:kept]
}
