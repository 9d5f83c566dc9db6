package pooltest

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/internal/poison"
	"github.com/earnorm/poolstack/pool/settings"
)

// patience bounds the waits of the suites. A suite reaches patience only if something hangs.
const patience = 30 * time.Second

// RunMiddleware tests whether a layer keeps the rules of package pool:
//
//   - Successes, results, errors, panics and runtime.Goexit pass through the layer, in one-step and
//     two-step uses.
//   - Every layer outside and inside sees exactly 1 End for each Begin.
//   - The context of a lease lives until Release.
//   - Every resource is released, in every case.
//   - A use passes after many failures that tell nothing bad about the server.
//   - A change of the layer's settings is reported.
//   - No Call is used after its end.
//
// fresh returns a new layer at each call. A new layer must let uses pass. RunMiddleware calls fresh
// many times. RunMiddleware must not run in parallel with other tests that use pools, because
// RunMiddleware makes ended Calls panic in all pools of the process.
func RunMiddleware(t *testing.T, fresh func(t testing.TB) pool.Middleware) {
	t.Helper()
	poison.On.Store(true)
	t.Cleanup(func() { poison.On.Store(false) })
	for _, c := range []struct {
		name string
		test func(t *testing.T, s *stage)
	}{
		{"lets success pass", testSuccess},
		{"lets errors pass", testErrors},
		{"lets panics pass", testPanics},
		{"lets Goexit pass", testGoexit},
		{"returns when the caller gives up", testCancel},
		{"is cancelled on arrival", testCancelledOnArrival},
		{"keeps the lease's context alive until Release", testLeaseContext},
		{"ends a lease once", testReleaseOnce},
		{"gives the resource back when an outer layer fails after the grant", testOuterFailure},
		{"carries the pool's errors", testPoolErrors},
		{"lets attempts fork outside of it", testForks},
		{"lets uses pass after many failures", testManyFailures},
		{"describes itself", testDescription},
		{"reports new settings", testSettings},
		{"holds under load", testLoad},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, newStage(t, fresh, fresh(t))) })
	}
	t.Run("attaches and detaches", func(t *testing.T) {
		layer := fresh(t)
		for range 3 {
			newStage(t, fresh, layer).finish()
		}
	})
}

// stage is a pool with the tested layer between two spies.
type stage struct {
	t            *testing.T
	fake         *Fake
	outer, inner *Spy
	pool         *pool.Pool[*Conn]
	fresh        func(t testing.TB) pool.Middleware
	finish       func()
}

func newStage(t *testing.T, fresh func(t testing.TB) pool.Middleware, tested ...pool.Middleware) *stage {
	t.Helper()
	s := &stage{t: t, fake: &Fake{}, outer: &Spy{}, inner: &Spy{}, fresh: fresh}
	layers := slices.Concat([]pool.Middleware{pool.Bracket(s.outer)}, tested, []pool.Middleware{pool.Bracket(s.inner)})
	p, err := pool.New(s.fake, pool.Config{Name: "stage", MaxSize: 4, AcquireTimeout: patience}, layers...)
	if err != nil {
		t.Fatalf("New with the layer: %v", err)
	}
	s.pool = p
	s.finish = sync.OnceFunc(s.verify)
	t.Cleanup(s.finish)
	return s
}

// verify closes the pool, and checks for leases, connections and violations.
func (s *stage) verify() {
	s.t.Helper()
	if n := s.pool.Stat().InUse; n != 0 {
		s.t.Errorf("%d resources are still lent", n)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience/15)
	defer cancel()
	if err := s.pool.Close(ctx); err != nil {
		s.t.Errorf("Close: %v", err)
	}
	for name, spy := range map[string]*Spy{"outside": s.outer, "inside": s.inner} {
		if begins, ends := spy.Counts(); begins != ends {
			s.t.Errorf("the layer %s of it saw %d begins and %d ends", name, begins, ends)
		}
	}
	if _, _, alive, _ := s.fake.Counts(); alive != 0 {
		s.t.Errorf("%d connections are alive after Close", alive)
	}
	for _, v := range s.fake.Violations() {
		s.t.Error(v)
	}
}

