package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	meternoop "go.opentelemetry.io/otel/metric/noop"
	tracernoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/earnorm/poolstack/middleware"
	"github.com/earnorm/poolstack/middleware/breaker"
	"github.com/earnorm/poolstack/middleware/logging"
	"github.com/earnorm/poolstack/middleware/metrics"
	"github.com/earnorm/poolstack/middleware/retry"
	"github.com/earnorm/poolstack/middleware/timeout"
	"github.com/earnorm/poolstack/middleware/tracing"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

func TestMain(m *testing.M) { os.Exit(pooltest.Main(m)) }

type conn = *pooltest.Conn

// quiet are options whose telemetry goes nowhere.
func quiet() middleware.Options {
	return middleware.Options{
		Tracing: tracing.Config{TracerProvider: tracernoop.NewTracerProvider()},
		Metrics: metrics.Config{MeterProvider: meternoop.NewMeterProvider()},
		Logging: logging.Config{Logger: slog.New(slog.DiscardHandler)},
	}
}

func standard(t testing.TB, o middleware.Options) *middleware.Stack {
	t.Helper()
	s, err := middleware.Standard(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// recorder is a layer that keeps events of some kinds.
type recorder struct {
	kinds  []pool.EventKind
	mu     sync.Mutex
	events []pool.Event
}

func (r *recorder) Wrap(next pool.Handler) pool.Handler { return next }

func (r *recorder) Observe(_ context.Context, e pool.Event) {
	if !slices.Contains(r.kinds, e.Kind) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// take returns what has been recorded, and forgets it.
func (r *recorder) take() []pool.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	events := r.events
	r.events = nil
	return events
}

// newPool makes a pool; the function it returns closes it, and must be called before the test, or
// its bubble, ends.
func newPool(t testing.TB, d driver.Driver[conn], cfg pool.Config, layers ...pool.Middleware) (*pool.Pool[conn], func()) {
	t.Helper()
	p, err := pool.New(d, cfg, layers...)
	if err != nil {
		t.Fatal(err)
	}
	return p, func() {
		if err := p.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}
}

func kinds(layers []pool.LayerInfo) []string {
	var names []string
	for _, l := range layers {
		names = append(names, l.Layer)
	}
	return names
}

func TestSuite(t *testing.T) {
	pooltest.RunMiddleware(t, func(t testing.TB) pool.Middleware {
		o := quiet()
		o.Retry = retry.Config{InitialDelay: time.Microsecond, MaxDelay: time.Microsecond}
		o.Breaker = breaker.Config{FailureRatio: -1, ConsecutiveFailures: -1} // it has to let uses pass
		return pool.Chain(standard(t, o).Layers()...)
	})
}

// The layers in their order: all layers, and all but each in turn. New warns of nothing, unless the
// missing layer is a limit.
func TestOrder(t *testing.T) {
	for _, without := range append([]string{""}, middleware.Kinds()...) {
		t.Run("without "+without, func(t *testing.T) {
			seen, o := &recorder{kinds: []pool.EventKind{pool.EventWarning}}, quiet()
			if without != "" {
				o.Without = []string{without}
			}
			stack := standard(t, o)
			p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, append(stack.Layers(), seen)...)
			defer end()
			want := slices.DeleteFunc(middleware.Kinds(), func(k string) bool { return k == without })
			if got := kinds(p.Layers()); !slices.Equal(got, want) {
				t.Errorf("the layers are %v, want %v", got, want)
			}
			limitMissing := without == middleware.KindTotal || without == middleware.KindAttempt
			if warnings := seen.take(); (len(warnings) == 1) != limitMissing {
				t.Errorf("New warns: %+v", warnings)
			}
			if err := p.Do(context.Background(), pool.Op{}, nothing); err != nil {
				t.Error(err)
			}
		})
	}
}

func nothing(context.Context, conn) error { return nil }

// Each handle is the layer that is in the stack, and nil when it is not.
func TestHandles(t *testing.T) {
	handles := func(s *middleware.Stack) []pool.Middleware {
		var all []pool.Middleware
		for _, h := range []struct {
			layer pool.Middleware
			none  bool
		}{
			{s.Tracing, s.Tracing == nil},
			{s.Metrics, s.Metrics == nil},
			{s.Logging, s.Logging == nil},
			{s.Total, s.Total == nil},
			{s.Retry, s.Retry == nil},
			{s.Breaker, s.Breaker == nil},
			{s.Attempt, s.Attempt == nil},
		} {
			if !h.none {
				all = append(all, h.layer)
			}
		}
		return all
	}
	for i, without := range middleware.Kinds() {
		all, o := standard(t, quiet()), quiet()
		if h := handles(all); len(h) != 7 || !slices.Equal(h, all.Layers()) {
			t.Errorf("the handles are %v, the layers %v", h, all.Layers())
		}
		o.Without = []string{without}
		s := standard(t, o)
		if h := handles(s); len(h) != 6 || !slices.Equal(h, s.Layers()) {
			t.Errorf("without %s (%d) the handles are %v, the layers %v", without, i, h, s.Layers())
		}
	}
	s := standard(t, quiet())
	s.Layers()[0] = nil
	if s.Layers()[0] == nil {
		t.Error("who changes what Layers returned changes the stack")
	}
}

func TestOptions(t *testing.T) {
	for _, tc := range []struct {
		o    middleware.Options
		want []string
	}{
		{middleware.Options{Tracing: tracing.Config{WaitThreshold: -1}}, []string{"middleware: Options.Tracing: tracing: WaitThreshold is -1ns"}},
		{middleware.Options{Metrics: metrics.Config{MaxOperations: -1}}, []string{"middleware: Options.Metrics: metrics: MaxOperations is -1"}},
		{middleware.Options{Logging: logging.Config{Every: -1}}, []string{"middleware: Options.Logging: logging: Every is -1"}},
		{
			middleware.Options{Total: timeout.Config{MinLeft: -1}, Attempt: timeout.Config{MinLeft: -2}},
			[]string{"middleware: Options.Total: timeout.total: MinLeft is -1ns", "middleware: Options.Attempt: timeout.attempt: MinLeft is -2ns"},
		},
		{middleware.Options{Retry: retry.Config{MaxAttempts: -3}}, []string{"middleware: Options.Retry: retry: MaxAttempts is -3"}},
		{middleware.Options{Breaker: breaker.Config{Probes: -1}}, []string{"middleware: Options.Breaker: breaker: Probes is -1"}},
		{
			middleware.Options{Without: []string{"retry", "timeout"}},
			[]string{
				`middleware: Options.Without names "timeout": must be among tracing, metrics, logging, timeout.total, retry, breaker, ` +
					`timeout.attempt`,
			},
		},
		// The settings of a layer left out are not validated.
		{middleware.Options{Retry: retry.Config{MaxAttempts: -3}, Without: []string{"retry"}}, nil},
	} {
		_, err := middleware.Standard(tc.o)
		if (err == nil) != (tc.want == nil) {
			t.Errorf("%+v: got %v, want %v", tc.o, err, tc.want)
		}
		for _, want := range tc.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("got %q, want it to say %q", err, want)
			}
		}
	}
}

