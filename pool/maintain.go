package pool

import (
	"math"
	"slices"
	"time"
)

const (
	clockStep     = 10 * time.Millisecond // the step of the coarse clock while the pool is in use
	restAfter     = time.Second           // the clock rests if the pool was not used for this time
	shortestPause = time.Millisecond      // of the maintainer, whatever the settings
	never         = time.Duration(math.MaxInt64)
)

// elapsed reads the real clock.
func (p *Pool[T]) elapsed() time.Duration { return time.Since(p.hub.start) }

// clock returns the coarse time, and starts the clock if the clock is at rest. The caller holds the
// lock.
func (p *Pool[T]) clock() time.Duration {
	p.active = true
	if p.resting {
		p.startClock()
	}
	return p.now
}

// startClock reads the real clock, and wakes the maintainer to move the coarse clock. The caller
// holds the lock.
func (p *Pool[T]) startClock() {
	p.resting = false
	p.now = p.elapsed()
	if !p.closed { // the maintainer of a closed pool has ended
		p.hub.now.Store(int64(p.now))
	}
	p.kick()
}

// kick wakes the maintainer.
func (p *Pool[T]) kick() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// schedule makes sure of a scan at t, or earlier. The caller holds the lock.
func (p *Pool[T]) schedule(t time.Duration) {
	if t < p.nextScan {
		p.nextScan = t
		p.kick()
	}
}

// maintain is the maintainer, the only permanent goroutine of the pool. The maintainer moves the
// coarse clock, and does the work due by time. The maintainer ends when the pool is closed and no
// resource is lent. Until then a long lease may need an interrupt or a leak report.
func (p *Pool[T]) maintain() {
	defer p.done()
	over := false
	defer func() {
		if !over { // an observer has ended the goroutine
			p.mu.Lock()
			p.spawn(p.maintain)
			p.mu.Unlock()
		}
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		leaks, pause, last := p.tick()
		p.hub.announce(leaks...)
		if last {
			over = true
			return
		}
		p.watchLent()
		timer.Reset(pause)
		select {
		case <-timer.C:
		case <-p.wake:
		}
	}
}

// tick moves the coarse clock, and scans if a scan is due. tick returns the leaks found, the pause
// until the next tick, and whether the maintainer ends.
func (p *Pool[T]) tick() (leaks []Event, pause time.Duration, over bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = p.elapsed()
	if p.now >= p.nextScan {
		leaks = p.scan(p.now)
	}
	if len(p.idle) < p.cfg.MinIdle {
		p.pump() // take does not look at MinIdle
	}
	if p.closed && p.inUse == 0 {
		p.hub.now.Store(0)
		return leaks, 0, true
	}
	pause = max(p.nextScan-p.now, shortestPause)
	if p.active {
		p.active = false
		p.busyAt = p.now
	}
	if p.now-p.busyAt < restAfter {
		p.hub.now.Store(int64(p.now))
		return leaks, min(pause, clockStep), false
	}
	p.resting = true
	p.hub.now.Store(0)
	return leaks, pause, false
}

// scan does the work due at now, and sets the time of the next scan. The caller holds the lock.
func (p *Pool[T]) scan(now time.Duration) (leaks []Event) {
	p.reap(now)
	p.nextScan = never
	p.expire(now)
	p.forgive(now)
	p.keepAlive(now)
	leaks = p.findLeaks(now)
	p.pump()
	if len(p.all) > 0 {
		p.nextScan = min(p.nextScan, plus(now, p.scanPeriod()))
	}
	for _, r := range p.all { // lent resources, too: a lent resource may be idle by then
		if r.expires > now {
			p.nextScan = min(p.nextScan, r.expires)
		}
	}
	o := p.outlook()
	checking := o.checks.timely > 0
	if checking && p.cfg.KeepAlive > 0 {
		p.nextScan = min(p.nextScan, o.next)
	}
	for _, r := range p.idle {
		if p.cfg.MaxIdleTime > 0 && len(p.idle) > p.cfg.MinIdle {
			p.nextScan = min(p.nextScan, plus(r.used, p.cfg.MaxIdleTime))
		}
		if p.cfg.KeepAlive > 0 && !checking {
			p.nextScan = min(p.nextScan, plus(r.proven, max(p.cfg.KeepAlive, clockStep)))
		}
	}
	return leaks
}

