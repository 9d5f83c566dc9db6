package pool

import (
	"fmt"
	"time"
)

// CloseReason is the reason for which the pool closed a resource.
type CloseReason uint8

// The reasons for which resources are closed.
const (
	closeNot      CloseReason = iota
	CloseLifetime             // the lifetime is over, see Config.MaxLifetime
	CloseIdle                 // idle for Config.MaxIdleTime
	CloseBroken               // a use has left the resource unfit
	CloseDiscard              // Lease.Discard
	CloseCheck                // Check failed, Valid returned false, or dropped while checks hung
	CloseReset                // Reset failed or hung, or recent resets were in vain
	CloseCleared              // Pool.Clear
	CloseShrunk               // Configure made the pool smaller
	ClosePool                 // the pool was closed
	closeReasons
)

var closeReasonNames = [closeReasons]string{
	"", "lifetime", "idle", "broken", "discarded", "check_failed", "reset_failed", "cleared", "shrunk", "pool_closed",
}

// String returns the name of the reason in lower case, as in events and metrics.
func (r CloseReason) String() string {
	if r >= closeReasons {
		return "unknown"
	}
	return closeReasonNames[r]
}

// MarshalText returns the name of the reason.
func (r CloseReason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// CloseReasons returns all reasons.
func CloseReasons() []CloseReason {
	reasons := make([]CloseReason, 0, closeReasons-1)
	for r := CloseLifetime; r < closeReasons; r++ {
		reasons = append(reasons, r)
	}
	return reasons
}

// CloseCounts contains the number of closed resources for each [CloseReason], as index.
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

// Total returns the sum over all reasons.
func (c CloseCounts) Total() (n uint64) {
	for _, k := range c {
		n += k
	}
	return n
}

// Stat is a snapshot of a pool at a single moment, so the numbers are consistent. Idle + InUse +
// Opening + Checking + Closing does not exceed Max. Exception: after Configure has lowered Max,
// until the surplus resources have been closed.
type Stat struct {
	// The present state, in resources unless stated otherwise.
	Max, MinIdle int
	Idle         int // free for the next borrower, some only after a check
	InUse        int // lent
	Opening      int // being opened
	Checking     int // being checked or reset
	Closing      int // being closed
	Waiters      int // borrowers waiting
	// OldestLease is the duration of the longest active lease, to within 10 ms; 0 without a lease.
	OldestLease time.Duration

	// The events since New. Every acquisition ends in exactly one of Acquires, Cancelled, TimedOut,
	// Refused and Failed.

	// Acquires counts acquisitions that got a resource. An acquisition also counts if its context had
	// ended at the grant, so the resource was returned unused.
	Acquires  uint64
	Waited    uint64        // acquisitions that got a resource after a wait
	Cancelled uint64        // ended by the cancellation of the context
	TimedOut  uint64        // ended by Config.AcquireTimeout or the deadline of the context
	Refused   uint64        // refused at once or during the wait: full, paused, closed
	Failed    uint64        // ended because dials failed
	TotalWait time.Duration // the sum of the waits counted by Waited

	Opened        uint64 // resources opened
	OpenFailures  uint64 // failed dials
	CheckFailures uint64 // failed checks and resets
	Closed        CloseCounts
	Leaked        uint64 // leases reported as leaked
}

// Stat returns a snapshot. Stat holds the lock of the pool for a short time. Stat may be called
// concurrently, also after Close.
func (p *Pool[T]) Stat() Stat {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stat
	s.Acquires -= uint64(p.tentative.Load()) //nolint:gosec // Acquires includes tentative
	s.Max, s.MinIdle = p.cfg.MaxSize, p.cfg.MinIdle
	s.Idle, s.InUse, s.Opening, s.Checking, s.Closing = len(p.idle), p.inUse, p.opening, p.checking, p.closing
	s.Waiters = p.waiters.n
	s.OldestLease = p.oldestLease()
	return s
}

// oldestLease returns the duration of the longest active lease, or 0. The caller holds the lock.
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

// state returns the State for an error. The caller holds the lock.
func (p *Pool[T]) state() Occupancy {
	o := p.outlook()
	return Occupancy{
		Max: p.cfg.MaxSize, InUse: p.inUse, Idle: len(p.idle), Opening: p.opening, Checking: p.checking, Closing: p.closing,
		Late: o.dials.late + o.dials.lost + o.checks.late + o.checks.lost, Waiters: p.waiters.n, OldestLease: p.oldestLease(), LastCheck: p.lastCheckErr,
	}
}
