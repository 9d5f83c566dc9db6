package pool

import "time"

// A call of the driver's that is under way is a hope, not supply. The pool counts on a call for as long as calls of its kind lately took,
// and then begins something beside it.
//
//   - A call is late when it has lasted for twice as long as the slowest of the recent ones of its kind, at least for clockStep and at most
//     for half of its timeout. The first of its kind is given a thirty-second of its timeout, at most firstGuess. A call that begins while
//     others are late is given twice as long for each of them.
//   - A call is lost when it is late and a call that began after it has ended well, or when it has outlasted its timeout. A lost call counts
//     neither as supply nor in OpenConcurrency. Its place among MaxSize stays taken: the server may hold a connection for it.
//   - While somebody waits and all calls under way that are not lost are late, the pool is stalled, and begins one of each that it has room
//     for: the check of another idle resource, and a dial. Whatever ends well first serves the first waiter. Where MaxSize leaves no room for
//     the dial, and two checks or more are late, the idle resource that was used least lately is closed for it.
//
// So a hung call costs the first waiter the time that such a call lately took twice, not the call's timeout; a server that is merely slow
// gets one call more each time, at pauses that double; and a server that answers nothing gets OpenConcurrency dials, as before.

const (
	firstGuess = 100 * time.Millisecond // how long a call may last before it is late when nothing is known of its kind
	guessShare = 32                     // of its timeout, if that is less
)

type callKind uint8

const (
	callOpen callKind = iota
	callCheck
	callReset
	callKinds
)

// call is one of the driver's calls under way.
type call struct {
	kind            callKind
	slot            int // index in Pool.calls
	began           time.Duration
	lateAt, overdue time.Duration // overdue: its timeout has passed, and it has not returned
	overtaken       bool          // a later one has ended well
}

func (c *call) late(now time.Duration) bool { return now >= c.lateAt }
func (c *call) lost(now time.Duration) bool { return c.overtaken && c.late(now) || now >= c.overdue }

// pace is how long calls of one kind lately took: the slowest, forgotten by and by.
type pace time.Duration

func (l *pace) took(d time.Duration) {
	const forget = 8
	*l = pace(max(d, time.Duration(*l)-(time.Duration(*l)-d)/forget))
}

// patience is how long a call with the timeout given may last before it is late.
func (l pace) patience(timeout time.Duration) time.Duration {
	p := min(timeout/guessShare, firstGuess)
	if l != 0 {
		p = plus(time.Duration(l), time.Duration(l))
	}
	return min(max(p, clockStep), timeout)
}

// begin notes that a call begins. It is called under the lock.
func (p *Pool[T]) begin(kind callKind, timeout time.Duration) *call {
	now := p.elapsed()
	patience := p.paces[kind].patience(timeout)
	for _, other := range p.calls {
		if other.late(now) && !other.lost(now) && patience < timeout/2 { // no sum to overflow
			patience *= 2
		}
	}
	c := &call{
		kind: kind, slot: len(p.calls), began: now,
		lateAt: plus(now, min(patience, timeout)), overdue: plus(now, plus(timeout, clockStep)),
	}
	p.calls = append(p.calls, c)
	return c
}

// end notes that a call is over. It is called under the lock.
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
	for _, other := range p.calls {
		other.overtaken = other.overtaken || other.began < c.began || other.began == c.began && other.kind == c.kind
	}
}

// outlook is what may be expected of the calls under way.
type outlook struct {
	dials, checks         int // that are not lost; checks and resets
	lateDials, lateChecks int // of all, the lost ones included
	lostDials, lostChecks int
	next                  time.Duration
	timely                bool // one is in time
	stalled               bool // there are some, and none is
	checked               bool // a check is in time
}

// outlook is called under the lock.
func (p *Pool[T]) outlook() (o outlook) {
	o.next = never
	if len(p.calls) == 0 {
		return o
	}
	now := p.elapsed()
	for _, c := range p.calls {
		late, dial := c.late(now), c.kind == callOpen
		switch {
		case !late:
			o.timely = true
			o.checked = o.checked || !dial
			o.next = min(o.next, c.lateAt)
		case now < c.overdue:
			o.next = min(o.next, c.overdue)
		}
		if late && dial {
			o.lateDials++
		} else if late {
			o.lateChecks++
		}
		switch lost := c.lost(now); {
		case lost && dial:
			o.lostDials++
		case lost:
			o.lostChecks++
		case dial:
			o.dials++
		default:
			o.checks++
		}
	}
	o.stalled = !o.timely
	return o
}

// plus adds two durations that are not negative; what is longer than a Duration can say is never.
func plus(a, b time.Duration) time.Duration {
	if sum := a + b; sum >= a {
		return sum
	}
	return never
}
