package breaker

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// judged is an error of the class given.
type judged driver.Class

func (judged) Error() string         { return "judged" }
func (e judged) Class() driver.Class { return driver.Class(e) }

var (
	narrow    = judged{Fault: driver.FaultServer, Narrow: true, Code: "OOM", Type: "OOM"}
	elsewhere = judged{Fault: driver.FaultElsewhere}
	cutOff    = judged{Fault: driver.FaultServer, Broken: true, Type: "broken"}
)

// traffic has n workers use the pool until stop, each with a pause after a failure, as retry makes.
func (r *rig) traffic(n int, stop <-chan struct{}, fn func(context.Context, *conn) error) (wait func()) {
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := r.pool.Do(context.Background(), get, fn); err != nil {
					time.Sleep(10 * time.Millisecond)
				}
			}
		})
	}
	return wg.Wait
}

// Connections that are cut once are one event, however many there are.
func TestCutOnceOpensNothing(t *testing.T) {
	for _, n := range []int{1, 5, 20, 200} {
		t.Run(fmt.Sprint(n, " in flight"), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRigOn(t, Config{}, pool.Config{MaxSize: 200})
				leases := make([]pool.Lease[*conn], n)
				for i := range leases {
					leases[i] = r.lease()
				}
				time.Sleep(time.Second)
				for _, l := range leases {
					l.Release(cutOff)
					time.Sleep(10 * time.Millisecond) // each finds it out when it reads
				}
				r.wantState(StateClosed)
				if got, want := r.Snapshot().Counts, (Counts{Failures: 1, Consecutive: 1}); got != want {
					t.Errorf("it counted %v, want %v", got, want)
				}
			})
		})
	}
}

// A failed dial is a single event, however many uses receive the error. Here 50 uses wait for two
// rounds of dials, and all receive the error of the second round, which is a single dial. So the
// breaker counts two failures, whether the server answered the dials or not.
func TestADialCountsOnce(t *testing.T) {
	for _, refusal := range []error{pooltest.ErrBroken, pooltest.ErrRefused} {
		bubble(t, func(t *testing.T) {
			r := newRigOn(t, Config{}, pool.Config{MaxSize: 10})
			r.fake.Inject(pooltest.Open, -1, func(ctx context.Context) error {
				_ = pooltest.Slow(700 * time.Millisecond)(ctx)
				return refusal
			})
			var wg sync.WaitGroup
			for range 50 {
				wg.Go(func() { _ = r.use(nil) })
			}
			wg.Wait()
			r.wantState(StateClosed)
			if got, want := r.Snapshot().Counts, (Counts{Failures: 2, Consecutive: 2}); got != want {
				t.Errorf("%v: it counted %v, want %v", refusal, got, want)
			}
		})
	}
}

// An explicit ConsecutiveFailures needs neither a length of time nor improbability. Duplicates
// still do not count.
func TestExplicitNumberIsObeyed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, Config{ConsecutiveFailures: 4})
		flight := []pool.Lease[*conn]{r.lease(), r.lease(), r.lease(), r.lease(), r.lease(), r.lease()}
		for _, l := range flight {
			l.Release(cutOff)
		}
		r.uses(2, cutOff)
		r.wantState(StateClosed)
		r.uses(1, cutOff)
		r.wantState(StateOpen)
		if trip := r.Snapshot().Trip; trip.Limit != 4 || trip.Counts.Consecutive != 4 {
			t.Errorf("it opened by %v", trip)
		}
	})
}

// A proxy restarts three times, and refuses dials for 100 ms each time. No use is rejected. A
// killed server is detected within a second.
func TestRestartsAndDeath(t *testing.T) {
	for name, away := range map[string]time.Duration{"restart": 100 * time.Millisecond, "death": time.Second} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRigOn(t, Config{}, pool.Config{MaxSize: 20})
				var mu sync.Mutex
				cut := make(chan struct{})
				use := func(context.Context, *conn) error {
					mu.Lock()
					c := cut
					mu.Unlock()
					select {
					case <-time.After(20 * time.Millisecond):
						return nil
					case <-c:
						return cutOff
					}
				}
				stop := make(chan struct{})
				wait := r.traffic(20, stop, use)
				for range 3 {
					time.Sleep(time.Second)
					mu.Lock()
					close(cut)
					cut = make(chan struct{})
					mu.Unlock()
					r.pool.Clear()
					r.fake.Inject(pooltest.Open, -1, pooltest.Fail(pooltest.ErrRefused))
					time.Sleep(away)
					if name == "death" {
						r.wantState(StateOpen)
					}
					r.fake.Inject(pooltest.Open, 0, nil)
				}
				time.Sleep(time.Second)
				close(stop)
				wait()
				r.wantState(StateClosed)
				if s := r.Snapshot(); (s.Refused > 0) != (name == "death") {
					t.Errorf("%d uses were refused, it opened %d times", s.Refused, s.Opened)
				}
			})
		})
	}
}

