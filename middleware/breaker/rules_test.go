package breaker

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/earnorm/poolstack/pool"
)

// The six rules by which the breaker works on gobreaker, a test each.

// Rule 1: every call into gobreaker is made under the breaker's own mutex, never on the success
// path of closed and never to read a state.
func TestRule1GobreakerIsCalledUnderOurMutexOnly(t *testing.T) {
	t.Run("under the mutex", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig(t, quick())
			asked, told := 0, 0
			held := func() {
				if r.mu.TryLock() {
					r.mu.Unlock()
					t.Error("gobreaker is called without the mutex")
				}
			}
			s := r.circuitSettings()
			trip, change := s.ReadyToTrip, s.OnStateChange
			s.ReadyToTrip = func(c gobreaker.Counts) bool { asked++; held(); return trip(c) }
			s.OnStateChange = func(name string, from, to gobreaker.State) { told++; held(); change(name, from, to) }
			r.circuit = gobreaker.NewCircuitBreaker[struct{}](s)
			r.opens()
			r.due()
			r.uses(1, nil)
			if asked != 1 || told != 3 {
				t.Errorf("gobreaker asked %d times and told %d times, want 1 and 3", asked, told)
			}
		})
	})
	t.Run("not for a success nor a reading", func(t *testing.T) {
		r := newRig(t, Config{ConsecutiveFailures: 2, OpenFor: time.Hour, OpenMax: time.Hour})
		unlocked(t, r.Breaker, "successes in closed", func() { r.uses(100, nil) })
		unlocked(t, r.Breaker, "State", func() { r.wantState(StateClosed) })
		if n := r.circuit.Counts().Requests; n != 0 {
			t.Errorf("gobreaker has seen %d requests, want 0", n)
		}
		r.opens()
		unlocked(t, r.Breaker, "a refusal while open", func() { r.refused(StateOpen) })
		unlocked(t, r.Breaker, "State", func() { r.wantState(StateOpen) })
	})
	t.Run("not for a refusal while the looks have the say", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRigOn(t, Config{ConsecutiveFailures: 2}, pool.Config{MaxSize: 2})
			r.dead()
			time.Sleep(time.Minute) // the open period is long over
			settle()
			unlocked(t, r.Breaker, "a refusal while open", func() { r.refused(StateOpen) })
		})
	})
	t.Run("reading moves nothing", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig(t, quick())
			r.opens()
			time.Sleep(time.Hour) // gobreaker's State would make it half-open
			for range 3 {
				r.wantState(StateOpen)
				if s := r.Snapshot(); s.State != StateOpen || s.NextProbe.After(time.Now()) {
					t.Errorf("the snapshot says %v, next probe %v, want open and one due", s.State, s.NextProbe)
				}
			}
			r.wantMoves("closed>open consecutive_failures")
		})
	})
}

// unlocked checks that f needs no mutex.
func unlocked(t *testing.T, b *Breaker, what string, f func()) {
	t.Helper()
	b.mu.Lock()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	timeout := time.NewTimer(10 * time.Second)
	defer timeout.Stop()
	select {
	case <-done:
		b.mu.Unlock()
	case <-timeout.C:
		b.mu.Unlock()
		<-done
		t.Errorf("%s waits for the breaker's mutex", what)
	}
}

// Rule 2: admission in closed leads to that closed state's window, and each has a new one: a late
// outcome is never reported.
func TestRule2LateOutcomeLandsInItsOwnWindow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, quick())
		late := []pool.Lease[*conn]{r.lease(), r.lease(), r.lease(), r.lease()}
		first := r.phase.Load().window
		r.opens()
		late[0].Release(fail) // while open
		r.due()
		r.uses(1, nil)
		r.wantState(StateClosed)
		if r.phase.Load().window == first {
			t.Fatal("the second closed state has the window of the first")
		}
		late[1].Release(fail)
		late[2].Release(fail)
		if got := r.Snapshot().Counts; got != (Counts{}) {
			t.Errorf("after late failures the new window has %v, want nothing", got)
		}
		r.wantState(StateClosed)
		r.uses(1, fail)
		late[3].Release(nil)
		if got, want := r.Snapshot().Counts, (Counts{Failures: 1, Consecutive: 1}); got != want {
			t.Errorf("after a late success the new window has %v, want %v", got, want)
		}
		if got, want := first.counts(r.elapsed()), (Counts{Successes: 1, Failures: 5}); got != want {
			t.Errorf("the old window has %v, want %v", got, want)
		}
	})
}

