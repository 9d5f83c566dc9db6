package main

import (
	"context"
	"fmt"
	"time"
)

// A fault takes the server away and brings the server back. Both functions return afterwards.
type fault struct {
	name, about string
	silent      bool // undetectable before the first caller's deadline
	begin, end  func(ctx context.Context, s *stage) error
}

var (
	killed = fault{
		"killed", "kill -9 and later a restart. The proxy accepts dials, finds nobody and resets them.", false,
		func(ctx context.Context, s *stage) error { return s.servers.Kill(ctx, s.name) },
		func(ctx context.Context, s *stage) error { return s.servers.Restart(ctx, s.name) },
	}
	frozen = fault{
		"frozen", "SIGSTOP and later SIGCONT.", true,
		func(ctx context.Context, s *stage) error { return s.servers.Freeze(ctx, s.name) },
		func(ctx context.Context, s *stage) error { return s.servers.Thaw(ctx, s.name) },
	}
	hole = fault{
		"in a black hole", "Nothing comes through, on old connections never again.", true,
		func(_ context.Context, s *stage) error {
			s.behave(manners{bury: every})
			s.each(func(l *lane) { l.proxy.bury() })
			return nil
		},
		func(_ context.Context, s *stage) error { s.behave(manners{}); return nil },
	}
	slow = fault{
		"slower than the callers wait", "Each reply takes twice the callers' deadline.", true,
		func(_ context.Context, s *stage) error {
			s.each(func(l *lane) { l.proxy.behave(manners{delay: always(2 * l.deadline), far: true}) })
			return nil
		},
		func(_ context.Context, s *stage) error { s.behave(manners{}); return nil },
	}
)

const (
	peace = 3 * time.Second // before the fault
	after = 5 * time.Second // after the fault
)

// outageOf returns the scenario of a fault.
func outageOf(f fault, mongo bool, lasts time.Duration, host int, deadlines ...time.Duration) scenario {
	gates := []gate{gateUseless, gateBack}
	if mongo {
		gates[0] = gateUselessOfDriver
	}
	if lasts >= 10*time.Second {
		gates = append(gates, gateWaited)
	}
	return scenario{
		name: fmt.Sprintf("%s for %v", f.name, lasts), about: f.about, mongo: mongo, host: host, deadlines: deadlines,
		load: load{rate: 40, lasts: peace + lasts + after}, gates: gates, dies: true,
		play: func(ctx context.Context, s *stage) error {
			s.until(peace)
			s.die(f.silent)
			if err := f.begin(ctx, s); err != nil {
				return err
			}
			s.until(peace + lasts)
			if err := f.end(ctx, s); err != nil {
				return err
			}
			s.revive()
			return nil
		},
	}
}

// outages returns scenarios of twelve seconds, which is four times the longest of the three
// deadlines. The scenarios run concurrently, each on its own servers.
func outages(mongo bool) (all []scenario) {
	for host, f := range []fault{killed, frozen, hole, slow} {
		all = append(all, outageOf(f, mongo, 12*time.Second, host, 100*time.Millisecond, time.Second, 3*time.Second))
	}
	return all
}

// shortOutages returns scenarios as short as a restart. The callers' deadline is less than a third
// of the outage.
func shortOutages() (all []scenario) {
	for _, mongo := range []bool{false, true} {
		for host, f := range []fault{killed, frozen, hole} {
			all = append(all, outageOf(f, mongo, 2*time.Second, host, 100*time.Millisecond, 500*time.Millisecond))
		}
	}
	return all
}

// longOutages returns scenarios of a minute.
func longOutages() (all []scenario) {
	for _, mongo := range []bool{false, true} {
		for host, f := range []fault{killed, frozen} {
			all = append(all, outageOf(f, mongo, time.Minute, host, time.Second))
		}
	}
	return all
}