// Where 3 % of the calls fail, and where 30 % do, nothing opens.
func TestNoiseOpensNothing(t *testing.T) {
	for _, percent := range []int{3, 30, 60} {
		bubble(t, func(t *testing.T) {
			r := newRig(t, Config{})
			stop := make(chan struct{})
			wait := r.traffic(8, stop, func(context.Context, *conn) error {
				time.Sleep(time.Duration(10+rand.IntN(20)) * time.Millisecond)
				if rand.IntN(100) < percent {
					return fail
				}
				return nil
			})
			time.Sleep(time.Minute)
			close(stop)
			wait()
			if s := r.Snapshot(); s.Opened > 0 {
				t.Errorf("with %d %% of failures it opened %d times", percent, s.Opened)
			}
		})
	}
}

// The deadlines of callers reveal a frozen server within two deadlines, if the deadlines are longer
// than the time needed by recent successes.
func TestFrozenServerIsFoundByCallersDeadlines(t *testing.T) {
	for _, deadline := range []time.Duration{100 * time.Millisecond, 500 * time.Millisecond, time.Second, 2900 * time.Millisecond} {
		t.Run(deadline.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRigOn(t, Config{}, pool.Config{MaxSize: 10, AcquireTimeout: -1})
				r.uses(enough, nil)
				var wg sync.WaitGroup
				begin := time.Now()
				for r.State() == StateClosed && time.Since(begin) < 10*time.Second {
					wg.Go(func() {
						ctx, cancel := context.WithTimeout(context.Background(), deadline)
						defer cancel()
						_ = r.pool.Do(ctx, get, func(ctx context.Context, _ *conn) error { <-ctx.Done(); return ctx.Err() })
					})
					time.Sleep(5 * time.Millisecond)
				}
				if took := time.Since(begin); took > max(2*deadline, deadline+lasting+50*time.Millisecond) {
					t.Errorf("it took %v", took)
				}
				wg.Wait()
			})
		})
	}
}

// A new breaker, whose window has not passed once, also uses the times of recent successes for its
// probes. Looks pass, and each reply comes after the callers' deadline. So the probes fail and are
// few.
func TestProbesOfAYoungBreakerAreJudgedByDeadlines(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRigOn(t, Config{}, pool.Config{MaxSize: 10})
		r.uses(3*enough, nil)
		var asked atomic.Int64
		var wg sync.WaitGroup
		for range 400 { // for ten seconds
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
				defer cancel()
				_ = r.pool.Do(ctx, get, func(ctx context.Context, _ *conn) error {
					asked.Add(1)
					<-ctx.Done()
					return ctx.Err()
				})
			})
			time.Sleep(25 * time.Millisecond)
		}
		wg.Wait()
		if n := asked.Load(); n > 45 {
			t.Errorf("the server was asked %d times", n)
		}
	})
}

// Deadlines too short to be evidence by themselves add up while the server answers nothing. A
// server that is frozen, or slower than all its callers wait, is detected after half a second. The
// probes detect the server, too. Deadlines below the time needed by recent successes do not add up,
// and deadlines among answers do not add up.
func TestShortDeadlinesAddUp(t *testing.T) {
	const takes, deadline = 60 * time.Millisecond, 100 * time.Millisecond
	for _, test := range []struct {
		name     string
		deadline time.Duration
		answer   time.Duration // how often a call is answered; 0: never
		want     bool
	}{
		{"no answer", deadline, 0, true},
		{"rare answers", deadline, 450 * time.Millisecond, false},
		{"too short for any answer", takes / 2, 0, false},
		{"no answer, and one was late once", deadline, 0, true},
		{"no answer, and the cold start was slow", deadline, 0, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, Config{})
				var calls atomic.Int64
				use := func(takes, deadline time.Duration) {
					ctx, cancel := context.WithTimeout(context.Background(), deadline)
					defer cancel()
					_ = r.pool.Do(ctx, get, func(ctx context.Context, _ *conn) error {
						calls.Add(1)
						return pooltest.Slow(takes)(ctx)
					})
				}
				for range enough {
					use(takes, time.Second)
				}
				if strings.Contains(test.name, "late") {
					use(20*takes, time.Minute)
				}
				for range enough / 5 {
					if strings.Contains(test.name, "cold") {
						use(2*takes, time.Second)
					}
				}
				calls.Store(0)
				begin, answered, opened := time.Now(), time.Now(), time.Duration(0)
				var wg sync.WaitGroup
				for time.Since(begin) < 12*time.Second {
					slow := 2 * deadline
					if test.answer > 0 && time.Since(answered) >= test.answer {
						answered, slow = time.Now(), takes
					}
					wg.Go(func() { use(slow, test.deadline) })
					time.Sleep(25 * time.Millisecond)
					if opened == 0 && r.State() == StateOpen {
						opened = time.Since(begin)
					}
				}
				wg.Wait()
				switch sent := int(calls.Load()); {
				case !test.want && r.Snapshot().Opened > 0:
					t.Errorf("it opened after %v", opened)
				case test.want && (opened == 0 || opened > time.Second || sent > 60):
					t.Errorf("it opened after %v, and let %d calls pass", opened, sent)
				}
			})
		})
	}
}

