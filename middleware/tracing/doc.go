// Package tracing is the layer that makes OpenTelemetry spans of the uses of a pool. It belongs outermost, so that a span covers what the
// caller waited for, and so that every layer inside works in the span's context.
//
// # Spans
//
// There is one span a use, from its beginning to its end: in a two-step use ([pool.Pool.Acquire]) to the release of the lease. It is
// named after the operation and its target ("GET sessions", "find orders") and has kind CLIENT. Below it:
//
//   - "acquire", INTERNAL: the wait for a resource, only when it took longer than Config.WaitThreshold or was in vain; a use
//     that the pool refused at once has not waited;
//   - "attempt", INTERNAL: one attempt, only when a layer made more than one; the wait and the commands of that attempt are below it;
//   - one CLIENT span for each command that the backend's client sent, only with Config.Commands. The span of the use is then INTERNAL
//     and has no db.* attributes but the pool's name, for a service graph draws one edge for each CLIENT span.
//
// The spans below are made when what they show is over, with the times at which it happened. In a one-step use, commands beyond the
// 64th of the first attempt are shown below the use even if another attempt follows.
//
// The context that the borrower gets holds the span of the use. Spans that the borrower makes are below it, not below the attempt, and
// commands that are sent in the context of such a span are below that. Baggage and everything else in a context stay as they are, and
// nothing global is set.
//
// An error makes a span's status Error, without a description; a miss does not. A use that a layer or the pool refuses is a short span
// with that status. The work that a pool does in the background is in nobody's trace: it makes no spans, or, with Config.Background,
// roots of kind INTERNAL: "open", "open socket" for drivers that open those by themselves, and "check" or "reset" if that failed.
//
// # Attributes
//
// By the database conventions of OpenTelemetry (semantic conventions 1.43.0), on the CLIENT spans:
//
//	db.system.name           Identity.System
//	db.namespace             Identity.Namespace, or the command's own
//	db.operation.name        Op.Name, or the command's
//	db.collection.name       Op.Target, unless the system is Redis
//	db.query.summary         Redis: the operation and Op.Target
//	db.operation.batch.size  a command that is a pipeline of 2 or more, or of none: how many
//	db.query.text            a command, with Config.CommandText: its text without values
//	db.response.status_code  on failure: the server's own code
//	server.address           Identity.Address
//	server.port              Identity.Port, if it is not the system's default
//
// On every span that failed:
//
//	error.type               the server's code, else timeout, canceled, a layer's reason, or _OTHER
//
// And ours:
//
//	db.client.connection.pool.name  use, acquire, background: the pool's name, as on its metrics
//	poolstack.connection.fresh      acquire: whether the resource was opened lately and had not been used
//	poolstack.attempt               attempt: which, from 1
//	poolstack.events.dropped        use: how many span events there was no room for
//
// Keys, values and texts of errors are never recorded.
//
// # Span events
//
// What the layers did is recorded on the span of the use, up to 32 times, as poolstack.retry, poolstack.gave_up, poolstack.rejected,
// poolstack.timeout, poolstack.state_changed and, generally, poolstack. and the kind of the [pool.Event], with as many of these as it
// has:
//
//	poolstack.layer          who did it
//	poolstack.attempt        in which attempt
//	poolstack.reason         why
//	poolstack.cause          of what a breaker refused, and of its change to open: error.type of the failure that opened it
//	poolstack.from           the breaker's state before
//	poolstack.to             and after
//	poolstack.duration       in seconds: the pause before a retry or in which it was given up, the limit that was hit, how long until it
//	                         makes sense to come back
package tracing
