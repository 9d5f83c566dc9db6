// Package middleware builds the recommended stack of layers around a pool. Each layer is a package of its own and can be used alone;
// this package knows in which order they belong, and why.
//
//	stack, err := middleware.Standard(middleware.Options{})
//	p, err := pool.New(driver, pool.Config{}, stack.Layers()...)
//
// # The order
//
// The first layer is outermost: it sees a use first, and its outcome last.
//
//	tracing                  one span for the use, as the caller saw it
//	  metrics                one duration for the use, and what the layers below report
//	    logging              the same in words
//	      timeout.total      bounds the use: all attempts and the pauses between them
//	        retry            from here on inwards: once for each attempt
//	          breaker        lets the attempt in, and judges how it ended
//	            timeout.attempt  bounds what the server does in the attempt, from when it has its resource
//	              the pool
//
// The three that look on are outermost, so that they tell what the caller saw: one use, however many attempts it took. (What happens
// further in reaches them as events, which are span events, counters and lines.) Among them tracing comes first, so that exemplars and
// lines find its span in the context.
//
// The total limit is outside of retry, for it has to hold for everything that retry does, and retry looks at the deadline before it
// begins another pause.
//
// The breaker is inside of retry. So it judges each attempt, and opens after so many failures of the server, not after so many uses
// that failed several times; and it can refuse the second attempt of a use whose first has opened it. Retry does not repeat a refusal.
//
// The attempt's limit is inside of the breaker, so that an attempt that takes too long is a failure the breaker sees; and inside of retry,
// so that an attempt that hangs leaves time for another.
//
// # Defaults, and one preset
//
// The zero Options are for a cache and a store alike. What would have to differ, the breaker learns from the pool's own traffic: how long
// each operation needs, how many failures in a row are chance, and whether the server answers at all. A server that answers 30 % or 60 % of
// the attempts with failures keeps a closed breaker. [Queue] is for work that has to be done and can wait: the retries have no budget. For
// operations that are meant to block, set [pool.Op].Limit to a negative value.
//
// # Limits that are a choice
//
// Three limits of time hold by default. A caller with a deadline says how long the use may take, and is given more:
//
//	                      without a deadline   with a deadline, if that is more        setting
//	a wait for a resource 2 s                  two thirds of the time until then       [pool.Config].AcquireTimeout
//	a quick attempt       3 s                  half of the time until then             Options.Attempt.Limit, [pool.Op].Limit
//	the whole use         10 s                 the deadline                            Options.Total.Limit
//
// A bare client may wait for longer: go-redis 6 s for a connection and 5 s for a reply, the MongoDB driver without a bound. So the limits cost
// callers without a deadline some uses that a bare client serves: an operation that needs more than 10 s, and a wait of more than 2 s, be it that
// the pool is saturated or that the server stalls while all resources are lent. Give such uses a deadline, or set other limits. A negative one
// leaves the time to the callers.
//
// The default limit of an attempt is for operations that are known to be quick. The layer learns which these are, and leaves an operation that needs
// 6 s all of the use's time; see package timeout. A limit that is set never learns.
//
//	pool.Op{Name: "EVAL", Limit: 8 * time.Second}  // one slow operation
//	pool.Op{Name: "BLPOP", Limit: -1}              // an operation that is meant to block: the total limit still holds
//	pool.Config{AcquireTimeout: 6 * time.Second}   // patient callers of a saturated pool
//
// # What pool.New says of another order
//
// It refuses what cannot work: two layers of one kind, whose effects would multiply (two retries of 3 attempts make 9); the total limit
// inside of retry, where it would bound each attempt; the attempt's limit outside of retry, where it would bound all of them together.
//
// It accepts, and reports as a [pool.EventWarning], what may surprise: retry without a limit for each attempt, or without one for the
// whole use; layers that together make more than ten attempts of one use; and any other two layers that stand the other way round than
// above, such as the breaker outside of retry. So it does with limits that defeat one another: an attempt's limit that is not below the
// total, a wait (AcquireTimeout) that may be longer than the attempt's limit, a breaker that gives a probe up before the attempt's limit.
// The rules run again whenever the pool or a layer gets other settings, and a warning is given again only when it is new.
package middleware
