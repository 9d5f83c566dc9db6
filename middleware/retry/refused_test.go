package retry_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/middleware/breaker"
	"github.com/earnorm/poolstack/middleware/retry"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// 150 uses are in flight when the server dies. The breaker refuses their further attempts. Such
// attempts cost no token, are not reported as retries, and are not counted in the errors.
func TestServerDiesWithManyInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := breaker.New(breaker.Config{ConsecutiveFailures: 5})
		if err != nil {
			t.Fatal(err)
		}
		r, seen, reached := newRetry(t, retry.Config{}), &recorder{}, &counter{}
		p, end := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 150}, seen, r, b, reached)
		defer end()
		var wg sync.WaitGroup
		told := make(chan int, 150)
		for range 150 {
			wg.Go(func() {
				err := p.Do(context.Background(), idempotent, func(context.Context, conn) error {
					time.Sleep(time.Second)    // all are in flight when it dies
					return pooltest.ErrRefused // an answer: the breaker opens at once
				})
				e := asError(t, err)
				if !errors.Is(err, pooltest.ErrRefused) || e.Class().Fault != driver.FaultServer || !errors.Is(err, breaker.ErrOpen) {
					t.Errorf("%v (%+v): want the server's failure, and that the breaker is open", err, e.Class())
				}
				const first = "retry: gave up after 1 attempt: pooltest: the server refused it unexecuted (the next was refused: breaker"
				if e.Attempts == 1 && !strings.HasPrefix(err.Error(), first) {
					t.Errorf("got %v", err)
				}
				told <- e.Attempts
			})
		}
		wg.Wait()
		close(told)
		sum := 0
		for n := range told {
			sum += n
		}
		made := len(reached.take())
		retries := 0
		for _, e := range seen.take() {
			if e.Kind == pool.EventRetry {
				retries++
			}
		}
		if retries != made-150 || sum != made || r.Budget() != 150-float64(retries) {
			t.Errorf("%d attempts came to the pool: %d retries were reported, the errors tell of %d, the budget is %v of 150",
				made, retries, sum, r.Budget())
		}
		if retries > 5 {
			t.Errorf("%d retries of a server that is dead", retries)
		}
	})
}

// 60 callers get a hint of 2 s and do not return together. A caller that gets the hint again waits
// longer.
func TestHintIsSpreadAndGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, end := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 60}, newRetry(t, retry.Config{
			// Longer than a quarter of the hint, so the growth is visible.
			Budget: -1, InitialDelay: 600 * time.Millisecond, MaxDelay: 10 * time.Second,
		}))
		defer end()
		begin := time.Now()
		var mu sync.Mutex
		back := map[int][]time.Duration{}
		var wg sync.WaitGroup
		for range 60 {
			wg.Go(func() {
				n, last := 0, begin
				_ = p.Do(context.Background(), once, func(context.Context, conn) error {
					mu.Lock()
					defer mu.Unlock()
					back[n] = append(back[n], time.Since(last))
					last = time.Now()
					n++
					return hint(2 * time.Second)
				})
			})
		}
		wg.Wait()
		var means []time.Duration
		for n := 1; n <= 3; n++ {
			first, last, sum := slices.Min(back[n]), slices.Max(back[n]), time.Duration(0)
			for _, d := range back[n] {
				sum += d
			}
			means = append(means, sum/60)
			if len(back[n]) != 60 || first < 2*time.Second || last-first < 300*time.Millisecond || last > 5*time.Second {
				t.Errorf("attempt %d: %d callers came back after %v to %v, want 60, spread beyond 2 s", n+1, len(back[n]), first, last)
			}
			slices.Sort(back[n])
			for i := range 50 { // no ten within what a burst is
				if back[n][i+9]-back[n][i] < time.Millisecond {
					t.Errorf("attempt %d: ten callers came back within %v", n+1, back[n][i+9]-back[n][i])
				}
			}
		}
		if means[2] <= means[0] {
			t.Errorf("the pauses are %v on average, want them to grow", means)
		}
	})
}

