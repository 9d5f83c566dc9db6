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
