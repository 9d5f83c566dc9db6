package pool

import "time"

// Calls of the driver in progress. A call in progress is no certain supply for a waiter. The pool
// relies on a call for as long as recent calls of the same kind took.
//
//   - A call is late after twice the time of the slowest recent call of the same kind, but not
//     before clockStep and not after the timeout of the call. The first call of a kind is late
//     after 1/32 of the timeout, at most firstGuess. For each late call at its start, a new call
//     gets twice the time. For a dial only late dials count: hung checks give no information about
//     dials.
//   - A reset is late at the latest after twice the time after which a dial is late. A new resource
//     is then available sooner than the replies expected by the reset.
//   - A late call is overtaken after a later call has succeeded. Only a dial overtakes a dial.
//   - A call is lost if the call is late and overtaken, or after the timeout of the call. A lost
//     call is no supply, and OpenConcurrency does not count a lost dial. A lost call keeps a place
//     under MaxSize: the server may hold a connection for the call.
//
// A call that is neither late nor lost is timely.

const (
	firstGuess = 100 * time.Millisecond // the first call of a kind is late after this time at most
	guessShare = 32                     // the same as a share of the timeout
)

// callKind is the kind of a call of the driver.
type callKind uint8

const (
	callOpen callKind = iota
	callCheck
	callReset
	callClose // frees a place for a dial
	callKinds
)

// call is a call of the driver in progress.
type call struct {
	kind            callKind
	slot            int // index in Pool.calls
	began           time.Duration
	lateAt, overdue time.Duration // overdue: the end of the timeout
	overtaken       bool          // or given up
	fresh           bool          // the check of a new resource during a look
	cancel          func()        // of a dial, a check or a reset
}

func (c *call) late(now time.Duration) bool { return now >= c.lateAt }
func (c *call) lost(now time.Duration) bool { return c.overtaken && c.late(now) || now >= c.overdue }

// giveUp makes the call a lost call. The result is not needed any more.
func (c *call) giveUp(now time.Duration) { c.lateAt, c.overtaken = min(c.lateAt, now), true }

// pace is the time of the slowest recent call of a kind. Each quicker call reduces the time by 1/8
// of the difference.
type pace struct{ slowest time.Duration }

func (l *pace) took(d time.Duration) {
	const forget = 8
	l.slowest = max(d, l.slowest-(l.slowest-d)/forget)
}

// patience returns the time after which a call with the given timeout is late.
func (l *pace) patience(timeout time.Duration) time.Duration {
	p := min(timeout/guessShare, firstGuess)
	if l.slowest != 0 {
		p = plus(l.slowest, l.slowest)
	}
	return min(max(p, clockStep), timeout)
}

// begin records the start of a call. The caller holds the lock.
func (p *Pool[T]) begin(kind callKind, timeout time.Duration) *call {
	now := p.elapsed()
	patience := p.paces[kind].patience(timeout)
	for _, other := range p.calls {
		counts := other.kind == callOpen || kind != callOpen && other.kind != callClose
		if counts && other.late(now) && !other.lost(now) && patience < timeout/2 { // prevents an overflow
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

// end records the end of a call. The caller holds the lock.
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

// tally counts the calls in progress. Each call is timely, late or lost.
type tally struct{ timely, late, lost int }

// supply returns the number of calls that may still succeed.
func (t tally) supply() int { return t.timely + t.late }

// outlook is the state of the calls in progress.
type outlook struct {
	dials, checks, closes tally         // checks includes resets
	hung                  bool          // a dial or a check is late and not overtaken
	next                  time.Duration // the time at which a call becomes late or lost
}

// timely returns the number of dials, checks and resets that may succeed soon.
func (o *outlook) timely() int { return o.dials.timely + o.checks.timely }

// stalled reports whether calls are late and no call is timely.
func (o *outlook) stalled() bool { return o.timely() == 0 && o.dials.late+o.checks.late > 0 }

// outlook returns the state of the calls in progress. The caller holds the lock.
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
