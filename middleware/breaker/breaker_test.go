package breaker

import (
	"context"
	"errors"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

func TestOpensByRatioOverMinimumCalls(t *testing.T) {
	for _, test := range []struct {
		name     string
		outcomes string // s: success, f: failure
		want     State
	}{
		{"too few calls", strings.Repeat("f", 9), StateClosed},
		{"the ratio is reached with the minimum", strings.Repeat("s", 6) + "ffff", StateOpen},
		{"below the ratio at the minimum", strings.Repeat("s", 7) + "fff", StateClosed},
		{"reached later", strings.Repeat("s", 7) + "fffff", StateOpen},
		{"a success does not open it", "ffff" + strings.Repeat("s", 6), StateClosed},
		{"the next failure does", "ffff" + strings.Repeat("s", 6) + "f", StateOpen},
		{"spread out", strings.Repeat("sf", 5), StateOpen},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, Config{FailureRatio: 0.4, MinCalls: 10, ConsecutiveFailures: -1})
				for i, o := range test.outcomes {
					outcome := fail
					if o == 's' {
						outcome = nil
					}
					if i < len(test.outcomes)-1 {
						r.wantState(StateClosed)
					}
					r.uses(1, outcome)
				}
				r.wantState(test.want)
				if test.want == StateOpen && r.Snapshot().Trip.Rule != ReasonFailureRatio {
					t.Errorf("it opened by %q, want %q", r.Snapshot().Trip.Rule, ReasonFailureRatio)
				}
			})
		})
	}
}

func TestOpensByConsecutiveFailures(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, Config{FailureRatio: -1, ConsecutiveFailures: 3})
		for range 10 {
			r.uses(2, fail)
			r.uses(1, nil)
		}
		r.wantState(StateClosed)
		for range 3 {
			time.Sleep(time.Hour) // the window has long forgotten the one before
			r.wantState(StateClosed)
			r.uses(1, fail)
		}
		r.wantState(StateOpen)
	})
}

func TestBothRulesOff(t *testing.T) {
	r := newRig(t, Config{FailureRatio: -1, ConsecutiveFailures: -1})
	r.uses(500, fail)
	r.wantState(StateClosed)
	if got, want := r.Snapshot().Counts, (Counts{Failures: 500, Consecutive: 500}); got != want {
		t.Errorf("it counted %v, want %v", got, want)
	}
}

func TestDefaults(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, Config{})
		r.uses(18, fail) // at once: retry bridges as much; two more, and the ratio applies
		r.wantState(StateClosed)
		time.Sleep(lasting - time.Nanosecond)
		r.uses(1, fail)
		r.wantState(StateClosed)
		time.Sleep(time.Nanosecond)
		r.uses(1, fail)
		r.wantState(StateOpen)
		for i := range 5 {
			s := r.Snapshot()
			longest := min(200*time.Millisecond<<i, 800*time.Millisecond)
			if d := s.NextProbe.Sub(s.Since); d > longest || d < longest/4 {
				t.Errorf("open period %d is %v, want %v less up to three quarters", i+1, d, longest)
			}
			r.due()
			r.uses(1, fail)
			r.wantState(StateOpen)
		}
		r.due()
		r.uses(1, nil)
		r.wantState(StateClosed)
	})
}

func TestRollingWindowForgetsOldFailures(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, Config{Window: 10 * time.Second, Buckets: 10, FailureRatio: 0.5, MinCalls: 10, ConsecutiveFailures: -1})
		r.uses(9, fail)
		time.Sleep(9 * time.Second)
		if got := r.Snapshot().Counts.Failures; got != 9 {
			t.Fatalf("after 9 s the window holds %d failures, want 9", got)
		}
		time.Sleep(time.Second)
		if got := r.Snapshot().Counts.Failures; got != 0 {
			t.Fatalf("after 10 s the window holds %d failures, want 0", got)
		}
		r.uses(9, fail)
		r.wantState(StateClosed)
		r.uses(1, fail)
		r.wantState(StateOpen)
		if got := r.Snapshot().Counts.Failures; got != 10 {
			t.Errorf("it opened with %d failures in the window, want 10", got)
		}
	})
}

