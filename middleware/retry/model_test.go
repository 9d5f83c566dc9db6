package retry_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/middleware/retry"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// What an attempt can come to.
var (
	errOwn     = errors.New("the function's own")
	errGate    = gated{}
	outcomes   = []error{nil, pooltest.ErrReply, pooltest.ErrRefused, pooltest.ErrRefused, pooltest.ErrBroken, pooltest.ErrDenied, errOwn, errGate}
	repeatable = map[error]driver.Repeat{pooltest.ErrRefused: driver.RepeatAlways, pooltest.ErrBroken: driver.RepeatIfIdempotent}
)

// gated is the refusal of a layer inside, as an open breaker's.
type gated struct{}

func (gated) Error() string { return "the gate\nis shut" }

func (gated) Class() driver.Class {
	return driver.Class{Fault: driver.FaultLocal, Type: "gate", RetryAfter: time.Second}
}

// gate refuses the attempts for which the script of the use says so.
type gate struct{ scripts *sync.Map }

func (g gate) Wrap(next pool.Handler) pool.Handler {
	return func(ctx context.Context, c *pool.Call) error {
		if s, ok := g.scripts.Load(c.Op().Key); ok && s.(script).at(c.Attempt()) == errGate {
			return errGate
		}
		return next(ctx, c)
	}
}

// script is what the attempts of a use come to, the last for ever.
type script []error

func (s script) at(attempt int) error { return s[min(attempt, len(s))-1] }

// world has several pools that share one Retry.
type world struct {
	t       testing.TB
	retry   *retry.Retry
	seen    *recorder
	reached *counter
	scripts sync.Map
	pools   []*pool.Pool[conn]
	ends    []func()
	uses    atomic.Int64
}

func (w *world) add(size int) {
	p, end := newPool(w.t, &pooltest.Fake{}, pool.Config{MaxSize: size, Name: fmt.Sprint("p", w.uses.Add(1))},
		w.seen, w.retry, gate{&w.scripts}, w.reached)
	w.pools, w.ends = append(w.pools, p), append(w.ends, end)
}

func (w *world) drop(i int) {
	w.ends[i]()
	w.pools, w.ends = slices.Delete(w.pools, i, i+1), slices.Delete(w.ends, i, i+1)
}

func (w *world) use(p *pool.Pool[conn], idempotent bool, s script) error {
	op := pool.Op{Name: "X", Key: fmt.Sprint(w.uses.Add(1)), Idempotent: idempotent}
	w.scripts.Store(op.Key, s)
	n := 0
	return p.Do(context.Background(), op, func(context.Context, conn) error {
		n++
		return s.at(n)
	})
}

// model says what must come of it.
type model struct {
	cfg           retry.Config
	tokens, limit int64
	pooled        int64
	sizes         []int
	events        []string
	attempts      int // of the latest use, that came to the pool
}

func (m *model) per() int64 { return int64(math.Round(m.cfg.Budget * 1e6)) }

func (m *model) resize() {
	m.limit = m.pooled * 1e6
	if m.cfg.BudgetBurst > 0 {
		m.limit = int64(m.cfg.BudgetBurst) * 1e6
	}
	m.tokens = min(m.tokens, m.limit)
}

func (m *model) configure(cfg retry.Config) {
	was := m.cfg.Budget > 0
	m.cfg = cfg
	m.resize()
	if !was && cfg.Budget > 0 {
		m.tokens = m.limit
	}
}

func (m *model) follow() {
	sum := int64(0)
	for _, s := range m.sizes {
		sum += int64(s)
	}
	gained := max(sum, 100) - m.pooled
	m.pooled += gained
	if m.cfg.BudgetBurst == 0 {
		m.resize()
		m.earn(max(gained, 0) * 1e6)
	}
}

func (m *model) earn(n int64) { m.tokens = min(m.tokens+n, m.limit) }

