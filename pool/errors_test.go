package pool_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

var (
	errWhy  = errors.New("the reason given")
	errDark = errors.New("dial: no route to host") // an error unknown to the driver
)

// asking is a layer that keeps the class of the outcome.
type asking struct{ class driver.Class }

func (a *asking) Begin(ctx context.Context, _ *pool.Call) (context.Context, struct{}, error) {
	return ctx, struct{}{}, nil
}
func (a *asking) End(_ context.Context, c *pool.Call, _ struct{}, err error) {
	a.class = c.Classify(err)
}

// refusal is a case in which a pool with a single resource does not lend the resource.
type refusal struct {
	name    string
	driver  func(f *pooltest.Fake)
	cfg     pool.Config
	full    bool // the resource is lent
	prepare func(t *testing.T, p *pool.Pool[conn])
	ctx     func(t *testing.T) context.Context // nil for background
	reason  error
	causes  []error // besides reason
	class   driver.Class
	state   pool.Occupancy
	waited  time.Duration
}

// cancelledAfter and expiringAfter make contexts that end after d.
func cancelledAfter(d time.Duration) func(t *testing.T) context.Context {
	return func(t *testing.T) context.Context {
		ctx, cancel := context.WithCancelCause(background)
		t.Cleanup(func() { cancel(nil) })
		if d == 0 {
			cancel(errWhy)
			return ctx
		}
		time.AfterFunc(d, func() { cancel(errWhy) })
		return ctx
	}
}

func expiringAfter(d time.Duration) func(t *testing.T) context.Context {
	return func(t *testing.T) context.Context {
		ctx, cancel := context.WithTimeout(background, d)
		t.Cleanup(cancel)
		return ctx
	}
}

func openMeets(fault pooltest.Fault) func(f *pooltest.Fake) {
	return func(f *pooltest.Fake) { f.Inject(pooltest.Open, -1, fault) }
}

// Every use in this table begins an hour after the resource was lent, if the resource is lent.
var (
	lent     = pool.Occupancy{Max: 1, InUse: 1, OldestLease: time.Hour}
	awaited  = pool.Occupancy{Max: 1, InUse: 1, OldestLease: time.Hour + time.Second}
	dialling = pool.Occupancy{Max: 1, Opening: 1, Late: 1}
)

func endedBy(s pool.Occupancy, by pool.EndedBy) pool.Occupancy { s.EndedBy = by; return s }

