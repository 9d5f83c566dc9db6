package pool

import (
	"errors"
	"fmt"
)

// CheckBooks returns an error if the counters and lists of p contradict each other at this moment.
// CheckBooks is for tests with concurrent random work.
func CheckBooks[T any](p *Pool[T]) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.idle) + p.inUse + p.checking + p.closing; n != len(p.all) {
		return fmt.Errorf("%d resources: %d idle, %d in use, %d being checked, %d being closed",
			len(p.all), len(p.idle), p.inUse, p.checking, p.closing)
	}
	seen := map[*resource[T]]bool{}
	for i, r := range p.idle {
		if seen[r] {
			return errors.New("one is idle twice")
		}
		seen[r] = true
		if i > 0 && p.idle[i-1].used > r.used {
			return errors.New("the idle ones are not in the order of their last use")
		}
		if r.lent() {
			return errors.New("an idle one is lent")
		}
	}
	if err := checkSupply(p); err != nil {
		return err
	}
	return nil
}

// checkSupply returns an error if a waiter was forgotten: a call of the driver that could serve the
// waiter was not begun.
func checkSupply[T any](p *Pool[T]) error {
	n, o := p.waiters.n, p.outlook()
	if n == 0 {
		return nil
	}
	if p.closed || p.paused != nil {
		return fmt.Errorf("%d wait for a pool that is closed or paused", n)
	}
	checks := o.checks.supply() + o.checks.lost
	if checks < n && len(p.idle) > 0 {
		return fmt.Errorf("%d wait for %d checks, and %d are idle", n, checks, len(p.idle))
	}
	if p.failures > 0 || len(p.all)+p.opening >= p.cfg.MaxSize {
		return nil
	}
	if dials := o.dials.supply() + o.dials.lost; dials+checks < n && dials < p.cfg.OpenConcurrency {
		return fmt.Errorf("%d wait for %d dials and %d checks, and %d of %d places are taken", n, dials, checks, len(p.all)+p.opening, p.cfg.MaxSize)
	}
	return nil
}