// A stack is for one pool.
func TestSecondPool(t *testing.T) {
	stack := standard(t, quiet())
	_, end := newPool(t, &pooltest.Fake{}, pool.Config{Name: "first"}, stack.Layers()...)
	defer end()
	_, err := pool.New(&pooltest.Fake{}, pool.Config{Name: "second"}, stack.Layers()...)
	if err == nil || !strings.Contains(err.Error(), `"first"`) || !strings.Contains(err.Error(), `"second"`) {
		t.Errorf("got %v, want an error that names both pools", err)
	}
}

// What New refuses, and with which reason.
func TestNewRefuses(t *testing.T) {
	s, other := standard(t, quiet()), standard(t, quiet())
	for _, tc := range []struct {
		name   string
		layers []pool.Middleware
		reason string
	}{
		{"two retries", []pool.Middleware{s.Total, s.Retry, other.Retry, s.Attempt}, `two layers of kind "retry": their effects multiply`},
		{"two breakers", []pool.Middleware{s.Breaker, other.Breaker}, `two layers of kind "breaker"`},
		{
			"total inside of retry", []pool.Middleware{s.Retry, s.Total, s.Breaker, s.Attempt},
			"timeout.total is inside of retry: it would bound each attempt, not the whole use; put it outside",
		},
		{
			"attempt outside of retry", []pool.Middleware{s.Total, s.Attempt, s.Retry, s.Breaker},
			"timeout.attempt is outside of retry: it would bound all attempts together; put it inside",
		},
		{
			"hidden in a chain", []pool.Middleware{s.Retry, pool.Chain(s.Breaker, pool.Chain(s.Total))},
			"timeout.total is inside of retry",
		},
	} {
		_, err := pool.New(&pooltest.Fake{}, pool.Config{}, tc.layers...)
		if err == nil || !strings.Contains(err.Error(), tc.reason) {
			t.Errorf("%s: got %v, want an error that says %q", tc.name, err, tc.reason)
		}
	}
}

