package breaker

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// Slow calls open the breaker by their share, whether or not they succeed, and slow probes fail.
func TestSlowCalls(t *testing.T) {
	for name, outcome := range map[string]error{"success": nil, "an answer": pooltest.ErrReply} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStand(t, Config{SlowCall: 200 * time.Millisecond, MinCalls: 10, ConsecutiveFailures: -1, FailureRatio: -1, LookMax: -1})
				for range 5 {
					_ = s.use(150*time.Millisecond, nil)
				}
				for range 4 {
					_ = s.use(300*time.Millisecond, outcome)
				}
				if n := s.breaker.Snapshot().Counts; s.breaker.State() != StateClosed || n.Slow != 4 || n.Calls() != 9 {
					t.Fatalf("%v after 4 of 9 slow calls: %+v", s.breaker.State(), n)
				}
				_ = s.use(300*time.Millisecond, outcome)
				if s.breaker.State() != StateOpen {
					t.Fatalf("%v after 5 of 10 slow calls", s.breaker.State())
				}
				err := s.use(0, nil)
				if !errors.Is(err, ErrOpen) || !strings.Contains(err.Error(), "5 of 10 calls within 10s took 200ms or longer (limit 50 %)") {
					t.Errorf("a use ends with %v", err)
				}
				time.Sleep(time.Second)
				_ = s.use(300*time.Millisecond, outcome) // a probe
				if s.breaker.State() != StateOpen {
					t.Errorf("%v after a slow probe", s.breaker.State())
				}
				time.Sleep(time.Second)
				if err := s.use(10*time.Millisecond, nil); err != nil || s.breaker.State() != StateClosed {
					t.Errorf("%v after a quick probe: %v", s.breaker.State(), err)
				}
			})
		})
	}
}

// By default no call is slow. A lease and an operation that is meant to block are never slow.
func TestNotSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t, Config{})
		for range 30 {
			_ = s.use(2*time.Second, nil)
		}
		if n := s.breaker.Snapshot().Counts.Slow; n != 0 || s.breaker.State() != StateClosed {
			t.Errorf("%d slow calls by default", n)
		}
		s = newStand(t, Config{SlowCall: 100 * time.Millisecond, MinCalls: 3})
		for range 10 {
			l, err := s.pool.Acquire(t.Context(), pool.Op{Name: "GET"})
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			l.Release(nil)
			_ = s.pool.Do(t.Context(), pool.Op{Name: "BLPOP", Limit: -1}, func(context.Context, *pooltest.Conn) error { time.Sleep(time.Second); return nil })
		}
		if n := s.breaker.Snapshot().Counts.Slow; n != 0 || s.breaker.State() != StateClosed {
			t.Errorf("%d slow calls of leases and blocking operations", n)
		}
	})
}

// The wait for a resource is the pool's time: a call that waited long is not slow.
func TestWaitsAreNotSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t, Config{SlowCall: 100 * time.Millisecond, MinCalls: 3})
		for range 100 { // ten at a time, 50 ms each: the last waits for 450 ms
			go func() { _ = s.use(50*time.Millisecond, nil) }()
		}
		time.Sleep(time.Second)
		if n := s.breaker.Snapshot().Counts; n.Slow != 0 || n.Successes != 100 {
			t.Errorf("%+v", n)
		}
	})
}

// After a recovery a growing share of the uses passes, from a tenth to all.
func TestRampUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t, Config{ConsecutiveFailures: 3, LookMax: -1, RampUp: 10 * time.Second})
		if snap := s.breaker.Snapshot(); snap.Admitted != 1 {
			t.Errorf("admitted %v before any trouble", snap.Admitted)
		}
		s.fail(3)
		time.Sleep(time.Second)
		if err := s.use(0, nil); err != nil { // a probe
			t.Fatal(err)
		}
		for second := range 10 {
			passed, refused := 0, error(nil)
			for range 1000 {
				if err := s.use(0, nil); err == nil {
					passed++
				} else {
					refused = err
				}
			}
			share := 100 + 90*second
			if passed < share-40 || passed > share+40 {
				t.Errorf("after %d s: %d of 1000 uses pass, want about %d", second, passed, share)
			}
			if !errors.Is(refused, ErrOpen) || !strings.Contains(refused.Error(), "closed again") || s.pool.Classify(refused).Type != "breaker_ramp_up" {
				t.Errorf("a use is refused by %v", refused)
			}
			time.Sleep(time.Second)
		}
		for range 100 {
			if err := s.use(0, nil); err != nil {
				t.Fatalf("after the ramp-up: %v", err)
			}
		}
		if s.breaker.phase.Load().gate != nil {
			t.Error("the gate stays after the ramp-up")
		}
	})
}
