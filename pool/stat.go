package pool

import (
	"fmt"
	"time"
)

// CloseReason says why the pool closed a resource.
type CloseReason uint8

// The reasons for which resources are closed.
const (
	closeNot      CloseReason = iota
	CloseLifetime             // older than Config.MaxLifetime
	CloseIdle                 // idle for longer than Config.MaxIdleTime
	CloseBroken               // the outcome of a use made it suspect
	CloseDiscard              // Lease.Discard
	CloseCheck                // it failed its check, or its driver found it invalid
	CloseReset                // it could not be reset
	CloseCleared              // Pool.Clear
	CloseShrunk               // Configure made the pool smaller
	ClosePool                 // the pool was closed
	closeReasons
)

var closeReasonNames = [closeReasons]string{
	"", "lifetime", "idle", "broken", "discarded", "check_failed", "reset_failed", "cleared", "shrunk", "pool_closed",
}

// String returns the reason's name in lower case, as in events and metrics.
func (r CloseReason) String() string {
	if r >= closeReasons {
		return "unknown"
	}
	return closeReasonNames[r]
}

// MarshalText returns the name of the reason.
func (r CloseReason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// CloseReasons lists all reasons.
func CloseReasons() []CloseReason {
	reasons := make([]CloseReason, 0, closeReasons-1)
	for r := CloseLifetime; r < closeReasons; r++ {
		reasons = append(reasons, r)
	}
	return reasons
}

// CloseCounts counts closed resources by [CloseReason].
type CloseCounts [closeReasons]uint64

// MarshalJSON returns an object: the number of closed resources by the name of the reason.
func (c CloseCounts) MarshalJSON() ([]byte, error) {
	var b []byte
	for _, r := range CloseReasons() {
		b = fmt.Appendf(b, ",%q:%d", r.String(), c[r])
	}
	b[0] = '{'
	return append(b, '}'), nil
}

// Total is the sum over all reasons.
func (c CloseCounts) Total() (n uint64) {
	for _, k := range c {
		n += k
	}
	return n
}

// Stat is a snapshot of a pool, taken at one moment: its figures fit together. Idle + InUse +
// Opening + Checking + Closing never exceeds Max, except after Configure has lowered it and until
// the surplus has come back.
type Stat struct {
	// How things stand.
	Max, MinIdle int
	Idle         int           // ready to be lent
	InUse        int           // lent
	Opening      int           // being opened
	Checking     int           // being checked or reset
	Closing      int           // being closed
	Waiters      int           // borrowers waiting
	OldestLease  time.Duration // how long the longest of the present leases has lasted, to within 10 ms; 0 when there is none

	// What has happened since New. Every acquisition ends in exactly one of Acquires, Cancelled,
	// TimedOut, Refused and Failed.
	Acquires  uint64        // got a resource; also those that gave it back unused, as their context had ended when it was handed over
	Waited    uint64        // got it after a wait
	Cancelled uint64        // ended by the cancellation of their context
	TimedOut  uint64        // ended by Config.AcquireTimeout or their context's deadline
	Refused   uint64        // refused at once or while waiting: full, paused, closed
	Failed    uint64        // ended because no resource could be opened
	TotalWait time.Duration // the waits of Waited, added up

	Opened        uint64 // resources opened
	OpenFailures  uint64
	CheckFailures uint64 // failed checks and resets
	Closed        CloseCounts
	Leaked        uint64 // leases reported as leaked
}

// Stat returns a snapshot. It takes the pool's lock for a moment and may be called concurrently,
// also after Close.
func (p *Pool[T]) Stat() Stat {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stat
	s.Acquires -= uint64(p.tentative.Load()) //nolint:gosec // each trial is among them
	s.Max, s.MinIdle = p.cfg.MaxSize, p.cfg.MinIdle
	s.Idle, s.InUse, s.Opening, s.Checking, s.Closing = len(p.idle), p.inUse, p.opening, p.checking, p.closing
	s.Waiters = p.waiters.n
	s.OldestLease = p.oldestLease()
	return s
}

// oldestLease is called under the lock.
func (p *Pool[T]) oldestLease() time.Duration {
	if p.inUse == 0 {
		return 0
	}
	now := p.elapsed()
	oldest := now
	for _, r := range p.all {
		if r.lent() {
			oldest = min(oldest, r.since)
		}
	}
	return now - oldest
}

// state is the part of Stat that errors carry. It is called under the lock.
func (p *Pool[T]) state() Occupancy {
	o := p.outlook()
	return Occupancy{
		Max: p.cfg.MaxSize, InUse: p.inUse, Idle: len(p.idle), Opening: p.opening, Checking: p.checking, Closing: p.closing,
		Late: o.dials.late + o.dials.lost + o.checks.late + o.checks.lost, Waiters: p.waiters.n, OldestLease: p.oldestLease(), LastCheck: p.lastCheckErr,
	}
}