// What New accepts, but warns of.
func TestNewWarns(t *testing.T) {
	s := standard(t, quiet())
	often := standard(t, middleware.Options{Retry: retry.Config{MaxAttempts: 11}})
	for _, tc := range []struct {
		name   string
		layers []pool.Middleware
		want   []string
	}{
		{"standard", s.Layers(), nil},
		{
			"retry alone", []pool.Middleware{s.Retry},
			[]string{
				"retry without a timeout for each attempt: one attempt can use up all the time",
				"retry without a timeout for the whole use: attempts and pauses add up",
			},
		},
		{
			"breaker outside of retry", []pool.Middleware{s.Total, s.Breaker, s.Retry, s.Attempt},
			[]string{"breaker is outside of retry: the recommended order is the reverse"},
		},
		{
			"breaker inside of the attempt's limit", []pool.Middleware{s.Total, s.Retry, s.Attempt, s.Breaker},
			[]string{"timeout.attempt is outside of breaker: the recommended order is the reverse"},
		},
		{
			"tracing inside of retry", []pool.Middleware{s.Total, s.Retry, s.Tracing, s.Attempt},
			[]string{"retry is outside of tracing: the recommended order is the reverse"},
		},
		{
			"many attempts", []pool.Middleware{often.Total, often.Retry, often.Attempt},
			[]string{"the layers together make up to 11 attempts of one use"},
		},
	} {
		seen := &recorder{kinds: []pool.EventKind{pool.EventWarning}}
		_, end := newPool(t, &pooltest.Fake{}, pool.Config{}, append(slices.Clone(tc.layers), seen)...)
		end()
		var got []string
		for _, e := range seen.take() {
			got = append(got, e.Reason)
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: New warns %q, want %q", tc.name, got, tc.want)
		}
	}
}

// The handles tune the stack while it works.
func TestTuning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stack, calls := standard(t, quiet()), 0
		seen := &recorder{kinds: []pool.EventKind{pool.EventConfigured}}
		p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, append(stack.Layers(), seen)...)
		defer end()
		fail := func(context.Context, conn) error { calls++; return pooltest.ErrRefused }
		_ = p.Do(context.Background(), pool.Op{}, fail)
		if calls != 4 {
			t.Errorf("%d calls, want 4", calls)
		}
		err := errors.Join(
			stack.Retry.Configure(retry.Config{MaxAttempts: 2}),
			stack.Breaker.Configure(breaker.Config{ConsecutiveFailures: -1}),
			stack.Total.Configure(timeout.Config{Limit: time.Minute}),
			stack.Attempt.Configure(timeout.Config{Limit: time.Millisecond}),
		)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(seen.take()); n < 3 {
			t.Errorf("%d changes were reported, want those of retry and of both limits at least", n)
		}
		if l := p.Layers()[4]; l.Layer != "retry" || l.Multiplier != 2 {
			t.Errorf("retry is described as %+v, want it as it is set now", l)
		}
		calls = 0
		begin := time.Now()
		err = p.Do(context.Background(), pool.Op{Idempotent: true}, func(ctx context.Context, _ conn) error {
			calls++
			<-ctx.Done()
			return ctx.Err()
		})
		took := time.Since(begin)
		if calls != 2 || !errors.Is(err, timeout.ErrAttempt) || took > 60*time.Millisecond {
			t.Errorf("%d calls in %v, %v, want 2 of 1 ms", calls, took, err)
		}
	})
}

