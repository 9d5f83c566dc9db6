package pool

import "time"

// A call of the driver that is under way is a hope, not supply. The pool counts on a call for as long as calls of the same kind lately took.
// Then the pool begins something beside the call.
//
//   - A call is late after twice the time of the slowest recent call of the same kind, but not before clockStep and not after the timeout of
//     the call. The first call of a kind is late after a thirty-second of the timeout, at most firstGuess. A call that begins beside late
//     calls gets twice the time for each late call.
//   - A late call is overtaken when a call that began later has ended well. Only a dial overtakes a dial.
//   - A call is lost when the call is late and overtaken, or has outlasted the timeout. A lost call is no supply, and OpenConcurrency does
//     not count a lost dial. A lost call keeps a place among MaxSize: the server may hold a connection for the call.
//   - The pool is stalled while somebody waits, some calls are late and none is in time. A stalled pool begins a dial, and a check of another
//     idle resource. Whatever ends well first serves the first waiter.
//   - After a lost check other idle resources may be dead, too: each waiter gets a dial. So does each waiter that has waited for CheckTimeout.
//     If MaxSize leaves no room for a dial and two checks or more are late, the pool closes the idle resource with the earliest last use.
//     If there is no idle resource, the pool drops the late check or reset that began first: the pool cancels the call and closes the resource.
//     The next call of that kind gets twice the time that the dropped call had, so a server that is slow for all costs few resources.
//     The pool drops one at a time, and none while dials fail or somebody looks at the server ([Pool.Look]): a dial would not help.
//   - A reset is late after twice the time of a late dial at most: a new resource is there sooner than the replies that the reset waits for.
//   - After hopeless resets in a row without success, the pool closes a dirty resource at once where somebody waits and a dial needs the place.
//     One in trialShare such resources is reset all the same: the replies may come again.
//   - A late reset is no evidence about the server. The use that left the replies to come has told of them.
//
// So a hung call costs the first waiter twice the time of a recent call, not the timeout. A slow server gets one more call at a time, at
// pauses that double. A server without any answer gets OpenConcurrency dials.

const (
	firstGuess = 100 * time.Millisecond // how long the first call of a kind may last before the call is late
	guessShare = 32                     // of the timeout, if less
	hopeless   = 8                      // resets in a row
)

type callKind uint8

const (
	callOpen callKind = iota
	callCheck
	callReset
	callClose // makes room for a dial
	callKinds
)

// call is a call of the driver under way.
type call struct {
	kind            callKind
	slot            int // index in Pool.calls
	began           time.Duration
	lateAt, overdue time.Duration // overdue: the timeout has passed
	overtaken       bool          // or given up
	cancel          func()        // of a check or a reset
}

func (c *call) late(now time.Duration) bool { return now >= c.lateAt }
func (c *call) lost(now time.Duration) bool { return c.overtaken && c.late(now) || now >= c.overdue }

// drop cancels a check or a reset. The call is the close of its resource from now on. The caller holds the lock.
func (p *Pool[T]) drop(c *call) {
	now := p.elapsed()
	p.paces[c.kind].took(now - c.began)
	c.kind, c.began, c.lateAt = callClose, now, plus(now, p.paces[callClose].patience(p.cfg.CheckTimeout))
	c.cancel()
}

// giveUp makes the call a lost call: nobody wants the result.
func (c *call) giveUp(now time.Duration) { c.lateAt, c.overtaken = min(c.lateAt, now), true }

// pace is the time of the slowest recent call of one kind. Each quicker call takes an eighth of the difference off.
type pace struct{ slowest time.Duration }

func (l *pace) took(d time.Duration) {
	const forget = 8
	l.slowest = max(d, l.slowest-(l.slowest-d)/forget)
}

// patience is how long a call with the timeout given may last before the call is late.
func (l *pace) patience(timeout time.Duration) time.Duration {
	p := min(timeout/guessShare, firstGuess)
	if l.slowest != 0 {
		p = plus(l.slowest, l.slowest)
	}
	return min(max(p, clockStep), timeout)
}

