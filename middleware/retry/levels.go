package retry

import "github.com/earnorm/poolstack/pool"

// Levels implements [pool.Leveler]. The level "budget" is the result of [Retry.Budget]. The level
// has no value while retries are not budgeted.
func (r *Retry) Levels() []pool.Level {
	return []pool.Level{{
		Layer: kind, Name: "budget", Unit: "{attempt}",
		Help: "Number of further attempts that the retry budget can pay for. Absent if retries have no budget.",
		Read: func() (float64, bool) { return r.Budget(), r.inForce.Load().budgeted() },
	}}
}

// knownEvents are the events of every Retry: the attempts after the most common errors, and the
// reasons for giving up.
var knownEvents = func() (all []pool.Event) {
	for _, reason := range []string{
		"_OTHER", "acquire_timeout", "broken", "connection_refused", "connection_reset", "dns", "eof", "open_failed", "timeout", "timeout_attempt", "tls",
	} {
		all = append(all, pool.Event{Kind: pool.EventRetry, Reason: reason})
	}
	for _, reason := range []string{ReasonAttempts, ReasonBudget, ReasonDeadline, ReasonCanceled, ReasonRefused} {
		all = append(all, pool.Event{Kind: pool.EventGaveUp, Reason: reason})
	}
	return append(all, pool.Event{Kind: pool.EventConfigured})
}()