// sayAll lists what an error is, of those things that callers test for.
func sayAll(err error) string {
	var s []string
	for name, target := range map[string]error{
		"attempt": timeout.ErrAttempt, "total": timeout.ErrTotal, "open": breaker.ErrOpen, "gave up": retry.ErrGaveUp,
		"acquire": pool.ErrAcquireTimeout, "deadline": context.DeadlineExceeded, "canceled": context.Canceled, "refused": pooltest.ErrRefused,
	} {
		if errors.Is(err, target) {
			s = append(s, name)
		}
	}
	slices.Sort(s)
	return strings.Join(s, ", ")
}

// What comes out of the whole stack, and what the breaker makes of it.
func TestOutcomes(t *testing.T) {
	hang := func(ctx context.Context, _ conn) error { <-ctx.Done(); return ctx.Err() }
	refuse := func(context.Context, conn) error { return pooltest.ErrRefused }
	for _, tc := range []struct {
		name   string
		fn     func(context.Context, conn) error
		inject func(*testing.T, *pool.Pool[conn], *pooltest.Fake) (undo func())
		caller time.Duration // the deadline of the caller, 0 for none
		uses   int
		state  breaker.State
		last   string
	}{
		{"hanging server", hang, nil, 0, 2, breaker.StateOpen, "attempt, deadline, gave up, open"},
		{"refusing server", refuse, nil, 0, 2, breaker.StateOpen, "gave up, open, refused"},
		{"hanging dial", nothing, hangingDial, 0, 2, breaker.StateOpen, "acquire, deadline, gave up, open"},
		{"our own full pool", nothing, fullPool, 0, 20, breaker.StateClosed, "acquire, deadline"},
		{"callers in a hurry", hang, nil, time.Millisecond, 20, breaker.StateClosed, "deadline"},
		{"one use", refuse, nil, 0, 1, breaker.StateClosed, "gave up, refused"},
		{"one use of a hanging server", hang, nil, 0, 1, breaker.StateClosed, "attempt, deadline, gave up"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o, fake := quiet(), &pooltest.Fake{}
				o.Attempt.Limit = time.Second
				o.Breaker.OpenFor, o.Breaker.ConsecutiveFailures = time.Hour, 5
				stack := standard(t, o)
				p, end := newPool(t, fake, pool.Config{MaxSize: 1, OpenTimeout: time.Hour}, stack.Layers()...)
				defer end()
				if tc.inject != nil {
					defer tc.inject(t, p, fake)()
				}
				var err error
				for range tc.uses {
					ctx, cancel := context.Background(), context.CancelFunc(func() {})
					if tc.caller > 0 {
						ctx, cancel = context.WithTimeout(ctx, tc.caller)
					}
					err = p.Do(ctx, pool.Op{Idempotent: true}, tc.fn)
					cancel()
				}
				if got := stack.Breaker.State(); got != tc.state {
					t.Errorf("the breaker is %v, want %v", got, tc.state)
				}
				if got := sayAll(err); got != tc.last {
					t.Errorf("the last error is %s, want %s: %v", got, tc.last, err)
				}
			})
		})
	}
}

func hangingDial(_ *testing.T, _ *pool.Pool[conn], fake *pooltest.Fake) func() {
	fake.Inject(pooltest.Open, -1, pooltest.Hang())
	return func() {}
}

func fullPool(t *testing.T, p *pool.Pool[conn], _ *pooltest.Fake) func() {
	l, err := p.Acquire(context.Background(), pool.Op{})
	if err != nil {
		t.Fatal(err)
	}
	return func() { l.Release(nil) }
}

// In two steps the layers cover the acquisition, and the breaker hears the outcome at Release.
func TestLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := quiet()
		o.Breaker.ConsecutiveFailures = 5 // five at once would not do by default
		stack, fake := standard(t, o), &pooltest.Fake{}
		p, end := newPool(t, fake, pool.Config{OpenBackoff: time.Millisecond}, stack.Layers()...)
		defer end()
		// repeated, and a failure that the breaker counts
		fake.Inject(pooltest.Open, 1, pooltest.Fail(pooltest.ErrBroken))
		for i := range 4 {
			l, err := p.Acquire(context.Background(), pool.Op{})
			if err != nil {
				t.Fatalf("lease %d: %v", i, err)
			}
			if _, ok := l.Context().Deadline(); ok || l.Context().Err() != nil {
				t.Errorf("lease %d has a deadline, or is over already: %v", i, l.Context().Err())
			}
			l.Release(pooltest.ErrRefused)
		}
		if got := stack.Breaker.State(); got != breaker.StateOpen {
			t.Errorf("after a dial and 4 leases that failed by the server the breaker is %v, want open", got)
		}
		if _, err := p.Acquire(context.Background(), pool.Op{}); !errors.Is(err, breaker.ErrOpen) {
			t.Errorf("got %v, want the breaker's refusal", err)
		}
	})
}

