package pool_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
	"github.com/earnorm/poolstack/pool/settings"
)

// bad is an error whose methods panic, like the methods of a nil pointer.
type bad struct{}

func (bad) Error() string   { panic("bad error") }
func (bad) Timeout() bool   { panic("bad error") }
func (bad) Unwrap() error   { panic("bad error") }
func (bad) Is(error) bool   { panic("bad error") }
func (bad) Temporary() bool { panic("bad error") }

// minefield is a driver with a single method that fails once the driver is armed.
type minefield struct {
	*pooltest.Fake
	armed *atomic.Bool
	where string
	blast func()
}

func (m minefield) mine(where string) {
	if m.where == where && m.armed.Load() {
		m.blast()
	}
}

func (m minefield) Open(ctx context.Context) (conn, error) {
	m.mine("Open")
	return m.Fake.Open(ctx)
}
func (m minefield) Check(ctx context.Context, c conn) error {
	m.mine("Check")
	return m.Fake.Check(ctx, c)
}
func (m minefield) Reset(ctx context.Context, c conn) error {
	m.mine("Reset")
	return m.Fake.Reset(ctx, c)
}
func (m minefield) Close(ctx context.Context, c conn) error {
	err := m.Fake.Close(ctx, c)
	m.mine("Close")
	return err
}
func (m minefield) Dirty(c conn) bool { m.mine("Dirty"); return m.Fake.Dirty(c) }
func (m minefield) Interrupt(c conn)  { m.Fake.Interrupt(c); m.mine("Interrupt") }
func (m minefield) Classify(err error) driver.Class {
	m.mine("Classify")
	return m.Fake.Classify(err)
}
func (m minefield) Inspect(ctx context.Context, c conn) (map[string]string, error) {
	m.mine("Inspect")
	return m.Fake.Inspect(ctx, c)
}

// troubled makes the pool call all methods of the driver and of the observers.
func troubled(t *testing.T, p *pool.Pool[conn], fake *pooltest.Fake) {
	t.Helper()
	_ = p.Warm(background, 2)
	_ = p.Do(background, op, func(context.Context, conn) error { return pooltest.ErrReply })
	_ = p.Do(background, op, func(_ context.Context, c conn) error { c.Soil(); return nil })
	_ = p.Do(background, op, func(context.Context, conn) error { return pooltest.ErrBroken })
	ctx, cancel := context.WithTimeout(background, 50*time.Millisecond)
	defer cancel()
	_ = p.Do(ctx, op, func(_ context.Context, c conn) error { return c.Block() })
	time.Sleep(2 * time.Second)
	if l, err := p.Acquire(background, op); err == nil {
		l.Discard(nil)
	}
	_ = p.Check(background)
	fake.Inject(pooltest.Open, 2, pooltest.Fail(pooltest.ErrRefused))
	p.Clear()
	_, _ = p.Acquire(background, op)
	fake.Inject(pooltest.Open, 0, nil)
	if l, err := p.Acquire(background, op); err == nil {
		time.Sleep(time.Hour) // long enough for a leak report
		l.Release(nil)
	}
	p.Pause(errWhy)
	p.Resume()
	_ = p.Configure(pool.Config{MaxSize: 2, KeepAlive: time.Second, LeakAfter: time.Minute})
	time.Sleep(time.Minute)
}

// wantWhole fails the test unless the pool works normally.
func wantWhole(t *testing.T, p *pool.Pool[conn]) {
	t.Helper()
	time.Sleep(5 * time.Minute)
	if err := pool.CheckBooks(p); err != nil {
		t.Error(err)
	}
	for range 3 {
		if err := p.Do(background, op, use); err != nil {
			t.Error(err)
		}
	}
}

// The pool survives a panic or a Goexit in any method of the driver.
func TestPanicsOfTheDriverAreContained(t *testing.T) {
	methods := []string{"Open", "Check", "Reset", "Close", "Dirty", "Interrupt", "Classify", "Inspect"}
	for _, where := range methods {
		t.Run(where, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fake, armed := &pooltest.Fake{}, &atomic.Bool{}
				armed.Store(true)
				d := minefield{fake, armed, where, func() { panic("the mine in " + where) }}
				p := newPoolOver(t, fake, d, pool.Config{MaxSize: 2, KeepAlive: time.Second, LeakAfter: time.Minute}, newRecorder())
				troubled(t, p, fake)
				armed.Store(false)
				wantWhole(t, p)
			})
		})
	}
}

