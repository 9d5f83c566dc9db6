// Package tracing is a layer that makes OpenTelemetry spans for the uses of a pool. Put the layer
// outermost. Then a span covers the whole time of the caller's wait, and every layer inside works
// in the context of the span.
//
// # Spans
//
// Each use has a single span from its beginning to its end. A two-step use ([pool.Pool.Acquire])
// ends when the lease is released. The span is named after the operation and its target ("GET
// sessions", "find orders") and has kind CLIENT. The child spans are:
//
//   - "acquire", INTERNAL: the wait for a resource, only if the wait was longer than
//     Config.WaitThreshold or failed. A use that the pool refused at once has not waited.
//   - "attempt", INTERNAL: an attempt, only if a layer made more than 1 attempt. The wait and the
//     commands of the attempt are children of the attempt's span.
//   - a CLIENT span for each command sent by the backend's client, only with Config.Commands. Then
//     the use's span is INTERNAL and has no db.* attribute except the pool's name. The reason: a
//     service graph draws an edge for each CLIENT span. The target of a command on a whole database
//     is the database ("dbStats shop").
//
// Each child span is made at its end, with the true start and end times. In a one-step use, the
// layer holds back at most 64 child spans of the first attempt. With more than 64, child spans of
// the first attempt may be children of the use's span even if another attempt follows.
//
// The borrower's context holds the use's span. A span made by the borrower is a child of the use's
// span, not of the attempt's span. A command sent in the context of a borrower's span is a child of
// the borrower's span. Baggage and all other values of a context stay unchanged, and the layer sets
// nothing global.
//
// An error sets the status of a span to Error, without a description. A miss does not. A use
// refused by a layer or by the pool is a short span with status Error. If a breaker has refused the
// use, the span has a link to the span of the use that opened the breaker. There is no link if that
// span was not sampled. The link has the attribute poolstack.reason.
//
// The background work of a pool belongs to no trace. By default, background work has no spans. With
// Config.Background, background work has root spans of kind INTERNAL: "open", "open socket" for
// drivers with clients that open sockets themselves, and "check" or "reset" after a failure.
//
// # Attributes
//
// CLIENT spans follow the database conventions of OpenTelemetry (semantic conventions 1.43.0):
//
//	db.system.name           Identity.System
//	db.namespace             Identity.Namespace, or the command's namespace
//	db.operation.name        Op.Name, or the command's name
//	db.collection.name       Op.Target, or the command's target, unless the system is Redis
//	db.query.summary         Redis: the operation and the target
//	db.operation.batch.size  pipeline of 0, 2 or more commands: the number of commands
//	db.query.text            command, with Config.CommandText: the text without values
//	db.response.status_code  on failure: the server's own code
//	server.address           Identity.Address, or the command's server
//	server.port              the port of server.address, unless the port is the system's default
//	network.peer.address     command: its server, if the backend knows the server by an IP address
//	                         or by the path of a socket
//	network.peer.port        the port of network.peer.address
//
// Every failed span has:
//
//	error.type               the server's code, else a reason such as timeout, canceled or
//	                         connection_refused, else a layer's reason, else _OTHER
//
// The library adds:
//
//	db.client.connection.pool.name  every span: the pool's name, as on the metrics
//	poolstack.attempts              use: the number of attempts, if there were several
//	poolstack.acquire.wait          use: how long all attempts together have waited for a resource,
//	                                in seconds, if any attempt has waited
//	poolstack.connection.fresh      acquire: whether this is the first use of the resource
//	poolstack.attempt               attempt: the number of the attempt, from 1
//	poolstack.events.dropped        use: the number of span events above the maximum
//
// Keys, values and error texts are never recorded.
//
// # Span events
//
// The use's span records the events of the layers, at most 32 in a use. The names are
// poolstack.retry, poolstack.gave_up, poolstack.rejected, poolstack.timeout,
// poolstack.state_changed and, in general, poolstack. followed by the kind of the [pool.Event]. A
// span event has these attributes, as far as the [pool.Event] has values for them:
//
//	poolstack.layer          the layer reporting the event
//	poolstack.attempt        the number of the attempt
//	poolstack.reason         the reason
//	poolstack.cause          a breaker's refusal or change to open: error.type of the failure that
//	                         opened the breaker
//	poolstack.from           the breaker's state before
//	poolstack.to             the breaker's state after
//	poolstack.duration       in seconds: the pause before a retry, the pause in which the use was
//	                         given up, the timeout that ended the use, or the time to wait before
//	                         the next use
package tracing
