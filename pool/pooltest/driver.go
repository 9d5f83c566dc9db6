package pooltest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
)

// DriverSuite holds the functions needed by [RunDriver]. Only New is required. The tests of a nil
// function are skipped.
type DriverSuite[T any] struct {
	// New returns a driver for a running server. New is called for every test.
	New func(t testing.TB) driver.Driver[T]
	// Use sends a cheap command, and returns an error if the reply is not the reply to the command.
	// Use must return when ctx is over. nil means a function that does nothing.
	Use func(ctx context.Context, res T) error
	// Unreachable returns a driver for a server that cannot be reached.
	Unreachable func(t testing.TB) driver.Driver[T]
	// Break makes res fail from now on, as after a cut connection.
	Break func(t testing.TB, res T)
	// Soil leaves state in res that the next borrower must not see. Soiled reports whether the state
	// is visible. Soil needs Soiled, and a driver that is a [driver.Resetter].
	Soil   func(ctx context.Context, res T) error
	Soiled func(ctx context.Context, res T) (bool, error)
	// Block sends a command that gets no answer during the test. Block returns when ctx is over.
	Block func(ctx context.Context, res T) error
	// Late sends a command with an answer after about 100 ms. The answer differs from the answer to
	// Use.
	Late func(ctx context.Context, res T) error
	// Secrets are texts that no error, no identity and no print of the driver may contain.
	Secrets []string
}

// RunDriver tests the contract of [driver.Driver] and of the driver's optional interfaces, with and
// without a pool. If the driver lacks an interface or the suite lacks a function, the test is
// skipped or the gap is logged, with the reason. go test -v shows the reasons.
func RunDriver[T any](t *testing.T, s DriverSuite[T]) {
	t.Helper()
	if s.Use == nil {
		s.Use = func(context.Context, T) error { return nil }
	}
	for _, c := range []struct {
		name    string
		test    func(t *testing.T)
		missing string // what the test needs and the suite lacks; "" if nothing
	}{
		{"opens, checks and closes", s.testLifecycle, ""},
		{"returns in a context that is over", s.testDeadContext, ""},
		{"keeps resources apart", s.testApart, ""},
		{"says that it is unreachable", s.testUnreachable, missing("Unreachable", s.Unreachable == nil)},
		{"finds a broken resource", s.testBroken, missing("Break", s.Break == nil)},
		{"resets", s.testReset, missing("Soil", s.Soil == nil)},
		{"returns at the end of the context", s.testInterrupt, missing("Block", s.Block == nil)},
		{"keeps a late reply from the next borrower", s.testLate, missing("Late", s.Late == nil)},
		{"classifies", s.testClassify, ""},
		{"testifies", s.testWitness, ""},
		{"describes itself without secrets", s.testIdentity, ""},
		{"holds under a pool", s.testPool, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.missing != "" {
				t.Skip("not proven: " + c.missing)
			}
			c.test(t)
		})
	}
}

func missing(field string, is bool) string {
	if is {
		return "the suite has no " + field
	}
	return ""
}

func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// open opens a resource. The resource is closed at the end of the test.
func (s DriverSuite[T]) open(t *testing.T, d driver.Driver[T]) T {
	t.Helper()
	res, err := d.Open(bounded(t))
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { _ = d.Close(bounded(t), res) })
	return res
}

func (s DriverSuite[T]) testLifecycle(t *testing.T) {
	d, ctx := s.New(t), bounded(t)
	res, err := d.Open(ctx)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	if err := d.Check(ctx, res); err != nil {
		t.Errorf("Check of a new resource: %v", err)
	}
	valid := func(what string) {
		if v, ok := d.(driver.Validator[T]); ok && !v.Valid(res) {
			t.Errorf("a resource is not valid %s", what)
		}
	}
	valid("after its check")
	if err := s.Use(ctx, res); err != nil {
		t.Errorf("Use: %v", err)
	}
	valid("after a use")
	if err := d.Check(ctx, res); err != nil {
		t.Errorf("Check after a use: %v", err)
	}
	if r, ok := d.(driver.Resetter[T]); ok && r.Dirty(res) {
		t.Error("a plain use left the resource dirty")
	}
	if err := d.Close(ctx, res); err != nil {
		t.Errorf("Close: %v", err)
	}
	if d.Check(ctx, res) == nil {
		t.Error("Check of a closed resource succeeds: Close must close the resource")
	}
}