var refusals = []refusal{
	{
		name: "closed", prepare: func(t *testing.T, p *pool.Pool[conn]) { closePool(t, p) },
		reason: pool.ErrClosed,
		class:  driver.Class{Fault: driver.FaultLocal, Type: "pool_closed"},
		state:  pool.Occupancy{Max: 1},
	}, {
		name: "paused", prepare: func(_ *testing.T, p *pool.Pool[conn]) { p.Pause(errWhy) },
		reason: pool.ErrPaused, causes: []error{errWhy},
		class: driver.Class{Fault: driver.FaultLocal, Repeat: driver.RepeatAlways, Type: "pool_paused"},
		state: pool.Occupancy{Max: 1},
	}, {
		name: "paused without a cause", prepare: func(_ *testing.T, p *pool.Pool[conn]) { p.Pause(nil) }, full: true,
		reason: pool.ErrPaused,
		class:  driver.Class{Fault: driver.FaultLocal, Repeat: driver.RepeatAlways, Type: "pool_paused"},
		state:  lent,
	}, {
		name: "exhausted", cfg: pool.Config{MaxWaiters: -1}, full: true,
		reason: pool.ErrExhausted,
		class:  driver.Class{Fault: driver.FaultLocal, Repeat: driver.RepeatAlways, Type: "pool_exhausted"},
		state:  lent,
	}, {
		name: "timed out while others hold all", cfg: pool.Config{AcquireTimeout: time.Second}, full: true,
		reason: pool.ErrAcquireTimeout, causes: []error{context.DeadlineExceeded},
		class: driver.Class{Fault: driver.FaultLocal, Repeat: driver.RepeatAlways, Type: "acquire_timeout"},
		state: endedBy(awaited, pool.EndedByPool), waited: time.Second,
	}, {
		name: "timed out by the caller's deadline while others hold all", full: true, ctx: expiringAfter(time.Second),
		reason: pool.ErrAcquireTimeout, causes: []error{context.DeadlineExceeded},
		class: driver.Class{Fault: driver.FaultLocal, Repeat: driver.RepeatAlways, Type: "acquire_timeout"},
		state: endedBy(awaited, pool.EndedByCaller), waited: time.Second,
	}, {
		name: "timed out in a hanging dial", driver: openMeets(pooltest.Hang()), cfg: pool.Config{AcquireTimeout: time.Second},
		reason: pool.ErrAcquireTimeout, causes: []error{context.DeadlineExceeded},
		class: driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatAlways, Type: "acquire_timeout"},
		state: endedBy(dialling, pool.EndedByPool), waited: time.Second,
	}, {
		name: "timed out after failed dials", driver: failThenHang(pooltest.ErrRefused), cfg: pool.Config{AcquireTimeout: time.Second},
		prepare: func(t *testing.T, p *pool.Pool[conn]) { // the first dial fails here, the second hangs
			if err := p.Do(background, op, use); !errors.Is(err, pool.ErrOpen) {
				t.Errorf("the first use: %v", err)
			}
		},
		reason: pool.ErrAcquireTimeout, causes: []error{context.DeadlineExceeded, pooltest.ErrRefused},
		class: driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatAlways, Code: "REFUSED", Type: "REFUSED"},
		state: endedBy(dialling, pool.EndedByPool), waited: time.Second,
	}, {
		name: "cancelled in the queue", full: true, ctx: cancelledAfter(time.Second),
		reason: pool.ErrAcquireCanceled, causes: []error{context.Canceled, errWhy},
		class: driver.Class{Fault: driver.FaultCaller, Type: "canceled"},
		state: awaited, waited: time.Second,
	}, {
		name: "cancelled in a hanging dial", driver: openMeets(pooltest.Hang()), ctx: cancelledAfter(time.Second),
		reason: pool.ErrAcquireCanceled, causes: []error{context.Canceled, errWhy},
		class: driver.Class{Fault: driver.FaultCaller, Type: "canceled"},
		state: dialling, waited: time.Second,
	}, {
		name: "cancelled on arrival", ctx: cancelledAfter(0),
		reason: pool.ErrAcquireCanceled, causes: []error{context.Canceled, errWhy},
		class: driver.Class{Fault: driver.FaultCaller, Type: "canceled"},
		state: pool.Occupancy{Max: 1},
	}, {
		name: "past its deadline on arrival", full: true, ctx: expiringAfter(-time.Second),
		reason: pool.ErrAcquireTimeout, causes: []error{context.DeadlineExceeded},
		class: driver.Class{Fault: driver.FaultCaller, Type: "acquire_timeout"},
		state: endedBy(lent, pool.EndedByCaller),
	}, {
		name: "open refused", driver: openMeets(pooltest.Fail(pooltest.ErrRefused)),
		reason: pool.ErrOpen, causes: []error{pooltest.ErrRefused},
		class: driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatAlways, Code: "REFUSED", Type: "REFUSED"},
		state: pool.Occupancy{Max: 1},
	}, {
		// A wrong password: no repetition.
		name: "open denied", driver: openMeets(pooltest.Fail(pooltest.ErrDenied)),
		reason: pool.ErrOpen, causes: []error{pooltest.ErrDenied},
		class: driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatNever, Code: "DENIED", Type: "DENIED"},
		state: pool.Occupancy{Max: 1},
	}, {
		// Nothing of the use was sent, so the use may be repeated.
		name: "open broke", driver: openMeets(pooltest.Fail(pooltest.ErrBroken)),
		reason: pool.ErrOpen, causes: []error{pooltest.ErrBroken},
		class: driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatAlways, Type: "open_failed"},
		state: pool.Occupancy{Max: 1},
	}, {
		name: "open failed in a way nobody knows", driver: openMeets(pooltest.Fail(errDark)),
		reason: pool.ErrOpen, causes: []error{errDark},
		class: driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatAlways, Type: "open_failed"},
		state: pool.Occupancy{Max: 1},
	}, {
		name: "open hung", driver: openMeets(pooltest.Hang()), cfg: pool.Config{OpenTimeout: time.Second},
		reason: pool.ErrOpen, causes: []error{context.DeadlineExceeded},
		class: driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatAlways, Type: "timeout"},
		state: pool.Occupancy{Max: 1}, waited: time.Second,
	}, {
		name: "open panicked", driver: openMeets(pooltest.Panic("driver")),
		reason: pool.ErrOpen,
		class:  driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatAlways, Type: "open_failed"},
		state:  pool.Occupancy{Max: 1},
	}, {
		name: "open exited", driver: openMeets(pooltest.Exit()),
		reason: pool.ErrOpen,
		class:  driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatAlways, Type: "open_failed"},
		state:  pool.Occupancy{Max: 1},
	},
}