// Rule 3: a failure is reported to gobreaker only while its window is the current window, and only
// if our rules open the breaker. gobreaker's own counts see no success, so these counts decide
// nothing.
func TestRule3ReportMeansOpen(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, quick())
		for range 50 {
			r.uses(1, fail)
			r.uses(1, nil)
		}
		if n := r.circuit.Counts().Requests; n != 0 {
			t.Errorf("gobreaker was told %d outcomes that open nothing, want 0", n)
		}
		r.wantState(StateClosed)
		late := r.lease()
		r.opens()
		r.due()
		r.uses(1, nil)
		late.Release(fail)
		if n := r.circuit.Counts().Requests; n != 0 {
			t.Errorf("gobreaker was told %d outcomes of an earlier closed state, want 0", n)
		}
	})
}

// A success writes the counter of failures in a row only when the counter is not 0, because all
// processors share the word.
func TestRule3SuccessLeavesTheConsecutiveCounterAlone(t *testing.T) {
	r := newRig(t, quick())
	w := r.phase.Load().window
	r.uses(1, fail)
	if n := w.length.Load(); n != 1 {
		t.Fatalf("after a failure the counter is %d, want 1", n)
	}
	r.uses(1, nil)
	if n := w.length.Load(); n != 0 {
		t.Fatalf("after a success the counter is %d, want 0", n)
	}
}

// Rule 4: the open period is ours (gobreaker's is over at once), the probes are counted by us, and
// gobreaker hears one verdict a round.
func TestRule4OurOpenPeriodAndOneVerdictARound(t *testing.T) {
	bubble(t, func(t *testing.T) {
		cfg := quick()
		cfg.Probes, cfg.ProbeSuccesses = 2, 4
		r := newRig(t, cfg)
		r.opens()
		time.Sleep(time.Second - 1)
		r.refused(StateOpen)
		time.Sleep(time.Nanosecond)
		for i := range 2 {
			a, b := r.lease(), r.lease()
			r.wantState(StateHalfOpen)
			r.refused(StateHalfOpen)
			if n := r.circuit.Counts(); n.Requests != 0 {
				t.Errorf("gobreaker has seen %d requests before the verdict, want 0", n.Requests)
			}
			if s := r.Snapshot(); s.ProbesUnderway != 2 || s.ProbesSucceeded != 2*i {
				t.Errorf("the snapshot has %d probes under way and %d succeeded, want 2 and %d", s.ProbesUnderway, s.ProbesSucceeded, 2*i)
			}
			a.Release(nil)
			b.Release(nil)
		}
		r.wantState(StateClosed)
		r.wantMoves("closed>open consecutive_failures", "open>half-open open_period_over", "half-open>closed probes_succeeded")
	})
}

// Rule 5: an excluded or cancelled probe gives its permit back, a lost one counts as failed, an
// outcome of an earlier round is dropped.
func TestRule5ExcludedProbeGivesItsPermitBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, quick())
		r.opens()
		r.due()
		for range 3 {
			r.lease().Release(context.Canceled)
			r.wantState(StateHalfOpen)
			r.lease().Release(pool.ErrLost)
			r.wantState(StateHalfOpen)
		}
		if s := r.Snapshot(); s.ProbesUnderway != 0 || s.ProbesSucceeded != 0 || s.ProbesFailed != 0 {
			t.Errorf("excluded probes left %d under way, %d succeeded, %d failed, want none", s.ProbesUnderway, s.ProbesSucceeded, s.ProbesFailed)
		}
		r.uses(1, nil)
		r.wantState(StateClosed)
	})
}

// An observer ends the goroutine when it receives the change to half-open. The use in this
// goroutine is no probe. An observer that panics does no harm.
func TestRule5ObserverThatExitsTakesNoPermit(t *testing.T) {
	for name, leave := range map[string]func(){"panic": func() { panic("boom") }, "Goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				cfg := quick()
				cfg.ProbeSuccesses = 2
				r := newRig(t, cfg)
				r.opens()
				r.due()
				r.seen.react = func(pool.Event) { leave() }
				var wg sync.WaitGroup
				returned := false
				wg.Go(func() {
					_ = r.use(nil)
					returned = true
				})
				wg.Wait()
				if returned != (name == "panic") {
					t.Errorf("the use has returned: %v", returned)
				}
				r.seen.react = nil
				r.wantState(StateHalfOpen)
				if n := r.Snapshot().ProbesUnderway; n != 0 {
					t.Errorf("%d probes are under way, want 0", n)
				}
				r.uses(2, nil)
				r.wantState(StateClosed)
			})
		})
	}
}

func TestRule5LostProbeCountsAsFailed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		cfg := quick()
		cfg.ProbeTimeout = 3 * time.Second
		r := newRig(t, cfg)
		r.opens()
		r.due()
		lost := r.lease()
		r.refused(StateHalfOpen)
		time.Sleep(3 * time.Second)
		refusal := r.refusal(StateOpen)
		if refusal.Rounds != 1 || refusal.LastProbe != ReasonProbeTimeout {
			t.Errorf("the refusal tells of %d rounds, the last with %q, want 1 and %q", refusal.Rounds, refusal.LastProbe, ReasonProbeTimeout)
		}
		lost.Release(nil) // too late
		r.wantState(StateOpen)
		r.due()
		r.uses(1, nil)
		r.wantState(StateClosed)
		r.wantMoves("closed>open consecutive_failures", "open>half-open open_period_over", "half-open>open probe_timeout",
			"open>half-open open_period_over", "half-open>closed probes_succeeded")
	})
}