func (s DriverSuite[T]) testDeadContext(t *testing.T) {
	d := s.New(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	within(t, "Open in a cancelled context", func() {
		if res, err := d.Open(ctx); err == nil {
			t.Log("Open succeeds in a cancelled context")
			_ = d.Close(bounded(t), res)
		}
	})
	res := s.open(t, d)
	within(t, "Check in a cancelled context", func() { _ = d.Check(ctx, res) })
	closing, err := d.Open(bounded(t))
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	within(t, "Close in a cancelled context", func() { _ = d.Close(ctx, closing) })
}

// within fails the test if f takes longer than the limit for a method with an ended context,
// patience/6.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	limit := time.NewTimer(patience / 6)
	defer limit.Stop()
	select {
	case <-done:
	case <-limit.C:
		t.Fatalf("%s has not returned after %v", what, patience/6)
	}
}

func (s DriverSuite[T]) testApart(t *testing.T) {
	d, ctx := s.New(t), bounded(t)
	kept := s.open(t, d)
	ended, err := d.Open(ctx)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	if err := d.Close(ctx, ended); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := d.Check(ctx, kept); err != nil {
		t.Errorf("Check of a resource after another was closed: %v", err)
	}
	if err := s.Use(ctx, kept); err != nil {
		t.Errorf("Use of a resource after another was closed: %v", err)
	}
}

func (s DriverSuite[T]) testUnreachable(t *testing.T) {
	d := s.Unreachable(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience/10)
	defer cancel()
	res, err := d.Open(ctx)
	if err == nil {
		_ = d.Close(ctx, res)
		t.Fatal("Open succeeds though no server is there")
	}
	s.silent(t, "Open's error", err.Error())
	if c, ok := d.(driver.Classifier); ok {
		if class := c.Classify(err); class.Fault != driver.FaultServer {
			t.Errorf("the fault of %v is %v, want server", err, class.Fault)
		}
	} else if _, known := driver.ClassifyCommon(err); !known {
		t.Logf("not proven: whether an open may be repeated that fails with %v: driver.ClassifyCommon does not know this error", err)
	}
}

func (s DriverSuite[T]) testBroken(t *testing.T) {
	d, ctx := s.New(t), bounded(t)
	res := s.open(t, d)
	s.Break(t, res)
	err := s.Use(ctx, res)
	if err == nil {
		t.Fatal("Use of a broken resource succeeds")
	}
	s.silent(t, "Use's error", err.Error())
	if c, ok := d.(driver.Classifier); ok {
		if class := c.Classify(err); !class.Broken || class.Fault != driver.FaultServer {
			t.Errorf("the class of %v is %+v, want broken, at the server", err, class)
		}
	} else if _, known := driver.ClassifyCommon(err); !known {
		t.Logf("not proven: that %v is the fault of the server: driver.ClassifyCommon does not know this error; its resource is checked", err)
	}
	if err := d.Check(ctx, res); err == nil {
		t.Error("Check of a broken resource succeeds")
	} else {
		s.silent(t, "Check's error", err.Error())
	}
}

func (s DriverSuite[T]) testReset(t *testing.T) {
	d, ctx := s.New(t), bounded(t)
	r, ok := d.(driver.Resetter[T])
	if !ok {
		t.Fatal("the suite can soil resources of a driver that is no Resetter")
	}
	res := s.open(t, d)
	if err := s.Soil(ctx, res); err != nil {
		t.Fatalf("Soil: %v", err)
	}
	if !r.Dirty(res) {
		t.Fatal("a soiled resource is not dirty")
	}
	if err := r.Reset(ctx, res); err != nil {
		t.Fatalf("Reset: %v", err)
	}
	if r.Dirty(res) {
		t.Error("a resource is dirty after Reset")
	}
	if soiled, err := s.Soiled(ctx, res); soiled || err != nil {
		t.Errorf("after Reset: soiled %t, %v", soiled, err)
	}
}

