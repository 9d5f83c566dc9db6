package pool

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// errExited is the outcome of a driver's method that ended its goroutine.
var errExited = errors.New("pool: the driver called runtime.Goexit")

// spawn notes one more goroutine of the pool's and starts it. It is called under the lock; work must call done in the end.
func (p *Pool[T]) spawn(work func()) {
	p.tasks++
	go work()
}

// done ends a goroutine of the pool's.
func (p *Pool[T]) done() {
	p.lock()
	p.tasks--
	p.settle()
	p.mu.Unlock()
}

// settle closes drained when a closed pool has nothing left. It is called under the lock.
func (p *Pool[T]) settle() {
	if p.closed && p.tasks == 0 && len(p.all) == 0 {
		select {
		case <-p.drained:
		default:
			close(p.drained)
		}
	}
}

// spawnDials begins the wanted dials, as far as the bounds allow, and returns the number. The caller holds the lock.
func (p *Pool[T]) spawnDials(o outlook, want int) (n int) {
	limit := p.cfg.OpenConcurrency
	if limit == defaultOpens(p.cfg.MaxSize) && o.dials.late+o.dials.lost == 0 && p.elapsed() > plus(p.brokeAt, p.cfg.OpenTimeout) {
		limit = p.cfg.MaxSize // the pool grows, and does not recover
	}
	if p.failures > 0 {
		limit = min(limit, 1+o.dials.late) // one tries whether the server is back
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

// errDropped is the outcome of a dial that a look has dropped.
var errDropped = fmt.Errorf("pool: the dial hung, and was given up for another one: %w", context.DeadlineExceeded)

// open runs in a goroutine of the pool's, under the pool's own bound.
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
	if err != nil && context.Cause(base) == errDropped { //nolint:errorlint // the very value
		err = errDropped
	}
}

func (p *Pool[T]) opened(v T, err error, gen uint64, took time.Duration, c *call) {
	defer p.done()
	event := Event{Kind: EventOpened, Duration: took}
	p.lock()
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
		return // Close or Clear has given it up
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

// openFailed puts the next dial off and tells the first waiter: a failed dial costs one waiter at most. The others wait for the next dial.
// All waiters are told once dials have failed for as long as OpenBackoff, at most a second, or at once if the pool looks at its server
// ([Pool.Look]), which has been found dead before. Nobody is told while another resource may serve the waiters, or if a later dial has
// succeeded. The caller holds the lock.
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
		p.failures++ // those that failed together count once
	}
	p.retryOpen = plus(now, p.backoff())
	p.schedule(plus(p.retryOpen, p.cfg.OpenBackoff)) // to forget it, if nobody wants to open any more
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

// leasesServe says whether the waiters may hope for a resource from another borrower: some lease has begun, or ended with the resource intact,
// after since, and no use has broken a resource after that. A long lease is no hope. A server at the maximum of connections is: the server
// refuses dials, and serves the connections of the pool. The caller holds the lock.
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

const firstShift = 5 // the first pause is OpenBackoff, halved that often

// backoff doubles from a 32nd of OpenBackoff up to it, and takes off up to a quarter at random so that processes fall out of step.
func (p *Pool[T]) backoff() time.Duration {
	pause := p.cfg.OpenBackoff >> max(firstShift-(p.failures-1), 0)
	return pause - time.Duration(rand.Float64()*0.25*float64(pause))
}

// spawnCheck has a resource that is neither idle nor lent checked, and then shelved or closed. It is called under the lock.
func (p *Pool[T]) spawnCheck(r *resource[T]) *call {
	return p.spawnProof(r, callCheck, "check", CloseCheck, p.driver.Check)
}

// spawnReset does the same with the driver's Reset.
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
			late = isTimeout(err)
			return err
		})
	})
	return c
}

func (p *Pool[T]) proved(r *resource[T], what string, doom CloseReason, trust uint64, err error, late bool, c *call) {
	defer p.done()
	p.lock()
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
		err = nil // the pool has cut the call short
	}
	switch {
	case dropped:
		p.retire(r, doom)
	case err != nil:
		p.stat.CheckFailures++
		p.lastCheckErr = err
		p.suspicion++ // the others are checked before they are lent
		p.retire(r, doom)
	default:
		p.lastCheckErr = nil
		r.proven, r.trust, r.untouched = p.elapsed(), trust, true
		p.shelve(r)
	}
	if p.cfg.KeepAlive > 0 && p.checking == 0 {
		p.schedule(0) // the next one that is due for a check
	}
	p.pump()
	p.mu.Unlock()
	if err != nil {
		p.hub.announce(Event{Kind: EventCheckFailed, Reason: what, Err: err})
	}
}

// retire closes a resource that is neither idle nor lent any more. It keeps its place among MaxSize until that is done. It is called
// under the lock.
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
	p.lock()
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

// warmer is somebody who waits in Warm.
type warmer struct {
	size  int
	since time.Duration // when Warm was called
	done  chan error    // of capacity 1
}

// Warm opens resources until the pool has size of them, lent ones included, and returns when they are there, when opening one has
// failed that began since the call, or when ctx is over. 0 stands for Config.MinIdle. size must not exceed Config.MaxSize. The error is a
// [UseError], unless size is out of range.
func (p *Pool[T]) Warm(ctx context.Context, size int) error {
	w := &warmer{size: size, done: make(chan error, 1)}
	p.lock()
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
		p.retryOpen = 0 // whoever asks for a warm pool wants to know now
		p.tellWarmers()
		p.pump()
	}
	p.mu.Unlock()
	var err error
	select {
	case err = <-w.done:
	case <-ctx.Done():
		err = contextCause(ctx)
		p.lock()
		p.dropWarmer(w)
		p.mu.Unlock()
	}
	if err != nil {
		return p.hub.aside(fmt.Errorf("pool %q: warm: %w", p.hub.id.Name, err))
	}
	return nil
}

// warmUpTo is the size that those in Warm want. It is called under the lock.
func (p *Pool[T]) warmUpTo() (size int) {
	for _, w := range p.warmers {
		size = max(size, w.size)
	}
	return size
}

// tellWarmers ends every Warm whose size has been reached. It is called under the lock.
func (p *Pool[T]) tellWarmers() {
	for _, w := range slices.Backward(p.warmers) {
		if len(p.all)-p.closing >= w.size {
			w.done <- nil
			p.dropWarmer(w)
		}
	}
}

// endWarmers ends every Warm that was called before the time given. A dial that began before a call of Warm says nothing to that call: the
// cause may have gone meanwhile. The caller holds the lock.
func (p *Pool[T]) endWarmers(err error, before time.Duration) {
	for _, w := range slices.Backward(p.warmers) {
		if w.since <= before {
			w.done <- err
			p.dropWarmer(w)
		}
	}
}

// tellLargeWarmers ends every Warm for whose size there is no room any more. It is called under the lock.
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
