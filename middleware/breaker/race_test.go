package breaker

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

const (
	raceWorkers     = 24
	raceTransitions = 2000
)

// legal are the changes of state that there are.
var legal = map[[2]State]bool{
	{StateClosed, StateOpen}:     true,
	{StateOpen, StateHalfOpen}:   true,
	{StateHalfOpen, StateOpen}:   true,
	{StateHalfOpen, StateClosed}: true,
}

// referee is the breaker's layer, and looks at what it does.
type referee struct {
	layer

	t      *testing.T
	probes int // the most that may be under way in one round; 0: not looked at

	mu       sync.Mutex
	underway map[*round]int
	most     int
	admitted int

	// Guarded by the breaker's mutex.
	state State
	edges map[[2]State]uint64
}

func (f *referee) Begin(ctx context.Context, c *pool.Call) (context.Context, admission, error) {
	ctx, a, err := f.layer.Begin(ctx, c)
	if err == nil && a.probe != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.admitted++
		f.underway[a.probe.round]++
		n := f.underway[a.probe.round]
		f.most = max(f.most, n)
		if f.probes > 0 && n > f.probes {
			f.t.Errorf("%d probes of one round are under way, want at most %d", n, f.probes)
		}
	}
	return ctx, a, err
}

func (f *referee) End(ctx context.Context, c *pool.Call, a admission, err error) {
	if a.probe != nil {
		f.mu.Lock()
		if f.underway[a.probe.round]--; f.underway[a.probe.round] == 0 {
			delete(f.underway, a.probe.round)
		}
		f.mu.Unlock()
	}
	f.layer.End(ctx, c, a, err)
}

// moved is called by gobreaker, in the order of the changes.
func (f *referee) moved(from, to State) {
	if from != f.state || !legal[[2]State{from, to}] {
		f.t.Errorf("the breaker moved from %v to %v when it was %v", from, to, f.state)
	}
	f.state = to
	f.edges[[2]State{from, to}]++
}

func (f *referee) transitions() uint64 {
	f.b.mu.Lock()
	defer f.b.mu.Unlock()
	n := uint64(0)
	for _, m := range f.edges {
		n += m
	}
	return n
}

// Thousands of changes of state under load: there are never more probes than permits, all changes
// are legal, and all counts agree.
func TestRaceOverThousandsOfTransitions(t *testing.T) {
	cfg := Config{
		Window: 50 * time.Millisecond, Buckets: 5, FailureRatio: 0.2, MinCalls: 8, ConsecutiveFailures: 4,
		OpenFor: time.Millisecond, OpenMax: 4 * time.Millisecond, Jitter: 0.5, Probes: 3, ProbeSuccesses: 4, ProbeFailures: 1,
		ProbeTimeout: time.Hour,
	}
	t.Run("no probe is lost", func(t *testing.T) { bubble(t, func(t *testing.T) { race(t, cfg, cfg.Probes, false) }) })
	cfg.ProbeTimeout = 10 * time.Millisecond
	t.Run("probes are lost, settings change", func(t *testing.T) { bubble(t, func(t *testing.T) { race(t, cfg, 0, true) }) })
}

func race(t *testing.T, cfg Config, probes int, wild bool) {
	t.Helper()
	b := must(t, cfg)
	f := &referee{layer: layer{b}, t: t, probes: probes, underway: map[*round]int{}, edges: map[[2]State]uint64{}}
	s := b.circuitSettings()
	change := s.OnStateChange
	s.OnStateChange = func(name string, from, to gobreaker.State) {
		f.moved(stateOf(from), stateOf(to))
		change(name, from, to)
	}
	b.circuit = gobreaker.NewCircuitBreaker[struct{}](s)
	seen := &observer{react: func(pool.Event) { _, _ = b.State(), b.Snapshot() }}
	p, err := pool.New(&pooltest.Fake{}, pool.Config{MaxSize: raceWorkers, AcquireTimeout: time.Hour}, seen, pool.Bracket(f))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()

	var stop atomic.Bool
	var refused atomic.Uint64
	var wg sync.WaitGroup
	for range raceWorkers {
		wg.Go(func() {
			for !stop.Load() {
				if raceUse(p, wild) {
					refused.Add(1)
				}
			}
		})
	}
	if wild {
		wg.Go(func() { reconfigure(t, b, &stop) })
	}
	for f.transitions() < raceTransitions {
		time.Sleep(10 * time.Millisecond)
	}
	stop.Store(true)
	wg.Wait()
	f.audit(seen, refused.Load())
	recoverNow(t, p, b)
}