// failThenHang makes the first dial fail and the other dials hang.
func failThenHang(err error) func(f *pooltest.Fake) {
	return func(f *pooltest.Fake) {
		f.Inject(pooltest.Open, 1, func(context.Context) error {
			f.Inject(pooltest.Open, -1, pooltest.Hang())
			return err
		})
	}
}

// reasons are the possible reasons of an Error. Each Error has exactly one reason.
var reasons = []error{
	pool.ErrClosed, pool.ErrPaused, pool.ErrExhausted, pool.ErrAcquireTimeout, pool.ErrAcquireCanceled, pool.ErrOpen,
}

func TestRefusals(t *testing.T) {
	for _, r := range refusals {
		for _, layered := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/layers=%t", r.name, layered), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { testRefusal(t, r, layered) })
			})
		}
	}
}

func testRefusal(t *testing.T, r refusal, layered bool) {
	fake, ask := &pooltest.Fake{}, &asking{}
	if r.driver != nil {
		r.driver(fake)
	}
	var layers []pool.Middleware
	if layered { // six layers; some derive contexts
		layers = append([]pool.Middleware{pool.Bracket(ask)}, append(sixBrackets()[:4], pool.Bracket(deadlines{24 * time.Hour}))...)
	}
	r.cfg.MaxSize = 1
	p := newPool(t, fake, r.cfg, layers...)
	if r.full {
		held := acquire(t, p)
		defer held.Release(nil)
		time.Sleep(time.Hour)
	}
	if r.prepare != nil {
		r.prepare(t, p)
	}
	ctx := background
	if r.ctx != nil {
		ctx = r.ctx(t)
	}
	called := false
	err := p.Do(ctx, op, func(context.Context, conn) error { called = true; return nil })
	if called {
		t.Error("the function was called")
	}
	var e *pool.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want a *pool.Error", err)
	}
	for _, reason := range reasons {
		if errors.Is(err, reason) != (reason == r.reason) {
			t.Errorf("errors.Is(%v, %v) is %t", err, reason, errors.Is(err, reason))
		}
	}
	for _, cause := range r.causes {
		if !errors.Is(err, cause) {
			t.Errorf("%v does not wrap %v", err, cause)
		}
	}
	if e.Class() != r.class {
		t.Errorf("the class is\n%+v, want\n%+v", e.Class(), r.class)
	}
	if layered && ask.class != r.class {
		t.Errorf("the class that the layers see is\n%+v, want\n%+v", ask.class, r.class)
	}
	text := err.Error()
	if e.Pool != "fake memory/0" || e.Occupancy != r.state || e.Waited != r.waited {
		t.Errorf("the error is of pool %q after %v with\n%+v, want after %v with\n%+v", e.Pool, e.Waited, e.Occupancy, r.waited, r.state)
	}
	for _, part := range []string{`pool "fake memory/0": ` + r.reason.Error(), fmt.Sprintf("in use %d of 1", r.state.InUse), "waiters"} {
		if !strings.Contains(text, part) {
			t.Errorf("the text %q does not say %q", text, part)
		}
	}
	if strings.Contains(text, "\n") {
		t.Errorf("the text %q has several lines", text)
	}
}

// A two-step use gets the same error.
func TestRefusalOfAcquire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 1, AcquireTimeout: time.Second}, sixBrackets()...)
		defer acquire(t, p).Release(nil)
		l, err := p.Acquire(background, op)
		var e *pool.Error
		if !errors.Is(err, pool.ErrAcquireTimeout) || !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &e) || e.Occupancy.InUse != 1 {
			t.Errorf("got %v", err)
		}
		if _, ok := l.Value(); ok || l.Release(nil) || l.Discard(nil) || l.Context() == nil {
			t.Error("the lease that came with the error is not over")
		}
	})
}

// The text of an Error not made by a pool is undefined, but no method panics.
func TestZeroError(t *testing.T) {
	for _, e := range []*pool.Error{{}, {Reason: pool.ErrOpen}, {Cause: errWhy}} {
		if e.Error() == "" {
			t.Error("an error without text")
		}
		if errors.Is(e, pool.ErrClosed) {
			t.Errorf("%v is ErrClosed", e)
		}
		if errors.Is(e, errWhy) != (e.Cause != nil) {
			t.Errorf("errors.Is(%v, its cause) is %t", e, e.Cause == nil)
		}
		if e.Class() != (driver.Class{}) {
			t.Errorf("the class of %v is %+v", e, e.Class())
		}
	}
}

