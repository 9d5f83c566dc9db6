package pool

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/earnorm/poolstack/pool/internal/errtree"
)

// errExited is the outcome of a driver method that ended its goroutine by runtime.Goexit.
var errExited = errors.New("pool: the driver called runtime.Goexit")

// spawn counts and starts a background goroutine of the pool. work must call done at the end. The
// caller holds the lock.
func (p *Pool[T]) spawn(work func()) {
	p.tasks++
	go work()
}

// done counts the end of a background goroutine of the pool.
func (p *Pool[T]) done() {
	p.mu.Lock()
	p.tasks--
	p.settle()
	p.mu.Unlock()
}

// settle closes drained if the pool is closed and has no goroutine and no resource left. The caller
// holds the lock.
func (p *Pool[T]) settle() {
	if p.closed && p.tasks == 0 && len(p.all) == 0 {
		select {
		case <-p.drained:
		default:
			close(p.drained)
		}
	}
}

// spawnDials begins up to want dials, within the bounds of the pool, and returns the number of
// dials begun. The caller holds the lock.
func (p *Pool[T]) spawnDials(o outlook, want int) (n int) {
	limit := p.cfg.OpenConcurrency
	if limit == defaultOpens(p.cfg.MaxSize) && o.dials.late+o.dials.lost == 0 && p.elapsed() > plus(p.brokeAt, p.cfg.OpenTimeout) {
		limit = p.cfg.MaxSize // the pool grows; no recovery is under way
	}
	if p.failures > 0 {
		limit = min(limit, 1+o.dials.late) // a single dial tests whether the server is back
	}
	n = min(want, limit-o.dials.supply(), p.cfg.MaxSize-len(p.all)-p.opening)
	if n <= 0 {
		return 0
	}
	if p.failures > 0 && p.elapsed() < p.retryOpen {
		p.schedule(p.retryOpen)
		return 0
	}
	for range n {
		p.spawnDial()
	}
	return n
}

// spawnDial begins a dial. The caller holds the lock.
func (p *Pool[T]) spawnDial() {
	p.opening++
	base, gen, timeout := p.opens, p.gen, p.cfg.OpenTimeout
	c := p.begin(callOpen, timeout)
	base, drop := context.WithCancelCause(base)
	c.cancel = func() { drop(errDropped) }
	p.spawn(func() {
		defer drop(nil)
		p.open(base, gen, timeout, c)
	})
}

// errDropped is the outcome of a dial cancelled by dropDial for a look (look.go).
var errDropped = fmt.Errorf("pool: the dial hung, and was given up for another one: %w", context.DeadlineExceeded)

// open calls Open of the driver in a goroutine of the pool. The pool bounds the call; no borrower
// does.
func (p *Pool[T]) open(base context.Context, gen uint64, timeout time.Duration, c *call) {
	var v T
	err, start := errExited, p.elapsed()
	defer func() { p.opened(v, err, gen, p.elapsed()-start, c) }()
	ctx, cancel := context.WithTimeout(base, min(timeout, longest))
	defer cancel()
	err = protect("Open", func() (err error) {
		v, err = p.driver.Open(ctx)
		return err
	})
	if err != nil && context.Cause(base) == errDropped { //nolint:errorlint // identity
		err = errDropped
	}
}

// opened handles the end of a dial: the new resource becomes idle or goes to a waiter, or the
// failure is recorded.
func (p *Pool[T]) opened(v T, err error, gen uint64, took time.Duration, c *call) {
	defer p.done()
	event := Event{Kind: EventOpened, Duration: took}
	p.mu.Lock()
	p.opening--
	p.end(c, err == nil)
	looking := len(p.looks) > 0
	if err != nil && !c.overtaken {
		p.lookOn(err, c)
	}
	switch {
	case err != nil && (p.closed || gen != p.gen):
		p.pump()
		p.mu.Unlock()
		return // Close or Clear has cancelled the dial
	case err != nil:
		event.Kind, event.Err = EventOpenFailed, err
		p.openFailed(err, c, looking)
		if !c.overtaken {
			p.endWarmers(err, c.began)
		}
	default:
		p.stat.Opened++
		p.failures, p.lastOpenErr = 0, nil
		r := p.add(v, gen)
		p.openedAt = r.opened
		p.schedule(plus(r.opened, p.scanPeriod()))
		if len(p.looks) > 0 {
			p.spawnCheck(r).fresh = true
		} else {
			p.shelve(r)
		}
		p.tellWarmers()
	}
	p.pump()
	p.mu.Unlock()
	p.hub.announce(event)
}