// A use may take 10 s with the defaults of the standard stack. A probe that takes as long is not
// given up.
func TestRule5SlowProbeIsNotGivenUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, quick())
		r.opens()
		r.due()
		slow := r.lease()
		time.Sleep(10 * time.Second)
		other := r.lease() // looks for lost probes
		r.wantState(StateHalfOpen)
		slow.Release(nil)
		r.wantState(StateClosed)
		other.Release(nil)
	})
}

func TestRule5OutcomeOfAnEarlierRoundIsDropped(t *testing.T) {
	for _, outcome := range []error{nil, fail, context.Canceled} {
		bubble(t, func(t *testing.T) {
			cfg := quick()
			cfg.Probes, cfg.ProbeSuccesses = 2, 2
			r := newRig(t, cfg)
			r.opens()
			r.due()
			early := r.lease()
			r.uses(1, fail) // ends the first round
			r.due()
			now := r.lease()
			r.wantState(StateHalfOpen)
			early.Release(outcome)
			r.wantState(StateHalfOpen)
			if s := r.Snapshot(); s.ProbesUnderway != 1 || s.ProbesSucceeded != 0 || s.ProbesFailed != 0 {
				t.Errorf("after %v of an earlier round: %d probes under way, %d succeeded, %d failed, want 1, 0, 0",
					outcome, s.ProbesUnderway, s.ProbesSucceeded, s.ProbesFailed)
			}
			now.Release(nil)
			r.uses(1, nil)
			r.wantState(StateClosed)
		})
	}
}

// An outcome is better than a guess. The outcome of a late probe counts if its timeout has passed
// but nobody has compared the time yet. Other late probes then count as lost.
func TestRule5LateProbeIsJudgedByItsOutcome(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, quick())
		r.opens()
		r.due()
		slow := r.lease()
		time.Sleep(time.Minute)
		slow.Release(nil)
		r.wantState(StateClosed)
	})
	bubble(t, func(t *testing.T) {
		cfg := quick()
		cfg.Probes = 2
		r := newRig(t, cfg)
		r.opens()
		r.due()
		lost, slow := r.lease(), r.lease()
		time.Sleep(time.Minute)
		slow.Release(nil)
		r.wantState(StateOpen)
		lost.Release(nil)
		r.wantState(StateOpen)
	})
}

// Rule 6: OnStateChange only records; events go out after unlocking, with the context of the use
// that caused them.
func TestRule6EventsGoOutAfterUnlocking(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, quick())
		r.seen.react = func(e pool.Event) {
			if !r.mu.TryLock() {
				t.Errorf("the mutex is held during %s", e.Kind)
				return
			}
			r.mu.Unlock()
		}
		type key struct{}
		for _, step := range []struct {
			outcome error
			sleep   time.Duration
			want    pool.Event
		}{
			{outcome: fail},
			{outcome: fail, want: pool.Event{
				Kind: pool.EventStateChanged, From: "closed", To: "open", Reason: ReasonConsecutive, Duration: time.Second,
			}},
			{want: pool.Event{Kind: pool.EventRejected, Reason: "breaker_open", Duration: time.Second}},
			{sleep: time.Second, outcome: fail, want: pool.Event{
				Kind: pool.EventStateChanged, From: "half-open", To: "open", Reason: ReasonProbeFailed, Duration: time.Second,
			}},
			{sleep: time.Second, want: pool.Event{
				Kind: pool.EventStateChanged, From: "half-open", To: "closed", Reason: ReasonProbesPassed,
			}},
		} {
			time.Sleep(step.sleep)
			ctx := context.WithValue(context.Background(), key{}, new(int))
			err := r.pool.Do(ctx, get, func(context.Context, *conn) error { return step.outcome })
			gotCtx, got := r.seen.last()
			if step.want.Kind == "" {
				if got.Kind != "" {
					t.Fatalf("an event %+v, want none", got)
				}
				continue
			}
			if gotCtx.Value(key{}) != ctx.Value(key{}) {
				t.Errorf("%s has another context than the use that caused it", got.Kind)
			}
			if got.To == "open" || got.Kind == pool.EventRejected {
				if !errors.Is(got.Err, ErrOpen) {
					t.Errorf("%s carries %v (Do returned %v), want the refusal", got.Kind, got.Err, err)
				}
				got.Err = nil
			}
			step.want.Pool, step.want.Layer, step.want.Op, step.want.Attempt = "orders", "breaker", get, 1
			if got != step.want {
				t.Errorf("the event is\n  %+v, want\n  %+v", got, step.want)
			}
		}
	})
}