// answering is a driver with a witness: whether a use has asked its server something, and whether
// the server has answered.
type answering struct {
	*pooltest.Fake

	silent, answers bool
}

func (d *answering) BeginUse(ctx context.Context, _ *conn) context.Context { return ctx }

func (d *answering) EndUse(_ *conn, err error) (driver.Testimony, bool) {
	return driver.Testimony{Asked: !d.silent, Answered: !d.silent && (d.answers || err == nil), Own: err}, true
}

// over makes a pool with b over d.
func over(t *testing.T, d *answering, cfg pool.Config, b *Breaker) *pool.Pool[*conn] {
	t.Helper()
	d.Fake = &pooltest.Fake{}
	p, err := pool.New(d, cfg, b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close(context.Background()) })
	return p
}

// A use without a command proves nothing, though the use succeeds. Its success does not end a run
// of failures, and does not close the breaker as a probe.
func TestUsesThatSendNothingSayNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d, b := &answering{}, must(t, Config{ConsecutiveFailures: 4, LookMax: -1})
		p := over(t, d, pool.Config{}, b)
		use := func(sends bool, outcome error) {
			d.silent = !sends
			_ = p.Do(context.Background(), get, func(context.Context, *conn) error { return outcome })
		}
		for range 4 {
			use(false, nil)
			use(true, fail)
		}
		if s := b.Snapshot(); s.State != StateOpen || s.Counts.Successes > 0 {
			t.Fatalf("four failures, and successes that sent nothing: it is %v with %v", s.State, s.Counts)
		}
		time.Sleep(time.Second)
		for range 3 {
			use(false, nil)
		}
		if got := b.State(); got != StateHalfOpen {
			t.Errorf("after three probes that sent nothing it is %v", got)
		}
		use(true, nil)
		if got := b.State(); got != StateClosed {
			t.Errorf("after a probe that was answered it is %v", got)
		}
	})
}

// The server answers the first command of each use, and the second command only after the deadline.
// Such a server is not silent, whatever the sum of the deadlines is.
func TestAnAnswerWithinAUseIsNoSilence(t *testing.T) {
	for _, answers := range []bool{true, false} {
		bubble(t, func(t *testing.T) {
			b := must(t, Config{})
			p := over(t, &answering{answers: answers}, pool.Config{MaxSize: 16}, b)
			use := func(takes time.Duration) {
				ctx, cancel := context.WithTimeout(context.Background(), 40*time.Millisecond)
				defer cancel()
				_ = p.Do(ctx, get, func(ctx context.Context, _ *conn) error { return pooltest.Slow(takes)(ctx) })
			}
			for range 2 * enough {
				use(20 * time.Millisecond)
			}
			for range 100 {
				use(70 * time.Millisecond)
			}
			if opened := b.Snapshot().Opened > 0; opened == answers {
				t.Errorf("the server answers the first command: %t; the breaker has opened: %t", answers, opened)
			}
		})
	}
}

