package breaker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// tally counts what became of the uses of one operation.
type tally struct{ served, refused, failed atomic.Int64 }

func (n *tally) note(err error) {
	switch {
	case err == nil:
		n.served.Add(1)
	case errors.Is(err, ErrOpen):
		n.refused.Add(1)
	default:
		n.failed.Add(1)
	}
}

// load makes uses of op at a rate, each with a deadline, for a while. The server does what serve
// says.
func (r *rig) load(wg *sync.WaitGroup, n *tally, op pool.Op, every, deadline, lasts time.Duration, serve func(context.Context) error) {
	wg.Go(func() {
		for end := time.Now().Add(lasts); time.Now().Before(end); time.Sleep(every) {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), deadline)
				defer cancel()
				n.note(r.pool.Do(ctx, op, func(ctx context.Context, _ *conn) error { return serve(ctx) }))
			})
		}
	})
}

func hang(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

// One operation of two fails: with the server's answer, by losing its connection, and by no answer
// at all. The other one is served, however rare it is.
func TestAnOperationThatFailsAlone(t *testing.T) {
	for name, serve := range map[string]func(context.Context) error{
		"refused": func(context.Context) error { return fail },
		"cut":     func(context.Context) error { return pooltest.ErrBroken },
		"hangs":   hang,
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRigOn(t, Config{}, pool.Config{MaxSize: 100})
				r.uses(2*enough, nil)
				var wg sync.WaitGroup
				var bad, good tally
				r.load(&wg, &bad, pool.Op{Name: "XADD"}, 5*time.Millisecond, 300*time.Millisecond, 20*time.Second, serve)
				r.load(&wg, &good, get, 437*time.Millisecond, 300*time.Millisecond, 20*time.Second, pooltest.Slow(time.Millisecond))
				wg.Wait()
				if n := good.refused.Load() + good.failed.Load(); n > 0 {
					t.Errorf("of the good uses %d were refused, %d failed, %d served", good.refused.Load(), good.failed.Load(), good.served.Load())
				}
				if bad.refused.Load() < bad.failed.Load() {
					t.Errorf("of the bad uses only %d were refused, %d failed", bad.refused.Load(), bad.failed.Load())
				}
			})
		})
	}
}

// The server becomes too slow for callers with little time. Callers with more time are served all
// along, also those with not much more.
func TestPatientCallersPass(t *testing.T) {
	for _, test := range []struct{ took, patience time.Duration }{
		{400 * time.Millisecond, 2 * time.Second},
		{200 * time.Millisecond, 350 * time.Millisecond},
	} {
		bubble(t, func(t *testing.T) {
			r := newRigOn(t, Config{}, pool.Config{MaxSize: 100})
			r.uses(2*enough, nil)
			var wg sync.WaitGroup
			var hasty, patient tally
			slow := pooltest.Slow(test.took)
			r.load(&wg, &hasty, get, 10*time.Millisecond, 100*time.Millisecond, 20*time.Second, slow)
			time.Sleep(time.Second)
			if r.State() == StateClosed { // open, or half-open with a probe
				t.Error("the breaker is closed")
			}
			r.load(&wg, &patient, get, 150*time.Millisecond, test.patience, 20*time.Second, slow)
			wg.Wait()
			if patient.refused.Load()+patient.failed.Load() > 0 {
				t.Errorf("of the patient uses (%v) %d were refused, %d failed", test.patience, patient.refused.Load(), patient.failed.Load())
			}
			// The successes of the patient callers show that the server is well. So a hasty probe proves
			// nothing, and passes only with a permit, one at a time.
			if hasty.failed.Load() > hasty.refused.Load()/5 {
				t.Errorf("of the hasty uses %d failed, and %d were refused", hasty.failed.Load(), hasty.refused.Load())
			}
		})
	}
}

// The attempts that opened the breaker had little time. Their callers are gone, and callers with
// more time remain. The successes of these callers close the breaker, if a success took no longer
// than the failed attempts had.
func TestPatientCallersAreProbes(t *testing.T) {
	for name, test := range map[string]struct {
		took time.Duration
		want State
	}{
		"the server is well": {time.Millisecond, StateClosed},
		"the server is slow": {400 * time.Millisecond, StateHalfOpen},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRigOn(t, Config{}, pool.Config{MaxSize: 100})
				r.uses(2*enough, nil)
				var wg sync.WaitGroup
				var hasty, patient tally
				r.load(&wg, &hasty, get, 10*time.Millisecond, 100*time.Millisecond, 2*time.Second, hang)
				time.Sleep(2 * time.Second)
				if r.State() == StateClosed {
					t.Fatal("the breaker is closed")
				}
				r.load(&wg, &patient, get, 50*time.Millisecond, 3*time.Second, 5*time.Second, pooltest.Slow(test.took))
				wg.Wait()
				r.wantState(test.want)
				if patient.refused.Load()+patient.failed.Load() > 0 {
					t.Errorf("of the patient uses %d were refused, %d failed", patient.refused.Load(), patient.failed.Load())
				}
			})
		})
	}
}

