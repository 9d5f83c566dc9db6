package breaker

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/earnorm/poolstack/pool"
)

// This file says when failures are evidence of a server in trouble, and how much evidence opens a breaker.
//
// Whose failure. The backend's class decides: FaultServer is a failure, FaultNone a success. A Narrow failure is a success here, as the
// server has answered and serves other work, unless the answer took as long as makes a deadline a failure. A deadline of the caller that
// passes is a failure if the server has had the call for much longer than the server lately needed (muchLonger). A cancel is no evidence,
// and neither is a passed deadline of an operation meant to block (Op.Limit negative). The server has had a call since the grant. During a
// run of failures the wait for the grant counts as well, as the calls before the grant had no answer either.
//
// Shorter deadlines add up (silence): while calls that had as long as three in four lately needed end without an answer and no call is answered,
// their times are summed, each moment once. From half a second of silence on, and from four times that need, such a deadline is a failure: one
// call in four may be late, but not all. The wait for a grant in the silence counts, as in a run. A use of several commands with an answer to
// one of them is an answer (Call.Answered).
//
// One event is one observation. The failures since the last success are a run. The first failure counts. A later failure counts if the
// server's part of the call began after the first failure had ended: then the failure is a second observation. Otherwise the failure is an
// echo: both may have the same cause, as when a proxy cuts all connections. A lost connection is an echo unless the call began after the latest
// failure that counts had ended: so each cut of all connections is one failure, and a server that serves between cuts is not refused. A
// deadline or an answer belongs to one call: calls that hang at the same time are several observations. No clock is needed to tell: each failure
// that counts moves a number, and each use notes the number when the use begins. A use after a wait is judged by its grant, a failed dial by
// the beginning of the dial. The pool may tell all waiters of one failed dial: the dial counts once.
//
// How many convince. A run opens the breaker when chance does not explain the run: where a share p of the other calls in the window fails, n
// failures in a row come about with probability p^n (independent trials), and p^n must be at most 1e-6. p is taken as if 16 further calls
// had met 1 failure (additive smoothing), so a few calls prove little; n is at least 5. And the run must have lasted for 300 ms:
// a server that restarts is often back before then, and serves the uses that have waited. ConsecutiveFailures, if set, replaces both
// conditions: so many failures, without echoes.

const (
	fewest  = 5                      // failures in a row, at least
	lasting = 300 * time.Millisecond // of a run, at least
	chance  = 1e-6                   // a run of this probability is no chance
	priorOf = 16                     // as if so many calls had met 1 failure
)

// run counts the failures since the last success.
type run struct {
	length atomic.Int64  // failures, without echoes; 0: there is no run
	number atomic.Uint64 // moved by each failure that counts
	first  atomic.Int64  // when the first failure of this run ended; set under the breaker's mutex
	begun  uint64        // number after the first failure; guarded by the breaker's mutex, like the next three
	latest time.Duration // when the latest failure that counts ended
	dial   time.Duration // when the failed dial began that was counted last
	scope  *scope        // what the failures of this run are about, echoes too
}

// failure is a failure as the breaker knows it.
type failure struct {
	from, to time.Duration // of the server's part; from is 0 if the use did not have to wait
	run      uint64        // run.number when the use began
	dial     bool          // a failed dial: all who waited may have been told of it
	answered bool          // the server has answered this very call
	class    pool.Class
	err      error

	// What it is about, see scope.
	work    work
	granted bool          // the use had a resource
	lost    bool          // the use has lost its connection: there was neither an answer nor a deadline
	held    time.Duration // how long the call had, its wait included, if only the caller's deadline ended it; else forever
}

// add counts f, unless f is an echo, and says whether f is evidence. It is called under the breaker's mutex.
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

// end notes a success.
func (r *run) end() {
	if r.length.Load() != 0 { // read first: a write each time would make all processors share the word
		r.length.Store(0)
	}
}

// unanswered returns since when the server has answered nothing, as far as the present run tells. ok is false if there is no run.
func (r *run) unanswered() (since time.Duration, ok bool) {
	return time.Duration(r.first.Load()), r.length.Load() > 0
}

// silence is the time that the server has had calls since the last answer: of those that a deadline ended, after as long as commonly needed. The
// silence outlasts the closed state, so that probes with short deadlines are judged by it as well.
type silence struct {
	lasted       atomic.Int64
	since, until time.Duration // from the first call to the last one; under the breaker's mutex
}

// add adds the time of a call, from its grant on, or from its beginning if that was in the silence, unless the time is less than the least that
// counts. A silence begins with a call that did not have to wait. It returns how long the silence has lasted. It is called under the breaker's mutex.
func (s *silence) add(began, granted, ended, least time.Duration) time.Duration {
	if s.lasted.Load() == 0 {
		if granted-began >= 2*tick {
			return 0 // others wait for this pool: that calls get too little time may be the pool's doing
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

// end notes an answer.
func (s *silence) end() {
	if s.lasted.Load() != 0 { // read first, as in run.end
		s.lasted.Store(0)
	}
}

// convincing returns how many failures in a row open the breaker, and whether n has as many. since is when the run began.
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
