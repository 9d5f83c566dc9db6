// Package timeout bounds how long a use of a pool may take: the whole of it ([NewTotal]), or each attempt ([NewAttempt]).
//
// The bound is a real deadline on the context, so that clients see the deadline in ctx.Deadline() and return in time. The deadline is never
// later than the caller's. Whoever waits inside is woken by the deadline. context.Cause tells the deadline from the caller's:
//
//	errors.Is(context.Cause(ctx), timeout.ErrAttempt)
//
// What comes back from inside because the time was up (the context's error, a socket's i/o timeout, the pool's acquire timeout) is
// wrapped into an [*Error]. The Error says which bound passed and what the bound cut short. Everything else passes unchanged: an answer of
// the server that came in late, and whatever the caller's own deadline or cancellation caused.
//
// # Whose time
//
// The total limit counts from the beginning of the use, waits and pauses included. The attempt's limit is the server's time: the limit
// counts from the grant, and the wait for a resource is bounded by [pool.Config].AcquireTimeout. So an attempt that had to wait still has
// the whole limit, and a limit that passes says something about the server. The defaults fit together: 2 s for the wait, 3 s for the
// attempt, 10 s for the use. A caller who gives a deadline says how long the use may take: then the deadline is the total limit, the wait may
// take two thirds of the caller's time, and an attempt half, if that is more. A limit that is set holds for all callers. [pool.New] warns when
// limits defeat one another.
//
// # Slow operations
//
// An attempt that is cut leaves time for another attempt. That helps when a connection or a server gives no answer. An operation that needs
// longer than the limit would be cut in each attempt. So the attempt's default limit (Limit 0) is for operations that are known to be quick.
// An attempt of any other operation has all of the time that is left of the use, or 10 s if there is neither a total limit nor a caller's
// deadline. An operation is an Op.Name with its Op.Target. The layer learns which operations are quick:
//
//	quick      after 20 successes that took the server less than 1.5 s each, 10 s after the first success or later
//	slow       after a success that took longer, or after a second cut; until there are 1,000 successes of less than 1.5 s, for 1 minute at least
//	after a cut  the next attempt of the same use has all of the time that is left
//
// Only a cut of an attempt that began after the first cut is a second cut. For a server that freezes cuts all attempts of a moment, and a
// breaker has to hear of the next cuts. A cut of a quick operation that has become slow costs the uses of a few seconds. The layer keeps records of
// 256 operations; the others share a record. A limit that is set, be it Config.Limit or Op.Limit, never learns.
//
// # One operation
//
// [pool.Op].Limit takes the place of the attempt's limit for one operation. Negative means that the operation is meant to block, as BLPOP
// is: no attempt's limit applies, and time that runs out in the operation is no evidence against the server.
//
// # Leases
//
// In a two-step use the limits cover the acquisition: the total limit and the attempt's limit end when Acquire returns. What bounds the
// lease is the context of the caller, and a positive Op.Limit, counted from the grant. The outcome that the borrower hands to Release is
// the borrower's own: the layer neither translates nor reports the outcome.
package timeout
