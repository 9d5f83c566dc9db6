// Package breaker is a circuit breaker for a pool: after too many failures of the server it refuses uses at once instead of letting each
// of them fail slowly, and lets a few probes through after a while to see whether the server is back.
//
//	b, err := breaker.New(breaker.Config{})
//	p, err := pool.New(driver, pool.Config{}, retry, b, attemptTimeout)
//
// The state machine is github.com/sony/gobreaker/v2. In front of it are a rolling window, the rules, the open period and the probes,
// which can all be changed while the breaker works.
//
//	closed     uses pass, and their outcomes are counted in a window of the last few seconds. The breaker opens when, within the
//	           window, FailureRatio of at least MinCalls calls have failed, or when ConsecutiveFailures calls in a row have.
//	open       uses are refused with an [OpenError]. The first use after the open period makes the breaker half-open.
//	half-open  Probes uses at a time pass. After ProbeSuccesses of them have succeeded the breaker closes; after more than
//	           ProbeFailures have failed it opens again, for longer each time.
//
// # What counts
//
// What an outcome means is the backend's word, [pool.Class.Fault]: [pool.FaultNone] is a success, an error of the caller's making
// included (a missing key, a wrong type, a duplicate); [pool.FaultServer] is a failure, be it the server's answer, a time limit of our
// own or a dial that failed or hung; [pool.FaultCaller] (the caller gave up, or its function panicked) and [pool.FaultLocal] (the pool
// was full, another layer refused) count as nothing: they say nothing about the server. Of a two-step use what counts is the outcome
// given to Release.
//
// # Placement
//
// The breaker stands inside of retry, so that it judges every attempt and its refusals end the retrying, and outside of the timeout for
// one attempt, so that it sees that timeout as the failure it is. Each pool has a breaker of its own.
//
// # Events
//
// A refusal is reported as [pool.EventRejected], a change of state as [pool.EventStateChanged], both under the layer name "breaker",
// outside all locks, with the context of the use that caused it. Events of different uses may overtake one another; [Breaker.Snapshot]
// tells how things stand. As only uses move the state, a breaker nobody uses stays open, with its next probe due in the past.
package breaker
