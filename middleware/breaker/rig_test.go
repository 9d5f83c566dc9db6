package breaker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

func TestMain(m *testing.M) { os.Exit(pooltest.Main(m)) }

func TestConformance(t *testing.T) {
	pooltest.RunMiddleware(t, func(tb testing.TB) pool.Middleware {
		tb.Helper()
		return must(tb, Config{})
	})
}

func must(tb testing.TB, cfg Config) *Breaker {
	tb.Helper()
	b, err := New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// observer keeps what it hears, and may do something about it.
type observer struct {
	mu     sync.Mutex
	events []pool.Event
	ctxs   []context.Context
	react  func(pool.Event)

	configured atomic.Int32
}

func (o *observer) Wrap(next pool.Handler) pool.Handler { return next }

func (o *observer) Observe(ctx context.Context, e pool.Event) {
	if e.Layer != kind {
		return
	}
	if e.Kind == pool.EventConfigured { // not of a use, and react may be what configures
		o.configured.Add(1)
		return
	}
	o.mu.Lock()
	o.events = append(o.events, e)
	o.ctxs = append(o.ctxs, ctx)
	o.mu.Unlock()
	if o.react != nil {
		o.react(e)
	}
}

// moves returns the changes of state, as "from>to reason".
func (o *observer) moves() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var moves []string
	for _, e := range o.events {
		if e.Kind == pool.EventStateChanged {
			moves = append(moves, e.From+">"+e.To+" "+e.Reason)
		}
	}
	return moves
}

func (o *observer) last() (context.Context, pool.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.events) == 0 {
		return nil, pool.Event{}
	}
	return o.ctxs[len(o.ctxs)-1], o.events[len(o.events)-1]
}

// rig is a pool with a breaker around it.
type rig struct {
	*Breaker

	t    *testing.T
	fake *pooltest.Fake
	seen *observer
	pool *pool.Pool[*pooltest.Conn]
}

func newRig(t *testing.T, cfg Config) *rig {
	t.Helper()
	return newRigOn(t, cfg, pool.Config{MaxSize: 64})
}

func newRigOn(t *testing.T, cfg Config, pc pool.Config) *rig {
	t.Helper()
	r := &rig{t: t, Breaker: must(t, cfg), fake: &pooltest.Fake{}, seen: &observer{}}
	pc.Name = "orders"
	p, err := pool.New(r.fake, pc, r.seen, r.Breaker)
	if err != nil {
		t.Fatal(err)
	}
	r.pool = p
	t.Cleanup(func() {
		if err := p.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return r
}

type conn = pooltest.Conn

// bubble runs test in a synctest bubble: its clock moves when everybody sleeps.
func bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, test)
}

var (
	get  = pool.Op{Name: "GET"}
	fail = pooltest.ErrDenied // the server's failure; the connection survives it
)

// use is one use with the given outcome. It returns what Do returned.
func (r *rig) use(outcome error) error {
	return r.pool.Do(context.Background(), get, func(context.Context, *pooltest.Conn) error { return outcome })
}

// uses makes n uses that must pass.
func (r *rig) uses(n int, outcome error) {
	r.t.Helper()
	for i := range n {
		if err := r.use(outcome); !errors.Is(err, outcome) {
			r.t.Fatalf("use %d of %d: %v, want %v", i+1, n, err, outcome)
		}
	}
}

// lease begins a use that must pass.
func (r *rig) lease() pool.Lease[*pooltest.Conn] {
	r.t.Helper()
	l, err := r.pool.Acquire(context.Background(), get)
	if err != nil {
		r.t.Fatal(err)
	}
	return l
}

// refused makes a use that must be refused.
func (r *rig) refused(state State) {
	r.t.Helper()
	_ = r.refusal(state)
}

// refusal is refused that returns the error.
func (r *rig) refusal(state State) *OpenError {
	r.t.Helper()
	var refusal *OpenError
	if err := r.use(nil); !errors.As(err, &refusal) || refusal.State != state {
		r.t.Fatalf("a use returned %v, want a refusal in %v", err, state)
	}
	return refusal
}

func (r *rig) wantState(want State) {
	r.t.Helper()
	if got := r.State(); got != want {
		r.t.Fatalf("the breaker is %v, want %v", got, want)
	}
}

func (r *rig) wantMoves(want ...string) {
	r.t.Helper()
	if got := r.seen.moves(); !slices.Equal(got, want) {
		r.t.Fatalf("the breaker moved\n  %q, want\n  %q", got, want)
	}
}

// opens makes the breaker, which opens after consecutive failures, open.
func (r *rig) opens() {
	r.t.Helper()
	r.uses(r.Config().ConsecutiveFailures, fail)
	r.wantState(StateOpen)
}

// due lets the open period pass.
func (r *rig) due() {
	r.t.Helper()
	r.wantState(StateOpen)
	time.Sleep(time.Until(r.Snapshot().NextProbe))
}

// quick opens on the second failure in a row and closes on the first successful probe.
func quick() Config {
	return Config{FailureRatio: -1, ConsecutiveFailures: 2, OpenFor: time.Second, OpenMax: time.Second, Jitter: -1, ProbeSuccesses: 1}
}

// apply changes the settings.
func (r *rig) apply(change func(*Config)) {
	r.t.Helper()
	cfg := r.Config()
	change(&cfg)
	if err := r.Configure(cfg); err != nil {
		r.t.Fatal(err)
	}
}

func (n Counts) String() string {
	return fmt.Sprintf("%d successes, %d failures, %d in a row", n.Successes, n.Failures, n.Consecutive)
}
