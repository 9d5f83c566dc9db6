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
	Err     error // of the acquisition or check that failed
}

// Check acquires a resource past the layers, has the driver check it, and reports how the pool does. It returns when ctx is over at the
// latest; Config.AcquireTimeout and Config.CheckTimeout bound it as well. It may be called concurrently.
func (p *Pool[T]) Check(ctx context.Context) (h Health) {
	defer func() { h.Stat = p.Stat() }()
	c := &Call{} // a probe's own: it passes no layer, and nobody observes it
	c.init(&hub{id: p.hub.id, classifier: p.hub.classifier}, nil)
	c.begin(&Op{Name: "check"}, ctx)
	r, _, err := p.take(ctx, c, nil, false)
	if err != nil {
		h.Err = err
		if class := c.Classify(err); class.Fault == FaultServer || errors.Is(err, ErrClosed) || errors.Is(err, ErrPaused) {
			h.worsen(StatusDown, err.Error())
		} else {
			h.worsen(StatusDegraded, "no resource was free to check: "+err.Error())
		}
		return h
	}
	err = ErrAborted
	defer func() { p.give(ctx, c, nil, r, err) }()
	if err = p.examine(ctx, r, &h); err != nil {
		h.Err = err
		return h
	}
	p.lock()
	waiters, failure := p.waiters.n, p.lastOpenErr
	p.mu.Unlock()
	if waiters > 0 {
		h.worsen(StatusDegraded, fmt.Sprintf("%d borrowers are waiting", waiters))
	}
	if failure != nil {
		h.worsen(StatusDegraded, "the latest try to open a resource failed: "+failure.Error())
	}
	return h
}

// examine runs the driver's Check and, if it has one, its Inspector, in a goroutine of their own lest they end the caller's.
func (p *Pool[T]) examine(ctx context.Context, r *resource[T], h *Health) error {
	ctx, cancel := context.WithTimeout(ctx, p.checkTimeout())
	defer cancel()
	start := time.Now()
	err := apart("Check", func() error { return p.driver.Check(ctx, r.v) })
	h.Latency = time.Since(start)
	if err != nil {
		r.doom = CloseCheck
		p.lock()
		p.stat.CheckFailures++
		p.mu.Unlock()
		h.worsen(StatusDown, "check failed: "+err.Error())
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
		h.worsen(StatusDegraded, "inspection failed: "+err.Error())
	}
	return err
}

// apart is protect in another goroutine.
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

func (h *Health) worsen(s Status, reason string) {
	h.Status = max(h.Status, s)
	h.Reasons = append(h.Reasons, reason)
}
