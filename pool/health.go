package pool

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/earnorm/poolstack/pool/driver"
)

// Status is the health status of a pool.
type Status uint8

// The values of Status, from best to worst.
const (
	StatusOK       Status = iota
	StatusDegraded        // the pool works with a problem, or no resource was free for a check
	StatusDown            // the pool cannot lend a working resource
)

// String returns the status in lower case.
func (s Status) String() string {
	switch s {
	case StatusOK:
		return "ok"
	case StatusDegraded:
		return "degraded"
	case StatusDown:
		return "down"
	}
	return "unknown"
}

// MarshalText returns the name of the status.
func (s Status) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Health is the result of [Pool.Check].
type Health struct {
	Status  Status
	Latency time.Duration     // the duration of the driver's Check; 0 without a call of Check
	Reasons []string          // the reasons for Status, without secrets; nil if Status is StatusOK
	Details map[string]string // from the driver's Inspector; nil without an Inspector
	Stat    Stat
	Err     error // of the failed acquisition or check, a *UseError; nil if none failed
}

// Condition is the opinion of a layer about the health of its pool. The zero Condition reports no
// problem.
type Condition struct {
	Status Status
	Reason string // the reason for Status, a sentence without secrets
}

// A HealthReporter is a [Middleware] (or the [Layer] inside a Bracket) that contributes to
// [Pool.Check]. Conditions returns the problems known to the layer, or nil if there is no problem.
// Conditions may be called concurrently. Conditions must not block and must not call Check.
type HealthReporter interface {
	Conditions() []Condition
}

// Check examines the health of the pool.
//
// If a layer reports a problem ([HealthReporter]), Check returns this problem and does not ask the
// server. Example: an open breaker refuses uses, and the pool is degraded. The reason in Health
// tells why the breaker is open and when the breaker tests the server again. The breaker tests the
// server by itself.
//
// Otherwise Check acquires a resource past the layers, and the driver checks the resource. If the
// resource was idle before and fails, Check tries another resource. Check returns at the end of ctx
// at the latest; Config.AcquireTimeout and Config.CheckTimeout bound Check as well. If ctx ends
// during a check, the check goes on in the background, so the early end costs no connection. Check
// may be called concurrently.
//
// For a readiness probe (may this instance get requests?), treat only [StatusDown] as not ready. Do
// so only for a server needed for every request. A server shared by all instances is down for all
// instances. If every instance then left the rotation, requests without a need for the server, or
// with a fallback, would fail, too. For this reason an open breaker means degraded, not down.
//
// For a liveness probe (must this process be restarted?), do not use Check. A new process finds the
// same server, with an empty pool and an empty cache.
func (p *Pool[T]) Check(ctx context.Context) (h Health) {
	defer func() { h.Stat, h.Err = p.Stat(), p.hub.markIgnored(h.Err) }()
	if p.conditions(&h) {
		return h
	}
	h, idle := p.examineOne(ctx)
	if h.Status == StatusDown && idle && ctx.Err() == nil {
		h, _ = p.examineOne(ctx) // an idle resource can fail alone
	}
	return h
}

// examineOne acquires a resource and examines the resource. idle reports whether the resource
// existed before the call.
func (p *Pool[T]) examineOne(ctx context.Context) (h Health, idle bool) {
	began := p.elapsed()
	c := &Call{} // a Call of its own: without layers and observers
	c.init(&hub{id: p.hub.id, classifier: p.hub.classifier}, nil)
	c.begin(&Op{Name: "check"}, ctx)
	r, err := p.take(ctx, c, false)
	if err != nil {
		h.Err = err
		if class := c.Classify(err); class.Fault == driver.FaultServer || errors.Is(err, ErrClosed) || errors.Is(err, ErrPaused) {
			h.worsen(StatusDown, oneLine(err))
		} else {
			h.worsen(StatusDegraded, "no resource was free to check: "+oneLine(err))
		}
		return h, false
	}
	idle = r.opened < began
	select {
	case h = <-p.examine(c, r):
	case <-ctx.Done():
		h.Err = contextCause(ctx)
		h.worsen(StatusDegraded, "the check was not waited for: "+oneLine(h.Err))
	}
	return h, idle
}

