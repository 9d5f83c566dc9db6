// Package middleware builds the recommended stack of layers around a pool. Each layer is a package
// of its own and can be used alone. This package defines the order of the layers, with the reasons.
//
//	stack, err := middleware.Standard(middleware.Options{})
//	p, err := pool.New(driver, pool.Config{}, stack.Layers()...)
//
// [Stack.Insert] puts a layer of another package into the stack. A [Builder] collects the layers of
// a chain made by hand.
//
// # The order
//
// The first layer is outermost: it sees a use first, and the outcome of the use last.
//
//	tracing                  one span for the use, as the caller sees the use
//	  metrics                one duration for the use, and the events of the layers below
//	    logging              the same as log lines
//	      timeout.total      bounds the use: all attempts and the pauses between them
//	        retry            repeats attempts; the layers below run once for each attempt
//	          breaker        admits the attempt, and judges its outcome
//	            timeout.attempt  bounds the attempt from the time its resource is acquired
//	              the pool
//
// Tracing, metrics and logging are outermost, so they report the use as the caller sees the use: a
// single use, with any number of attempts. Events inside of these layers become span events,
// counters and log lines. Tracing is the first of the three layers, so exemplars and log lines find
// the span in the context.
//
// The total limit is outside of retry, because the total limit must hold for all attempts and
// pauses. Retry also reads the deadline before the next pause.
//
// The breaker is inside of retry. So the breaker judges each attempt. It opens after a number of
// failures of the server, not after a number of uses with several failed attempts each. The breaker
// can reject the second attempt of a use whose first attempt opened the breaker. Retry does not
// repeat a rejection.
//
// The attempt's limit is inside of the breaker, so an attempt over the limit is a failure for the
// breaker. The attempt's limit is inside of retry, so an attempt without an answer leaves time for
// another attempt.
//
// # Defaults, and one preset
//
// The zero Options fit a cache and a store alike. The breaker learns the differences from the
// pool's own traffic: how long each operation needs, how many failures in a row are chance, and
// whether the server answers at all. If a server answers 30 % or 60 % of the attempts with
// failures, the breaker stays closed. [Queue] is for work that must be done and can wait: its
// retries have no budget. For operations meant to block, set [pool.Op].Limit to a negative value.
//
// # Default limits
//
// Three time limits hold by default. A caller with a deadline gets more time:
//
//	                     no deadline  with a deadline   setting
//	wait for a resource  2 s          2/3 of the time   pool.Config.AcquireTimeout
//	quick attempt        3 s          1/2 of the time   Options.Attempt.Limit, pool.Op.Limit
//	whole use            10 s         all of the time   Options.Total.Limit
//
// The third column is a share of the time until the caller's deadline. For the wait and the
// attempt, the longer of the two limits holds.
//
// A client without this package may wait for longer. go-redis waits 6 s for a connection and 5 s
// for a reply. The MongoDB driver waits without a bound. So for callers without a deadline, the
// limits end some uses that such a client serves. Examples: an operation of more than 10 s, and a
// wait of more than 2 s, because the pool is saturated. The wait may also be long because the
// server stalls while all resources are in use. Give such uses a deadline, or set other limits. A
// negative limit leaves the time to the callers.
//
// The default limit of an attempt applies only to operations known to be quick. The timeout layer
// learns the quick operations from their successes. An operation of 6 s gets all the remaining time
// of its use; see package timeout. An explicit limit applies to all operations.
//
//	pool.Op{Name: "EVAL", Limit: 8 * time.Second}  // a slow operation
//	pool.Op{Name: "BLPOP", Limit: -1}              // meant to block: the total limit still holds
//	pool.Config{AcquireTimeout: 6 * time.Second}   // patient callers of a saturated pool
//
// # Other orders
//
// [pool.New] returns an error for an order that cannot work:
//
//   - two layers of the same kind with effects that multiply: two retries of 3 attempts make 9
//     attempts
//   - two layers of the same kind with the same name. Two breakers are possible if one of them has
//     a name ([breaker.Config].Name). Tracing, metrics and logging may repeat
//   - the total limit inside of retry, where the limit would bound each attempt
//   - the attempt's limit outside of retry, where the limit would bound all attempts together
//
// [pool.New] accepts an unusual configuration, and reports a [pool.EventWarning]:
//
//   - retry without a limit for each attempt, or without a limit for the whole use
//   - layers with more than ten attempts of a use together
//   - any other two layers in the opposite order, for example the breaker outside of retry
//   - limits that defeat one another: an attempt's limit not below the total limit, a wait
//     (AcquireTimeout) longer than the attempt's limit, a timeout of the breaker's probes below the
//     attempt's limit
//
// The pool checks the rules again after each change of settings of the pool or of a layer. The pool
// repeats a warning only if the warning did not apply in between.
//
// The logging layer writes the warnings. If no layer of the pool observes events, each warning goes
// once to [log/slog.Default].
package middleware
