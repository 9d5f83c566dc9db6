// Package retry makes another attempt of a use that failed, where that is safe and promises something.
//
// An attempt is repeated only if its error is laid at the server ([pool.FaultServer]) and
//
//   - nothing was sent, or the server refused it unexecuted ([pool.RepeatAlways]), or
//   - the server may have executed it ([pool.RepeatIfIdempotent]) and the operation is declared idempotent ([pool.Op]).
//
// What this process refuses itself (an open breaker, a full or closed pool) and what the caller ended is never repeated.
//
// Attempts are bounded in number, by the context's deadline, and by a budget that all uses of the layer share: each retry costs one
// token, each success earns a fraction of one. While a server is down the budget runs out, and retries stop adding to its load.
//
// Pauses grow exponentially and are random, so that callers who failed together do not come back together. A pause that would not end
// before the context's deadline is not begun: the use fails at once. A retry is reported ([pool.EventRetry]) when its pause is over and
// it begins; what is given up in a pause, with how long that lasted ([pool.EventGaveUp]).
//
// In a two-step use the acquisition is repeated, nothing after it; for the budget, too, it succeeds with the acquisition.
package retry
