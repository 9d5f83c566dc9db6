package metrics

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
)

// stageAcquire is the stage of a timeout in the wait for a connection, as in the events of the
// timeout layers.
const stageAcquire = "acquire"

// kindPool is Event.Layer of the events of the pool itself.
const kindPool = "pool"

// poolRefusals are the error types of uses refused by the pool, at once or during a wait.
var poolRefusals = []string{"pool_exhausted", "pool_paused", "pool_closed"}

// openReasons are the error types of failed opens, except the codes of servers.
var openReasons = []string{"open_failed", "connection_refused", "timeout", "dns", "tls"}

// attemptCounts are the numbers of attempts told apart, from 2.
var attemptCounts = []string{"2", "3", "4", "more"}

// The outcomes of a use. A miss is a success.
const (
	success = "success"
	failure = "failure"
)

// Observe counts an event of a pool with an attached layer. Observe also counts events after the
// end of the attachment, because resources may still be closed.
func (r *recorder) Observe(ctx context.Context, e pool.Event) {
	t := r.find(e.Pool)
	if t == nil {
		return
	}
	switch e.Kind {
	case pool.EventAcquired:
		t.record(ctx, connectionWaitTime, e.Duration)
	case pool.EventReleased:
		t.record(ctx, connectionUseTime, e.Duration)
	case pool.EventOpened:
		t.record(ctx, connectionCreateTime, e.Duration)
	case pool.EventAcquireFailed:
		t.notAcquired(ctx, e)
	default:
		if instrument, values, ok := counterOf(e); ok {
			t.add(ctx, instrument, 1, values[:]...)
		}
	}
}

// counterOf returns the counter of an event of a kind that is counted once, and the values of the
// attributes after the pool's name.
func counterOf(e pool.Event) (instrument int, values [maxAttributes]string, ok bool) {
	switch e.Kind {
	case pool.EventAcquired, pool.EventReleased, pool.EventOpened, pool.EventAcquireFailed:
		return 0, values, false // in histograms, or counted by notAcquired
	case pool.EventLeaked:
		return leaks, values, true
	case pool.EventOpenFailed:
		instrument, values[0] = openFailures, e.Reason
	case pool.EventCheckFailed:
		instrument, values[0] = checkFailures, e.Reason
	case pool.EventClosed:
		instrument, values[0] = connectionClosed, e.Reason
	case pool.EventRetry:
		instrument, values[0] = retryAttempts, e.Reason
	case pool.EventGaveUp:
		instrument, values[0] = retryGiveUps, e.Reason
	case pool.EventTimeout:
		instrument, values[0] = timeouts, e.Reason
		return instrument, values, e.Reason != stageAcquire // acquire timeouts are counted by notAcquired
	case pool.EventRejected:
		instrument, values[0], values[1] = rejections, e.Layer, e.Reason
	case pool.EventStateChanged:
		instrument, values = transitions, [maxAttributes]string{e.From, e.To, e.Reason, e.Layer}
	case pool.EventWarning:
		instrument, values[0], values[1] = events, string(e.Kind), e.Layer // the reason is a sentence
	default:
		instrument, values = events, [maxAttributes]string{string(e.Kind), e.Layer, e.Reason}
	}
	return instrument, values, true
}

// record records d in a histogram of the pool.
func (t *target) record(ctx context.Context, instrument int, d time.Duration) {
	if h := t.r.histograms[instrument]; h.Enabled(ctx) {
		h.Record(ctx, d.Seconds(), t.byName...)
	}
}

// notAcquired counts a use that got no resource. Cancelled uses and failed opens are counted
// elsewhere.
func (t *target) notAcquired(ctx context.Context, e pool.Event) {
	switch {
	// For any reason: the reason may be the error type of a failed open.
	case errors.Is(e.Err, pool.ErrAcquireTimeout):
		t.count(ctx, connectionTimeouts)
		t.count(ctx, timeouts, stageAcquire)
	case slices.Contains(poolRefusals, e.Reason):
		t.count(ctx, rejections, kindPool, e.Reason)
	}
}

// zero creates the counters with value 0, so the first event is visible as an increase. known are
// the events known beforehand.
func (t *target) zero(known []pool.Event) {
	zero := func(instrument int, values ...string) {
		for _, v := range values {
			t.add(context.Background(), instrument, 0, v)
		}
	}
	for _, fault := range []driver.Fault{driver.FaultNone, driver.FaultServer, driver.FaultCaller, driver.FaultLocal, driver.FaultElsewhere} {
		zero(failures, fault.String())
	}
	for _, instrument := range []int{connectionTimeouts, acquireWaits, leaks} {
		zero(instrument, "")
	}
	for _, reason := range pool.CloseReasons() {
		zero(connectionClosed, reason.String())
	}
	zero(openFailures, openReasons...)
	zero(checkFailures, "check", "reset")
	zero(timeouts, stageAcquire)
	for _, reason := range poolRefusals {
		t.add(context.Background(), rejections, 0, kindPool, reason)
	}
	for _, kind := range []pool.EventKind{pool.EventWarning, pool.EventConfigured, pool.EventCleared, pool.EventPaused, pool.EventResumed} {
		t.add(context.Background(), events, 0, string(kind), kindPool)
	}
	for _, e := range known {
		if instrument, values, ok := counterOf(e); ok {
			t.add(context.Background(), instrument, 0, values[:]...)
		}
	}
	if slices.ContainsFunc(known, func(e pool.Event) bool { return e.Kind == pool.EventRetry }) {
		for _, n := range attemptCounts {
			t.add(context.Background(), retryUses, 0, n, success)
			t.add(context.Background(), retryUses, 0, n, failure)
		}
	}
}