// Pauses of nanoseconds grow, whatever the multiplier.
func TestShortestPausesGrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, newRetry(t, retry.Config{
			InitialDelay: 1, MaxDelay: time.Second, Multiplier: 1.5, Jitter: -1, MaxAttempts: 30, Budget: -1,
		}))
		defer end()
		begin := time.Now()
		_ = p.Do(context.Background(), once, failing(pooltest.ErrRefused))
		if took := time.Since(begin); took < 100*time.Millisecond {
			t.Errorf("30 attempts with pauses that grow by half took %v", took)
		}
	})
}

// The error keeps what the attempts came to, one of each kind, each in one line of text.
func TestCauses(t *testing.T) {
	kind := func(i int) error { return typed(fmt.Sprint("kind\n", i)) }
	synctest.Test(t, func(t *testing.T) {
		p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, newRetry(t, retry.Config{MaxAttempts: 7}))
		defer end()
		errs := []error{kind(1), kind(1), kind(2), kind(3), kind(4), kind(5), kind(6)}
		err := p.Do(context.Background(), once, failing(errs...))
		const want = "retry: gave up after 7 attempts: kind; 6 (before: kind; 1; kind; 4; kind; 5)"
		if err.Error() != want {
			t.Errorf("got  %s\nwant %s", err, want)
		}
		for i, is := range []bool{true, false, false, true, true, true} {
			if errors.Is(err, kind(i+1)) != is {
				t.Errorf("it is kind %d: %v, want the first and the latest", i+1, !is)
			}
		}
	})
}

type typed string

func (e typed) Error() string { return string(e) }

func (e typed) Class() driver.Class {
	return driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatAlways, Type: strings.ReplaceAll(string(e), "\n", "_")}
}

// A burst of 0 is 100 or the sizes of the pools together, and follows them.
func TestBurstFollowsPools(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRetry(t, retry.Config{})
		want := func(step string, tokens float64) {
			t.Helper()
			if got := r.Budget(); got != tokens {
				t.Errorf("%s: the budget is %v, want %v", step, got, tokens)
			}
		}
		want("alone", 100)
		p, endFirst := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 60, Name: "a"}, r)
		want("a pool of 60", 100)
		_, endSecond := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 140, Name: "b"}, r)
		want("and one of 140", 200)
		cfg := p.Config()
		cfg.MaxSize = 300
		if err := p.Configure(cfg); err != nil {
			t.Fatal(err)
		}
		// All are cut at once: each has its retry.
		var wg sync.WaitGroup
		for range 300 {
			wg.Go(func() {
				if err := p.Do(context.Background(), idempotent, failing(pooltest.ErrBroken, pooltest.ErrDenied)); errors.Is(err, retry.ErrGaveUp) {
					t.Errorf("got %v", err)
				}
			})
		}
		wg.Wait()
		want("300 retries of 440", 140)
		if got := r.Describe().Settings["budget_burst"]; got != "440" {
			t.Errorf("it describes a burst of %s, want 440", got)
		}
		endSecond()
		want("the second is closed", 140)
		endFirst()
		want("the first too", 100)
		if err := r.Configure(r.Config()); err != nil || r.Config().BudgetBurst != 0 {
			t.Errorf("its own configuration is not what it takes: %v, %+v", err, r.Config())
		}
		if err := r.Configure(retry.Config{BudgetBurst: 7}); err != nil {
			t.Fatal(err)
		}
		_, end := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 500}, r)
		defer end()
		want("an explicit one", 7)
	})
}

// A use that asked the server nothing earns no tokens, and neither does an answer of a layer in
// place of the pool.
func TestNoEvidenceEarnsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := newRetry(t, retry.Config{BudgetBurst: 2, Budget: 1}), &witness{Fake: &pooltest.Fake{}}
		cached := false
		cache := pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
			return func(ctx context.Context, c *pool.Call) error {
				if cached {
					return nil
				}
				return next(ctx, c)
			}
		})
		p, err := pool.New[conn](w, pool.Config{}, r, cache)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close(context.Background())
		do := func(step string, want float64, errs ...error) {
			t.Helper()
			_ = p.Do(context.Background(), once, failing(errs...))
			if got := r.Budget(); got != want {
				t.Errorf("%s: the budget is %v, want %v", step, got, want)
			}
		}
		w.asked = true
		do("two retries, and a failure for good", 0, pooltest.ErrRefused, pooltest.ErrRefused, pooltest.ErrDenied)
		do("the function's own error", 0, errOwn)
		w.asked = false
		do("a success without a question", 0, nil)
		do("a miss of another's", 0, pooltest.ErrMiss)
		cached = true
		do("a success of a layer's", 0, nil)
		cached, w.asked = false, true
		do("a success", 1, nil)
	})
}

