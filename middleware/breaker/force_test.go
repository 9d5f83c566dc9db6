package breaker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// stand is a breaker around a pool, with an observer outside.
type stand struct {
	t       *testing.T
	breaker *Breaker
	seen    *observer
	fake    *pooltest.Fake
	pool    *pool.Pool[*pooltest.Conn]
}

func newStand(t *testing.T, cfg Config) *stand {
	t.Helper()
	s := &stand{t: t, breaker: must(t, cfg), seen: &observer{}, fake: &pooltest.Fake{}}
	p, err := pool.New(s.fake, pool.Config{MaxSize: 10}, s.seen, s.breaker)
	if err != nil {
		t.Fatal(err)
	}
	s.pool = p
	t.Cleanup(func() { _ = p.Close(context.Background()) })
	return s
}

// use makes a use of the duration d with the outcome err.
func (s *stand) use(d time.Duration, err error) error {
	return s.pool.Do(context.Background(), pool.Op{Name: "GET"}, func(context.Context, *pooltest.Conn) error {
		time.Sleep(d)
		return err
	})
}

func (s *stand) fail(n int) {
	for range n {
		_ = s.use(time.Millisecond, pooltest.ErrDenied)
	}
}

func TestForceOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t, Config{})
		until := time.Now().Add(time.Hour)
		if err := s.breaker.Force(Forced{Mode: ForceOpen, Until: until, Actor: "ann", Reason: "maintenance of the server"}); err != nil {
			t.Fatal(err)
		}
		opened, _, _, _ := s.fake.Counts()
		err := s.use(0, nil)
		want := "force_open until " + until.Format(time.TimeOnly) + " by ann: maintenance of the server"
		if !errors.Is(err, ErrOpen) || !strings.Contains(err.Error(), want) {
			t.Errorf("a use ends with %v", err)
		}
		class := s.pool.Classify(err)
		if class.Fault != driver.FaultLocal || class.RetryAfter != time.Hour {
			t.Errorf("the class is %+v", class)
		}
		if root, ok := pool.Because(err); ok && root.Fault == driver.FaultServer {
			t.Errorf("the server is blamed for a forced state: %+v", root)
		}
		if h := s.pool.Check(context.Background()); h.Status != pool.StatusDegraded || !strings.Contains(strings.Join(h.Reasons, " "), "maintenance") {
			t.Errorf("health is %v, %v", h.Status, h.Reasons)
		}
		time.Sleep(59 * time.Minute)
		if again, _, _, _ := s.fake.Counts(); again != opened {
			t.Errorf("%d dials while the breaker is forced open", again-opened)
		}
		if snap := s.breaker.Snapshot(); snap.State != StateOpen || snap.Forced.Actor != "ann" || snap.Admitted != 0 {
			t.Errorf("snapshot %+v", snap)
		}
		time.Sleep(time.Minute) // it is over
		synctest.Wait()
		if err := s.use(0, nil); err != nil {
			t.Errorf("after the end: %v", err)
		}
		if moves := strings.Join(s.seen.moves(), ", "); moves != "closed>open forced, open>closed forced" {
			t.Errorf("moves %s", moves)
		}
	})
}

// Forced closed, the breaker counts and does not open. Disabled, it does not even count. After the
// end the counts are empty.
func TestForceClosedAndDisable(t *testing.T) {
	for mode, counted := range map[Mode]int64{ForceClosed: 50, Disable: 0} {
		synctest.Test(t, func(t *testing.T) {
			s := newStand(t, Config{ConsecutiveFailures: 3, LookMax: -1})
			s.fail(3)
			if s.breaker.State() != StateOpen {
				t.Fatal("the breaker is not open")
			}
			force := func() {
				t.Helper()
				if err := s.breaker.Force(Forced{Mode: mode, Until: time.Now().Add(time.Minute), Reason: "the server is well"}); err != nil {
					t.Fatal(err)
				}
			}
			force()
			s.fail(50)
			if n := s.breaker.Snapshot().Counts.Failures; s.breaker.State() != StateClosed || n != counted {
				t.Errorf("%v: %v with %d failures, want %d", mode, s.breaker.State(), n, counted)
			}
			s.breaker.Release("ann", "done")
			if n := s.breaker.Snapshot().Counts.Failures; n != 0 {
				t.Errorf("%v: %d failures after the end", mode, n)
			}
			s.fail(3)
			if s.breaker.State() != StateOpen {
				t.Errorf("%v: after the end the rules do not hold", mode)
			}
			force()
			time.Sleep(time.Minute)
			synctest.Wait()
			s.fail(3)
			if s.breaker.State() != StateOpen {
				t.Errorf("%v: after the time the rules do not hold", mode)
			}
		})
	}
}

func TestReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t, Config{ConsecutiveFailures: 3, LookMax: -1})
		s.fail(2)
		s.breaker.Reset("ann", "a test")
		s.fail(2)
		if s.breaker.State() != StateClosed {
			t.Error("failures before Reset count")
		}
		s.fail(1)
		s.breaker.Reset("ann", "a test")
		if err := s.use(0, nil); err != nil {
			t.Errorf("after Reset: %v", err)
		}
		if err := s.breaker.Force(Forced{Mode: ForceOpen, Until: time.Now().Add(time.Hour), Reason: "x"}); err != nil {
			t.Fatal(err)
		}
		s.breaker.Reset("", "")
		if err := s.use(0, nil); err != nil {
			t.Errorf("after Reset of a forced state: %v", err)
		}
	})
}