// What counts is the backend's word, or the pool's.
func TestWhatCounts(t *testing.T) {
	success, failure, nothing := Counts{Successes: 1}, Counts{Failures: 1, Consecutive: 1}, Counts{}
	for _, test := range []struct {
		name    string
		outcome error
		want    Counts
	}{
		{"success", nil, success},
		{"a miss", pooltest.ErrMiss, success},
		{"an error reply of a healthy server", pooltest.ErrReply, success},
		{"the server refuses", pooltest.ErrRefused, failure},
		{"the connection broke", pooltest.ErrBroken, failure},
		{"a time limit of ours passed", limitError{}, failure},
		{"the caller cancelled", context.Canceled, nothing},
		{"another layer refused", &OpenError{State: StateOpen}, nothing},
		{"another attempt was chosen", pool.ErrLost, nothing},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, Config{})
				_ = r.use(test.outcome)
				if got := r.Snapshot().Counts; got != test.want {
					t.Errorf("Do: it counted %v, want %v", got, test.want)
				}
			})
			bubble(t, func(t *testing.T) {
				r := newRig(t, Config{})
				l := r.lease()
				if got := r.Snapshot().Counts; got != nothing {
					t.Errorf("before Release it counted %v, want nothing", got)
				}
				l.Release(test.outcome)
				if got := r.Snapshot().Counts; got != test.want {
					t.Errorf("Release: it counted %v, want %v", got, test.want)
				}
			})
		})
	}
}

// limitError stands for the error of a layer inside that bounds an attempt.
type limitError struct{}

func (limitError) Error() string { return "the attempt took too long" }
func (limitError) Class() driver.Class {
	return driver.Class{Fault: driver.FaultServer, Type: "timeout_attempt"}
}

func TestWhatCountsOfThePoolItself(t *testing.T) {
	failure, nothing := Counts{Failures: 1, Consecutive: 1}, Counts{}
	withTimeout := func(d time.Duration) func() (context.Context, context.CancelFunc) {
		return func() (context.Context, context.CancelFunc) { return context.WithTimeout(context.Background(), d) }
	}
	for _, test := range []struct {
		name    string
		inject  pooltest.Fault // at opening
		lent    bool           // all resources are lent
		ctx     func() (context.Context, context.CancelFunc)
		waiters int
		want    Counts
		wantErr error
	}{
		{name: "a failing dial", inject: pooltest.Fail(pooltest.ErrRefused), want: failure, wantErr: pool.ErrOpen},
		{name: "a hanging dial", inject: pooltest.Hang(), want: failure, wantErr: pool.ErrAcquireTimeout},
		{name: "a full pool", lent: true, want: nothing, wantErr: pool.ErrAcquireTimeout},
		{name: "a full queue", lent: true, waiters: -1, want: nothing, wantErr: pool.ErrExhausted},
		{name: "the caller's deadline in a full pool", lent: true, ctx: withTimeout(time.Millisecond), want: nothing,
			wantErr: context.DeadlineExceeded},
		{name: "the caller's deadline on arrival", ctx: withTimeout(-1), want: nothing, wantErr: context.DeadlineExceeded},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRigOn(t, Config{}, pool.Config{MaxSize: 1, MaxWaiters: test.waiters, AcquireTimeout: time.Second})
				if test.lent {
					l := r.lease()
					defer l.Release(context.Canceled) // counts as nothing
				}
				r.fake.Inject(pooltest.Open, -1, test.inject)
				ctx := context.Background()
				if test.ctx != nil {
					var cancel context.CancelFunc
					ctx, cancel = test.ctx()
					defer cancel()
				}
				err := r.pool.Do(ctx, get, func(context.Context, *conn) error { return nil })
				if !errors.Is(err, test.wantErr) {
					t.Errorf("Do returned %v, want %v", err, test.wantErr)
				}
				if got := r.Snapshot().Counts; got != test.want {
					t.Errorf("after %v it counted %v, want %v", err, got, test.want)
				}
			})
		})
	}
}

func TestPanicAndGoexitCountAsNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, Config{})
		for _, end := range []func(){func() { panic("boom") }, runtime.Goexit} {
			done := make(chan struct{})
			go func() {
				defer close(done)
				defer func() { _ = recover() }()
				_ = r.pool.Do(context.Background(), get, func(context.Context, *conn) error { end(); return nil })
			}()
			<-done
		}
		if got := r.Snapshot().Counts; got != (Counts{}) {
			t.Errorf("it counted %v, want nothing", got)
		}
	})
}