// No evidence are: a cancellation, a deadline shorter than the time needed by recent successes,
// time spent in an operation meant to block or in a lease, and time spent with another pool.
func TestTimeThatIsNoEvidence(t *testing.T) {
	hang := func(ctx context.Context, _ *conn) error { <-ctx.Done(); return ctx.Err() }
	for _, test := range []struct {
		name   string
		op     pool.Op
		needed time.Duration // by the successes before
		limit  time.Duration
		cancel bool
		lease  bool
		fn     func(context.Context, *conn) error
		want   bool
	}{
		{name: "a deadline", op: get, limit: time.Second, fn: hang, want: true},
		{name: "a cancel", op: get, limit: time.Second, cancel: true, fn: hang},
		{name: "a short deadline", op: get, needed: 400 * time.Millisecond, limit: time.Second, fn: hang},
		{name: "a long deadline", op: get, needed: 400 * time.Millisecond, limit: 3 * time.Second, fn: hang, want: true},
		{name: "another operation was slow", op: pool.Op{Name: "SET"}, needed: 400 * time.Millisecond, limit: time.Second, fn: hang, want: true},
		{name: "meant to block", op: pool.Op{Name: "GET", Limit: -1}, limit: time.Second, fn: hang},
		{name: "meant to block, its socket timed out", op: pool.Op{Name: "GET", Limit: -1}, limit: time.Minute,
			fn: func(context.Context, *conn) error {
				return judged{Fault: driver.FaultServer, Broken: true, Type: "timeout"}
			}},
		{name: "meant to block, a narrow answer", op: pool.Op{Name: "GET", Limit: -1}, limit: time.Minute,
			fn: func(context.Context, *conn) error { time.Sleep(2 * time.Second); return narrow }},
		{name: "a narrow answer", op: get, limit: time.Minute,
			fn: func(context.Context, *conn) error { time.Sleep(2 * time.Second); return narrow }, want: true},
		{name: "a short deadline, but the client knows", op: get, needed: 400 * time.Millisecond, limit: time.Second, want: true,
			fn: func(ctx context.Context, _ *conn) error {
				<-ctx.Done()
				return judged{Fault: driver.FaultServer, Certain: true, Type: "timeout"}
			}},
		{name: "a deadline in a lease", op: get, limit: time.Second, lease: true, fn: hang},
		{name: "another pool's time", op: get, limit: time.Second,
			fn: func(ctx context.Context, _ *conn) error { <-ctx.Done(); return elsewhere }},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, Config{})
				for range enough {
					_ = r.pool.Do(context.Background(), get, func(context.Context, *conn) error { time.Sleep(test.needed); return nil })
				}
				ctx, cancel := context.WithTimeout(context.Background(), test.limit)
				defer cancel()
				if test.cancel {
					ctx, cancel = context.WithCancel(context.Background())
					time.AfterFunc(test.limit, cancel)
				}
				if test.lease {
					l, err := r.pool.Acquire(ctx, test.op)
					if err != nil {
						t.Fatal(err)
					}
					l.Release(test.fn(l.Context(), nil))
				} else {
					_ = r.pool.Do(ctx, test.op, test.fn)
				}
				if got := r.Snapshot().Counts.Failures > 0; got != test.want {
					t.Errorf("it is evidence: %v, want %v", got, test.want)
				}
			})
		})
	}
}

// 1 attempt in 33 takes two seconds, and all attempts have a deadline of one second: the breaker
// stays closed. Once the server is frozen, the breaker opens.
func TestSlowOperationsAmongFastOnes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRigOn(t, Config{}, pool.Config{MaxSize: 64})
		var frozen atomic.Bool
		use := func(op string, takes, limit time.Duration) {
			ctx, cancel := context.WithTimeout(context.Background(), limit)
			defer cancel()
			_ = r.pool.Do(ctx, pool.Op{Name: op}, func(ctx context.Context, _ *conn) error {
				err := pooltest.Slow(takes)(ctx)
				if frozen.Load() { // so that nothing under way is answered either
					<-ctx.Done()
					return ctx.Err()
				}
				return err
			})
		}
		var wg sync.WaitGroup
		load := func(d time.Duration) {
			for end := time.Now().Add(d); time.Now().Before(end) && r.State() == StateClosed; {
				if rand.IntN(33) == 0 {
					wg.Go(func() { use("aggregate", 2*time.Second, time.Second+time.Duration(rand.IntN(4))*time.Second) })
				} else {
					wg.Go(func() { use("get", 2*time.Millisecond, time.Second) })
				}
				time.Sleep(10 * time.Millisecond)
			}
		}
		load(2 * time.Minute)
		r.wantState(StateClosed)
		frozen.Store(true)
		begin := time.Now()
		load(10 * time.Second)
		if took := time.Since(begin); r.State() != StateOpen || took > 2500*time.Millisecond {
			t.Errorf("frozen: %v after %v", r.State(), took)
		}
		wg.Wait()
	})
}