// endings are the ways in which a context ends during a command.
var endings = []struct {
	name string
	make func(d time.Duration) (ctx context.Context, end func())
	want error
}{
	{"a deadline", func(d time.Duration) (context.Context, func()) {
		return context.WithTimeout(context.Background(), d)
	}, context.DeadlineExceeded},
	// The timeout layers make such deadlines. The driver reads the deadline from the context.
	{"a deadline without a timer, as from pool.WithDeadline", func(d time.Duration) (context.Context, func()) {
		ctx, deadline := pool.WithDeadline(context.Background(), time.Now().Add(d), nil)
		return ctx, deadline.Cancel
	}, context.DeadlineExceeded},
	// The pool calls the Interrupter.
	{"a cancellation", func(d time.Duration) (context.Context, func()) {
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(d, cancel)
		return ctx, cancel
	}, context.Canceled},
}

// single returns a pool with a single resource, already open.
func (s DriverSuite[T]) single(t *testing.T) *pool.Pool[T] {
	t.Helper()
	p, err := pool.New(s.New(t), pool.Config{MaxSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close(bounded(t)) })
	if err := p.Warm(bounded(t), 1); err != nil {
		t.Fatal(err)
	}
	return p
}

func (s DriverSuite[T]) testInterrupt(t *testing.T) {
	for _, e := range endings {
		t.Run(e.name, func(t *testing.T) {
			p := s.single(t)
			if _, ok := s.New(t).(driver.Interrupter[T]); !ok {
				t.Log("the driver is no driver.Interrupter, so its commands must watch their context")
			}
			ctx, end := e.make(30 * time.Millisecond)
			defer end()
			within(t, "a use whose context is over", func() {
				if err := p.Do(ctx, pool.Op{Name: "block"}, s.Block); !errors.Is(err, e.want) {
					t.Errorf("the use ended with %v, want %v", err, e.want)
				}
			})
			if err := p.Do(bounded(t), pool.Op{Name: "use"}, s.Use); err != nil {
				t.Errorf("the next use: %v", err)
			}
		})
	}
}

// testLate ends a command before its reply comes. The borrower keeps the error to itself, so only
// the driver knows that a reply is still to come.
func (s DriverSuite[T]) testLate(t *testing.T) {
	for _, e := range endings {
		for where, inside := range map[string]bool{"of the use": false, "of the function": true} {
			t.Run(e.name+" "+where, func(t *testing.T) {
				p := s.single(t)
				ctx, end := e.make(30 * time.Millisecond)
				defer end()
				outer := ctx
				if inside {
					outer = bounded(t)
				}
				_ = p.Do(outer, pool.Op{Name: "late"}, func(own context.Context, res T) error {
					if inside {
						own = ctx
					}
					_ = s.Late(own, res)
					return nil
				})
				for range 3 {
					if err := p.Do(bounded(t), pool.Op{Name: "use"}, s.Use); err != nil {
						t.Errorf("a use after a late reply: %v", err)
					}
				}
			})
		}
	}
}

func (s DriverSuite[T]) testClassify(t *testing.T) {
	c, ok := s.New(t).(driver.Classifier)
	if !ok {
		t.Skip("not proven: what the answers of the backend mean. The driver is no driver.Classifier: the pool knows what every backend shares, " +
			"and gives any other error FaultElsewhere")
	}
	for _, err := range []error{context.Canceled, context.DeadlineExceeded, errors.New("the caller's own")} {
		class := c.Classify(err)
		if again := c.Classify(err); again != class {
			t.Errorf("the class of %v is %+v, then %+v", err, class, again)
		}
		if wrapped := c.Classify(fmt.Errorf("wrapped: %w", err)); wrapped != class {
			t.Errorf("the class of %v is %+v, but %+v when it is wrapped", err, class, wrapped)
		}
	}
	if class := c.Classify(errors.New("the caller's own")); class.Fault == driver.FaultServer {
		t.Errorf("an error of the caller has FaultServer: %+v", class)
	}
}