func TestHalfOpenProbes(t *testing.T) {
	cfg := quick()
	cfg.Probes, cfg.ProbeSuccesses, cfg.ProbeFailures = 3, 4, 1
	for _, test := range []struct {
		name     string
		outcomes []error
		want     State
	}{
		{"enough successes", []error{nil, nil, nil, nil}, StateClosed},
		{"one too few", []error{nil, nil, nil}, StateHalfOpen},
		{"as many failures as are allowed", []error{nil, fail, nil, nil, nil}, StateClosed},
		{"one failure more", []error{nil, fail, nil, fail}, StateOpen},
		{"what counts as nothing", []error{nil, context.Canceled, fail, pool.ErrLost, nil, nil}, StateHalfOpen},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, cfg)
				r.opens()
				r.due()
				for _, outcome := range test.outcomes {
					r.uses(1, outcome)
				}
				r.wantState(test.want)
			})
		})
	}
	t.Run("permits", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig(t, cfg)
			r.opens()
			r.due()
			leases := []pool.Lease[*conn]{r.lease(), r.lease(), r.lease()}
			r.refused(StateHalfOpen)
			leases[1].Release(nil)
			leases[1] = r.lease()
			r.refused(StateHalfOpen)
			for _, l := range leases {
				l.Release(nil)
			}
			r.wantState(StateClosed)
		})
	})
	t.Run("lost probes use up the allowed failures", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig(t, cfg)
			r.opens()
			r.due()
			a := r.lease()
			time.Sleep(time.Second)
			b := r.lease()
			time.Sleep(r.Effective().ProbeTimeout - time.Second) // the first has timed out
			r.uses(1, nil)
			if s := r.Snapshot(); s.ProbesFailed != 1 || s.ProbesUnderway != 1 || s.ProbesSucceeded != 1 {
				t.Errorf("%d failed, %d under way, %d succeeded, want 1 of each", s.ProbesFailed, s.ProbesUnderway, s.ProbesSucceeded)
			}
			a.Release(fail) // it has been counted already
			r.wantState(StateHalfOpen)
			time.Sleep(time.Second)
			r.refused(StateOpen)
			b.Release(nil)
			r.wantState(StateOpen)
		})
	})
}

func TestOpenPeriodGrowsAndStartsAnew(t *testing.T) {
	bubble(t, func(t *testing.T) {
		cfg := quick()
		cfg.OpenMax = 5 * time.Second
		r := newRig(t, cfg)
		for range 2 {
			r.opens()
			for i, want := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 5 * time.Second, 5 * time.Second} {
				if s := r.Snapshot(); s.NextProbe.Sub(s.Since) != want || s.Rounds != i {
					t.Errorf("after %d rounds it is open for %v, want %d and %v", s.Rounds, s.NextProbe.Sub(s.Since), i, want)
				}
				r.due()
				if i < 4 {
					r.uses(1, fail)
				}
			}
			r.uses(1, nil)
			r.wantState(StateClosed)
		}
	})
}

// Many instances that open at the same moment do not send their probes at the same moment.
func TestJitterSpreadsProbes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		seen := map[time.Duration]bool{}
		for range 20 {
			r := newRig(t, Config{ConsecutiveFailures: 1, OpenFor: 10 * time.Second, Jitter: 0.5})
			r.opens()
			s := r.Snapshot()
			d := s.NextProbe.Sub(s.Since)
			if d < 5*time.Second || d > 10*time.Second {
				t.Errorf("it is open for %v, want 5 to 10 s", d)
			}
			seen[d] = true
		}
		if len(seen) < 15 {
			t.Errorf("20 breakers drew %d different periods", len(seen))
		}
	})
}

// A server that answers the probes with a temporary refusal, as in the midst of a script, is about
// to serve. So the open periods do not grow.
func TestProbesThatAreAnswered(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for range 20 {
			r := newRig(t, Config{})
			r.uses(2*enough, nil)
			served := func(within time.Duration, outcome error) bool {
				for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
					if err := r.use(outcome); err == nil {
						return true
					}
				}
				return false
			}
			served(10*time.Second, pooltest.ErrRefused)
			if !served(defaultOpenFor+10*time.Millisecond, nil) {
				t.Fatalf("nobody is served within %v: %+v", defaultOpenFor, r.Snapshot())
			}
		}
	})
}