// begin notes the begin of a call. The caller holds the lock.
func (p *Pool[T]) begin(kind callKind, timeout time.Duration) *call {
	now := p.elapsed()
	patience := p.paces[kind].patience(timeout)
	for _, other := range p.calls {
		if other.kind != callClose && other.late(now) && !other.lost(now) && patience < timeout/2 { // no sum to overflow
			patience *= 2
		}
	}
	if kind == callReset {
		dial := p.paces[callOpen].patience(p.cfg.OpenTimeout)
		patience = min(patience, plus(dial, dial))
	}
	c := &call{
		kind: kind, slot: len(p.calls), began: now,
		lateAt: plus(now, patience), overdue: plus(now, plus(timeout, clockStep)),
	}
	p.calls = append(p.calls, c)
	return c
}

// end notes the end of a call. The caller holds the lock.
func (p *Pool[T]) end(c *call, well bool) {
	last := len(p.calls) - 1
	p.calls[c.slot] = p.calls[last]
	p.calls[c.slot].slot = c.slot
	p.calls[last] = nil
	p.calls = p.calls[:last]
	if !well {
		return
	}
	p.paces[c.kind].took(max(p.elapsed()-c.began, 1))
	if c.kind == callClose {
		return
	}
	for _, other := range p.calls {
		if other.began <= c.began && (other.kind != callOpen || c.kind == callOpen) {
			other.overtaken = true
		}
	}
}

// resetEnded counts the resets in a row without success: those that were dropped, or ran out of time.
func (p *Pool[T]) resetEnded(well bool) {
	if p.vainResets++; well {
		p.vainResets = 0
	}
}

// inVain says whether a dirty resource is closed without a try to reset it. The caller holds the lock.
func (p *Pool[T]) inVain() bool {
	if p.vainResets < hopeless || p.waiters.n <= len(p.idle) || len(p.all)+p.opening < p.cfg.MaxSize || p.failures > 0 || len(p.looks) > 0 {
		return false
	}
	p.vainResets++
	return p.vainResets%trialShare > 0
}

// tally counts calls under way. Each one is timely, late or lost.
type tally struct{ timely, late, lost int }

// supply is the number of calls with a chance to end well.
func (t tally) supply() int { return t.timely + t.late }

// outlook is the state of the calls under way.
type outlook struct {
	dials, checks, closes tally         // checks stands for checks and resets
	hung                  bool          // a dial or a check is late, and has not been overtaken
	next                  time.Duration // when the outlook changes without an event
}

// timely is the number of calls with a chance to end well soon.
func (o *outlook) timely() int { return o.dials.timely + o.checks.timely }

func (o *outlook) stalled() bool { return o.timely() == 0 && o.dials.late+o.checks.late > 0 }

// outlook counts the calls under way. The caller holds the lock.
func (p *Pool[T]) outlook() (o outlook) {
	o.next = never
	if len(p.calls) == 0 {
		return o
	}
	now := p.elapsed()
	for _, c := range p.calls {
		t := &o.checks
		switch c.kind {
		case callOpen:
			t = &o.dials
		case callClose:
			t = &o.closes
		case callCheck, callReset, callKinds:
		}
		switch {
		case c.lost(now):
			t.lost++
		case c.late(now):
			t.late++
			o.next = min(o.next, c.overdue)
		default:
			t.timely++
			o.next = min(o.next, c.lateAt)
		}
		o.hung = o.hung || (c.kind == callOpen || c.kind == callCheck) && c.late(now) && !c.overtaken
	}
	return o
}

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
	if p.waiters.n+len(p.warmers) > 0 && len(p.calls) > 0 {
		p.schedule(p.outlook().next)
	}
}

// isFull says that nothing can be begun for a waiter: no resource is idle, no call is under way, and MaxSize leaves no room for a dial. The
// caller holds the lock.
func (p *Pool[T]) isFull() bool {
	return len(p.idle) == 0 && len(p.calls) == 0 && len(p.all)+p.opening >= p.cfg.MaxSize
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
	want = max(want, max(p.warmUpTo()-(len(p.all)-p.closing), p.patient())-o.dials.supply())
	stalled := n+len(p.warmers) > 0 && o.stalled()
	if stalled {
		want = max(want, 1)
	}
	missing := min(want, p.cfg.OpenConcurrency-o.dials.supply()) - p.spawnDials(o, want) - o.closes.timely
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

// dropLate drops the late check or reset that began first. The caller holds the lock.
func (p *Pool[T]) dropLate() {
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