// The classes seen by layers, for outcomes other than the pool's own errors.
func TestClassOfOutcomes(t *testing.T) {
	over, cancel := context.WithCancel(background)
	defer cancel()
	server := driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatIfIdempotent, Broken: true}
	typed := func(c driver.Class, name string) driver.Class { c.Type = name; return c }
	for _, c := range []struct {
		err  error
		want driver.Class
	}{
		{nil, driver.Class{}},
		{pooltest.ErrBroken, typed(server, "broken")},
		{pooltest.ErrRefused, driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatAlways, Code: "REFUSED", Type: "REFUSED"}},
		{pooltest.ErrDenied, driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatNever, Code: "DENIED", Type: "DENIED"}},
		{pooltest.ErrReply, driver.Class{Code: "REPLY", Type: "REPLY"}},
		{pooltest.ErrMiss, driver.Class{Miss: true}},
		// There is no testimony.
		{errDark, driver.Class{Fault: driver.FaultElsewhere, Suspect: true, Type: "_OTHER"}},
		// The error comes from the client: the caller's context has not ended.
		{context.DeadlineExceeded, typed(server, "timeout")},
		{context.Canceled, driver.Class{Fault: driver.FaultCaller, Broken: true, Type: "canceled"}},
		{pool.ErrLost, driver.Class{Fault: driver.FaultLocal, Type: "lost"}},
		{pool.ErrAborted, driver.Class{Fault: driver.FaultCaller, Broken: true, Type: "aborted"}},
	} {
		ask := &asking{}
		p := newPool(t, &pooltest.Fake{}, pool.Config{}, pool.Bracket(ask))
		for _, err := range []error{c.err, wrapped(c.err)} {
			_ = p.Do(background, op, func(context.Context, conn) error { return err })
			if ask.class != c.want {
				t.Errorf("Do with %v: the class is\n%+v, want\n%+v", err, ask.class, c.want)
			}
			acquire(t, p).Release(err)
			if ask.class != c.want {
				t.Errorf("Acquire with %v: the class is\n%+v, want\n%+v", err, ask.class, c.want)
			}
		}
	}
	// Any error of a use whose caller has cancelled is the caller's fault.
	ask := &asking{}
	p := newPool(t, &pooltest.Fake{}, pool.Config{}, pool.Bracket(ask))
	err := p.Do(over, op, func(context.Context, conn) error { cancel(); return pooltest.ErrBroken })
	if want := (driver.Class{Fault: driver.FaultCaller, Broken: true, Type: "canceled"}); ask.class != want {
		t.Errorf("an error in a cancelled use: the class is\n%+v, want\n%+v", ask.class, want)
	}
	if !errors.Is(err, context.Canceled) || !errors.Is(err, pooltest.ErrBroken) {
		t.Errorf("an error in a cancelled use: %v, want both what the client said and context.Canceled", err)
	}
}

func wrapped(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("wrapped: %w", errors.Join(errWhy, err))
}

// The driver is no Classifier. An unknown error is nobody's fault, and the resource is checked
// before the next lease.
func TestClassWithoutClassifier(t *testing.T) {
	ask := &asking{}
	p, err := pool.New[conn](struct{ driver.Driver[conn] }{&pooltest.Fake{}}, pool.Config{}, pool.Bracket(ask))
	if err != nil {
		t.Fatal(err)
	}
	defer closePool(t, p)
	_ = p.Do(background, op, func(context.Context, conn) error { return errDark })
	want := driver.Class{Fault: driver.FaultElsewhere, Suspect: true, Type: "_OTHER"}
	if ask.class != want {
		t.Errorf("the class is\n%+v, want\n%+v", ask.class, want)
	}
}

// late is a context whose children learn of its end later than the goroutines that watch the
// context itself. Contexts of other packages behave in this way, and so does a context of the
// standard library with thousands of children.
type late struct {
	context.Context
	done chan struct{}
}

func (l *late) Done() <-chan struct{} { return l.done }
func (l *late) Value(any) any         { return nil }
func (l *late) Err() error {
	select {
	case <-l.done:
		return context.Canceled
	default:
		return nil
	}
}

// A cancellation is the caller's fault, even if the layers' own contexts have not ended yet.
func TestCancellationIsAskedOfThoseWhoKnowFirst(t *testing.T) {
	for range 100 {
		p := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 1})
		held := acquire(t, p)
		caller := &late{Context: background, done: make(chan struct{})}
		ctx, d := pool.WithDeadline(caller, time.Now().Add(time.Hour), nil)
		ctx.Done() // makes the real context, with an end of its own
		told := make(chan error, 1)
		go func() {
			_, err := p.Acquire(ctx, op)
			told <- err
		}()
		for p.Stat().Waiters == 0 {
			runtime.Gosched()
		}
		close(caller.done)
		_, onArrival := p.Acquire(ctx, op)
		for _, err := range []error{<-told, onArrival} {
			var e *pool.Error
			if !errors.Is(err, context.Canceled) || !errors.As(err, &e) || e.Class().Fault != driver.FaultCaller {
				t.Fatalf("got %v, want a cancellation by the caller", err)
			}
		}
		if s := p.Stat(); s.Cancelled != 2 || s.TimedOut != 0 {
			t.Fatalf("%d are counted as cancelled and %d as timed out, want 2 and 0", s.Cancelled, s.TimedOut)
		}
		d.Cancel()
		held.Release(nil)
	}
}