func TestRefusalSaysWhyAndWhen(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, Config{FailureRatio: 0.5, MinCalls: 8, ConsecutiveFailures: -1, OpenFor: 4 * time.Second, OpenMax: time.Minute, Jitter: -1})
		r.uses(4, nil)
		r.uses(4, fail)
		time.Sleep(time.Second)
		check := func(refusal *OpenError, text, errorType string, after time.Duration) {
			t.Helper()
			if refusal.Error() != text {
				t.Errorf("the refusal says\n  %s, want\n  %s", refusal, text)
			}
			want := driver.Class{Fault: driver.FaultLocal, Repeat: driver.RepeatNever, Type: errorType, RetryAfter: after}
			if got := refusal.Class(); got != want {
				t.Errorf("its class is %+v, want %+v", got, want)
			}
			if !errors.Is(refusal, ErrOpen) {
				t.Error("it is not ErrOpen")
			}
		}
		check(r.refusal(StateOpen), `breaker of pool "orders" is open: 4 of 8 calls failed within 10s (limit 50 %), the last with DENIED; `+
			`next probe in 3s`, "breaker_open", 3*time.Second)
		r.due()
		r.uses(1, pooltest.ErrRefused)
		check(r.refusal(StateOpen), `breaker of pool "orders" is open: 4 of 8 calls failed within 10s (limit 50 %), the last with DENIED; `+
			`rounds of probes that failed since: 1, the last with REFUSED; next probe in 4s`, "breaker_open", 4*time.Second)
		r.due()
		probe := r.lease()
		check(r.refusal(StateHalfOpen), `breaker of pool "orders" is half-open: 4 of 8 calls failed within 10s (limit 50 %), the last with `+
			`DENIED; rounds of probes that failed since: 1, the last with REFUSED; all its probes are under way`, "breaker_half_open", 0)
		probe.Release(nil)
		r.uses(2, nil)
		r.apply(func(c *Config) { c.ConsecutiveFailures = 3 })
		r.uses(3, fail)
		check(r.refusal(StateOpen), `breaker of pool "orders" is open: 3 calls in a row failed (limit 3), the last with DENIED; `+
			`next probe in 4s`, "breaker_open", 4*time.Second)
	})
}

func TestSnapshot(t *testing.T) {
	bubble(t, func(t *testing.T) {
		cfg := quick()
		cfg.ProbeSuccesses = 2
		r := newRig(t, cfg)
		begin := time.Now()
		time.Sleep(time.Minute)
		r.uses(3, nil)
		r.uses(1, fail)
		want := Snapshot{Pool: "orders", Since: begin, Counts: Counts{Successes: 3, Failures: 1, Consecutive: 1}, Admitted: 1, Config: r.Effective()}
		check := func() {
			t.Helper()
			got := r.Snapshot()
			if !got.Since.Equal(want.Since) {
				t.Errorf("this state began at %v, want %v", got.Since, want.Since)
			}
			got.Since = want.Since
			if got != want {
				t.Errorf("the snapshot is\n  %+v, want\n  %+v", got, want)
			}
		}
		check()
		if ratio := want.Counts.FailureRatio(); ratio != 0.25 {
			t.Errorf("the failure ratio is %v, want 0.25", ratio)
		}

		r.uses(1, fail)
		r.refused(StateOpen)
		now := time.Now()
		want.State, want.Since, want.Counts = StateOpen, now, Counts{Successes: 3, Failures: 2, Consecutive: 2}
		want.Trip = Trip{At: now, Rule: ReasonConsecutive, Counts: want.Counts, Window: 10 * time.Second, Limit: 2, ErrorType: "DENIED"}
		want.NextProbe, want.Opened, want.Refused, want.Admitted = now.Add(time.Second), 1, 1, 0
		check()

		r.due()
		r.uses(1, nil)
		probe := r.lease()
		r.refused(StateHalfOpen)
		want.State, want.Since, want.NextProbe = StateHalfOpen, time.Now(), time.Time{}
		want.ProbesUnderway, want.ProbesSucceeded, want.Refused = 1, 1, 2
		check()

		probe.Release(nil)
		want = Snapshot{Pool: "orders", Since: time.Now(), Opened: 1, Refused: 2, Admitted: 1, Config: r.Effective()}
		check()
	})
}

