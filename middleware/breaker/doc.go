// Package breaker implements a circuit breaker for a pool. While the server is down, the breaker
// rejects uses at once, because each use would fail slowly. The pool itself detects the return of
// the server.
//
//	b, err := breaker.New(breaker.Config{})
//	p, err := pool.New(driver, pool.Config{}, retry, b, attemptTimeout)
//
// # The rule
//
// The breaker judges each attempt of a use. Without a retry layer, a use is a single attempt.
//
//   - Evidence: a failure with the class [driver.FaultServer]. A passed deadline, set outside of
//     the breaker or by the function of the use, is evidence in two cases. In the first case, the
//     server had the attempt for four times as long as 999 in 1,000 recent successes needed. In the
//     second case, the server answered nothing for half a second; the times of attempts with
//     shorter deadlines add up.
//   - No evidence: cancellations, deadlines of an Op with a negative Limit (the operation is meant
//     to block), quick Narrow failures, and errors of another class.
//   - Run: the failures since the last success, without duplicates. A failure is a duplicate if its
//     attempt began before the first failure of the run ended. A lost connection is a duplicate if
//     its attempt began before the latest counted failure ended. A failed dial counts once, even if
//     the dial fails many attempts.
//   - Closed: all uses pass. A run opens the breaker if the run has lasted for 300 ms and chance
//     does not explain the run. Chance does not explain a run of n failures if n is at least 5 and
//     p^n is at most 1e-6. Here p is the share of failures among the other attempts.
//     ConsecutiveFailures, if set, replaces both conditions by a length of the run. FailureRatio
//     opens the breaker if at least this share of the attempts in the window failed, and the window
//     holds at least MinCalls attempts. SlowRatio, with SlowCall, is the same rule for slow
//     attempts.
//   - Open: the breaker rejects the operations of the run with an [OpenError]. If an operation
//     failed only at deadlines of its callers, callers with more than twice the time of the failed
//     attempts pass. The pool looks at the server. A passed look closes the breaker if an earlier
//     look failed, or if the evidence was a failure to acquire a resource. Otherwise the next use
//     after the open period is a probe.
//   - Half-open: up to Probes uses at a time pass as probes. The breaker closes after a success of
//     each rejected operation. After a Window in this state, any success closes the breaker.
//     ProbeSuccesses, if set, replaces both conditions by a number of successes. More than
//     ProbeFailures failures open the breaker again, for longer. RampUp, if set, lets a growing
//     share of the uses pass after the closing.
//   - Forced: an operator sets the state for a time ([Breaker.Force]), or resets the breaker.
//
// The breaker evaluates the rules only after a failure or a slow success. A quick success or the
// passing of time never opens the breaker. In a two-step use, the outcome passed to Release counts.
//
// # Reasons
//
// A single cause makes many failures. A restarted proxy cuts all connections at once. A server
// frozen for a moment lets all limits pass at the same time. Duplicates do not count, because
// otherwise such failures would open the breaker although the server is up. So each cut, of any
// size, is 1 failure.
//
// Where some attempts fail, a few fail in a row by chance. So a run must be improbable. A restarted
// server is back soon, and the pool and retry bridge a gap of 300 ms. So a run must last for
// 300 ms. An explicit ConsecutiveFailures removes both conditions. Duplicates do not count for
// ConsecutiveFailures either.
//
// A server may fail a single operation and serve all other operations. So a breaker opened by a run
// rejects only the operations of the run, and another operation after the operation failed too. A
// server may be too slow for callers with 100 ms, and fast enough for callers with 2 s. So a caller
// passes with more than twice the time of the failed attempts. A failure to acquire a resource
// concerns all operations. FailureRatio and ConsecutiveFailures concern all operations, too.
//
// A narrow failure ([driver.Class].Narrow) opens nothing. Examples: no memory for writes, a replica
// without writes, a missing right. Such an answer comes at once. So a rejection would save no time
// for callers, and almost no work for the server. For the same reason, a probe with such an answer
// has succeeded. But a narrow answer may come late: a MongoDB server too slow for its callers ends
// their commands at their deadlines (MaxTimeMSExpired). A narrow answer is evidence if the server
// had the attempt for four times as long as 999 in 1,000 recent successes needed.
//
// The breaker learns from recent successes of 20 ms and more how long an operation needs. Shorter
// deadlines add up while the server answers nothing. The sum has to reach half a second, and four
// times the time in which 3 in 4 successes ended. Then each deadline of at least this time is
// evidence. While fewer than 20 successes are known, a deadline of 1 s or more is evidence, and
// deadlines of 250 ms and more add up. The breaker detects a frozen server within two deadlines of
// the callers. If the deadlines are below four times the needed time, the detection takes half a
// second or more without an answer. In a lease, the class alone decides about a passed deadline,
// because the caller may have spent the time. So a passed deadline of the caller is no evidence in
// a lease.
//
// # Looks
//
// A look is a call of [pool.PoolInfo].Look: the pool dials the server, and the driver checks the
// resource. While the breaker is open, the first look begins at once. The pauses between looks grow
// from 100 ms to LookMax. While the server answers with a temporary refusal, the pauses grow to
// 200 ms only. Each pause is shortened at random by up to half. So a dead server receives about 1
// dial a second from each instance, and no use has to test the server. If Open and Check of the
// driver do nothing, a look always passes, and only the probes detect the state of the server.
//
// The probes also detect trouble invisible to a look, such as commands that fail while checks pass.
// The open periods between probes grow to OpenMax. Each period is shortened at random, so many
// instances do not probe together. The periods do not grow while the server answers with a
// temporary refusal. The goroutine of the looks ends when the pool is closed.
//
// # Placement
//
// The breaker stands inside of retry, so the breaker judges each attempt, and a rejection ends the
// retries. The breaker stands outside of the timeout for an attempt, so a passed timeout is a
// failure for the breaker. Each pool has its own breaker.
//
// # Events and health
//
// The breaker reports a rejection as [pool.EventRejected]. The breaker reports a change of state as
// [pool.EventStateChanged], with the rule as the Reason. Both events have the layer name "breaker".
// The breaker holds no lock while an observer runs. An event caused by a use has the context of the
// use. Events of different uses may arrive in another order than the changes; [Breaker.Snapshot]
// returns the current state. Only uses, passed looks, operators and the end of a forced state
// change the state. So a breaker without uses may stay open with a NextProbe in the past. While the
// breaker is open, [pool.Pool.Check] returns degraded, the reason, and the time of the next check.
//
// The state machine is github.com/sony/gobreaker/v2. This package adds the evidence, the window,
// the open period, the looks and the probes. All settings can be changed while the breaker is in
// use.
package breaker