func (m *model) spend() bool {
	if m.cfg.Budget < 0 {
		return true
	}
	if m.cfg.BudgetBurst == 0 {
		m.follow()
	}
	if m.tokens < 1e6 {
		return false
	}
	m.tokens -= 1e6
	return true
}

// use returns why it is given up, "" if its outcome is returned as it is.
func (m *model) use(idempotent bool, s script) (reason string) {
	event := func(kind pool.EventKind, n int, reason string) {
		m.events = append(m.events, fmt.Sprint(kind, n, reason))
	}
	for n := 1; ; n++ {
		err := s.at(n)
		if err == errGate {
			if m.attempts = n - 1; n == 1 {
				return ""
			}
			if m.cfg.Budget > 0 {
				m.earn(1e6)
			}
			event(pool.EventGaveUp, n-1, retry.ReasonRefused)
			return retry.ReasonRefused
		}
		m.attempts = n
		if n > 1 {
			event(pool.EventRetry, n-1, typeOf(s.at(n-1)))
		}
		repeat, is := repeatable[err]
		switch {
		case err == nil, err == pooltest.ErrReply:
			if m.cfg.Budget > 0 {
				m.earn(m.per())
			}
			return ""
		case err == errOwn, m.cfg.MaxAttempts == 1:
			return ""
		case !is, repeat == driver.RepeatIfIdempotent && !idempotent:
			if n > 1 {
				return retry.ReasonFinal
			}
			return ""
		case n >= m.cfg.MaxAttempts:
			event(pool.EventGaveUp, n, retry.ReasonAttempts)
			return retry.ReasonAttempts
		case !m.spend():
			event(pool.EventGaveUp, n, retry.ReasonBudget)
			return retry.ReasonBudget
		}
	}
}

func typeOf(err error) string {
	if err == pooltest.ErrRefused {
		return "REFUSED"
	}
	return "broken"
}

func randomConfig(r *rand.Rand) retry.Config {
	return retry.Config{
		MaxAttempts: 1 + r.IntN(5), InitialDelay: time.Microsecond, MaxDelay: time.Millisecond, Multiplier: 2, Jitter: 0.5,
		Budget: []float64{-1, 0.1, 0.5, 1}[r.IntN(4)], BudgetBurst: []int{0, 0, 1, 5, 300}[r.IntN(5)],
	}
}

// The attempts, the events, the budget and the error are always the model's. Several pools share
// the layer. The pools are added, closed and configured in any order, and so is the layer.
func TestModel(t *testing.T) {
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 7))
			cfg := randomConfig(r)
			w := &world{t: t, retry: newRetry(t, cfg), seen: &recorder{}, reached: &counter{}}
			m := &model{pooled: 100}
			m.configure(cfg)
			for step := range 200 {
				what := w.step(r, m)
				if got, want := w.retry.Budget(), m.budget(); math.Abs(got-want) > 1e-9 {
					t.Fatalf("seed %d, step %d, %s: the budget is %v, want %v", seed, step, what, got, want)
				}
				var got []string
				for _, e := range w.seen.take() {
					if e.Kind != pool.EventConfigured {
						got = append(got, fmt.Sprint(e.Kind, e.Attempt, e.Reason))
					}
				}
				if !slices.Equal(got, m.events) {
					t.Fatalf("seed %d, step %d, %s: events %v, want %v", seed, step, what, got, m.events)
				}
				m.events = nil
			}
			for len(w.pools) > 0 {
				w.drop(0)
			}
		})
	}
}

func (m *model) budget() float64 {
	if m.cfg.BudgetBurst == 0 {
		m.follow()
	}
	return float64(m.tokens) / 1e6
}