// The outcome of a use that began before an operator acted is not counted afterwards.
func TestLateOutcomesAfterForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t, Config{ConsecutiveFailures: 1, LookMax: -1})
		go func() { _ = s.use(time.Second, pooltest.ErrDenied) }()
		synctest.Wait()
		s.breaker.Reset("", "")
		time.Sleep(2 * time.Second)
		if s.breaker.State() != StateClosed {
			t.Error("a failure from before Reset has opened the breaker")
		}
		s.fail(1)
		time.Sleep(time.Second)
		probe := make(chan error)
		go func() { probe <- s.use(time.Second, pooltest.ErrDenied) }()
		synctest.Wait()
		if s.breaker.State() != StateHalfOpen {
			t.Fatal("no probe")
		}
		s.breaker.Reset("", "")
		<-probe
		if s.breaker.State() != StateClosed {
			t.Error("a probe from before Reset has opened the breaker")
		}
	})
}

func TestForceRefusesBadInput(t *testing.T) {
	b := must(t, Config{})
	good := Forced{Mode: ForceOpen, Until: time.Now().Add(time.Hour), Reason: "maintenance"}
	for want, change := range map[string]func(f *Forced){
		"breaker: Mode is 0":                   func(f *Forced) { f.Mode = 0 },
		"breaker: Mode is 9":                   func(f *Forced) { f.Mode = 9 },
		"breaker: Until is 0001-01-01":         func(f *Forced) { f.Until = time.Time{} },
		"must be in the future, and at most 2": func(f *Forced) { f.Until = time.Now().Add(25 * time.Hour) },
		`breaker: Reason is ""`:                func(f *Forced) { f.Reason = "" },
		`breaker: Reason is "a\nb"`:            func(f *Forced) { f.Reason = "a\nb" },
		"must be a text of 1 to 300":           func(f *Forced) { f.Reason = strings.Repeat("x", 301) },
		`breaker: Actor is "\x00"`:             func(f *Forced) { f.Actor = "\x00" },
	} {
		f := good
		change(&f)
		if err := b.Force(f); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", f, err, want)
		}
	}
	if b.State() != StateClosed || b.Snapshot().Forced.Mode != 0 {
		t.Error("a refused Force has had an effect")
	}
}

// The event of an operator's act tells who, why and for how long.
func TestEventForced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t, Config{})
		if err := s.breaker.Force(Forced{Mode: ForceOpen, Until: time.Now().Add(time.Hour), Actor: "ann", Reason: "maintenance"}); err != nil {
			t.Fatal(err)
		}
		s.breaker.Release("bob", "done early")
		s.breaker.Release("bob", "nothing is forced any more")
		var got []string
		for _, e := range s.seen.events {
			if e.Kind == EventForced {
				r := e.Settings
				got = append(got, fmt.Sprint(e.Reason, " ", r.Actor, " ", r.Reason, " ", e.Duration, " ", r.Changes[0].From, ">", r.Changes[0].To))
			}
		}
		want := "force_open ann maintenance 1h0m0s closed>force_open; released bob done early 0s force_open>closed"
		if strings.Join(got, "; ") != want {
			t.Errorf("got  %s\nwant %s", strings.Join(got, "; "), want)
		}
	})
}

// Operators act while uses run. No use panics or hangs, and at the end the rules hold.
func TestForceWhileUsesRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t, Config{ConsecutiveFailures: 3, OpenFor: time.Millisecond, OpenMax: time.Millisecond, LookMax: -1, RampUp: 5 * time.Millisecond})
		stop := make(chan struct{})
		var uses, operators sync.WaitGroup
		for i := range 8 {
			uses.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					default:
					}
					time.Sleep(time.Millisecond / 2) // a refused use takes no time
					_ = s.use(time.Duration(n%3)*time.Millisecond, []error{nil, pooltest.ErrDenied, nil, pooltest.ErrReply}[(n+i)%4])
				}
			})
		}
		for i := range 3 {
			operators.Go(func() {
				for n := range 200 {
					switch (n + i) % 5 {
					case 0, 1, 2:
						if err := s.breaker.Force(Forced{Mode: Mode((n+i)%3 + 1), Until: time.Now().Add(2 * time.Millisecond), Reason: "x"}); err != nil {
							t.Error(err)
						}
					case 3:
						s.breaker.Reset("", "")
					case 4:
						s.breaker.Release("", "")
					}
					_ = s.breaker.Snapshot()
					_ = s.breaker.Configure(Config{ConsecutiveFailures: 3, Window: time.Duration(n+20) * time.Millisecond, RampUp: 5 * time.Millisecond})
					time.Sleep(time.Duration(n%4) * time.Millisecond)
				}
			})
		}
		operators.Wait()
		close(stop)
		uses.Wait()
		s.breaker.Reset("", "")
		s.fail(3)
		if s.breaker.State() != StateOpen {
			t.Errorf("the breaker is %v", s.breaker.State())
		}
		s.breaker.Reset("", "")
		if err := s.use(0, nil); err != nil {
			t.Error(err)
		}
	})
}
