// Package timeout bounds how long a use of a pool may take: the whole of it ([NewTotal]), or each attempt ([NewAttempt]).
//
// The bound is a real deadline on the context, so that clients see it in ctx.Deadline() and return in time; the pool's own queue honours
// it too. It never is later than the caller's, and whoever waits inside is woken by it. context.Cause tells it from the caller's:
//
//	errors.Is(context.Cause(ctx), timeout.ErrAttempt)
//
// What comes back from inside because the time was up (the context's error, a socket's i/o timeout, the pool's acquire timeout) is
// wrapped into an [*Error], which says which bound it was and what it cut short. Everything else passes unchanged: an answer of the
// server that came in late, and whatever the caller's own deadline or cancellation caused.
//
// In a two-step use the deadline holds until the lease is released. The outcome that the borrower hands to Release is its own and is
// not translated; that the bound had passed is reported as an event all the same, by the layer whose bound passed first.
package timeout
