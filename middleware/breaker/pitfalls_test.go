package breaker

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/earnorm/poolstack/pool"
)

// These tests are about mistakes of other breakers, reproduced in these breakers and avoided here.
// Where the proof is cheap, a test shows the mistake in gobreaker, the state machine of this
// package. Other mistakes are only described.

// Some breakers hold a lock during the call. gobreaker's distributed breaker holds the lock of its
// store: 8 concurrent calls of 50 ms took 402 ms, and only 1 of the calls was counted.
func TestPitfallB1NoLockDuringTheCall(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, Config{})
		begin := time.Now()
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				_ = r.pool.Do(context.Background(), get, func(context.Context, *conn) error { time.Sleep(50 * time.Millisecond); return nil })
			})
		}
		wg.Wait()
		if took := time.Since(begin); took != 50*time.Millisecond {
			t.Errorf("8 concurrent calls of 50 ms took %v, want 50 ms", took)
		}
		if got, want := r.Snapshot().Counts, (Counts{Successes: 8}); got != want {
			t.Errorf("it counted %v, want %v", got, want)
		}
	})
}

// gobreaker calls OnStateChange with its mutex held: State, called there, waits for ever.
func TestPitfallB2CallbackMayUseTheBreaker(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, quick())
		heard := 0
		r.seen.react = func(e pool.Event) {
			heard++
			if e.Kind == pool.EventStateChanged && r.State().String() != e.To {
				t.Errorf("during the change to %s the state is %v", e.To, r.State())
			}
			if s := r.Snapshot(); s.State != r.State() {
				t.Errorf("the snapshot says %v, the state is %v", s.State, r.State())
			}
			if err := r.Configure(r.Config()); err != nil {
				t.Error(err)
			}
		}
		r.opens()
		r.refused(StateOpen)
		r.due()
		r.uses(1, fail)
		r.due()
		r.uses(1, nil)
		r.wantState(StateClosed)
		if heard != 6 { // five changes and a refusal
			t.Errorf("the observer heard %d events, want 6", heard)
		}
	})
}

// A two-step probe without an outcome leaves gobreaker half-open for ever, and all uses are
// rejected.
func TestPitfallB3LostProbeDoesNotWedge(t *testing.T) {
	bubble(t, func(t *testing.T) {
		peer := gobreaker.NewTwoStepCircuitBreaker[any](gobreaker.Settings{
			Timeout: time.Second, ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= 2 },
		})
		for range 2 {
			done, err := peer.Allow()
			if err != nil {
				t.Fatal(err)
			}
			done(errors.New("failed"))
		}
		time.Sleep(2 * time.Second)
		if _, err := peer.Allow(); err != nil { // its done is lost
			t.Fatal(err)
		}
		time.Sleep(365 * 24 * time.Hour)
		if _, err := peer.Allow(); !errors.Is(err, gobreaker.ErrTooManyRequests) {
			t.Errorf("gobreaker with a lost probe returned %v after a year: the pitfall is gone, and so is this test's point", err)
		}
	})
	bubble(t, func(t *testing.T) {
		r := newRig(t, quick())
		r.opens()
		r.due()
		lost := r.lease()
		defer lost.Release(nil)
		time.Sleep(r.Effective().ProbeTimeout)
		r.refused(StateOpen)
		r.due()
		r.uses(1, nil)
		r.wantState(StateClosed)
	})
}

// Six callers that give up open gobreaker, and failsafe-go's breaker, at their defaults.
func TestPitfallB4CallersThatGiveUpOpenNothing(t *testing.T) {
	peer := gobreaker.NewCircuitBreaker[any](gobreaker.Settings{})
	for range 6 {
		_, _ = peer.Execute(func() (any, error) { return nil, context.Canceled })
	}
	if peer.State() != gobreaker.StateOpen {
		t.Errorf("gobreaker is %v after six cancellations: the pitfall is gone, and so is this test's point", peer.State())
	}
	bubble(t, func(t *testing.T) {
		r := newRig(t, Config{})
		for range 60 {
			ctx, cancel := context.WithCancel(context.Background())
			err := r.pool.Do(ctx, get, func(ctx context.Context, _ *conn) error { cancel(); return ctx.Err() })
			if !errors.Is(err, context.Canceled) {
				t.Fatalf("Do returned %v, want context.Canceled", err)
			}
			ctx, cancel = context.WithTimeout(context.Background(), time.Millisecond)
			err = r.pool.Do(ctx, get, func(ctx context.Context, _ *conn) error { <-ctx.Done(); return fail })
			cancel()
			if !errors.Is(err, fail) {
				t.Fatalf("Do returned %v, want %v", err, fail)
			}
		}
		r.wantState(StateClosed)
		if got := r.Snapshot().Counts; got != (Counts{}) {
			t.Errorf("it counted %v, want nothing", got)
		}
	})
}

// A half-open probe that panics keeps its permit in failsafe-go's breaker, which then refuses for
// ever.
func TestPitfallB5PanickingProbeGivesItsPermitBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, quick())
		r.opens()
		r.due()
		for range 3 {
			func() {
				defer func() {
					if v := recover(); v != "boom" {
						t.Errorf("recovered %v, want boom", v)
					}
				}()
				_ = r.pool.Do(context.Background(), get, func(context.Context, *conn) error { panic("boom") })
			}()
			r.wantState(StateHalfOpen)
			if n := r.Snapshot().ProbesUnderway; n != 0 {
				t.Fatalf("after a panic %d probes are under way, want 0", n)
			}
		}
		r.uses(1, nil)
		r.wantState(StateClosed)
	})
}

// eapache/go-resiliency's breaker opens after 3 failures in 1000 calls, as successes do not reset
// its count.
func TestPitfallB8FewFailuresAmongManyCallsOpenNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, Config{ConsecutiveFailures: 3})
		for range 3 {
			r.uses(1, fail)
			r.uses(333, nil)
		}
		r.wantState(StateClosed)
		if got, want := r.Snapshot().Counts, (Counts{Successes: 999, Failures: 3}); got != want {
			t.Errorf("it counted %v, want %v", got, want)
		}
	})
}