// An error of the driver whose methods panic is treated like any other error.
func TestErrorsThatPanicAreContained(t *testing.T) {
	for _, step := range []pooltest.Step{pooltest.Open, pooltest.Check, pooltest.Reset, pooltest.Close} {
		t.Run(fmt.Sprint(step), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fake := &pooltest.Fake{}
				p := newPool(t, fake, pool.Config{MaxSize: 2, KeepAlive: time.Second}, newRecorder())
				_ = p.Warm(background, 2)
				fake.Inject(step, 2, pooltest.Fail(bad{}))
				acquire(t, p).Discard(nil)
				if step == pooltest.Open {
					p.Clear()
				}
				l, err := p.Acquire(background, op)
				l.Release(nil)
				const want = "Open returned an error whose methods panic, a pool_test.bad: bad error"
				if step == pooltest.Open && (!errors.Is(err, pool.ErrOpen) || !strings.Contains(err.Error(), want)) {
					t.Errorf("got %v", err)
				}
				_ = p.Do(background, op, func(_ context.Context, c conn) error { c.Soil(); return nil })
				time.Sleep(time.Minute)
				_ = p.Do(background, op, use)
				wantWhole(t, p)
			})
		})
	}
}

// A health check gets such an error in a goroutine of the pool. Each reason has a single line,
// whatever the errors of the driver contain.
func TestHealthCheckOfAnErrorThatPanics(t *testing.T) {
	for _, err := range []error{bad{}, (*url.Error)(nil), errors.Join(errWhy, errDark)} {
		for _, step := range []pooltest.Step{pooltest.Open, pooltest.Check} {
			synctest.Test(t, func(t *testing.T) {
				fake := &pooltest.Fake{}
				p := newPool(t, fake, pool.Config{})
				fake.Inject(step, 1, pooltest.Fail(err))
				h := p.Check(background)
				if h.Status != pool.StatusDown || len(h.Reasons) != 1 || strings.Contains(h.Reasons[0], "\n") {
					t.Errorf("%v of a %T: %+v", step, err, h)
				}
				wantWhole(t, p)
			})
		}
	}
}

// moody is an observer that fails at a single kind of event.
type moody struct {
	*recorder

	at    pool.EventKind
	blast func()
}

func (m moody) Observe(ctx context.Context, e pool.Event) {
	m.recorder.Observe(ctx, e)
	if e.Kind == m.at {
		m.blast()
	}
}

// An observer that panics loses its event. The pool, the borrowers and the other observers are not
// affected.
func TestPanicsOfObserversAreContained(t *testing.T) {
	for _, kind := range []pool.EventKind{
		pool.EventAcquired, pool.EventAcquireFailed, pool.EventReleased, pool.EventOpened, pool.EventOpenFailed, pool.EventCheckFailed,
		pool.EventClosed, pool.EventLeaked, pool.EventPaused, pool.EventResumed, pool.EventCleared, pool.EventConfigured,
	} {
		t.Run(string(kind), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fake, next := &pooltest.Fake{}, newRecorder()
				first := moody{newRecorder(), kind, func() { panic("at " + kind) }}
				p := newPool(t, fake, pool.Config{MaxSize: 2, KeepAlive: time.Second, LeakAfter: time.Minute}, first, next)
				fake.Inject(pooltest.Check, 1, pooltest.Fail(pooltest.ErrBroken))
				troubled(t, p, fake)
				wantWhole(t, p)
				n, want := len(next.only(kind)), len(first.only(kind))
				if n == 0 || n != want {
					t.Errorf("the observer behind heard %d times of %q, the one that panics %d times", n, kind, want)
				}
			})
		})
	}
}

// An observer that ends its goroutine does not end the work of the pool.
func TestGoexitOfObservers(t *testing.T) {
	for _, kind := range []pool.EventKind{pool.EventOpened, pool.EventOpenFailed, pool.EventCheckFailed, pool.EventClosed, pool.EventLeaked} {
		t.Run(string(kind), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fake := &pooltest.Fake{}
				p := newPool(t, fake, pool.Config{MaxSize: 2, KeepAlive: time.Second, LeakAfter: time.Minute},
					moody{newRecorder(), kind, runtime.Goexit})
				fake.Inject(pooltest.Check, 1, pooltest.Fail(pooltest.ErrBroken))
				done := make(chan struct{})
				go func() {
					defer close(done)
					troubled(t, p, fake)
				}()
				<-done
				wantWhole(t, p)
			})
		})
	}
}

// fragile is a layer with a method that panics. The pool calls this method outside any use.
type fragile struct{ where string }

func (f fragile) mine(where string) {
	if f.where == where {
		panic("the mine in " + where)
	}
}

func (f fragile) Wrap(next pool.Handler) pool.Handler { f.mine("Wrap"); return next }
func (f fragile) Observe(context.Context, pool.Event) {}
func (f fragile) WantsEvent(pool.EventKind) bool      { f.mine("WantsEvent"); return false }
func (f fragile) Describe() pool.LayerInfo {
	f.mine("Describe")
	return pool.LayerInfo{Layer: "fragile"}
}
func (f fragile) Levels() []pool.Level { f.mine("Levels"); return nil }
func (f fragile) Tuning() *settings.Tuning {
	f.mine("Tuning")
	if f.where == "no Tuning" {
		return nil
	}
	return fragileSettings.Tuning()
}

var fragileSettings, _ = settings.New(&settings.Spec[int]{Layer: "fragile"}, 0, settings.Hooks[int]{})