// op is idempotent, so retry layers retry.
var op = pool.Op{Name: "GET", Target: "things", Key: "k", Idempotent: true}

func testSuccess(t *testing.T, s *stage) {
	ctx := context.Background()
	calls := 0
	use := func(ctx context.Context, c *Conn) error { calls++; return c.Use(ctx) }
	if err := s.pool.Do(ctx, op, use); err != nil || calls != 1 {
		t.Errorf("Do: error %v after %d calls, want none after 1", err, calls)
	}
	got, err := pool.Get(ctx, s.pool, op, func(ctx context.Context, c *Conn) (string, error) { return "value", c.Use(ctx) })
	if got != "value" || err != nil {
		t.Errorf("Get: %q, %v, want \"value\", nil", got, err)
	}
	l, err := s.pool.Acquire(ctx, op)
	if err != nil {
		t.Fatalf("Acquire: %v", err)
	}
	if c, ok := l.Value(); !ok || c.Use(l.Context()) != nil {
		t.Error("the lease has no usable value")
	}
	if _, ends := s.inner.Counts(); ends != 2 {
		t.Errorf("before Release the layer inside saw %d ends, want 2", ends)
	}
	if !l.Release(nil) {
		t.Error("Release says that the lease was over")
	}
	if begins, ends := s.inner.Counts(); begins != 3 || ends != 3 {
		t.Errorf("the layer inside saw %d begins and %d ends, want 3 and 3", begins, ends)
	}
}

func testErrors(t *testing.T, s *stage) {
	s.finish()
	ctx := context.Background()
	for _, want := range []error{ErrReply, ErrMiss, ErrDenied, ErrRefused, ErrBroken, context.DeadlineExceeded, errors.New("the caller's own")} {
		// A new layer, because some layers let nothing pass after failures.
		s := newStage(t, s.fresh, s.fresh(t))
		if err := s.pool.Do(ctx, op, func(context.Context, *Conn) error { return want }); !errors.Is(err, want) {
			t.Errorf("Do returned %v, want an error that wraps %v", err, want)
		}
		_, err := pool.Get(ctx, s.pool, op, func(context.Context, *Conn) (int, error) { return 0, want })
		if !errors.Is(err, want) {
			t.Errorf("Get returned %v, want an error that wraps %v", err, want)
		}
		if l, err := s.pool.Acquire(ctx, op); err == nil {
			l.Release(want)
		} else if class := (driver.Classified)(nil); !errors.As(err, &class) {
			t.Errorf("Acquire: %v, want none or one that knows its class", err)
		}
	}
}

func testPanics(t *testing.T, s *stage) {
	ctx := context.Background()
	func() {
		defer func() {
			if v := recover(); v != "boom" {
				t.Errorf("recovered %v, want boom", v)
			}
		}()
		_ = s.pool.Do(ctx, op, func(context.Context, *Conn) error { panic("boom") })
	}()
	if _, closed, _, _ := s.await(1); closed != 1 {
		t.Errorf("%d connections were closed after a panic in the use, want 1", closed)
	}
	if err := s.inner.Last(); !errors.Is(err, pool.ErrAborted) {
		t.Errorf("the layer inside saw %v, want ErrAborted", err)
	}
	if err := s.outer.Last(); !errors.Is(err, pool.ErrAborted) {
		t.Errorf("the layer outside saw %v, want ErrAborted", err)
	}
}

func testGoexit(t *testing.T, s *stage) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.pool.Do(context.Background(), op, func(context.Context, *Conn) error { runtime.Goexit(); return nil })
		t.Error("Do returned after Goexit")
	}()
	<-done
	if err := s.outer.Last(); !errors.Is(err, pool.ErrAborted) {
		t.Errorf("the layer outside saw %v, want ErrAborted", err)
	}
}

