package breaker

import (
	"slices"
	"time"
)

// round is one half-open state: the probes under way and what the others have shown. Everything in it is guarded by the breaker's mutex.
type round struct {
	underway  []*probe // in the order in which they began
	successes int
	failures  int
	reason    string // of the latest failure: ReasonProbeFailed or ReasonProbeTimeout
	errorType string // its error.type
	passing   bool   // the latest failure was an answer that the server gives for a while only
}

// probe is a permit of a round. One that has left its round, because it ended or was given up, cannot change it any more.
type probe struct {
	round   *round
	since   time.Duration // on the breaker's clock
	patient bool          // its caller has much time, and would have passed without a permit; belongs to the use
}

// held is how long a probe holds its permit back from others: a use may last, and must not keep others from finding out.
const held = 500 * time.Millisecond

// begin gives out a permit, nil when limit probes have been under way for less than held.
func (r *round) begin(now time.Duration, limit int) *probe {
	young := 0
	for _, p := range r.underway {
		if now-p.since < held {
			young++
		}
	}
	if young >= limit {
		return nil
	}
	p := &probe{round: r, since: now}
	r.underway = append(r.underway, p)
	return p
}

// end takes the permit back. It says whether p still had one.
func (r *round) end(p *probe) bool {
	i := slices.Index(r.underway, p)
	if i < 0 {
		return false
	}
	r.underway = slices.Delete(r.underway, i, i+1)
	return true
}

// expire gives up the probes that began at least timeout ago: they count as failed.
func (r *round) expire(now, timeout time.Duration) {
	for len(r.underway) > 0 && now-r.underway[0].since >= timeout {
		r.underway = slices.Delete(r.underway, 0, 1)
		r.fail(ReasonProbeTimeout, ReasonProbeTimeout, false)
	}
}

func (r *round) fail(reason, errorType string, passing bool) {
	r.failures++
	r.reason, r.errorType, r.passing = reason, errorType, passing
}