func TestStateNames(t *testing.T) {
	for state, want := range map[State]string{StateClosed: "closed", StateOpen: "open", StateHalfOpen: "half-open", 9: "unknown"} {
		if got := state.String(); got != want {
			t.Errorf("state %d is called %q, want %q", state, got, want)
		}
	}
}

func TestOneBreakerServesOnePoolAtATime(t *testing.T) {
	r := newRig(t, Config{})
	_, err := pool.New(&pooltest.Fake{}, pool.Config{Name: "users"}, r.Breaker)
	if err == nil || !strings.Contains(err.Error(), `it is attached to pool "orders" already: give pool "users" a breaker of its own`) {
		t.Errorf("New around a second pool returned %v, want a refusal that names both", err)
	}
	if err := r.pool.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	p, err := pool.New(&pooltest.Fake{}, pool.Config{Name: "users"}, r.Breaker)
	if err != nil {
		t.Fatalf("New after the first pool has been closed: %v", err)
	}
	defer func() { _ = p.Close(context.Background()) }()
	if got := r.Snapshot().Pool; got != "users" {
		t.Errorf("the breaker's pool is %q, want users", got)
	}
}

// After the breaker has moved to another pool, its rejections name the new pool, in each state.
func TestRefusalNamesTheNewPool(t *testing.T) {
	for _, half := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			cfg := quick()
			cfg.ProbeSuccesses = 2
			r := newRig(t, cfg)
			r.opens()
			want := StateOpen
			if half {
				r.due()
				r.uses(1, nil)
				want = StateHalfOpen
			}
			r.wantState(want)
			if err := r.pool.Close(context.Background()); err != nil {
				t.Fatal(err)
			}
			p, err := pool.New(&pooltest.Fake{}, pool.Config{Name: "users"}, r.Breaker)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = p.Close(context.Background()) }()
			if half {
				l, err := p.Acquire(context.Background(), get)
				if err != nil {
					t.Fatal(err)
				}
				defer l.Release(nil)
			}
			err = p.Do(context.Background(), get, nothing)
			if refusal := (*OpenError)(nil); !errors.As(err, &refusal) || refusal.Pool != "users" || refusal.State != want {
				t.Errorf("a use returned %v, want a refusal of users in %v", err, want)
			}
		})
	}
}

// A rejection contains the failure that opened the breaker, in the words of the error.
func TestRefusalNamesTheRootCause(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRigOn(t, Config{ConsecutiveFailures: 1}, pool.Config{MaxSize: 1})
		r.fake.Inject(pooltest.Open, -1, pooltest.Fail(&net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}))
		_ = r.use(nil)
		want := "1 calls in a row failed (limit 1), the last with open_failed: dial tcp: connect: connection refused"
		if got := r.refusal(StateOpen).Trip.String(); got != want {
			t.Errorf("the refusal says\n  %s, want\n  %s", got, want)
		}
	})
	if got := (Trip{}).String(); got != "it has not opened" {
		t.Errorf("the zero Trip says %q", got)
	}
}

func TestDescribe(t *testing.T) {
	r := newRig(t, Config{ConsecutiveFailures: -1, FailureRatio: 0.25})
	var found []pool.LayerInfo
	for _, l := range r.pool.Layers() {
		if l.Layer == "breaker" {
			found = append(found, l)
		}
	}
	if len(found) != 1 || found[0].Role != pool.RoleJudge || found[0].Limit != r.Effective().ProbeTimeout {
		t.Fatalf("the pool knows %+v, want one breaker that judges", found)
	}
	for key, want := range map[string]string{
		"window": "10s", "failure_ratio": "0.25", "consecutive_failures": "off", "open_for": "200ms", "open_max": "800ms", "jitter": "0.75",
		"look_max": "1s",
	} {
		if got := found[0].Settings[key]; got != want {
			t.Errorf("setting %s is %q, want %q", key, got, want)
		}
	}
}