// await waits until n connections are closed, at most for patience.
func (s *stage) await(n int) (opened, closed, alive, peak int) {
	deadline := time.Now().Add(patience)
	for {
		opened, closed, alive, peak = s.fake.Counts()
		if closed >= n || time.Now().After(deadline) {
			return opened, closed, alive, peak
		}
		runtime.Gosched()
	}
}

func testCancel(t *testing.T, s *stage) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	using := make(chan *Conn, 1)
	done := make(chan error, 1)
	go func() {
		done <- s.pool.Do(ctx, op, func(_ context.Context, c *Conn) error {
			using <- c
			return c.Block() // only the interrupt ends Block
		})
	}()
	c := <-using
	cancel()
	late := time.AfterFunc(patience/15, func() {
		t.Error("the caller has given up, and the use goes on")
		s.fake.Interrupt(c)
	})
	defer late.Stop()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Do returned %v, want context.Canceled", err)
	}
}

func testCancelledOnArrival(t *testing.T, s *stage) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	called := false
	err := s.pool.Do(ctx, op, func(context.Context, *Conn) error { called = true; return nil })
	if !errors.Is(err, context.Canceled) || called {
		t.Errorf("Do returned %v, called %t, want context.Canceled, false", err, called)
	}
	past, cancel := context.WithDeadline(context.Background(), time.Now().Add(-time.Second))
	defer cancel()
	if _, err := s.pool.Acquire(past, op); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Acquire returned %v, want context.DeadlineExceeded", err)
	}
}

func testLeaseContext(t *testing.T, s *stage) {
	type key struct{}
	ctx := context.WithValue(context.Background(), key{}, "value")
	l, err := s.pool.Acquire(ctx, op)
	if err != nil {
		t.Fatalf("Acquire: %v", err)
	}
	defer l.Release(nil)
	if err := l.Context().Err(); err != nil {
		t.Errorf("the lease's context is over before Release: %v", err)
	}
	select {
	case <-l.Context().Done():
		t.Error("the lease's context is done before Release")
	default:
	}
	if l.Context().Value(key{}) != "value" {
		t.Error("the lease's context does not descend from the caller's")
	}
}

func testReleaseOnce(t *testing.T, s *stage) {
	for range 200 {
		l, err := s.pool.Acquire(context.Background(), op)
		if err != nil {
			t.Fatalf("Acquire: %v", err)
		}
		var accepted atomic.Int32
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if l.Release(nil) {
					accepted.Add(1)
				}
			})
		}
		wg.Wait()
		if n := accepted.Load(); n != 1 {
			t.Fatalf("%d of 3 releases at once were accepted, want 1", n)
		}
		if _, ok := l.Value(); ok {
			t.Fatal("the lease has a value after Release")
		}
	}
}

func testOuterFailure(t *testing.T, s *stage) {
	fail := errors.New("an outer layer fails after the grant")
	failing := pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
		return func(ctx context.Context, c *pool.Call) error {
			if err := next(ctx, c); err != nil {
				return err
			}
			return fail
		}
	})
	s.finish()
	for name, around := range map[string]pool.Middleware{
		"outside": pool.Chain(failing, s.fresh(t)),
		"inside":  pool.Chain(s.fresh(t), failing),
	} {
		s := newStage(t, s.fresh, around)
		if _, err := s.pool.Acquire(context.Background(), op); !errors.Is(err, fail) {
			t.Errorf("failing %s: Acquire returned %v, want its error", name, err)
		}
		s.finish()
	}
}

func testPoolErrors(t *testing.T, s *stage) {
	s.pool.Pause(errors.New("maintenance"))
	err := s.pool.Do(context.Background(), op, func(context.Context, *Conn) error { return nil })
	var poolErr *pool.Error
	if !errors.Is(err, pool.ErrPaused) || !errors.As(err, &poolErr) {
		t.Errorf("Do on a paused pool returned %v, want a *pool.Error that wraps ErrPaused", err)
	}
	s.pool.Resume()
	if err := s.pool.Do(context.Background(), op, func(context.Context, *Conn) error { return nil }); err != nil {
		t.Errorf("Do after Resume: %v", err)
	}
}

