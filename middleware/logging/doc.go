// Package logging is the layer that writes what deserves a line to a log/slog logger: uses that failed, changes of a breaker's state,
// connections that cannot be opened, leaks. Its place is outside of the layers whose work it reports, inside of tracing: then each line
// of a use has its trace_id and span_id.
//
// # Lines
//
//	level  message                        when
//	ERROR  use failed                     by the server's fault
//	WARN   use failed                     by this process's: the pool is full, a layer refused; or it panicked
//	DEBUG  use failed                     by the caller's, which gave up; or by nobody's: the server answered with an error
//	WARN   state changed                  a breaker opened
//	INFO   state changed                  a breaker closed or became half-open
//	WARN   connection could not be opened
//	WARN   lease is out for too long      with the borrower's stack
//	WARN   pool paused
//	WARN   warning                        what New and layers find surprising
//	INFO   time limit hit                 a timeout layer's
//	INFO   connection check failed
//	INFO   pool resumed, pool cleared, configuration changed
//	DEBUG  attempt failed, will repeat
//	DEBUG  gave up repeating
//	DEBUG  use refused                    by a layer; the failure of the use follows
//	DEBUG  no connection acquired         the failure of the use follows
//	DEBUG  connection opened, connection closed
//
// A miss is no failure, and successes are not logged. Events of other layers are logged as event, at DEBUG, with their kind.
//
// # Sampling
//
// An outage does not flood the log: of lines that are about the same (pool, message, layer, and reason or error type) the first in each
// Config.Interval is written, and then every Config.Every-th, with the number of those left out since the last one as suppressed.
// Changes of state and what is done to a pool by hand are always written.
//
// # Attributes
//
//	pool         the pool's name
//	layer        the kind of the layer that reports, unless it is the pool
//	operation    Op.Name
//	target       Op.Target
//	attempt      which attempt of the use, from the second on
//	reason       why; of a warning, what about
//	error_type   of a failed use: as in spans and metrics
//	fault        of a failed use: none, server, caller or local
//	from, to     the states of a breaker
//	duration     how long the use, or what failed, took
//	next_probe, pause, retry_after, limit, held   what the duration of the event means
//	error        the error's text
//	suppressed   how many lines like this have been left out
//	stack        the borrower's, of a lease that is out for too long
//	trace_id, span_id   those of the use's span, or of the caller's
//
// Texts of errors are written as they are: drivers see to it that they hold no secrets. Op.Key is never written.
package logging