// The whole limit holds for attempts and pauses together, and names itself.
func TestTotal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := quiet()
		o.Total.Limit, o.Attempt.Limit = 2500*time.Millisecond, time.Second
		o.Retry = retry.Config{MaxAttempts: 10, Jitter: -1, InitialDelay: 100 * time.Millisecond, MaxDelay: 100 * time.Millisecond}
		o.Without = []string{middleware.KindBreaker}
		p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, standard(t, o).Layers()...)
		defer end()
		begin := time.Now()
		err := p.Do(context.Background(), pool.Op{Idempotent: true}, func(ctx context.Context, _ conn) error {
			<-ctx.Done()
			return ctx.Err()
		})
		if took := time.Since(begin); took != 2500*time.Millisecond {
			t.Errorf("it took %v, want 2.5s", took)
		}
		var e *retry.Error
		if !errors.Is(err, timeout.ErrTotal) || !errors.As(err, &e) || e.Attempts != 3 {
			t.Errorf("got %v, want ErrTotal after the third attempt", err)
		}
	})
}

// B4: six callers that cancel open gobreaker's and failsafe's breakers. In the stack, nothing opens
// and nothing is repeated.
func TestPitfallB4(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stack := standard(t, quiet())
		seen := &recorder{kinds: []pool.EventKind{pool.EventRetry, pool.EventGaveUp, pool.EventStateChanged, pool.EventTimeout}}
		p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, append(stack.Layers(), seen)...)
		defer end()
		for i := range 60 {
			calls := 0
			ctx, cancel := context.WithCancel(context.Background())
			err := p.Do(ctx, pool.Op{Name: "GET", Idempotent: true}, func(_ context.Context, c conn) error {
				calls++
				cancel()
				return c.Block() // it notices only that its socket was shut, and calls that a broken connection
			})
			if calls != 1 || !errors.Is(err, context.Canceled) {
				t.Fatalf("caller %d: %d calls, %v, want one call, canceled", i, calls, err)
			}
		}
		if s := stack.Breaker.Snapshot(); s.State != breaker.StateClosed || s.Counts.Failures != 0 {
			t.Errorf("the breaker stands at %+v, want closed, no failures", s)
		}
		if events := seen.take(); events != nil {
			t.Errorf("got events %+v, want none", events)
		}
	})
}

// B6: failsafe's timeout sets no deadline, and does not return early. In the stack, each attempt
// has one and ends by it.
func TestPitfallB6(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := quiet()
		o.Total.Limit, o.Attempt.Limit = time.Minute, time.Second
		o.Retry = retry.Config{MaxAttempts: 3, Jitter: -1, InitialDelay: 100 * time.Millisecond, Multiplier: 1}
		p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, standard(t, o).Layers()...)
		defer end()
		var deadlines []time.Duration
		begin := time.Now()
		err := p.Do(context.Background(), pool.Op{Idempotent: true}, func(ctx context.Context, _ conn) error {
			d, _ := ctx.Deadline()
			deadlines = append(deadlines, d.Sub(begin))
			<-ctx.Done()
			return ctx.Err()
		})
		want := []time.Duration{time.Second, 2100 * time.Millisecond, 3200 * time.Millisecond}
		if took := time.Since(begin); !slices.Equal(deadlines, want) || took != want[2] {
			t.Errorf("the attempts had deadlines at %v, and it took %v, want %v: %v", deadlines, took, want, err)
		}
	})
}

// B7: backoff v4 starts a 10 s wait with 50 ms left, and loses the operation's error. The same with
// a deadline of our own total limit.
func TestPitfallB7(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := quiet()
		o.Total.Limit = 50 * time.Millisecond
		o.Retry = retry.Config{InitialDelay: 10 * time.Second}
		p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, standard(t, o).Layers()...)
		defer end()
		begin := time.Now()
		err := p.Do(context.Background(), pool.Op{}, func(context.Context, conn) error { return pooltest.ErrRefused })
		if took := time.Since(begin); took != 0 || sayAll(err) != "deadline, gave up, refused" {
			t.Errorf("after %v: %v, want both errors at once", took, err)
		}
	})
}