func testDescription(t *testing.T, s *stage) {
	for _, info := range s.pool.Layers() {
		if info.Layer == "" {
			t.Error("a layer describes itself without a kind")
		}
	}
	for _, l := range s.pool.Levels() {
		if l.Layer == "" || l.Name == "" || l.Read == nil {
			t.Errorf("a layer has the level %+v, without a layer, a name or Read", l)
			continue
		}
		if i, ok := l.Read(); ok && l.States != nil && (i != math.Trunc(i) || i < 0 || int(i) >= len(l.States)) {
			t.Errorf("the level %s of %s is %v, which is none of its %d states", l.Name, l.Layer, i, len(l.States))
		}
	}
}

// testManyFailures ends uses in all ways that tell nothing bad about the server. A layer that
// admits a limited number of uses must free the place of each of these uses.
func testManyFailures(t *testing.T, s *stage) {
	const uses = 3000 // more than the limit of a layer under test
	own := errors.New("the caller's own")
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	for i := range uses {
		ctx := context.Background()
		switch i % 5 {
		case 0:
			_ = s.pool.Do(ctx, op, func(context.Context, *Conn) error { return ErrReply })
		case 1:
			_ = s.pool.Do(ctx, op, func(context.Context, *Conn) error { return own })
		case 2:
			_ = s.pool.Do(canceled, op, func(context.Context, *Conn) error { return nil })
		case 3:
			if l, err := s.pool.Acquire(ctx, op); err == nil {
				l.Release(own)
			}
		case 4:
			func() {
				defer func() { _ = recover() }()
				_ = s.pool.Do(ctx, op, func(context.Context, *Conn) error { panic("boom") })
			}()
		}
	}
	if err := s.pool.Do(context.Background(), op, func(context.Context, *Conn) error { return nil }); err != nil {
		t.Errorf("a use after %d that failed: %v", uses, err)
	}
}

// testSettings changes the settings of the layer to the values in force. A change is reported even
// then.
func testSettings(t *testing.T, s *stage) {
	s.finish()
	layer, seen := s.fresh(t), &configurations{}
	tunables := tunablesOf(layer)
	newStage(t, s.fresh, pool.Chain(seen, layer))
	for _, tunable := range tunables {
		tuning := tunable.Tuning()
		if tuning == nil {
			t.Errorf("the Tuning of %T is nil", tunable)
			continue
		}
		state := tuning.Read()
		for _, f := range tuning.Fields() {
			if f.Secret {
				continue
			}
			before := seen.n.Load()
			result, err := tuning.Apply(settings.Request{
				Source: settings.Fleet, Revision: tuning.Read().Revision, Actor: "pooltest", Reason: "a test",
				Values: map[string]string{f.Name: state.Effective[f.Name]},
			})
			if err != nil || len(result.Changes) > 0 {
				t.Errorf("%s: the value in force of %s is not the same value when it is applied: %v, %v", tuning.Layer(), f.Name, result.Changes, err)
			}
			if seen.n.Load() != before+1 {
				t.Errorf("%s: new settings are not reported as a pool.EventConfigured with Settings: see settings.Hooks and pool.Attached", tuning.Layer())
			}
		}
	}
}

// configurations is a layer that counts the reports of new settings.
type configurations struct{ n atomic.Int64 }

func (*configurations) Wrap(next pool.Handler) pool.Handler { return next }

func (c *configurations) Observe(_ context.Context, e pool.Event) {
	if e.Kind == pool.EventConfigured && e.Settings != nil {
		c.n.Add(1)
	}
}

// tunablesOf returns the parts of a layer that have settings.
func tunablesOf(layer any) (all []settings.Tunable) {
	if t, ok := layer.(settings.Tunable); ok {
		all = append(all, t)
	}
	if c, ok := layer.(pool.Composite); ok {
		for _, part := range c.Unwrap() {
			all = append(all, tunablesOf(part)...)
		}
	}
	return all
}

