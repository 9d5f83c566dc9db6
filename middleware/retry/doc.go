// Package retry makes another attempt of a use that failed, where that is safe and promises something.
//
// An attempt is repeated only if its error is laid at the server ([pool.FaultServer]) and
//
//   - nothing was sent, the server refused it unexecuted, or it has only read, as the driver has seen ([pool.RepeatAlways]), or
//   - the server may have executed it ([pool.RepeatIfIdempotent]) and the operation is declared idempotent ([pool.Op]).
//
// What this process refuses itself (an open breaker, a full or closed pool) and what the caller ended is never repeated.
//
// Attempts are bounded in number, by the context's deadline, and by a budget that all uses of the layer share: each retry costs one
// token, each success earns a fraction of one. While a server is down the budget runs out, and retries stop adding to its load. An attempt
// counts when it comes to the pool: one that a layer inside refuses, such as an open breaker, costs no token and is not reported as a
// retry. An attempt that had a resource and sent nothing, as the driver knows, costs no token either. Neither a failure that is not the
// server's nor a use that sent nothing earns anything. An operation (Op.Name and Op.Target) whose retries have been in vain for a second, in
// eight uses or more, gets only one use in 32 repeated until a use of the operation succeeds: so the budget is left to the other operations.
//
// Pauses grow exponentially and are random, so that callers who failed together do not come back together; that holds on top of the time
// that a server asks for. A pause that would not end before the context's deadline is not begun: the use fails at once. A retry is reported
// ([pool.EventRetry]) when its pause is over and it comes to the pool; what is given up in a pause or refused, with how long the pause
// lasted ([pool.EventGaveUp]).
//
// In a two-step use the acquisition is repeated, nothing after it; for the budget, too, it succeeds with the acquisition.
package retry
