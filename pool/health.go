package pool

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Status is how well a pool does.
type Status uint8

// The statuses.
const (
	StatusOK       Status = iota
	StatusDegraded        // it works, but something is wrong, or no resource was free to find out
	StatusDown            // it cannot lend a working resource
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

// Health is the result of [Pool.Check].
type Health struct {
	Status  Status
	Latency time.Duration     // of the driver's Check; 0 when there was none
	Reasons []string          // why Status is not ok, without secrets
	Details map[string]string // what the driver's Inspector said; nil when there is none
	Stat    Stat
	Err     error // of the acquisition or check that failed: a [UseError]; nil when nothing failed
}

// Condition is something that a layer knows about how well its pool does. The zero Condition says that all is well.
type Condition struct {
	Status Status
	Reason string // why Status is not ok, in a sentence without secrets
}

// A HealthReporter is a [Middleware] (or the [Layer] inside a Bracket) that has a say in [Pool.Check]. Conditions returns what is wrong,
// nil if nothing is; it is called concurrently and must not block, nor call Check.
type HealthReporter interface {
	Conditions() []Condition
}

// Check says how the pool does. If a layer reports a condition ([HealthReporter]), that is the answer, and the server is not asked: an open
// breaker, which refuses uses, makes the pool degraded, says why and when it looks again, and keeps watch by itself. Otherwise Check
// acquires a resource past the layers and has the driver check the resource, and another one if the first was idle and fails. Check returns
// when ctx is over at the latest; Config.AcquireTimeout and Config.CheckTimeout bound it as well. A check that nobody waits for any more
// goes on, so that giving it up costs no connection. Check may be called concurrently.
//
// For readiness (may this instance get requests?) take [StatusDown] for no, and only for servers without which the instance can answer
// nothing. A server that all instances share is gone for all of them: if that took each instance out of rotation, those requests would
// fail that need no server, or have a fallback; hence an open breaker is degraded, not down. For liveness (must this process be started
// anew?) do not ask Check at all: another process finds the same server, with an empty pool and an empty cache.
func (p *Pool[T]) Check(ctx context.Context) (h Health) {
	defer func() { h.Stat, h.Err = p.Stat(), p.hub.aside(h.Err) }()
	if p.conditions(&h) {
		return h
	}
	h, idle := p.examineOne(ctx)
	if h.Status == StatusDown && idle && ctx.Err() == nil {
		h, _ = p.examineOne(ctx) // an idle resource can die alone: another one tells more about the server
	}
	return h
}

// examineOne acquires a resource and examines it. idle says that the resource was there before.
func (p *Pool[T]) examineOne(ctx context.Context) (h Health, idle bool) {
	began := p.elapsed()
	c := &Call{} // a probe's own: it passes no layer, and nobody observes it
	c.init(&hub{id: p.hub.id, classifier: p.hub.classifier}, nil)
	c.begin(&Op{Name: "check"}, ctx)
	r, _, err := p.take(ctx, c, nil, false)
	if err != nil {
		h.Err = err
		if class := c.Classify(err); class.Fault == FaultServer || errors.Is(err, ErrClosed) || errors.Is(err, ErrPaused) {
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

// conditions adds what the layers report to h, and says whether there is anything. A pool that is closed or paused has nobody to ask.
func (p *Pool[T]) conditions(h *Health) bool {
	p.lock()
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

// examine has r, which the caller has been lent, checked and given back by goroutines of the pool's own.
func (p *Pool[T]) examine(c *Call, r *resource[T]) <-chan Health {
	found := make(chan Health, 1)
	p.lock()
	unwatch := r.keep()
	r.leaked = true // the pool's own lease: bounded by CheckTimeout
	interrupted, timeout := r.interrupted != nil, p.cfg.CheckTimeout
	p.spawn(func() {
		defer p.done()
		var h Health
		defer func() { found <- h }() // even if an observer or a method of the driver's ends the goroutine
		caller, err := context.Background(), ErrAborted
		defer func() { p.give(caller, c, nil, r, err) }()
		if interrupted { // the caller's context was over before it was the pool's lease
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

// keep makes a lease the pool's own: the end of the borrower's context does not interrupt it any more, once unwatch has been called. It is
// called under the lock.
func (r *resource[T]) keep() (unwatch func() bool) {
	r.seq += 2 // the number of another lease, for those who have the context watched just now
	unwatch = r.unwatch
	r.watch, r.unwatch = nil, nil
	return unwatch
}

// diagnose runs the driver's Check and, if it has one, its Inspector. It returns h.Err.
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

// noteFailure counts and reports a failed check, unless Close has cut it short.
func (p *Pool[T]) noteFailure(err error) {
	p.lock()
	closed := p.closed
	if !closed {
		p.stat.CheckFailures++
	}
	p.mu.Unlock()
	if !closed {
		p.hub.announce(Event{Kind: EventCheckFailed, Reason: "check", Err: err})
	}
}

// apart is protect in a goroutine that the driver's method may end.
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

// remark adds what is wrong although the check has passed.
func (p *Pool[T]) remark(h *Health) {
	p.lock()
	waiters, failure := p.waiters.n, p.lastOpenErr
	p.mu.Unlock()
	if waiters > 0 {
		h.worsen(StatusDegraded, fmt.Sprintf("%d borrowers are waiting", waiters))
	}
	if failure != nil {
		h.worsen(StatusDegraded, "the latest try to open a resource failed: "+oneLine(failure))
	}
}

func (h *Health) worsen(s Status, reason string) {
	h.Status = max(h.Status, s)
	h.Reasons = append(h.Reasons, reason)
}
