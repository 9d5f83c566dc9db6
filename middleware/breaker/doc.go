// Package breaker is a circuit breaker for a pool: when the server is gone it refuses uses at once instead of letting each of them fail
// slowly, and finds out by itself when the server is back.
//
//	b, err := breaker.New(breaker.Config{})
//	p, err := pool.New(driver, pool.Config{}, retry, b, attemptTimeout)
//
// # The rule
//
//	A failure is evidence if it is the server's by its class, or if a deadline passed while the server had the call for four times as long
//	as all but one in 1,000 recent successes of the operation needed. A cancel is none, nor is time that runs out in an Op that blocks.
//	What says nothing about the server counts as nothing. A Narrow failure is an answer: it counts as a success.
//	In a run of failures the first counts, and each whose call began after the first had ended; the others are echoes of one event.
//	closed     uses pass. The breaker opens when chance does not explain a run (p^n at most 1e-6, n at least 5) that has lasted 200 ms, or
//	           when FailureRatio of at least MinCalls calls in the window failed. ConsecutiveFailures, if set, is the length of run that opens.
//	open       uses are refused with an [OpenError], and the pool looks at its server once in LookMax or more often. When a look has
//	           passed and the open period is over, the next use makes the breaker half-open.
//	half-open  Probes uses at a time pass. ProbeSuccesses close the breaker; more than ProbeFailures failures open it for longer.
//
// The rules are looked at when a failure comes in; a success or the passing of time opens nothing. Of a two-step use what counts is the
// outcome given to Release.
//
// # Why so
//
// One cause makes many failures: a proxy that is restarted cuts all connections at once, and a server in a long pause lets all limits pass
// together. Counted one by one they would open the breaker of a server that is up, so echoes do not count. A cut of any size is one failure.
// Where calls fail now and then, some fail in a row: so a run has to be improbable. And retry bridges gaps that are shorter than a run has to
// last. A number that is set is obeyed without these two conditions; echoes do not count for it either.
//
// A narrow failure (no memory for writes, a replica that takes none, a missing right) never opens anything, for reads must not be refused
// because writes are. There is no breaker for each kind of work either: such an answer comes at once, so that a refusal would save its callers
// no time, and the server next to nothing. For the same reason a probe that meets such an answer has succeeded.
//
// What an operation needs is known from its recent successes, those of 20 ms and more; while nothing is known, only a deadline of a second or
// more is evidence. So a server that freezes is found within two deadlines of its callers, if these are at least 80 ms.
//
// # Looks
//
// While the breaker is open the pool dials its server and has the driver check the resource ([pool.PoolInfo]'s Look): at once, then after
// pauses that grow from 100 ms to LookMax, each up to half as short at random. A server that is away has about one dial a second from each
// instance, and no user has to find out that it is still away. A driver whose Open and Check do nothing always passes, so that the probes
// alone find out; they also find out what no look can see, as that commands fail while checks pass, at open periods that grow to OpenMax and
// are cut short at random, so that many instances do not probe together. The goroutine that looks ends when the pool is closed.
//
// # Placement
//
// The breaker stands inside of retry, so that it judges every attempt and its refusals end the retrying, and outside of the timeout for
// one attempt, so that it sees that timeout as the failure it is. Each pool has a breaker of its own.
//
// # Events and health
//
// A refusal is reported as [pool.EventRejected], a change of state as [pool.EventStateChanged] with the rule as its Reason, both under the
// layer name "breaker", outside all locks, with the context of the use that caused it. Events of different uses may overtake one another;
// [Breaker.Snapshot] tells how things stand. As only uses move the state, a breaker nobody uses stays open, with its next probe due in the
// past. While it is open, [pool.Pool.Check] says degraded, why, and when the next check is.
//
// The state machine is github.com/sony/gobreaker/v2. In front of it are the evidence, the window, the open period, the looks and the probes,
// which can all be changed while the breaker works.
package breaker
