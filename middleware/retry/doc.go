// Package retry is a layer that repeats the attempt of a failed use, if a retry is safe and may
// succeed.
//
// A retry follows an error only if the error is the server's fault ([driver.FaultServer]) and
//
//   - nothing was sent, the server refused the operation without executing any of it, or the driver
//     has seen only reads ([driver.RepeatAlways]), or
//   - the server may have executed the operation ([driver.RepeatIfIdempotent]), and the operation
//     is declared idempotent ([pool.Op]).
//
// No retry follows a refusal by this process (an open breaker, a full or closed pool) or the end of
// the caller's context.
//
// # Budget
//
// Three limits bound the attempts of a use: a maximum number, the context's deadline, and a budget.
// While the pool cannot open a connection, the default maximum is a time: 500 ms (Config).
// The budget is a token bucket shared by all uses of the layer. Each retry costs a token, and each
// success earns a fraction of a token. While a server is down, the budget runs out, and retries no
// longer add to the server's load.
//
// An attempt counts when the attempt reaches the pool. An attempt refused by a layer inside, such
// as an open breaker, costs no token and is not reported as a retry. An attempt that had a resource
// and, according to the driver, sent nothing costs no token either. Only a success, or an error
// answered by a healthy server, earns. A use that sent nothing earns nothing.
//
// An operation is an Op.Name with an Op.Target. If the retries of an operation have been in vain
// for a second and in 8 uses or more, only 1 use in 32 of the operation is retried. The next
// success of the operation ends this limit. So the budget is left for the other operations.
//
// # Pauses
//
// Pauses grow exponentially and are random, so callers that failed together do not return together.
// If a server asks for time, the random pause is added to the server's time. A pause that would not
// end before the context's deadline is not begun: the use fails at once.
//
// A retry is reported ([pool.EventRetry]) after the pause, when the attempt reaches the pool. A use
// given up is reported too ([pool.EventGaveUp]). This event has the length of the last pause if the
// use ended in the pause, or if a layer inside refused the attempt after the pause.
//
// # Two-step uses
//
// In a two-step use only the acquisition is retried, nothing after the acquisition. For the budget,
// too, the use succeeds when the resource is acquired.
package retry