// testForks puts another layer outside of the tested layer. The other layer makes two attempts at
// once and adopts a successful attempt.
func testForks(t *testing.T, s *stage) {
	s.finish()
	s = newStage(t, s.fresh, pool.MiddlewareFunc(race), s.fresh(t))
	ctx := context.Background()
	for range 50 {
		got, err := pool.Get(ctx, s.pool, op, func(ctx context.Context, c *Conn) (int, error) { return 7, c.Use(ctx) })
		if got != 7 || err != nil {
			t.Fatalf("Get: %d, %v", got, err)
		}
		l, err := s.pool.Acquire(ctx, op)
		if err != nil {
			t.Fatalf("Acquire: %v", err)
		}
		if err := l.Context().Err(); err != nil {
			t.Fatalf("the context of an adopted lease is over: %v", err)
		}
		l.Release(nil)
	}
}

// race is a hedging layer without a delay.
func race(next pool.Handler) pool.Handler {
	return func(ctx context.Context, c *pool.Call) error {
		forks := []*pool.Call{c.Fork(), c.Fork()}
		if forks[0] == nil {
			return next(ctx, c)
		}
		errs := []error{nil, nil}
		var wg sync.WaitGroup
		for i, f := range forks {
			wg.Go(func() { errs[i] = next(ctx, f) })
		}
		wg.Wait()
		winner := 0
		if errs[0] != nil {
			winner = 1
		}
		forks[1-winner].Drop()
		if errs[winner] != nil {
			forks[winner].Drop()
			return errs[winner]
		}
		c.Adopt(forks[winner])
		return nil
	}
}

// testLoad mixes all kinds of uses, with random outcomes.
func testLoad(t *testing.T, s *stage) {
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 100 {
				loadOnce(s)
			}
		})
	}
	wg.Wait()
}

func loadOnce(s *stage) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	outcome := []error{nil, nil, nil, ErrReply, ErrMiss, ErrBroken, ErrRefused}[rand.IntN(7)]
	use := func(_ context.Context, c *Conn) error { return errors.Join(c.Use(ctx), outcome) }
	switch rand.IntN(6) {
	case 0:
		_ = s.pool.Do(ctx, op, use)
	case 1:
		_, _ = pool.Get(ctx, s.pool, op, func(ctx context.Context, c *Conn) (int, error) { return 1, use(ctx, c) })
	case 2:
		if l, err := s.pool.Acquire(ctx, op); err == nil {
			c, _ := l.Value()
			err := use(ctx, c)
			var other sync.WaitGroup
			other.Go(func() { l.Release(err) })
			l.Release(err)
			other.Wait()
		}
	case 3:
		go cancel()
		_ = s.pool.Do(ctx, op, use)
	case 4:
		if l, err := s.pool.TryAcquire(ctx, op); err == nil {
			l.Discard(outcome)
		}
	case 5:
		func() {
			defer func() { _ = recover() }()
			_ = s.pool.Do(ctx, op, func(context.Context, *Conn) error { panic("boom") })
		}()
	}
}

// Spy is a layer that counts uses, for [pool.Bracket]. The zero Spy is ready to use. All methods
// may be called concurrently.
type Spy struct {
	mu           sync.Mutex
	begins, ends int
	last         error
}

// Begin counts the beginning of a use.
func (s *Spy) Begin(ctx context.Context, _ *pool.Call) (context.Context, int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begins++
	return ctx, s.begins, nil
}

// End counts the end of a use, and keeps the outcome. End calls several methods of the Call. In
// RunMiddleware these methods panic if the Call has ended.
func (s *Spy) End(_ context.Context, c *pool.Call, _ int, err error) {
	_, _, _ = c.Op(), c.Attempt(), c.Classify(err)
	c.Acquired()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ends++
	s.last = err
}

// Counts returns the number of Begin calls and of End calls.
func (s *Spy) Counts() (begins, ends int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.begins, s.ends
}

// Last returns the outcome of the use ended last. Last returns nil if no use has ended.
func (s *Spy) Last() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}