// forgive resets the failures of dials if no dial was needed for OpenBackoff after retryOpen. The
// caller holds the lock.
func (p *Pool[T]) forgive(now time.Duration) {
	if p.failures == 0 {
		return
	}
	switch end := plus(p.retryOpen, p.cfg.OpenBackoff); {
	case p.retryOpen > now:
		p.nextScan = min(p.nextScan, p.retryOpen)
	case end > now:
		p.nextScan = min(p.nextScan, end)
	case p.waiters.n+p.outlook().dials.supply() == 0:
		p.failures, p.lastOpenErr = 0, nil
	default: // a dial is needed
		p.nextScan = min(p.nextScan, plus(now, p.cfg.OpenBackoff))
	}
}

// scanPeriod returns the longest time between two scans, as far as the settings need scans of
// resources that come and go.
func (p *Pool[T]) scanPeriod() time.Duration {
	period := never / 2
	for _, d := range []time.Duration{p.cfg.MaxIdleTime, p.cfg.KeepAlive, p.cfg.LeakAfter} {
		if d > 0 {
			period = min(period, d)
		}
	}
	if d := p.cfg.MaxLifetime; d > 0 {
		period = min(period, d-time.Duration(float64(d)*jitterShare))
	}
	return period
}

// reap closes the unfit idle resources, and the resources beyond MinIdle that have been idle for
// MaxIdleTime. reap returns the number of closed resources. The caller holds the lock.
func (p *Pool[T]) reap(now time.Duration) (n int) {
	kept := p.idle[:0]
	left := len(p.idle)
	for _, r := range p.idle {
		reason := p.unfit(r, now)
		if limit := p.cfg.MaxIdleTime; reason == closeNot && limit > 0 && now-r.used >= limit && left > p.cfg.MinIdle {
			reason = CloseIdle
		}
		if reason == closeNot {
			kept = append(kept, r)
			continue
		}
		left--
		n++
		p.retire(r, reason)
	}
	clear(p.idle[len(kept):])
	p.idle = kept
	return n
}

// keepAlive begins a check of the idle resource with the oldest proof, if the check is due. At the
// end of the check the next resource follows (proved). The caller holds the lock.
func (p *Pool[T]) keepAlive(now time.Duration) {
	if p.cfg.KeepAlive == 0 || len(p.idle) == 0 || p.outlook().checks.timely > 0 {
		return
	}
	oldest := 0
	for i, r := range p.idle {
		if r.proven < p.idle[oldest].proven {
			oldest = i
		}
	}
	r := p.idle[oldest]
	if now-r.proven < max(p.cfg.KeepAlive, clockStep) {
		return
	}
	p.idle = slices.Delete(p.idle, oldest, oldest+1)
	p.spawnCheck(r)
}

// findLeaks returns an event for each lease that has lasted for LeakAfter and has no event so far.
// The caller holds the lock.
func (p *Pool[T]) findLeaks(now time.Duration) (leaks []Event) {
	limit := p.cfg.LeakAfter
	if limit == 0 || p.inUse == 0 {
		return nil
	}
	for _, r := range p.all {
		if !r.lent() || r.leaked {
			continue
		}
		if age := now - r.since; age < limit {
			p.nextScan = min(p.nextScan, plus(r.since, limit))
			continue
		}
		r.leaked = true
		p.stat.Leaked++
		leaks = append(leaks, Event{Kind: EventLeaked, Duration: now - r.since, Stack: formatStack(r.stack)})
	}
	return leaks
}

// longest bounds the deadlines given to clients by the pool. A client may add a time to the
// remaining time, and the sum must not overflow.
const longest = never / 2

// plus adds two durations that are not negative. If the sum overflows, plus returns never.
func plus(a, b time.Duration) time.Duration {
	if sum := a + b; sum >= a {
		return sum
	}
	return never
}
