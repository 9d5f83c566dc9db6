// Package logging is the layer that writes what deserves a line to a log/slog logger: uses that failed, changes of a breaker's state,
// connections that cannot be opened, leaks. Its place is outside of the layers whose work it reports, inside of tracing: then each line
// of a use has its trace_id and span_id.
//
// # Lines
//
//	level  event, or how a use failed           message
//	ERROR  by the server's fault                use failed
//	WARN   by local fault                       use failed
//	WARN   aborted by a panic                   use failed
//	DEBUG  by the caller's fault                use failed
//	DEBUG  by nobody's fault                    use failed
//	DEBUG  elsewhere                            use failed
//	WARN   state_changed to open                state changed
//	INFO   state_changed otherwise              state changed
//	INFO   another package's, with From and To  state changed
//	WARN   open_failed                          connection could not be opened
//	WARN   leaked                               lease is out for too long
//	WARN   paused                               pool paused
//	WARN   warning                              this may surprise
//	INFO   timeout                              time limit hit
//	INFO   check_failed                         connection check failed
//	INFO   resumed                              pool resumed
//	INFO   cleared                              pool cleared
//	INFO   configured                           configuration changed
//	DEBUG  retry                                repeating a failed attempt
//	DEBUG  gave_up                              gave up repeating
//	DEBUG  rejected                             use refused
//	DEBUG  acquire_failed                       no connection acquired
//	DEBUG  opened                               connection opened
//	DEBUG  closed                               connection closed
//	DEBUG  another package's                    event
//
// The fault is local when the pool is full or a layer refused; the caller's when it gave up; nobody's when the server answered with an
// error; elsewhere when the error says nothing about the server: it is another pool's, or the function's own. A use that a breaker refused
// is WARN whatever opened the breaker. ERROR is for what somebody has to look at, WARN for what may become that and for what this process
// does to protect itself, INFO for what explains the lines around it, DEBUG for what the failure of a use is made up of. A miss is no
// failure, and successes are not logged; nor are acquired and released, of which there is one in every use.
//
// # Sampling
//
// An outage does not flood the log: of lines that are about the same (pool, message, layer, level, fault, and reason or error type) the
// first in each Config.Interval is written, and then every Config.Every-th, with the number of those left out since the last one as
// suppressed. Each change of state is one line, always written, as are warnings and what is done to a pool by hand.
//
// # Attributes
//
//	pool         the pool's name
//	layer        the kind of the layer that reports, unless it is the pool
//	kind         of an event of another package
//	operation    Op.Name
//	target       Op.Target
//	attempt      which attempt of the use, from the second on
//	reason       why; of a warning, what about
//	error_type   of a failed use: as in spans and metrics
//	fault        of a failed use: none, server, caller, local or elsewhere; of one that a breaker refused, whose fault it is that it is open
//	cause        of what a breaker refused, and of its change to open: error_type of the failure that opened it, such as connection_refused
//	state        of a use that got no resource: how things stood in the pool, a group of figures
//	from, to     the states of a breaker
//	duration     how long the use, or what failed, took
//	next_probe, pause, retry_after, limit, held   what the duration of the event means
//	error        what the driver said of a connection, the operator of a pause; the error of a use only with Config.ErrorText
//	suppressed   how many lines like this have been left out
//	stack        the borrower's, of a lease that is out for too long
//	trace_id, span_id   those of the use's span, or of the caller's
//
// Keys, values and statements are not among them: drivers see to it that what they say of a connection holds no secrets, and Op.Key is
// never written.
package logging