// conditions adds the problems reported by the layers to h, and reports whether there is any
// problem. In a closed or paused pool conditions does not ask the layers.
func (p *Pool[T]) conditions(h *Health) bool {
	p.mu.Lock()
	refuses := p.closed || p.paused != nil
	p.mu.Unlock()
	if refuses {
		return false
	}
	for _, r := range p.reporters {
		var found []Condition
		_ = protect("Conditions", func() error { found = r.Conditions(); return nil })
		for _, c := range found {
			if c.Status != StatusOK {
				h.worsen(c.Status, c.Reason)
			}
		}
	}
	return h.Status != StatusOK
}

// examine checks the lent resource r and returns r to the pool, in goroutines of the pool.
func (p *Pool[T]) examine(c *Call, r *resource[T]) <-chan Health {
	found := make(chan Health, 1)
	p.mu.Lock()
	unwatch := r.keep()
	r.leaked = true // a lease of the pool itself is no leak: CheckTimeout bounds the lease
	interrupted, timeout := r.interrupted != nil, p.cfg.CheckTimeout
	p.spawn(func() {
		defer p.done()
		var h Health
		// The result is sent even if an observer or a driver method ends the goroutine.
		defer func() { found <- h }()
		caller, err := context.Background(), ErrAborted
		defer func() { p.give(caller, c, r, err) }()
		if interrupted { // the context of the caller ended before keep
			caller = c.caller
			err = contextCause(caller)
			h.Err = err
			h.worsen(StatusDegraded, "the check was interrupted: "+oneLine(err))
			return
		}
		ctx, cancel := context.WithTimeout(p.base, min(timeout, longest))
		defer cancel()
		if err = p.diagnose(ctx, r, &h); err == nil {
			p.remark(&h)
		}
	})
	p.mu.Unlock()
	if unwatch != nil {
		unwatch()
	}
	return found
}

// keep turns a lease of a borrower into a lease of the pool. After the call of unwatch, the end of
// the borrower's context does not interrupt the lease any more. The caller holds the lock.
func (r *resource[T]) keep() (unwatch func() bool) {
	// The new number invalidates an interrupt that is about to begin. The number stays odd: the
	// resource is still lent.
	r.seq += 2
	unwatch = r.unwatch
	r.watch, r.unwatch = nil, nil
	return unwatch
}

// diagnose calls Check of the driver and, if the driver is an [driver.Inspector], Inspect. diagnose
// returns the error that is also set in h.Err.
func (p *Pool[T]) diagnose(ctx context.Context, r *resource[T], h *Health) error {
	start := time.Now()
	err := apart("Check", func() error { return p.driver.Check(ctx, r.v) })
	h.Latency = time.Since(start)
	if err != nil {
		r.doom, h.Err = CloseCheck, err
		h.worsen(StatusDown, "check failed: "+oneLine(err))
		p.noteFailure(err)
		return err
	}
	if p.inspector == nil {
		return nil
	}
	err = apart("Inspect", func() (err error) {
		h.Details, err = p.inspector.Inspect(ctx, r.v)
		return err
	})
	if err != nil {
		h.Err = err
		h.worsen(StatusDegraded, "inspection failed: "+oneLine(err))
	}
	return err
}

// noteFailure counts and reports a failed check, unless Close has cut the check short.
func (p *Pool[T]) noteFailure(err error) {
	p.mu.Lock()
	closed := p.closed
	if !closed {
		p.stat.CheckFailures++
	}
	p.mu.Unlock()
	if !closed {
		p.hub.announce(Event{Kind: EventCheckFailed, Reason: "check", Err: err})
	}
}

// apart is protect in a goroutine of its own, because a driver method may end its goroutine.
func apart(method string, f func() error) error {
	done := make(chan struct{})
	err := errExited
	go func() {
		defer close(done)
		err = protect(method, f)
	}()
	<-done
	return err
}

// remark adds problems found in spite of a successful check.
func (p *Pool[T]) remark(h *Health) {
	p.mu.Lock()
	waiters, failure := p.waiters.n, p.lastOpenErr
	p.mu.Unlock()
	if waiters > 0 {
		h.worsen(StatusDegraded, fmt.Sprintf("%d borrowers are waiting", waiters))
	}
	if failure != nil {
		h.worsen(StatusDegraded, "the latest try to open a resource failed: "+oneLine(failure))
	}
}

// worsen adds a reason, and raises Status to s if s is worse.
func (h *Health) worsen(s Status, reason string) {
	h.Status = max(h.Status, s)
	h.Reasons = append(h.Reasons, reason)
}