// witness is a Fake that says whether it has been asked.
type witness struct {
	*pooltest.Fake

	asked bool
}

func (w *witness) BeginUse(ctx context.Context, _ conn) context.Context { return ctx }

func (w *witness) EndUse(_ conn, err error) (driver.Testimony, bool) {
	return driver.Testimony{Asked: w.asked, Answered: w.asked && err == nil, Own: err}, true
}

// An attempt that had a resource and sent nothing costs no token. Example: a client has closed its
// sockets.
func TestUnsentAttemptsAreFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &witness{Fake: &pooltest.Fake{}}
		layer := newRetry(t, retry.Config{})
		p, end := newPool(t, w, pool.Config{}, layer)
		defer end()
		for asked, want := range map[bool]float64{false: 100, true: 97} {
			w.asked = asked
			_ = p.Do(context.Background(), idempotent, failing(pooltest.ErrRefused))
			if got := layer.Budget(); got != want {
				t.Errorf("asked %v: the budget is %v, want %v", asked, got, want)
			}
			for range 10 {
				_ = p.Do(context.Background(), idempotent, failing(nil))
			}
			w.asked = true
			for range 10 {
				_ = p.Do(context.Background(), idempotent, failing(nil))
			}
		}
	})
}

// Every field at its extremes: a configuration that Validate accepts works. No use panics, hangs or
// makes more attempts than allowed.
func TestExtremes(t *testing.T) {
	ints := []int{math.MinInt, -1, 0, 1, 2, math.MaxInt32, math.MaxInt32 + 1, math.MaxInt}
	durations := []time.Duration{math.MinInt64, -1, 0, 1, time.Hour, math.MaxInt64}
	floats := []float64{
		math.Inf(-1), -math.MaxFloat64, -1, 0, math.SmallestNonzeroFloat64, 0.5, 1, math.Nextafter(1, 2), math.MaxFloat64, math.Inf(1), math.NaN(),
	}
	var cfgs []retry.Config
	for _, n := range ints {
		cfgs = append(cfgs, retry.Config{MaxAttempts: n}, retry.Config{BudgetBurst: n}, retry.Config{MaxAttempts: n, BudgetBurst: n})
	}
	for _, d := range durations {
		cfgs = append(cfgs, retry.Config{InitialDelay: d}, retry.Config{MaxDelay: d}, retry.Config{InitialDelay: d, MaxDelay: d})
	}
	for _, f := range floats {
		cfgs = append(cfgs, retry.Config{Multiplier: f}, retry.Config{Jitter: f}, retry.Config{Budget: f},
			retry.Config{Multiplier: f, Jitter: f, Budget: f}, retry.Config{Multiplier: f, InitialDelay: math.MaxInt64, MaxDelay: math.MaxInt64})
	}
	for _, cfg := range cfgs {
		r, err := retry.New(cfg)
		if err != nil {
			if text := err.Error(); !strings.Contains(text, "must be") {
				t.Errorf("%+v: %s", cfg, text)
			}
			continue
		}
		synctest.Test(t, func(t *testing.T) {
			p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, r)
			defer end()
			ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
			defer cancel()
			n := 0
			err := p.Do(ctx, once, func(context.Context, conn) error {
				if n++; n == 100 { // the attempts may be for ever
					return pooltest.ErrDenied
				}
				return hint(time.Second)
			})
			got := r.Effective()
			if err == nil || n > got.MaxAttempts || n > 100 {
				t.Errorf("%+v: %d attempts, %v", cfg, n, err)
			}
			if r.Budget() < 0 || r.Budget() > math.MaxInt32 {
				t.Errorf("%+v: the budget is %v", cfg, r.Budget())
			}
			if err := r.Configure(got); err != nil {
				t.Errorf("%+v: its own configuration is not valid: %v", cfg, err)
			}
		})
	}
}
