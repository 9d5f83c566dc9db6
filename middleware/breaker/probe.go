package breaker

import (
	"slices"
	"time"
)

// round is a stay in the half-open state: the probes in progress and the results of finished
// probes. All fields are guarded by Breaker.mu.
type round struct {
	underway  []*probe // in the order of their beginning
	successes int
	failures  int
	reason    string // of the latest failure: ReasonProbeFailed or ReasonProbeTimeout
	errorType string // error.type and cause of the latest failure
	passing   bool   // the latest failure was a temporary refusal by the server
}

// probe is a permit of a round. After its end or its timeout, a probe has no effect on the round.
type probe struct {
	round *round
	since time.Duration // on the breaker's clock
	// patient: the caller has much time, and would pass without a permit. Only the attempt of the
	// probe uses this field.
	patient bool
}

// held is the time for which a probe occupies its permit. A use may last long, and must not keep
// other uses from probing.
const held = 500 * time.Millisecond

// begin returns a new permit. begin returns nil if limit probes have been in progress for less than
// held.
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

// end takes the permit back, and reports whether p still had the permit.
func (r *round) end(p *probe) bool {
	i := slices.Index(r.underway, p)
	if i < 0 {
		return false
	}
	r.underway = slices.Delete(r.underway, i, i+1)
	return true
}

// expire counts each probe that began at least timeout ago as failed, and takes its permit.
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
