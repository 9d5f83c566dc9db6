package timeout_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/middleware/timeout"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// schedule is a use of a pool with a single resource: the lengths of all steps, and the times of
// all ends. Times count from the beginning of the use.
type schedule struct {
	held           time.Duration // by another borrower
	takes          time.Duration // the server
	wait           time.Duration // pool.Config.AcquireTimeout
	total, attempt time.Duration // the limits
	op             time.Duration // Op.Limit
	deadline       time.Duration // of the caller; never for none
	cancel         time.Duration // by the caller; never for none
	twoStep        bool
	derives        bool // a layer inside derives a context before the wait
}

const (
	never = time.Duration(math.MaxInt64)
	step  = time.Millisecond
)

// verdict is what the model expects of a schedule.
type verdict struct {
	at      time.Duration
	fault   driver.Fault
	granted bool
	stage   timeout.Stage // "" when no limit of ours has passed
	ok      bool
}

// ending is something that may end a wait or an attempt.
type ending struct {
	at time.Duration
	verdict
}

// first returns the verdict of the earliest ending. alone says that no other comes close.
func first(endings ...ending) (v verdict, alone bool) {
	best, second := endings[0], never
	for _, e := range endings[1:] {
		if e.at < best.at {
			best, e = e, best
		}
		second = min(second, e.at)
	}
	best.verdict.at = best.at
	return best.verdict, second-best.at >= 3*step
}

// model says who is to blame in a schedule, as simply as can be said.
func (s *schedule) model() (v verdict, alone bool) {
	limit := s.attempt
	if s.op != 0 {
		limit = s.op
	}
	if limit < 0 {
		limit = never
	}
	lease := s.twoStep && s.op <= 0 // the attempt's limit covers the acquisition
	inWait := never
	if lease && s.op == 0 || s.derives {
		inWait = limit
	}
	v, alone = first(
		ending{s.held, verdict{granted: true}},
		ending{s.wait, verdict{fault: driver.FaultLocal}}, // our own full pool, whoever's time it is
		ending{s.total, verdict{fault: driver.FaultLocal, stage: timeout.StageAcquire}},
		ending{inWait, verdict{fault: driver.FaultLocal, stage: timeout.StageAcquire}},
		ending{s.deadline, verdict{fault: driver.FaultLocal}},
		ending{s.cancel, verdict{fault: driver.FaultCaller}},
	)
	if !v.granted || !alone {
		return v, alone
	}
	grant := v.at
	late := plus(grant, limit)
	switch {
	case lease:
		late = never
	case s.derives:
		late = limit
	}
	whole := ending{s.total, verdict{fault: driver.FaultServer, stage: timeout.StageTotal}}
	switch {
	case s.twoStep:
		whole.at = never
	case s.op < 0 || grant >= s.total/2:
		whole.fault = driver.FaultLocal
	}
	attempt := ending{late, verdict{fault: driver.FaultServer, stage: timeout.StageAttempt}}
	if s.twoStep {
		attempt.stage = "" // the outcome is the borrower's
	}
	v, alone = first(
		ending{plus(grant, s.takes), verdict{ok: true}},
		attempt, whole,
		ending{s.deadline, verdict{fault: driver.FaultCaller}},
		ending{s.cancel, verdict{fault: driver.FaultCaller}},
	)
	v.granted = true
	return v, alone
}

func plus(a, b time.Duration) time.Duration {
	if sum := a + b; sum >= a {
		return sum
	}
	return never
}

// draw makes a schedule at random, of the kinds that come about in practice.
func draw(r *rand.Rand) *schedule {
	some := func(most int) time.Duration { return time.Duration(1+r.IntN(most)) * step }
	or := func(share float64, a, b time.Duration) time.Duration {
		if r.Float64() < share {
			return a
		}
		return b
	}
	s := &schedule{
		held: or(.3, 0, some(500)), takes: or(.3, never, some(500)), wait: some(600),
		total: some(1000), attempt: or(.1, -1, some(400)), op: or(.5, 0, or(.3, -1, some(600))),
		deadline: or(.5, never, some(1000)), cancel: or(.7, never, some(1000)),
		twoStep: r.IntN(2) == 0, derives: r.IntN(4) == 0,
	}
	if s.takes == never && (s.twoStep || s.deadline == never) {
		s.deadline = min(s.deadline, some(2000)) // or it would never end
	}
	return s
}

// deriver is a layer that derives a context before the wait, as one that may cancel the use does.
type deriver struct{}

func (deriver) Begin(ctx context.Context, _ *pool.Call) (context.Context, func(), error) {
	ctx, cancel := context.WithCancel(ctx)
	return ctx, func() { cancel() }, nil
}
func (deriver) End(_ context.Context, _ *pool.Call, cancel func(), _ error) { cancel() }

// Random schedules of waits, limits, deadlines and cancellations: the fault, the time and the error
// are as in the model.
func TestWhoIsToBlame(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	counts := map[string]int{}
	for range 2000 {
		s := draw(r)
		want, alone := s.model()
		if !alone {
			continue
		}
		counts[fmt.Sprintf("%v granted %t stage %s", want.fault, want.granted, want.stage)]++
		synctest.Test(t, func(t *testing.T) {
			if got := s.run(t); got != want {
				t.Errorf("seed %d: %+v\ngot  %+v\nwant %+v", seed, *s, got, want)
			}
		})
		if t.Failed() {
			return
		}
	}
	for name, n := range counts {
		t.Logf("%5d %s", n, name)
	}
}

// run makes the use.
func (s *schedule) run(t *testing.T) (got verdict) {
	seen := &judge{}
	layers := []pool.Middleware{seen, total(t, limit(s.total)), attempt(t, limit(s.attempt))}
	if s.derives {
		layers = append(layers, pool.Bracket[func()](deriver{}))
	}
	p, end := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 1, AcquireTimeout: s.wait}, layers...)
	defer end()
	ctx := context.Background()
	if s.deadline < never {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.deadline)
		defer cancel()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	other, err := p.Acquire(context.Background(), pool.Op{Name: "other", Limit: -1})
	if err != nil {
		t.Fatal(err)
	}
	if s.held == 0 {
		other.Release(nil)
	}
	begin := time.Now()
	time.AfterFunc(s.held, func() { other.Release(nil) })
	if s.cancel < never {
		time.AfterFunc(s.cancel, cancel)
	}
	work := func(ctx context.Context, _ conn) error {
		got.granted = true
		return pooltest.Slow(s.takes)(ctx)
	}
	err = s.use(ctx, p, work)
	got.at, got.ok, got.fault = time.Since(begin).Round(step), err == nil, seen.last.Fault
	if s.twoStep && got.granted {
		got.fault = p.Classify(err).Fault
	}
	if e, ours := errors.AsType[*timeout.Error](err); ours {
		got.stage = e.Stage
	}
	other.Release(nil)
	return got
}

// use makes the use, in one step or in two.
func (s *schedule) use(ctx context.Context, p *pool.Pool[conn], work func(context.Context, conn) error) error {
	op := pool.Op{Name: "GET", Limit: s.op}
	if !s.twoStep {
		return p.Do(ctx, op, work)
	}
	l, err := p.Acquire(ctx, op)
	if err != nil {
		return err
	}
	c, _ := l.Value()
	return l.Finish(work(l.Context(), c))
}