// openFailed records the failed dial c, delays the next dial, and ends waits with ErrOpen.
//
//   - A failed dial ends the wait of a single waiter, the first. The other waiters wait for the
//     next dial.
//   - openFailed ends all waits if dials have failed for as long as OpenBackoff, at most a second.
//     If a caller waits in [Pool.Look], openFailed ends all waits at once: a layer has found the
//     server dead before.
//   - openFailed ends no wait while another resource may serve the waiters, or if a later dial has
//     succeeded.
//
// The caller holds the lock.
func (p *Pool[T]) openFailed(err error, c *call, looking bool) {
	p.stat.OpenFailures++
	if c.overtaken {
		return
	}
	p.lastOpenErr = err
	now := p.elapsed()
	if p.failures == 0 {
		p.failing = now
	}
	if p.failures == 0 || now >= p.retryOpen {
		p.failures++ // dials that failed together count as a single failure
	}
	p.retryOpen = plus(now, p.backoff())
	// This scan resets the failures if nothing needs a dial any more (forgive).
	p.schedule(plus(p.retryOpen, p.cfg.OpenBackoff))
	patience := min(p.cfg.OpenBackoff, time.Second)
	down := looking || now-p.failing >= patience
	o := p.outlook()
	if o.checks.timely+len(p.idle) > 0 || !down && o.dials.timely > 0 || p.leasesServe(min(p.failing, now-patience)) {
		return
	}
	n := 1
	if down {
		n = p.waiters.n
	}
	p.refuse(ErrOpen, err, &p.stat.Failed, n, max(c.began, 1))
}

// leasesServe reports whether the waiters may hope for a resource from another borrower. There is
// hope if some lease began after since, or ended after since with the resource intact. If a use has
// broken a resource after since, the time of the break replaces since. A long lease gives no hope.
// A server at its maximum of connections is a case of hope: the server refuses dials and serves the
// existing connections. The caller holds the lock.
func (p *Pool[T]) leasesServe(since time.Duration) bool {
	if p.inUse == 0 {
		return false
	}
	since = max(since, p.brokeAt)
	for _, r := range p.all {
		if r.lent() && r.since > since || r.uses > 0 && r.used > since {
			return true
		}
	}
	return false
}

const firstShift = 5 // the first pause is OpenBackoff, halved 5 times

// backoff returns the pause before the next dial. The pause doubles with each failure, from 1/32 of
// OpenBackoff up to OpenBackoff. A random part of the pause, at most a quarter, is subtracted, so
// many processes do not dial at the same moment.
func (p *Pool[T]) backoff() time.Duration {
	pause := p.cfg.OpenBackoff >> max(firstShift-(p.failures-1), 0)
	return pause - time.Duration(rand.Float64()*0.25*float64(pause))
}

// spawnCheck checks a resource in a goroutine of the pool, and then makes the resource available or
// closes the resource. The resource is neither idle nor lent. The caller holds the lock.
func (p *Pool[T]) spawnCheck(r *resource[T]) *call {
	return p.spawnProof(r, callCheck, "check", CloseCheck, p.driver.Check)
}

// spawnReset does the same as spawnCheck with Reset of the driver in place of Check.
func (p *Pool[T]) spawnReset(r *resource[T]) {
	p.spawnProof(r, callReset, "reset", CloseReset, p.resetter.Reset)
}

func (p *Pool[T]) spawnProof(
	r *resource[T], kind callKind, what string, doom CloseReason, prove func(context.Context, T) error,
) *call {
	p.checking++
	timeout, trust := p.cfg.CheckTimeout, p.suspicion
	c := p.begin(kind, timeout)
	ctx, cancel := context.WithTimeout(p.base, min(timeout, longest))
	c.cancel = cancel
	p.spawn(func() {
		err, late := errExited, false
		defer func() { p.proved(r, what, doom, trust, err, late, c) }()
		defer cancel()
		err = protect(what, func() error {
			err := prove(ctx, r.v)
			late = errtree.IsTimeout(err)
			return err
		})
	})
	return c
}

// proved handles the end of a check or a reset.
func (p *Pool[T]) proved(r *resource[T], what string, doom CloseReason, trust uint64, err error, late bool, c *call) {
	defer p.done()
	p.mu.Lock()
	p.checking--
	p.end(c, err == nil)
	dropped := err != nil && c.kind == callClose
	if doom == CloseReset && (err == nil || dropped || late) {
		p.resetEnded(err == nil)
	}
	switch {
	case err == nil:
		p.endLooks(nil, p.elapsed())
	case !dropped:
		p.endLooks(err, c.began)
	}
	if p.closed || dropped {
		err = nil // the pool itself has cancelled the call
	}
	switch {
	case dropped:
		p.retire(r, doom)
	case err != nil:
		p.stat.CheckFailures++
		p.lastCheckErr = err
		p.suspicion++ // check each other resource before the next lease
		p.retire(r, doom)
	default:
		p.lastCheckErr = nil
		r.proven, r.trust, r.untouched = p.elapsed(), trust, true
		p.shelve(r)
	}
	if p.cfg.KeepAlive > 0 && p.checking == 0 {
		p.schedule(0) // check the next resource due for a check
	}
	p.pump()
	p.mu.Unlock()
	if err != nil {
		p.hub.announce(Event{Kind: EventCheckFailed, Reason: what, Err: err})
	}
}