// B9: attempts must not multiply. The worst case can be read off the layers, and it is what a
// server that is down gets to see.
func TestPitfallB9(t *testing.T) {
	for attempts := 1; attempts <= 5; attempts++ {
		synctest.Test(t, func(t *testing.T) {
			o, calls, fake := quiet(), 0, &pooltest.Fake{}
			o.Retry.MaxAttempts = attempts
			o.Without = []string{middleware.KindBreaker}
			fake.Inject(pooltest.Use, -1, func(context.Context) error { calls++; return pooltest.ErrBroken })
			p, end := newPool(t, fake, pool.Config{}, standard(t, o).Layers()...)
			defer end()
			err := p.Do(context.Background(), pool.Op{Idempotent: true}, func(ctx context.Context, c conn) error { return c.Use(ctx) })
			worst := 1
			for _, l := range p.Layers() {
				worst *= max(1, l.Multiplier)
			}
			if calls != attempts || worst != attempts || !errors.Is(err, pooltest.ErrBroken) {
				t.Errorf("%d calls, at worst %d, want %d: %v", calls, worst, attempts, err)
			}
		})
	}
}

func Example() {
	stack, err := middleware.Standard(middleware.Options{
		Logging: logging.Config{Logger: slog.New(slog.DiscardHandler)},
		Total:   timeout.Config{Limit: 2 * time.Second},
		Attempt: timeout.Config{Limit: 500 * time.Millisecond},
		Without: []string{middleware.KindTracing, middleware.KindMetrics},
	})
	if err != nil {
		panic(err)
	}
	server := &pooltest.Fake{}
	p, err := pool.New(server, pool.Config{Name: "sessions"}, stack.Layers()...)
	if err != nil {
		panic(err)
	}
	defer p.Close(context.Background())
	for _, l := range p.Layers() {
		fmt.Println(l.Layer)
	}

	server.Inject(pooltest.Use, 2, pooltest.Fail(pooltest.ErrBroken)) // two connections are lost
	err = p.Do(context.Background(), pool.Op{Name: "GET", Idempotent: true}, func(ctx context.Context, c *pooltest.Conn) error {
		return c.Use(ctx)
	})
	fmt.Println("error:", err, "- breaker:", stack.Breaker.State())

	// While the pool is in use, the handles change what the layers do.
	fmt.Println(stack.Retry.Configure(retry.Config{MaxAttempts: 2}), stack.Retry.Config().MaxAttempts)
	// Output:
	// logging
	// timeout.total
	// retry
	// breaker
	// timeout.attempt
	// error: <nil> - breaker: closed
	// <nil> 2
}

// bad is an error whose methods panic.
type bad struct{}

func (bad) Error() string { panic("bad error") }
func (bad) Unwrap() error { panic("bad error") }
func (bad) Is(error) bool { panic("bad error") }

// The breaker's goroutine for looks receives the errors of a driver. An error whose methods panic
// does not end the process.
func TestADriversErrorThatPanics(t *testing.T) {
	for _, step := range []pooltest.Step{pooltest.Open, pooltest.Check} {
		synctest.Test(t, func(t *testing.T) {
			fake, stack := &pooltest.Fake{}, standard(t, quiet())
			p, end := newPool(t, fake, pool.Config{}, stack.Layers()...)
			defer end()
			fake.Inject(step, -1, pooltest.Fail(bad{}))
			use := func(broken error) error {
				return p.Do(context.Background(), pool.Op{Name: "GET"}, func(context.Context, conn) error { return broken })
			}
			for range 100 {
				_ = use(pooltest.ErrBroken)
				time.Sleep(50 * time.Millisecond)
			}
			if s := stack.Breaker.State(); s == breaker.StateClosed {
				t.Errorf("%v: the breaker is %v", step, s)
			}
			fake.Inject(step, 0, nil)
			time.Sleep(2 * time.Second)
			if err := use(nil); err != nil {
				t.Errorf("%v: %v", step, err)
			}
		})
	}
}
