// Package timeout bounds the time of a use of a pool: the whole use ([NewTotal]), or each attempt
// of a use ([NewAttempt]).
//
// The bound is a deadline on the context. So clients see the deadline in ctx.Deadline() and return
// in time, and the deadline ends all waits inside of the layer. The deadline is never later than
// the caller's deadline. context.Cause distinguishes the deadline from the caller's deadline:
//
//	errors.Is(context.Cause(ctx), timeout.ErrAttempt)
//
// An error from inside of the layer may be caused by the passed deadline: the error of the context,
// the i/o timeout of a socket, the acquire timeout of the pool. The layer wraps such an error into
// an [*Error]. The Error names the passed limit and the stage cut short. All other errors pass
// unchanged: a late answer of the server, and an error caused by the caller's own deadline or
// cancellation.
//
// # Measured time
//
// The total limit counts from the beginning of the use, and includes waits and pauses. The
// attempt's limit is for the server: it counts from the acquisition of the resource.
// [pool.Config].AcquireTimeout bounds the wait for a resource. So an attempt with a wait still has
// the whole limit, and a passed limit says something about the server. The defaults fit together:
// 2 s for the wait, 3 s for the attempt, 10 s for the use.
//
// By default, a caller with a deadline gets more time. The deadline is then the total limit. The
// wait may take two thirds of the caller's time, and the attempt half of the caller's time, if this
// is more than the default. An explicit limit holds for all callers. [pool.New] warns about limits
// that defeat one another.
//
// # Slow operations
//
// An attempt cut short leaves time for another attempt. This helps when a connection or a server
// gives no answer. But an operation that needs longer than the limit would be cut in each attempt.
// So the default limit of an attempt (Limit 0) holds only for operations known to be quick. An
// attempt of any other operation has all of the remaining time of the use, or 10 s without a total
// limit and without a caller's deadline. An operation is an Op.Name with its Op.Target. The layer
// learns which operations are quick:
//
//   - An operation is quick after 20 successes of less than 1.5 s at the server, and not before
//     10 s after its first success.
//   - An operation is slow after a success of 1.5 s or more, or after a second cut. The operation
//     stays slow for 1,000 successes of less than 1.5 s, and for at least 1 minute.
//   - After a cut, the next attempt of the same use has all of the remaining time.
//
// A cut is the end of an attempt by the default limit. A cut is a second cut only if its attempt
// began after the first cut. A frozen server cuts all attempts of a moment, and a breaker must
// receive the next cuts. If a quick operation has become slow, the uses of a few seconds fail. The
// layer keeps records for 256 operations, and all further operations share a record. An explicit
// limit (Config.Limit or Op.Limit) holds for quick and slow operations alike.
//
// # Limit of an operation
//
// [pool.Op].Limit replaces the attempt's limit for an operation. Negative means that the operation
// is meant to block, for example BLPOP: no limit for an attempt applies, and a passed deadline is
// no evidence against the server.
//
// # Leases
//
// In a two-step use, the limits cover the acquisition: the total limit and the attempt's limit end
// when Acquire returns. The lease is bounded by the caller's context, and by a positive Op.Limit
// counted from the acquisition. The outcome passed to Release belongs to the caller: the layer
// neither wraps nor reports the outcome.
package timeout
