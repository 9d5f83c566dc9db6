package metrics

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
)

// The stages of timeouts, as in the events of the timeout layers.
const (
	stageAcquire = "acquire"
	stageAttempt = "attempt"
	stageTotal   = "total"
)

// kindPool is Event.Layer of the events of the pool itself.
const kindPool = "pool"

// eventSubscriptionOpened is the event of a backend with subscriptions beside the pool.
const eventSubscriptionOpened pool.EventKind = "subscription_opened"

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

// The states of a breaker, as in its events.
const (
	closed   = "closed"
	open     = "open"
	halfOpen = "half-open"
)

// transitions are the known changes of a breaker's state: the state before, the state after, and
// the rule of the change.
var transitions = [][3]string{
	{closed, open, "failure_ratio"},
	{closed, open, "consecutive_failures"},
	{open, halfOpen, "open_period_over"},
	{open, halfOpen, "look_passed"},
	{halfOpen, closed, "look_passed"},
	{halfOpen, closed, "probes_succeeded"},
	{halfOpen, open, "probe_failed"},
	{halfOpen, open, "probe_timeout"},
}

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
	case pool.EventOpenFailed:
		t.count(ctx, openFailures, e.Reason)
	case pool.EventCheckFailed:
		t.count(ctx, checkFailures, e.Reason)
	case pool.EventClosed:
		t.count(ctx, connectionClosed, e.Reason)
	case pool.EventLeaked:
		t.count(ctx, leaks)
	case eventSubscriptionOpened:
		t.count(ctx, subscriptionOpened)
	case pool.EventRetry:
		t.count(ctx, retryAttempts, e.Reason)
	case pool.EventGaveUp:
		t.count(ctx, retryGiveUps, e.Reason)
	case pool.EventRejected:
		t.count(ctx, rejections, e.Layer, e.Reason)
	case pool.EventTimeout:
		if e.Reason != stageAcquire { // notAcquired counts acquire timeouts
			t.count(ctx, timeouts, e.Reason)
		}
	case pool.EventStateChanged:
		t.count(ctx, breakerTransitions, e.From, e.To, e.Reason, t.nameOf(e.Layer))
	default: // nothing to count
	}
}

// nameOf returns the name of the layer called layer in events, or "" for a layer without a name.
func (t *target) nameOf(layer string) string {
	if t.layers[layer] {
		return layer
	}
	return ""
}

// nameLayers keeps the names of the layers with names.
func (t *target) nameLayers(layers []pool.LayerInfo) {
	t.layers = map[string]bool{}
	for _, l := range layers {
		if l.Name != "" {
			t.layers[l.Name] = true
		}
	}
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

// zero creates the counters with value 0, so the first event is visible as an increase.
func (t *target) zero(layers []pool.LayerInfo) {
	zero := func(instrument int, values ...string) {
		for _, v := range values {
			t.add(context.Background(), instrument, 0, v)
		}
	}
	rejected := func(layer string, reasons ...string) {
		for _, reason := range reasons {
			t.add(context.Background(), rejections, 0, layer, reason)
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
	rejected(kindPool, poolRefusals...)
	for _, l := range layers {
		layer := cmp.Or(l.Name, l.Layer)
		switch l.Layer {
		case "retry":
			zero(retryAttempts, append([]string{"broken", "eof", "connection_reset", "acquire_timeout", "timeout_attempt", other}, openReasons...)...)
			zero(retryGiveUps, "attempts", "budget", "deadline", "canceled", "refused")
			for _, n := range attemptCounts {
				t.add(context.Background(), retryUses, 0, n, success)
				t.add(context.Background(), retryUses, 0, n, failure)
			}
		case "breaker":
			for _, change := range transitions {
				t.add(context.Background(), breakerTransitions, 0, change[0], change[1], change[2], t.nameOf(layer))
			}
			rejected(layer, "breaker_open", "breaker_half_open")
		case "timeout.attempt":
			zero(timeouts, stageAttempt)
			rejected(layer, "timeout_begin")
		case "timeout.total":
			zero(timeouts, stageTotal)
			rejected(layer, "timeout_begin")
		}
	}
}