// turning is a context that ends after a few calls of Err.
type turning struct {
	context.Context
	left int
}

func (c *turning) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// A context that ends while an error is made causes no contradiction, neither in the error nor in
// the counters.
func TestErrorsDoNotContradictThemselves(t *testing.T) {
	for left := range 6 {
		synctest.Test(t, func(t *testing.T) {
			p := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 1, AcquireTimeout: time.Second})
			held := acquire(t, p)
			defer held.Release(nil)
			_, err := p.Acquire(&turning{background, left}, op)
			s := p.Stat()
			if errors.Is(err, pool.ErrAcquireTimeout) != errors.Is(err, context.DeadlineExceeded) ||
				errors.Is(err, pool.ErrAcquireCanceled) != errors.Is(err, context.Canceled) || s.TimedOut+s.Cancelled != 1 ||
				(s.TimedOut == 1) != errors.Is(err, pool.ErrAcquireTimeout) {
				t.Errorf("turning after %d looks: %v; %d timed out, %d cancelled", left, err, s.TimedOut, s.Cancelled)
			}
		})
	}
}

// The cause given by the caller to its deadline is not lost, whichever timer fires first.
func TestCauseOfTheCallersDeadline(t *testing.T) {
	p := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 1})
	held := acquire(t, p)
	defer held.Release(nil)
	for range 100 {
		ctx, cancel := context.WithTimeoutCause(background, time.Millisecond, errWhy)
		if _, err := p.Acquire(ctx, op); !errors.Is(err, errWhy) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the cause and context.DeadlineExceeded", err)
		}
		cancel()
	}
}

// A client with socket deadlines returns when the deadline of the context passes. The timer of the
// context may fire a little later.
func TestDeadlineOfAClientsSocket(t *testing.T) {
	ask := &asking{}
	p := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 1}, pool.Bracket(ask))
	for name, deadline := range map[string]func() (context.Context, func()){
		"the standard library's": func() (context.Context, func()) {
			ctx, cancel := context.WithTimeout(background, 3*time.Millisecond)
			return ctx, cancel
		},
		"WithDeadline's": func() (context.Context, func()) {
			ctx, d := pool.WithDeadline(background, time.Now().Add(3*time.Millisecond), nil)
			return ctx, d.Cancel
		},
	} {
		for used := 0; used < 50; {
			if err := p.Warm(background, 1); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := deadline()
			called := false
			err := p.Do(ctx, op, func(ctx context.Context, _ conn) error {
				called = true
				for d, _ := ctx.Deadline(); time.Now().Before(d); {
				}
				return pooltest.ErrBroken
			})
			cancel()
			if !called {
				continue // this machine is slow
			}
			used++
			if !errors.Is(err, context.DeadlineExceeded) || ask.class.Fault != driver.FaultCaller {
				t.Fatalf("%s: got %v, at the %v, want context.DeadlineExceeded, at the caller", name, err, ask.class.Fault)
			}
		}
	}
}

// A borrower does not wait for a dial, and gets no error of a failed dial, if an idle resource only
// needs a check.
func TestIdleResourceIsNotForgottenForADial(t *testing.T) {
	for name, dial := range map[string]pooltest.Fault{
		"hanging": pooltest.Hang(),
		"failing": func(context.Context) error { time.Sleep(2500 * time.Millisecond); return pooltest.ErrRefused },
	} {
		synctest.Test(t, func(t *testing.T) {
			fake := &pooltest.Fake{}
			p := newPool(t, fake, pool.Config{MaxSize: 3, MinIdle: 2})
			synctest.Wait()
			fake.Inject(pooltest.Open, -1, dial)
			acquire(t, p).Discard(nil)  // the pool begins a dial
			time.Sleep(2 * time.Second) // now the other resource needs a check
			start := time.Now()
			l, err := p.Acquire(background, op)
			if err != nil || time.Since(start) != 0 {
				t.Errorf("%s dial: got %v after %v", name, err, time.Since(start))
			}
			l.Release(nil)
		})
	}
}