// retire closes a resource. The resource is neither idle nor lent any more. The resource counts
// towards MaxSize until Close of the driver has returned. The caller holds the lock.
func (p *Pool[T]) retire(r *resource[T], reason CloseReason) {
	p.closing++
	timeout := p.cfg.CheckTimeout
	c := p.begin(callClose, timeout)
	p.spawn(func() {
		err := errExited
		defer func() { p.retired(r, reason, err, c) }()
		ctx, cancel := context.WithTimeout(context.Background(), min(timeout, longest))
		defer cancel()
		err = protect("Close", func() error { return p.driver.Close(ctx, r.v) })
	})
}

func (p *Pool[T]) retired(r *resource[T], reason CloseReason, err error, c *call) {
	defer p.done()
	p.mu.Lock()
	p.closing--
	p.end(c, err == nil)
	p.stat.Closed[reason]++
	last := len(p.all) - 1
	p.all[r.slot] = p.all[last]
	p.all[r.slot].slot = r.slot
	p.all[last] = nil
	p.all = p.all[:last]
	p.pump()
	p.mu.Unlock()
	p.hub.announce(Event{Kind: EventClosed, Reason: reason.String(), Err: err})
}

// warmer is a caller waiting in Warm.
type warmer struct {
	size  int
	since time.Duration // the time of the call of Warm
	done  chan error    // buffered, capacity 1
}

// Warm opens resources until the pool has size resources, and waits for the resources. Lent
// resources count. A size of 0 means Config.MinIdle. Warm does not wait for the pause after failed
// dials.
//
// Warm returns nil when the pool has size resources. Warm returns an error if a dial fails, if the
// pool is paused or closed, or if ctx ends. A dial that began before the call of Warm does not
// count. The error is a [UseError]. If size is negative or exceeds Config.MaxSize, Warm returns
// another error at once. Warm may be called concurrently.
func (p *Pool[T]) Warm(ctx context.Context, size int) error {
	w := &warmer{size: size, done: make(chan error, 1)}
	p.mu.Lock()
	w.since = p.elapsed()
	switch limit := p.cfg.MaxSize; {
	case size < 0 || size > limit:
		p.mu.Unlock()
		return fmt.Errorf("pool %q: Warm: size is %d: must be between 0 and MaxSize, which is %d", p.hub.id.Name, size, limit)
	case size == 0:
		w.size = p.cfg.MinIdle
	}
	p.warmers = append(p.warmers, w)
	switch {
	case p.closed:
		p.endWarmers(ErrClosed, w.since)
	case p.paused != nil:
		p.endWarmers(p.paused, w.since)
	default:
		p.retryOpen = 0 // a caller of Warm wants an answer now
		p.tellWarmers()
		p.pump()
	}
	p.mu.Unlock()
	var err error
	select {
	case err = <-w.done:
	case <-ctx.Done():
		err = contextCause(ctx)
		p.mu.Lock()
		p.dropWarmer(w)
		p.mu.Unlock()
	}
	if err != nil {
		return p.hub.markIgnored(fmt.Errorf("pool %q: warm: %w", p.hub.id.Name, err))
	}
	return nil
}

// warmUpTo returns the largest size wanted by the callers of Warm. The caller holds the lock.
func (p *Pool[T]) warmUpTo() (size int) {
	for _, w := range p.warmers {
		size = max(size, w.size)
	}
	return size
}

// tellWarmers ends each Warm whose size has been reached. The caller holds the lock.
func (p *Pool[T]) tellWarmers() {
	for _, w := range slices.Backward(p.warmers) {
		if len(p.all)-p.closing >= w.size {
			w.done <- nil
			p.dropWarmer(w)
		}
	}
}

// endWarmers ends with err each Warm called no later than the given time. A dial proves nothing for
// a Warm called after the start of the dial: the cause of the failure may be gone. The caller holds
// the lock.
func (p *Pool[T]) endWarmers(err error, before time.Duration) {
	for _, w := range slices.Backward(p.warmers) {
		if w.since <= before {
			w.done <- err
			p.dropWarmer(w)
		}
	}
}

// tellLargeWarmers ends each Warm whose size exceeds a lowered MaxSize. The caller holds the lock.
func (p *Pool[T]) tellLargeWarmers() {
	for _, w := range slices.Backward(p.warmers) {
		if limit := p.cfg.MaxSize; w.size > limit {
			w.done <- fmt.Errorf("size is %d: MaxSize has become %d", w.size, limit)
			p.dropWarmer(w)
		}
	}
}

func (p *Pool[T]) dropWarmer(w *warmer) {
	p.warmers = slices.DeleteFunc(p.warmers, func(other *warmer) bool { return other == w })
}
