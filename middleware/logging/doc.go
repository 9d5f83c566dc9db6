// Package logging is a layer that writes the important events of a pool to a log/slog logger:
// failed uses, changes of a breaker's state, failed opens and leaks. Put the layer outside of the
// layers whose events it reports, and inside of tracing. Then each line of a use has the use's
// trace_id and span_id.
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
//	WARN   warning                              possibly unwanted effect
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
// A use fails by local fault if the pool is full or a layer refused the use. A use fails by the
// caller's fault if the caller gave up, and by nobody's fault if the server answered with an error.
// A use fails elsewhere if the error says nothing about the server: the error of another pool, or
// the function's own error. A use refused by a breaker is WARN, whatever failure opened the
// breaker.
//
// ERROR lines need attention. WARN lines may need attention later, or tell how this process
// protects itself. INFO lines explain the lines around them. DEBUG lines are details, mostly of
// failed uses. A miss is no failure. Successes are not logged, and neither are the events acquired
// and released: every use has both.
//
// # Sampling
//
// An outage does not flood the log. Lines are alike if they have the same pool, message, layer,
// level, fault, and reason or error type. Of alike lines, the first line in each Config.Interval is
// written, and then every Config.Every-th line. The attribute suppressed is the number of lines
// left out since the last written line. Changes of state and of the configuration, warnings, and
// Pause, Resume and Clear of a pool are always written.
//
// # Attributes
//
//	pool         the pool's name
//	layer        the kind of the reporting layer, unless the pool reports
//	kind         the kind of an event of another package
//	operation    Op.Name
//	target       Op.Target
//	attempt      the number of the attempt, from the second attempt on
//	reason       the reason; the text of a warning
//	error_type   of a failed use: error.type, as in spans and metrics
//	fault        of a failed use: none, server, caller, local or elsewhere; after a refusal by a
//	             breaker, the fault of the failure that opened the breaker
//	cause        of a breaker's refusal or change to open: error_type of the failure that opened
//	             the breaker, such as connection_refused
//	state        of a use without a resource: the state of the pool, a group of numbers
//	from, to     the states of a breaker
//	duration     the duration of the use, or of the failed step
//	next_probe, pause, retry_after, limit, held   the duration of the event, by its meaning
//	error        the driver's error of a connection, or the cause of a pause; the error of a use
//	             only with Config.ErrorText
//	suppressed   the number of alike lines left out
//	stack        the borrower's stack, of a leaked lease or of a warning about a borrower
//	trace_id, span_id   of the use's span, or else of the caller's span
//
// Attributes never hold keys, values or statements. Drivers keep secrets out of the errors of
// connections. Op.Key is never written.
package logging