// step does something at random, and has the model do the same.
func (w *world) step(r *rand.Rand, m *model) (what string) {
	k := r.IntN(20)
	switch {
	case k == 0 || len(w.pools) == 0:
		size := 1 + r.IntN(200)
		w.add(size)
		m.sizes = append(m.sizes, size)
		m.follow()
		return fmt.Sprint("a pool of ", size)
	case k == 1:
		i := r.IntN(len(w.pools))
		w.drop(i)
		m.sizes = slices.Delete(m.sizes, i, i+1)
		m.follow()
		return "a pool less"
	case k == 2:
		i, size := r.IntN(len(w.pools)), 1+r.IntN(200)
		cfg := w.pools[i].Config()
		cfg.MaxSize = size
		if err := w.pools[i].Configure(cfg); err != nil {
			w.t.Fatal(err)
		}
		m.sizes[i] = size
		return fmt.Sprint("a pool becomes ", size)
	case k == 3:
		cfg := randomConfig(r)
		if err := w.retry.Configure(cfg); err != nil {
			w.t.Fatal(err)
		}
		m.configure(cfg)
		return fmt.Sprintf("%+v", cfg)
	}
	idempotent, s := r.IntN(2) == 0, make(script, 1+r.IntN(6))
	for i := range s {
		s[i] = outcomes[r.IntN(len(outcomes))]
	}
	what = fmt.Sprintf("a use, idempotent %v, of %v", idempotent, []error(s))
	err := w.use(w.pools[r.IntN(len(w.pools))], idempotent, s)
	w.checkUse(what, err, m.use(idempotent, s), s, m)
	return what
}

func (w *world) checkUse(what string, err error, reason string, s script, m *model) {
	w.t.Helper()
	if n := len(w.reached.take()); n != m.attempts {
		w.t.Fatalf("%s: %d attempts came to the pool, want %d", what, n, m.attempts)
	}
	var e *retry.Error
	if is := errors.As(err, &e); is != (reason != "") {
		w.t.Fatalf("%s: got %v, want reason %q", what, err, reason)
	}
	if e == nil {
		return
	}
	if e.Reason != reason || e.Attempts != m.attempts || (e.Refusal != nil) != (reason == retry.ReasonRefused) {
		w.t.Fatalf("%s: got %+v, want %s after %d", what, e, reason, m.attempts)
	}
	for n := 1; n <= m.attempts; n++ {
		if !errors.Is(err, s.at(n)) {
			w.t.Fatalf("%s: %v has lost what attempt %d came to", what, err, n)
		}
	}
}

// Many uses at once, over pools sharing the budget. Each attempt that reached a pool is a reported
// and paid retry; a refused attempt is neither. Each error has the number of attempts made.
func TestModelAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := retry.Config{InitialDelay: time.Microsecond, MaxDelay: 50 * time.Microsecond}
		w := &world{t: t, retry: newRetry(t, cfg), seen: &recorder{}, reached: &counter{}}
		for _, size := range []int{50, 400, 300} {
			w.add(size)
		}
		var wg sync.WaitGroup
		var told atomic.Int64
		for i := range 30 {
			r := rand.New(rand.NewPCG(uint64(i), 3))
			wg.Go(func() {
				for range 20 {
					s := make(script, 5)
					for i := range s {
						if s[i] = pooltest.ErrRefused; i > 0 && r.IntN(2) == 0 {
							s[i] = errGate
						}
					}
					err := w.use(w.pools[r.IntN(3)], false, s)
					if e, ok := errors.AsType[*retry.Error](err); ok {
						told.Add(int64(e.Attempts - 1))
					}
					if r.IntN(5) == 0 {
						_ = w.retry.Configure(cfg)
					}
				}
			})
		}
		wg.Wait()
		made, reported := 0, 0
		for _, n := range w.reached.take() {
			if n > 1 {
				made++
			}
		}
		for _, e := range w.seen.take() {
			if e.Kind == pool.EventRetry {
				reported++
			}
		}
		if made == 0 || reported != made || told.Load() != int64(made) || w.retry.Budget() != 750-float64(made) {
			t.Errorf("%d further attempts came to pools, %d were reported, %d told by errors, the budget is %v of 750",
				made, reported, told.Load(), w.retry.Budget())
		}
		for len(w.pools) > 0 {
			w.drop(0)
		}
	})
}