// The operation that opened the breaker is not used any more. After a window's time the uses of
// others close the breaker.
func TestAnOperationThatIsUsedNoMore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRigOn(t, Config{}, pool.Config{MaxSize: 100})
		var wg sync.WaitGroup
		var bad, good tally
		r.load(&wg, &bad, pool.Op{Name: "XADD"}, 5*time.Millisecond, time.Second, 2*time.Second, func(context.Context) error { return fail })
		wg.Wait()
		if r.State() == StateClosed {
			t.Fatal("the breaker is closed")
		}
		time.Sleep(2 * time.Second)
		// An operation meant to block proves nothing.
		if err := r.pool.Do(context.Background(), pool.Op{Name: "XADD", Limit: -1}, nothing); err != nil {
			t.Fatal(err)
		}
		r.wantState(StateHalfOpen)
		r.load(&wg, &good, get, 100*time.Millisecond, time.Second, 12*time.Second, pooltest.Slow(time.Millisecond))
		time.Sleep(5 * time.Second)
		t.Log(r.seen.moves(), r.Snapshot())
		wg.Wait()
		r.wantState(StateClosed)
		if good.refused.Load()+good.failed.Load() > 0 {
			t.Errorf("of the good uses %d were refused, %d failed", good.refused.Load(), good.failed.Load())
		}
	})
}

// Two operations were refused, and one of them comes back only at night. The uses of the other one
// close the breaker.
func TestAnOperationThatIsRare(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRigOn(t, Config{}, pool.Config{MaxSize: 100})
		var wg sync.WaitGroup
		var bad, good tally
		r.uses(2*enough, nil)
		failing := func(context.Context) error { return fail }
		r.load(&wg, &bad, pool.Op{Name: "REPORT"}, 50*time.Millisecond, time.Second, 2*time.Second, failing)
		r.load(&wg, &bad, get, 5*time.Millisecond, time.Second, 2*time.Second, failing)
		wg.Wait()
		if r.State() == StateClosed || len(r.scope.Load().ops) != 2 {
			t.Fatalf("the breaker is %v, and refuses %v", r.State(), r.scope.Load().ops)
		}
		r.load(&wg, &good, get, 100*time.Millisecond, time.Second, 15*time.Second, pooltest.Slow(time.Millisecond))
		wg.Wait()
		r.wantState(StateClosed)
	})
}

// A server that was away comes back, but fails one operation, which makes up most of the load. The
// other one is served again.
func TestAnOperationThatFailsOnAfterAnOutage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRigOn(t, Config{}, pool.Config{MaxSize: 100})
		r.uses(2*enough, nil)
		var away atomic.Bool
		away.Store(true)
		r.fake.Inject(pooltest.Open, -1, func(context.Context) error { return pooltest.ErrRefused })
		var wg sync.WaitGroup
		var bad, good tally
		gone := func(serve func(context.Context) error) func(context.Context) error {
			return func(ctx context.Context) error {
				if away.Load() {
					return pooltest.ErrBroken
				}
				return serve(ctx)
			}
		}
		load := func(lasts time.Duration) {
			r.load(&wg, &bad, pool.Op{Name: "XADD"}, 5*time.Millisecond, 300*time.Millisecond, lasts, gone(func(context.Context) error { return fail }))
			r.load(&wg, &good, get, 60*time.Millisecond, 300*time.Millisecond, lasts, gone(pooltest.Slow(time.Millisecond)))
			wg.Wait()
		}
		load(5 * time.Second)
		r.wantState(StateOpen)
		away.Store(false)
		r.fake.Inject(pooltest.Open, 0, nil)
		load(5 * time.Second)
		good.served.Store(0)
		good.refused.Store(0)
		load(10 * time.Second)
		if good.refused.Load() > 0 || good.served.Load() < 150 {
			t.Errorf("of the good uses %d were refused, %d served", good.refused.Load(), good.served.Load())
		}
	})
}

// If the looks saw the server down, the looks also see its return, and no use waits for probes. If
// the breaker opened because of trouble invisible to looks, the breaker needs probes. A long probe
// keeps other uses out for half a second only. An operation meant to block is no probe.
func TestRecoveryWaitsForNoLongUse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRigOn(t, Config{ConsecutiveFailures: 2}, pool.Config{MaxSize: 2})
		r.dead()
		time.Sleep(3 * time.Second)
		r.fake.Inject(pooltest.Open, 0, nil)
		time.Sleep(time.Second)
		r.wantState(StateClosed)
		if moves := r.seen.moves(); len(moves) != 3 || moves[2] != "half-open>closed "+ReasonLookPassed {
			t.Errorf("the moves are %q", moves)
		}
	})
	bubble(t, func(t *testing.T) {
		cfg := quick()
		cfg.Probes, cfg.ProbeSuccesses = 1, 2
		r := newRig(t, cfg)
		r.opens()
		r.due()
		blocked, err := r.pool.Acquire(context.Background(), pool.Op{Name: "BLPOP", Limit: -1})
		if err != nil {
			t.Fatal(err)
		}
		long := r.lease()
		r.refused(StateHalfOpen)
		time.Sleep(held)
		r.uses(2, nil)
		r.wantState(StateClosed)
		long.Release(nil)
		blocked.Release(nil)
	})
}

// An explicit number of failures in a row is about the server as a whole.
func TestExplicitNumberCoversAll(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, Config{ConsecutiveFailures: 4, OpenFor: time.Minute})
		r.uses(4, fail)
		r.wantState(StateOpen)
		if err := r.pool.Do(context.Background(), pool.Op{Name: "other"}, func(context.Context, *conn) error { return nil }); !errors.Is(err, ErrOpen) {
			t.Errorf("another operation gets %v, want a refusal", err)
		}
	})
}

func TestScopeIsBounded(t *testing.T) {
	s := &scope{}
	for i := range maxScope + 1 {
		s = s.with(&failure{granted: true, work: work{name: string(rune('a' + i))}})
		if got, want := s.all, i == maxScope; got != want {
			t.Errorf("after %d operations it covers all: %v", i+1, got)
		}
	}
}