// raceUse is a use of a server that alternates between well and ill. raceUse reports whether the
// use was rejected.
func raceUse(p *pool.Pool[*conn], wild bool) bool {
	hold := time.Duration(rand.IntN(3000)) * time.Microsecond
	if wild && rand.IntN(50) == 0 {
		hold = 25 * time.Millisecond // longer than a probe may take
	}
	outcome := error(nil)
	if ill := time.Now().UnixMilli()/15%2 == 0; ill && rand.IntN(4) > 0 {
		outcome = fail
	} else if rand.IntN(10) == 0 {
		outcome = context.Canceled
	}
	use := func(context.Context, *conn) error {
		time.Sleep(hold)
		if rand.IntN(40) == 0 {
			panic("boom")
		}
		return outcome
	}
	var err error
	switch rand.IntN(3) {
	case 0:
		func() {
			defer func() { _ = recover() }()
			err = p.Do(context.Background(), get, use)
		}()
	case 1:
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		func() {
			defer func() { _ = recover() }()
			err = p.Do(ctx, get, use)
		}()
	case 2:
		var l pool.Lease[*conn]
		if l, err = p.Acquire(context.Background(), get); err == nil {
			time.Sleep(hold)
			var other sync.WaitGroup
			other.Go(func() { l.Release(outcome) })
			l.Release(outcome)
			other.Wait()
		}
	}
	if refusal := (*OpenError)(nil); errors.As(err, &refusal) {
		time.Sleep(time.Duration(rand.IntN(8000)) * time.Microsecond)
		return true
	}
	return false
}

// reconfigure changes everything that can be changed, all the time.
func reconfigure(t *testing.T, b *Breaker, stop *atomic.Bool) {
	t.Helper()
	for !stop.Load() {
		time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
		cfg := b.Config()
		cfg.Buckets, cfg.ConsecutiveFailures = 2+rand.IntN(2), 3+rand.IntN(3)
		cfg.OpenFor = time.Millisecond + time.Duration(rand.IntN(1000))*time.Microsecond
		cfg.Probes, cfg.ProbeSuccesses, cfg.ProbeFailures = 1+rand.IntN(4), 1+rand.IntN(4), rand.IntN(3)
		if err := b.Configure(cfg); err != nil {
			t.Error(err)
		}
	}
}

// audit compares the books, with every use over.
func (f *referee) audit(seen *observer, refused uint64) {
	f.t.Helper()
	told := map[[2]State]uint64{}
	rejections := uint64(0)
	states := map[string]State{"closed": StateClosed, "open": StateOpen, "half-open": StateHalfOpen}
	for _, e := range seen.events {
		if e.Kind == pool.EventStateChanged {
			told[[2]State{states[e.From], states[e.To]}]++
		}
		if e.Kind == pool.EventRejected {
			rejections++
		}
	}
	if !maps.Equal(told, f.edges) {
		f.t.Errorf("the observer heard of the changes %v, gobreaker made %v", told, f.edges)
	}
	s := f.b.Snapshot()
	opened := uint64(0)
	for edge, n := range f.edges {
		if edge[1] == StateOpen {
			opened += n
		}
	}
	if s.State != f.state || s.State != f.b.State() || s.Opened != opened {
		f.t.Errorf("the snapshot has %v, opened %d times; gobreaker has %v, %d times", s.State, s.Opened, f.state, opened)
	}
	if s.Refused != refused || s.Refused != rejections {
		f.t.Errorf("refused: the snapshot has %d, the users %d, the observer %d", s.Refused, refused, rejections)
	}
	if s.ProbesUnderway != 0 || len(f.underway) != 0 {
		f.t.Errorf("with every use over, %d probes are under way, in %d rounds", s.ProbesUnderway, len(f.underway))
	}
	if f.probes > 0 && f.most != f.probes {
		f.t.Errorf("at most %d probes were under way at once: the permits, %d, were never used up", f.most, f.probes)
	}
	f.t.Logf("%v; %d probes, %d refusals", f.edges, f.admitted, refused)
}

// recoverNow shows that nothing is wedged: with a healthy server the breaker closes soon.
func recoverNow(t *testing.T, p *pool.Pool[*conn], b *Breaker) {
	t.Helper()
	for range 100 {
		if b.State() == StateClosed {
			return
		}
		_ = p.Do(context.Background(), get, func(context.Context, *conn) error { return nil })
		time.Sleep(time.Millisecond)
	}
	t.Errorf("the breaker is %v after 100 uses of a healthy server", b.State())
}
