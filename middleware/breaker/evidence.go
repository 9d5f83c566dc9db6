package breaker

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/earnorm/poolstack/pool/driver"
)

// This file decides which failures are evidence of a server in trouble, and how much evidence opens
// the breaker.
//
// Attribution. The class of the backend decides: FaultServer is a failure, and FaultNone is a
// success. A Narrow failure counts as a success, because the server answered and serves other
// operations. An exception is a late Narrow answer (waited). A passed deadline of the caller is a
// failure if the server had the attempt for much longer than recent successes needed (muchLonger).
// A cancellation is no evidence. A passed deadline of an operation meant to block (Op.Limit
// negative) is no evidence. The server has an attempt from the time the resource is acquired.
// During a run of failures, the wait for the resource counts too, because the attempts before had
// no answer either.
//
// Silence. Shorter deadlines add up while no attempt is answered. An attempt adds its time if the
// time is at least as long as 3 in 4 recent successes needed. Each moment counts once, even if
// several attempts were in progress. After half a second of silence, and four times the needed
// time, each such deadline is a failure. The reason: 1 in 4 attempts may be late, but not all. The
// wait for a resource counts if the wait is in the silence, as in a run. An attempt with several
// commands and an answer to any of the commands counts as answered (Call.Answered).
//
// Duplicates. A single event is a single observation. The failures since the last success are a
// run. The first failure counts. A later failure counts if the server's part of the attempt began
// after the first failure had ended, so the failure is a second observation. Otherwise the failure
// is a duplicate. Both failures may have the same cause, as when a proxy cuts all connections. A
// lost connection is a duplicate unless the attempt began after the latest counted failure had
// ended. So each cut of all connections is a single failure, and successes between the cuts keep
// the breaker closed. A deadline or an answer belongs to a single attempt, so attempts hanging at
// the same time are several observations. The comparison needs no clock: each counted failure
// increments a number, and each attempt stores the number at its beginning. An attempt with a wait
// is compared by the time of its acquisition. A failed dial is compared by the beginning of the
// dial. The pool may fail all waiters because of a single failed dial, so the dial counts once.
//
// Rules. A run opens the breaker when chance does not explain the run. If a share p of the other
// attempts in the window fails, n failures in a row have the probability p^n (independent trials).
// p^n must be at most 1e-6. p is computed as if 16 further attempts had met 1 failure (additive
// smoothing), so few attempts prove little. n is at least 5. The run must also have lasted for
// 300 ms: a restarted server is often back earlier, and serves the waiters. ConsecutiveFailures, if
// set, replaces both conditions by a number of failures without duplicates.

const (
	fewest  = 5                      // minimum number of failures in a run
	lasting = 300 * time.Millisecond // minimum length of a run
	chance  = 1e-6                   // chance does not explain a run of at most this probability
	priorOf = 16                     // number of assumed attempts with 1 failure
)

// run counts the failures since the last success. The fields without an atomic type are guarded by
// Breaker.mu.
type run struct {
	length atomic.Int64  // failures without duplicates; 0: no run
	number atomic.Uint64 // incremented by each counted failure
	first  atomic.Int64  // end of the first failure of the run; set under Breaker.mu
	begun  uint64        // number after the first failure
	latest time.Duration // end of the latest counted failure
	dial   time.Duration // beginning of the failed dial counted last
	scope  *scope        // the scope of the run, including duplicates
}

// failure is the failure of an attempt.
type failure struct {
	from, to time.Duration // the server's part; from is 0 if the attempt did not wait
	run      uint64        // run.number at the beginning of the attempt
	dial     bool          // a failed dial; the dial may have failed several attempts
	answered bool          // the server answered this attempt
	slow     bool          // the attempt took at least Config.SlowCall
	class    driver.Class
	err      error

	// The scope of the failure, see type scope.
	work    work
	granted bool // the attempt got a resource
	lost    bool // the connection broke, without an answer and without a deadline
	// held is the time of the attempt, including the wait, if only the caller's deadline ended the
	// attempt. Otherwise held is forever.
	held time.Duration
}

// add counts f unless f is a duplicate, and reports whether f was counted. add is called under
// Breaker.mu.
func (r *run) add(f *failure) bool {
	if r.length.Load() == 0 {
		r.scope = none
	}
	r.scope = r.scope.with(f)
	number, ended := r.begun, time.Duration(r.first.Load())
	if f.lost {
		number, ended = r.number.Load(), r.latest
	}
	switch {
	case r.length.Load() == 0:
		r.begun = r.number.Load() + 1
		r.first.Store(int64(f.to))
	case f.from != 0 && f.from < ended, f.from == 0 && f.run < number:
		return false
	case f.dial && f.from == r.dial:
		return false
	}
	if f.dial {
		r.dial = f.from
	}
	r.number.Add(1)
	r.latest = f.to
	r.length.Add(1)
	return true
}

// end ends the run after a success.
func (r *run) end() {
	if r.length.Load() != 0 { // a store on each success would slow down all processors
		r.length.Store(0)
	}
}

// unanswered returns the end of the first failure of the run. The server has answered nothing
// since. ok is false if there is no run.
func (r *run) unanswered() (since time.Duration, ok bool) {
	return time.Duration(r.first.Load()), r.length.Load() > 0
}

// silence is the time without an answer in which the server had attempts. Only attempts ended by a
// deadline count, and only if the attempt had as much time as 3 in 4 recent successes needed. The
// silence continues after the closed state, so the breaker also judges probes with short deadlines
// by the silence.
type silence struct {
	lasted atomic.Int64
	// since is the beginning of the first attempt, until the end of the last attempt. Breaker.mu
	// guards both.
	since, until time.Duration
}

// add adds the time of an attempt, and returns the length of the silence. The time counts from the
// acquisition of the resource, or from the beginning of the wait as far as the wait is in the
// silence. A time shorter than least does not count. Only an attempt without a wait begins a
// silence. add is called under Breaker.mu.
func (s *silence) add(began, granted, ended, least time.Duration) time.Duration {
	if s.lasted.Load() == 0 {
		if granted-began >= 2*tick {
			// Other uses compete for the resources, so the pool may be the reason for the short time.
			return 0
		}
		s.since, s.until = granted, granted
	}
	from := min(granted, max(s.since, began))
	if ended-from < least {
		return 0
	}
	more := max(ended-max(from, s.until), 0)
	s.until = max(s.until, ended)
	return time.Duration(s.lasted.Add(int64(more)))
}

// end ends the silence after an answer.
func (s *silence) end() {
	if s.lasted.Load() != 0 { // no store unless necessary, as in run.end
		s.lasted.Store(0)
	}
}

// convincing returns the number of consecutive failures required to open the breaker, and reports
// whether the run opens the breaker. since is the end of the first failure of the run.
func (c Config) convincing(n Counts, since, now time.Duration) (limit int64, ok bool) {
	switch {
	case c.ConsecutiveFailures < 0:
		return 0, false
	case c.ConsecutiveFailures > 0:
		limit = int64(c.ConsecutiveFailures)
		return limit, n.Consecutive >= limit
	}
	failed := float64(max(n.Failures-n.Consecutive, 0) + 1) // before the run
	share := failed / (float64(n.Successes) + failed - 1 + priorOf)
	limit = max(fewest, int64(math.Ceil(math.Log(chance)/math.Log(share))))
	return limit, n.Consecutive >= limit && now-since >= lasting
}