func (s DriverSuite[T]) testWitness(t *testing.T) {
	d, ctx := s.New(t), bounded(t)
	w, ok := d.(driver.Witness[T])
	if !ok {
		t.Skip("not proven: that raw errors of other servers' clients are told apart. The driver is no driver.Witness")
	}
	res, own := s.open(t, d), errors.New("the function's own")
	quiet := func(when string, err error) {
		t.Helper()
		w.BeginUse(ctx, res)
		if got, ok := w.EndUse(res, err); ok && (got.Asked || got.Answered || got.Done || got.Own != nil) {
			t.Errorf("nothing was asked %s, and the testimony is %+v", when, got)
		}
	}
	quiet("of a new resource", nil)
	if err := s.Use(w.BeginUse(ctx, res), res); err != nil {
		t.Errorf("Use: %v", err)
	}
	if got, ok := w.EndUse(res, own); ok && (!got.Asked || !got.Answered || got.Own != nil) {
		t.Errorf("after a use that ended with an error of the function's own the testimony is %+v", got)
	}
	quiet("since the use before", own)
	if s.Break == nil {
		t.Log("not proven: that a failure belongs to the resource of its use: the suite has no Break")
		return
	}
	other := s.open(t, d)
	s.Break(t, other)
	w.BeginUse(ctx, res)
	err := s.Use(w.BeginUse(ctx, other), other)
	if got, ok := w.EndUse(other, err); ok && (!got.Asked || got.Own == nil) {
		t.Errorf("after %v the testimony is %+v", err, got)
	}
	got, ok := w.EndUse(res, err)
	if ok && d.Check(ctx, res) == nil && got.Own != nil { // else both resources broke together
		t.Errorf("another resource has met %v, and the testimony is %+v", err, got)
	}
}

func (s DriverSuite[T]) testIdentity(t *testing.T) {
	d := s.New(t)
	s.silent(t, "the driver's print", fmt.Sprintf("%v %+v %#v %s", d, d, d, d))
	describer, ok := d.(driver.Identifier)
	if !ok {
		return
	}
	id := describer.Identity()
	if id != describer.Identity() {
		t.Error("the identity changes")
	}
	if id.System == "" {
		t.Error("the identity has no system")
	}
	s.silent(t, "the identity", fmt.Sprintf("%+v", id))
}

// silent fails the test if text contains a secret.
func (s DriverSuite[T]) silent(t *testing.T, what, text string) {
	t.Helper()
	for _, secret := range s.Secrets {
		if secret != "" && strings.Contains(text, secret) {
			t.Errorf("%s holds a secret", what)
		}
	}
}

// testPool lets several borrowers use a pool. Some borrowers give up.
func (s DriverSuite[T]) testPool(t *testing.T) {
	const size, borrowers, uses = 3, 8, 25
	p, err := pool.New(s.New(t), pool.Config{MaxSize: size, AcquireTimeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range borrowers {
		wg.Go(func() {
			for range uses {
				ctx, cancel := context.WithCancel(context.Background())
				gaveUp := rand.IntN(4) == 0
				if gaveUp {
					go cancel()
				}
				if err := p.Do(ctx, pool.Op{Name: "use"}, s.Use); err != nil && !gaveUp {
					t.Errorf("Do: %v", err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	h := p.Check(bounded(t))
	if h.Status != pool.StatusOK {
		t.Errorf("health is %v: %v", h.Status, h.Reasons)
	}
	s.silent(t, "the health's details", fmt.Sprint(h.Details, h.Reasons))
	if n := h.Stat.InUse + h.Stat.Idle; n > size {
		t.Errorf("%d resources, want at most %d", n, size)
	}
	if err := p.Close(bounded(t)); err != nil {
		t.Errorf("Close: %v", err)
	}
}
