// Package breaker is a circuit breaker for a pool. When the server is gone, the breaker refuses uses at once, where each of them would fail
// slowly, and the pool finds out by itself when the server is back.
//
//	b, err := breaker.New(breaker.Config{})
//	p, err := pool.New(driver, pool.Config{}, retry, b, attemptTimeout)
//
// # The rule
//
//	evidence   a failure that the class lays at the server; a deadline that passed while the server had the call for four times as long as
//	           999 in 1,000 recent successes needed, or while the server answered nothing for half a second (shorter deadlines add up).
//	           No evidence: cancels, deadlines of an Op that blocks, quick Narrow failures, errors without a word about the server.
//	run        failures since the last success, of calls that began after the first one's end (lost connections: the latest's); a dial counts once.
//	closed     opens if chance does not explain a run (p^n at most 1e-6, n at least 5) of 300 ms or more, or if FailureRatio of at least
//	           MinCalls calls in the window failed. ConsecutiveFailures, if set, is the length of run that opens.
//	open       refuses the operations of the run, to callers with no more time, with an [OpenError]. The pool looks at the server. A look
//	           that passes closes if a look had failed or no resource could be had; else the next use after the period is a probe.
//	half-open  Probes uses at a time pass. A success of each refused operation closes, after a Window any success, or ProbeSuccesses if set.
//	           More than ProbeFailures failures open for longer.
//
// A failure makes the breaker look at the rules; a success or the passing of time opens nothing. Of a two-step use the outcome given to
// Release counts.
//
// # Why so
//
// A single cause makes many failures: a restarted proxy cuts all connections at once, and a frozen server lets all limits pass together.
// Counted one by one, such failures would open the breaker of a server that is up. So echoes do not count: each cut, of any size, is 1 failure.
// Where calls fail now and then, some fail in a row: so a run has to be improbable. A server that restarts is back soon, and the pool and retry
// bridge a gap of 300 ms: so a run has to last. An explicit ConsecutiveFailures is obeyed without these two conditions; echoes do not count
// for it either.
//
// A server that fails one operation may serve the others: so a breaker that opened by a run refuses the operations of the run, and another one
// when it has failed too. A server that is too slow for 100 ms may serve callers with 2 s: so callers with more than twice the time of
// those that failed pass. A resource that could not be had is about all, and so are FailureRatio and ConsecutiveFailures.
//
// A narrow failure (no memory for writes, a replica without writes, a missing right) opens nothing: such an answer comes at once, so
// a refusal would save callers no time, and the server next to no work. For the same reason a probe with such an answer has succeeded. But a
// narrow answer may come late: a MongoDB server that is too slow for the callers ends their commands at their deadlines (MaxTimeMSExpired). An
// answer after as long as makes a deadline evidence is evidence, too.
//
// Recent successes of 20 ms and more tell how long an operation needs. Shorter deadlines add up while the server answers nothing: after half a
// second, and four times what 9 in 10 successes needed, each deadline as long as that need is evidence. While nothing is known, a deadline of a
// second or more is evidence, and deadlines of 250 ms and more add up. A frozen server is found within two deadlines of the callers; if the
// deadlines are below four times what is needed, after half a second or more without an answer. The breaker is blind to deadlines in a lease of
// two steps, as the borrower may have spent the time.
//
// # Looks
//
// While the breaker is open the pool dials the server and has the driver check the resource ([pool.PoolInfo].Look): at once, then after pauses
// that grow from 100 ms to LookMax, each up to half as short at random, or to 200 ms if the server refuses for a while. A dead server has
// about a dial a second from each instance, and no user has to find out about the server. A driver whose Open and Check do nothing always
// passes, so the probes alone find out. The probes also find out what no look can see, such as commands that fail while checks pass, at open
// periods that grow to OpenMax and are cut short at random, so many instances do not probe together. The periods do not grow while the server
// answers that it refuses for a while. The goroutine behind the looks ends when the pool is closed.
//
// # Placement
//
// The breaker stands inside of retry: so the breaker judges every attempt, and a refusal ends the retrying. The breaker stands outside of the
// timeout for one attempt: so that timeout is a failure to the breaker. Each pool has a breaker of its own.
//
// # Events and health
//
// A refusal is reported as [pool.EventRejected], a change of state as [pool.EventStateChanged] with the rule as its Reason, both under the
// layer name "breaker", outside all locks, with the context of the use that caused the event. Events of different uses may overtake one
// another; [Breaker.Snapshot] tells how things stand. Only uses move the state, so a breaker without uses stays open, with the next probe
// due in the past. While the breaker is open, [pool.Pool.Check] says degraded, why, and when the next check is.
//
// The state machine is github.com/sony/gobreaker/v2. In front of the machine are the evidence, the window, the open period, the looks and the
// probes, which can all be changed while the breaker works.
package breaker