// A server that refuses writes serves reads. Whatever the order of uses, no read is rejected. A
// probe with such an answer closes the breaker.
func TestNarrowFailuresOpenNothing(t *testing.T) {
	for seed := range uint64(50) {
		bubble(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			r := newRig(t, Config{ConsecutiveFailures: 2, FailureRatio: 0.1, MinCalls: 2, OpenFor: time.Second, Jitter: -1})
			for range 200 {
				time.Sleep(time.Duration(rnd.IntN(300)) * time.Millisecond)
				outcome := error(narrow)
				if rnd.IntN(10) < 4 {
					outcome = nil
				}
				r.uses(1, outcome)
			}
			if s := r.Snapshot(); s.Opened != 0 || s.Counts.Failures != 0 {
				t.Errorf("it opened %d times, with %v", s.Opened, s.Counts)
			}
			r.opens()
			r.due()
			r.uses(1, elsewhere) // says nothing: another may try
			r.uses(3, narrow)
			r.wantState(StateClosed)
		})
	}
}

// A server that has become too slow ends each command at the caller's deadline, with a narrow
// answer. The breaker detects this server as a silent server, and rejects this operation only.
// Other operations pass, and callers with much more time pass.
func TestNarrowAnswersThatTakeLongAreEvidence(t *testing.T) {
	for _, deadline := range []time.Duration{100 * time.Millisecond, time.Second, 3 * time.Second} {
		for _, after := range []bool{false, true} { // whether the answer comes after the deadline
			bubble(t, func(t *testing.T) {
				r := newRig(t, Config{LookMax: -1, OpenFor: time.Minute, OpenMax: time.Minute})
				r.uses(2*enough, nil)
				use := func() {
					ctx, cancel := context.WithTimeout(context.Background(), deadline)
					defer cancel()
					_ = r.pool.Do(ctx, get, func(ctx context.Context, _ *conn) error {
						if after {
							<-ctx.Done()
						} else {
							time.Sleep(deadline - time.Millisecond)
						}
						return narrow
					})
				}
				var wg sync.WaitGroup
				begin := time.Now()
				for r.State() == StateClosed && time.Since(begin) < 10*time.Second {
					wg.Go(use)
					time.Sleep(25 * time.Millisecond)
				}
				if took := time.Since(begin); took > max(2*deadline, deadline+lasting)+200*time.Millisecond {
					t.Errorf("deadlines of %v, answers after them: %t: it took %v", deadline, after, took)
				}
				wg.Wait()
				if err := r.pool.Do(context.Background(), pool.Op{Name: "SET"}, func(context.Context, *conn) error { return nil }); err != nil {
					t.Errorf("another operation: %v", err)
				}
				ctx, cancel := context.WithTimeout(context.Background(), 5*deadline)
				defer cancel()
				if err := r.pool.Do(ctx, get, func(context.Context, *conn) error { return nil }); err != nil {
					t.Errorf("a patient caller: %v", err)
				}
			})
		}
	}
}

// All connections are cut four times in a row, each time with 20 attempts in progress and before an
// attempt could end. The server is up, so no use is rejected.
func TestCutsInARow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, Config{})
		r.uses(2*enough, nil)
		start := time.Now()
		var wg sync.WaitGroup
		var n tally
		r.load(&wg, &n, get, 25*time.Millisecond, 3*time.Second, 4*time.Second, func(context.Context) error {
			const takes = 500 * time.Millisecond
			next := takes - time.Since(start)%takes
			time.Sleep(next)
			if time.Since(start) <= 4*takes {
				return cutOff
			}
			time.Sleep(takes - next)
			return nil
		})
		wg.Wait()
		if n.refused.Load() > 0 || n.served.Load() < 70 {
			t.Errorf("%d uses were refused, %d failed, %d served", n.refused.Load(), n.failed.Load(), n.served.Load())
		}
		r.wantMoves()
	})
}

// Outcomes that say nothing about the server do not close the breaker, and do not open the breaker.
func TestNoEvidenceClosesNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, quick())
		r.opens()
		r.due()
		r.uses(10, elsewhere)
		r.wantState(StateHalfOpen)
		if s := r.Snapshot(); s.ProbesUnderway+s.ProbesSucceeded+s.ProbesFailed != 0 {
			t.Errorf("probes: %+v", s)
		}
		r.uses(1, fail)
		r.wantState(StateOpen)
	})
}

// A deadline derived by the function of the use is judged as the caller's deadline. The deadline is
// evidence if the server had the attempt for long.
func TestDeadlineWithinTheFunction(t *testing.T) {
	for _, test := range []struct {
		name  string
		known int // quick calls before
		want  State
	}{
		{"nothing is known", 0, StateClosed},
		{"the server needed much less", 2 * enough, StateOpen},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, Config{LookMax: -1, OpenFor: time.Minute})
				r.uses(test.known, nil)
				for range 20 {
					_ = r.pool.Do(context.Background(), get, func(ctx context.Context, _ *conn) error {
						ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
						defer cancel()
						return pooltest.Slow(time.Second)(ctx)
					})
				}
				r.wantState(test.want)
			})
		})
	}
}