func (f fragile) Attach(pool.PoolInfo) (func(), error) {
	f.mine("Attach")
	return func() { f.mine("detach") }, nil
}

func TestPanicsOfLayersAreContained(t *testing.T) {
	for where, refused := range map[string]bool{
		"Wrap": true, "WantsEvent": true, "Attach": true, "Describe": true, "Levels": true, "Tuning": true, "no Tuning": true,
		"detach": false,
	} {
		p, err := pool.New(&pooltest.Fake{}, pool.Config{}, fragile{where})
		if (err != nil) != refused || refused && !strings.Contains(err.Error(), strings.TrimPrefix(where, "no ")) {
			t.Errorf("%s: New returned %v", where, err)
		}
		if err != nil {
			continue
		}
		if l := p.Layers(); len(l) != 1 || !strings.Contains(l[0].Layer, "fragile") {
			t.Errorf("%s: layers %+v", where, l)
		}
		_ = p.Levels()
		if err := p.Do(background, op, use); err != nil {
			t.Errorf("%s: %v", where, err)
		}
		closePool(t, p)
	}
}

// unsteady is a layer whose descriptions panic once armed.
type unsteady struct {
	fragile

	armed *atomic.Bool
}

func (f unsteady) mine() {
	if f.armed.Load() {
		panic("later")
	}
}

func (f unsteady) Describe() pool.LayerInfo { f.mine(); return pool.LayerInfo{Layer: "unsteady"} }
func (f unsteady) Levels() []pool.Level     { f.mine(); return nil }
func (f unsteady) Tuning() *settings.Tuning { f.mine(); return fragileSettings.Tuning() }

// A layer that describes itself to New and panics later does not end a reader of its descriptions.
func TestLaterPanicsOfLayersAreContained(t *testing.T) {
	f := unsteady{armed: &atomic.Bool{}}
	p := newPool(t, &pooltest.Fake{}, pool.Config{}, f)
	f.armed.Store(true)
	if l := p.Layers(); len(l) != 1 || !strings.Contains(l[0].Layer, "unsteady") {
		t.Errorf("layers %+v", l)
	}
	if n := len(p.Levels()) + len(p.KnownEvents()); n != 0 {
		t.Errorf("%d levels and events", n)
	}
	if n := len(p.Tunings()); n != 1 {
		t.Errorf("%d tunings, want the pool's", n)
	}
}

// nosy is an observer of commands whose methods all panic.
type nosy struct{ fragile }

func (nosy) WantsCommandText() bool { panic("text") }
func (nosy) BeginCommand(context.Context, *pool.Call, driver.Command) context.Context {
	panic("begin")
}
func (nosy) EndCommand(context.Context, *pool.Call, driver.Command, error) { panic("end") }

func TestPanicsOfCommandObserversAreContained(t *testing.T) {
	type key struct{}
	p := newPool(t, &pooltest.Fake{}, pool.Config{}, nosy{})
	err := p.Do(context.WithValue(background, key{}, 1), op, func(ctx context.Context, _ conn) error {
		if driver.ObservingText(ctx) {
			t.Error("it has not said that it wants the text")
		}
		within := driver.BeginCommand(ctx, driver.Command{Name: "GET"})
		if within.Value(key{}) != 1 {
			t.Errorf("the command has the context %v", within)
		}
		driver.EndCommand(within, driver.Command{Name: "GET"}, nil)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// unnamed is a driver whose Identity panics.
type unnamed struct{ *pooltest.Fake }

func (unnamed) Identity() driver.Identity { panic("no name") }

// unsized is a driver whose DefaultSize panics.
type unsized struct{ *pooltest.Fake }

func (unsized) DefaultSize() int { panic("no size") }

// New refuses a nil value with a type, and names the type in the error.
func TestTypedNil(t *testing.T) {
	for _, c := range []struct {
		driver driver.Driver[conn]
		layers []pool.Middleware
		want   string
	}{
		{(*pooltest.Fake)(nil), nil, "the driver is nil: *pooltest.Fake"},
		{unnamed{}, nil, "Identity panicked: no name"},
		{unsized{}, nil, "DefaultSize panicked: no size"},
		{&pooltest.Fake{}, []pool.Middleware{newRecorder(), (*recorder)(nil)}, "layer 2 of 2 is nil, or holds one that is: *pool_test.recorder"},
		{&pooltest.Fake{}, []pool.Middleware{pool.MiddlewareFunc(nil)}, "layer 1 of 1 is nil, or holds one that is: pool.MiddlewareFunc"},
		{&pooltest.Fake{}, []pool.Middleware{pool.Bracket((*asking)(nil))}, "layer 1 of 1 is nil, or holds one that is: *pool_test.asking"},
		{&pooltest.Fake{}, []pool.Middleware{pool.Chain(pool.Chain(), nil)}, "layer 1 of 1 is nil, or holds one that is: <nil>"},
	} {
		if _, err := pool.New(c.driver, pool.Config{}, c.layers...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
	newPool(t, &pooltest.Fake{}, pool.Config{}, pool.Chain()) // an empty Chain is not nil
}
