package pool

import "time"

// A call of the driver that is under way is a hope, not supply. The pool counts on a call for as long as calls of the same kind lately took.
//
//   - A call is late after twice the time of the slowest recent call of the same kind, but not before clockStep and not after the timeout of
//     the call. The first call of a kind is late after a thirty-second of the timeout, at most firstGuess. A call that begins beside late
//     calls gets twice the time for each late call. For a dial only late dials count: hung checks say nothing about dials.
//   - A reset is late after twice the time of a late dial at most: a new resource is there sooner than the replies that the reset waits for.
//   - A late call is overtaken when a call that began later has ended well. Only a dial overtakes a dial.
//   - A call is lost when the call is late and overtaken, or has outlasted the timeout. A lost call is no supply, and OpenConcurrency does
//     not count a lost dial. A lost call keeps a place among MaxSize: the server may hold a connection for the call.

const (
	firstGuess = 100 * time.Millisecond // how long the first call of a kind may last before the call is late
	guessShare = 32                     // of the timeout, if less
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
	fresh           bool          // the check of a new resource
	cancel          func()        // of a dial, a check or a reset
}

func (c *call) late(now time.Duration) bool { return now >= c.lateAt }
func (c *call) lost(now time.Duration) bool { return c.overtaken && c.late(now) || now >= c.overdue }

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
		counts := other.kind == callOpen || kind != callOpen && other.kind != callClose
		if counts && other.late(now) && !other.lost(now) && patience < timeout/2 { // no sum to overflow
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
