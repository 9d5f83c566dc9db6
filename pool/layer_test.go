package pool_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// diary is a layer that records its calls, and can be made to fail.
type diary struct {
	name     string
	notes    *[]string
	mu       *sync.Mutex
	beginErr error
	panicEnd bool
}

func (d *diary) notef(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	*d.notes = append(*d.notes, d.name+" "+fmt.Sprintf(format, args...))
}

type diaryKey struct{ name string }

func (d *diary) Begin(ctx context.Context, _ *pool.Call) (context.Context, string, error) {
	d.notef("begins")
	return context.WithValue(ctx, diaryKey{d.name}, true), "state of " + d.name, d.beginErr
}

func (d *diary) End(ctx context.Context, _ *pool.Call, s string, err error) {
	if s != "state of "+d.name || ctx.Value(diaryKey{d.name}) == nil {
		d.notef("got a wrong state")
	}
	d.notef("ends: %v", err)
	if d.panicEnd {
		panic("end of " + d.name)
	}
}

// diaries makes layers a, b and c with common notes.
func diaries() (a, b, c *diary, layers []pool.Middleware, notes *[]string) {
	notes = &[]string{}
	var mu sync.Mutex
	all := []*diary{{name: "a"}, {name: "b"}, {name: "c"}}
	for _, d := range all {
		d.notes, d.mu = notes, &mu
		layers = append(layers, pool.Bracket(d))
	}
	return all[0], all[1], all[2], layers, notes
}

func expect(t *testing.T, notes *[]string, want ...string) {
	t.Helper()
	if !slices.Equal(*notes, want) {
		t.Errorf("got  %q\nwant %q", *notes, want)
	}
	*notes = nil
}

func TestFirstLayerIsOutermost(t *testing.T) {
	_, _, _, layers, notes := diaries()
	p := newPool(t, &pooltest.Fake{}, pool.Config{}, layers[0], pool.Chain(layers[1], layers[2]))
	_ = p.Do(background, op, use)
	want := []string{"a begins", "b begins", "c begins", "c ends: <nil>", "b ends: <nil>", "a ends: <nil>"}
	expect(t, notes, want...)
	l := acquire(t, p)
	expect(t, notes, want[:3]...)
	l.Release(nil)
	expect(t, notes, want[3:]...)
}

func TestEndsSeeTheOutcome(t *testing.T) {
	_, _, _, layers, notes := diaries()
	p := newPool(t, &pooltest.Fake{}, pool.Config{}, layers[0])
	_ = p.Do(background, op, func(context.Context, conn) error { return errors.New("x") })
	expect(t, notes, "a begins", "a ends: x")
	acquire(t, p).Release(errors.New("y"))
	expect(t, notes, "a begins", "a ends: y")
	func() {
		defer func() { _ = recover() }()
		_ = p.Do(background, op, func(context.Context, conn) error { panic("z") })
	}()
	expect(t, notes, "a begins", "a ends: "+pool.ErrAborted.Error())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = p.Do(background, op, func(context.Context, conn) error { runtime.Goexit(); return nil })
	}()
	<-done
	expect(t, notes, "a begins", "a ends: "+pool.ErrAborted.Error())
}

func TestBeginRejects(t *testing.T) {
	_, b, _, layers, notes := diaries()
	b.beginErr = errors.New("no")
	p := newPool(t, &pooltest.Fake{}, pool.Config{}, layers...)
	want := []string{"a begins", "b begins", "a ends: no"}
	if err := p.Do(background, op, use); !errors.Is(err, b.beginErr) {
		t.Errorf("Do: %v", err)
	}
	expect(t, notes, want...)
	if _, err := p.Acquire(background, op); !errors.Is(err, b.beginErr) {
		t.Errorf("Acquire: %v", err)
	}
	expect(t, notes, want...)
	if n := p.Stat().Acquires; n != 0 {
		t.Errorf("%d acquired", n)
	}
}

func TestPanickingEndDoesNotStopTheOthers(t *testing.T) {
	_, b, c, layers, notes := diaries()
	b.panicEnd, c.panicEnd = true, true
	p := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 1}, layers...)
	ends := []string{"c ends: <nil>", "b ends: <nil>", "a ends: <nil>"}
	l := acquire(t, p)
	*notes = nil
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		l.Release(nil)
	}()
	expect(t, notes, ends...)
	func() {
		defer func() { _ = recover() }()
		_ = p.Do(background, op, use)
	}()
	if len(*notes) != 6 {
		t.Errorf("in one step: %q", *notes)
	}
	if n := p.Stat().InUse; n != 0 {
		t.Errorf("%d still lent", n)
	}
}

// An outer layer that fails, panics or exits after the grant returns the resource to the pool. The
// inner layers end.
func TestFailureAfterTheGrant(t *testing.T) {
	for name, after := range map[string]func() error{
		"error":  func() error { return errors.New("after") },
		"panic":  func() error { panic("after") },
		"Goexit": func() error { runtime.Goexit(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			_, _, _, layers, notes := diaries()
			failing := pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
				return func(ctx context.Context, c *pool.Call) error {
					if err := next(ctx, c); err != nil {
						return err
					}
					return after()
				}
			})
			p := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 1}, layers[0], failing, layers[1])
			done := make(chan struct{})
			go func() {
				defer close(done)
				defer func() { _ = recover() }()
				if _, err := p.Acquire(background, op); err == nil {
					t.Error("Acquire succeeds")
				}
			}()
			<-done
			if got := *notes; len(got) != 4 || got[2][:6] != "b ends" || got[3][:6] != "a ends" {
				t.Errorf("got %q", got)
			}
			if n := p.Stat().InUse; n != 0 {
				t.Errorf("%d still lent", n)
			}
		})
	}
}

// A layer that calls next again gets no second resource. It may try again after the first resource
// has been returned.
func TestNextAfterTheGrant(t *testing.T) {
	twice := pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
		return func(ctx context.Context, c *pool.Call) error {
			_ = next(ctx, c)
			return next(ctx, c)
		}
	})
	p := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 1, AcquireTimeout: time.Second}, twice)
	if _, err := p.Acquire(background, op); !errors.Is(err, pool.ErrGranted) {
		t.Errorf("got %v, want ErrGranted", err)
	}
	if n := p.Stat().InUse; n != 0 {
		t.Errorf("%d still lent", n)
	}

	_, _, _, layers, _ := diaries()
	failOnce := true
	failing := pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
		return func(ctx context.Context, c *pool.Call) error {
			err := next(ctx, c)
			if failOnce {
				failOnce = false
				return errors.New("once")
			}
			return err
		}
	})
	p = newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 1, AcquireTimeout: time.Second}, twice, layers[0], failing)
	l, err := p.Acquire(background, op)
	if err != nil {
		t.Fatalf("the second try: %v", err)
	}
	l.Release(nil)
}

// A layer calls next again, and an inner layer treats ErrGranted as a success. The end of another
// layer is then above the grant on the stack. Each end still runs once, and the resource is
// returned once.
func TestSwallowedErrGranted(t *testing.T) {
	again := pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
		return func(ctx context.Context, c *pool.Call) error { return errors.Join(next(ctx, c), next(ctx, c)) }
	})
	lenient := pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
		return func(ctx context.Context, c *pool.Call) error {
			if err := next(ctx, c); !errors.Is(err, pool.ErrGranted) {
				return err
			}
			return nil
		}
	})
	spy, fake := &pooltest.Spy{}, &pooltest.Fake{}
	p, err := pool.New(bareDriver{fake, fake}, pool.Config{MaxSize: 2}, again, pool.Bracket(spy), lenient)
	if err != nil {
		t.Fatal(err)
	}
	acquire(t, p).Release(nil)
	if begins, ends := spy.Counts(); begins != 2 || ends != 2 {
		t.Errorf("%d begins and %d ends, want 2", begins, ends)
	}
	if s := p.Stat(); s.InUse != 0 || s.Idle != 1 {
		t.Fatalf("%+v, want 1 idle", s)
	}
	closePool(t, p)
}

func TestLayerThatGrantsNothing(t *testing.T) {
	silent := pool.MiddlewareFunc(func(pool.Handler) pool.Handler {
		return func(context.Context, *pool.Call) error { return nil }
	})
	p := newPool(t, &pooltest.Fake{}, pool.Config{}, silent)
	if _, err := p.Acquire(background, op); !errors.Is(err, pool.ErrNotGranted) {
		t.Errorf("got %v, want ErrNotGranted", err)
	}
}

func TestSetResult(t *testing.T) {
	var setErr error
	value := any("from the layer")
	answering := pool.MiddlewareFunc(func(pool.Handler) pool.Handler {
		return func(_ context.Context, c *pool.Call) error {
			setErr = c.SetResult(value)
			return nil
		}
	})
	p := newPool(t, &pooltest.Fake{}, pool.Config{}, answering)
	text := func(context.Context, conn) (string, error) { return "", nil }
	if got, err := pool.Get(background, p, op, text); got != value || err != nil || setErr != nil {
		t.Errorf("got %q, %v, %v", got, err, setErr)
	}
	value = 7
	if _, _ = pool.Get(background, p, op, text); setErr == nil || !contains(setErr.Error(), "type int: this use returns string") {
		t.Errorf("a result of a wrong type: %v", setErr)
	}
	if _ = p.Do(background, op, use); setErr == nil {
		t.Error("Do has no result to set")
	}
	if _, _ = p.Acquire(background, op); setErr == nil {
		t.Error("Acquire has no result to set")
	}
	value = nil
	if got, _ := pool.Get(background, p, op, func(context.Context, conn) (error, error) { return errors.New("x"), nil }); got != nil || setErr != nil {
		t.Errorf("nil for an interface: %v, %v", got, setErr)
	}
}

// faceted is a layer with every optional interface.
type faceted struct {
	recorder
	kind     string
	role     pool.Role
	refuse   error
	attached pool.PoolInfo
	detached int
	commands []string
}

func (f *faceted) Begin(ctx context.Context, _ *pool.Call) (context.Context, struct{}, error) {
	return ctx, struct{}{}, nil
}
func (f *faceted) End(context.Context, *pool.Call, struct{}, error) {}
func (f *faceted) Describe() pool.LayerInfo {
	return pool.LayerInfo{Layer: f.kind, Role: f.role}
}
func (f *faceted) Attach(p pool.PoolInfo) (func(), error) {
	f.attached = p
	return func() { f.detached++ }, f.refuse
}
func (f *faceted) BeginCommand(ctx context.Context, c *pool.Call, cmd driver.Command) context.Context {
	f.commands = append(f.commands, "begin "+c.Op().Name+" "+cmd.Name)
	return context.WithValue(ctx, diaryKey{f.kind}, true)
}
func (f *faceted) EndCommand(ctx context.Context, _ *pool.Call, cmd driver.Command, err error) {
	f.commands = append(f.commands, fmt.Sprint("end ", cmd.Name, " ", err, " ", ctx.Value(diaryKey{f.kind})))
}

func newFaceted(kind string) *faceted {
	return &faceted{recorder: *newRecorder(), kind: kind}
}

func TestFacesAreFoundThroughBracketAndChain(t *testing.T) {
	f := newFaceted("one")
	p, err := pool.New(&pooltest.Fake{}, pool.Config{Name: "cache"}, pool.Chain(pool.Chain(pool.Bracket(f))))
	if err != nil {
		t.Fatal(err)
	}
	if f.attached.Identity().Name != "cache" || !reflect.DeepEqual(p.Layers(), []pool.LayerInfo{{Layer: "one"}}) {
		t.Errorf("attached to %+v, layers %+v", f.attached, p.Layers())
	}
	err = p.Do(background, op, func(ctx context.Context, c conn) error {
		if !driver.Observing(ctx) {
			t.Error("nobody is observing")
		}
		ctx = driver.BeginCommand(ctx, driver.Command{Name: "PING"})
		driver.EndCommand(ctx, driver.Command{Name: "PING"}, nil)
		return c.Use(ctx)
	})
	if err != nil {
		t.Error(err)
	}
	if want := []string{"begin GET PING", "end PING <nil> true"}; !slices.Equal(f.commands, want) {
		t.Errorf("got %q, want %q", f.commands, want)
	}
	closePool(t, p)
	closePool(t, p)
	if f.detached != 1 {
		t.Errorf("detached %d times", f.detached)
	}
	kinds := map[pool.EventKind]int{}
	for _, e := range f.drain() {
		kinds[e.Kind]++
		if e.Pool != "cache" || e.Layer != "pool" {
			t.Errorf("got %+v", e)
		}
	}
	for _, k := range []pool.EventKind{pool.EventOpened, pool.EventAcquired, pool.EventReleased, pool.EventClosed} {
		if kinds[k] != 1 {
			t.Errorf("%d events %q, want 1", kinds[k], k)
		}
	}
}

// A borrower may keep a context after the use, when the Call already serves another use.
func TestCommandsAfterTheUse(t *testing.T) {
	f := newFaceted("one")
	p := newPool(t, &pooltest.Fake{}, pool.Config{}, pool.Bracket(f))
	l := acquire(t, p)
	if !driver.Observing(l.Context()) {
		t.Error("nobody is observing the lease")
	}
	l.Release(nil)
	if driver.Observing(l.Context()) {
		t.Error("a use that is over is observed")
	}
	ctx := driver.BeginCommand(l.Context(), driver.Command{Name: "LATE"})
	driver.EndCommand(ctx, driver.Command{Name: "LATE"}, nil)
	if len(f.commands) != 0 {
		t.Errorf("got %q", f.commands)
	}
}

// The same after a use that ended by a panic.
func TestCommandsAfterAPanic(t *testing.T) {
	p := newPool(t, &pooltest.Fake{}, pool.Config{}, pool.Bracket(newFaceted("one")))
	var kept context.Context
	keep := func(ctx context.Context, _ conn) (int, error) { kept = ctx; panic(op) }
	for name, use := range map[string]func(){
		"Do": func() {
			_ = p.Do(background, op, func(ctx context.Context, c conn) error { _, err := keep(ctx, c); return err })
		},
		"Get": func() { _, _ = pool.Get(background, p, op, keep) },
	} {
		func() {
			defer func() { _ = recover() }()
			use()
		}()
		if driver.Observing(kept) {
			t.Errorf("%s: a use that is over is observed", name)
		}
	}
}

// grantees is a layer that records for each attempt whether the attempt got a resource.
type grantees []bool

func (*grantees) Begin(ctx context.Context, _ *pool.Call) (context.Context, struct{}, error) {
	return ctx, struct{}{}, nil
}

func (g *grantees) End(_ context.Context, c *pool.Call, _ struct{}, _ error) {
	_, _, ok := c.Acquired()
	*g = append(*g, ok)
}

// An attempt refused by a layer does not report the resource of the earlier attempt.
func TestAcquiredIsOfTheLatestAttempt(t *testing.T) {
	twice := pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
		return func(ctx context.Context, c *pool.Call) (err error) {
			for n := 1; n <= 2; n++ {
				c.SetAttempt(n)
				err = next(ctx, c)
			}
			return err
		}
	})
	refuse := pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
		return func(ctx context.Context, c *pool.Call) error {
			if c.Attempt() == 2 {
				return pooltest.ErrRefused
			}
			return next(ctx, c)
		}
	})
	got := &grantees{}
	p := newPool(t, &pooltest.Fake{}, pool.Config{}, twice, pool.Bracket(got), refuse)
	_ = p.Do(background, op, func(context.Context, conn) error { return pooltest.ErrReply })
	if want := (grantees{true, false}); !slices.Equal(*got, want) {
		t.Errorf("got a resource: %v, want %v", *got, want)
	}
}

func TestAttachRefuses(t *testing.T) {
	ok, no := newFaceted("ok"), newFaceted("no")
	no.refuse = errors.New("one pool is enough")
	fake := &pooltest.Fake{}
	_, err := pool.New(fake, pool.Config{MinIdle: 1}, pool.Bracket(ok), pool.Bracket(no))
	if !errors.Is(err, no.refuse) {
		t.Errorf("New: %v", err)
	}
	if ok.detached != 1 || no.detached != 0 {
		t.Errorf("detached %d and %d times, want 1 and 0", ok.detached, no.detached)
	}
	if _, _, alive, _ := fake.Counts(); alive != 0 {
		t.Errorf("%d connections are alive", alive)
	}
}

func TestNewRefusesNil(t *testing.T) {
	if _, err := pool.New[conn](nil, pool.Config{}); err == nil {
		t.Error("a nil driver")
	}
	if _, err := pool.New(&pooltest.Fake{}, pool.Config{}, nil); err == nil || !contains(err.Error(), "layer 1 of 1 is nil") {
		t.Errorf("a nil layer: %v", err)
	}
	if _, err := pool.New(&pooltest.Fake{}, pool.Config{}, pool.Chain(nil)); err == nil {
		t.Error("a nil layer in a Chain")
	}
}

// The conformance suite with a stack of brackets with every optional interface.
func TestFacetedKeepsTheLaws(t *testing.T) {
	pooltest.RunMiddleware(t, func(testing.TB) pool.Middleware {
		_, _, _, layers, _ := diaries()
		return pool.Chain(append(layers, pool.Bracket(newFaceted("x")))...)
	})
}

// Events of a use have the innermost context of the use, so spans and exemplars find their trace.
func TestEventsCarryTheInnermostContext(t *testing.T) {
	a, _, _, layers, _ := diaries()
	var missing []pool.EventKind
	watch := observerFunc(func(ctx context.Context, e pool.Event) {
		if e.Op == op && ctx.Value(diaryKey{a.name}) == nil {
			missing = append(missing, e.Kind)
		}
	})
	p := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 1, MaxWaiters: -1}, watch, layers[0])
	_ = p.Do(background, op, func(ctx context.Context, c conn) error {
		_ = p.Do(ctx, op, use) // refused
		return c.Use(ctx)
	})
	l := acquire(t, p)
	l.Release(nil)
	if len(missing) != 0 {
		t.Errorf("without it: %q", missing)
	}
}

type observerFunc func(context.Context, pool.Event)

func (f observerFunc) Wrap(next pool.Handler) pool.Handler       { return next }
func (f observerFunc) Observe(ctx context.Context, e pool.Event) { f(ctx, e) }

// Calls in use at the same time have different shards, and a Call keeps its shard.
func TestShards(t *testing.T) {
	seen := map[uint32]int{}
	note := pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
		return func(ctx context.Context, c *pool.Call) error {
			before := c.Shard()
			seen[before]++
			err := next(ctx, c)
			if c.Shard() != before {
				t.Errorf("shard %d became %d", before, c.Shard())
			}
			return err
		}
	})
	p := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 4}, note)
	leases := make([]pool.Lease[conn], 4)
	for i := range leases {
		leases[i] = acquire(t, p)
	}
	if len(seen) != len(leases) {
		t.Errorf("%d uses at the same time have the shards %v", len(leases), seen)
	}
	for _, l := range leases {
		l.Release(nil)
	}
}

// attachedDriver is a driver that is an Attacher.
type attachedDriver struct {
	pooltest.Fake

	pool     pool.PoolInfo
	refuse   error
	detached int
}

func (d *attachedDriver) Attach(p pool.PoolInfo) (detach func(), err error) {
	d.pool = p
	return func() { d.detached++ }, d.refuse
}

func TestDriverIsAttached(t *testing.T) {
	d := &attachedDriver{}
	p, err := pool.New(d, pool.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Do(background, op, func(ctx context.Context, c conn) error { return c.Use(ctx) }); err != nil {
		t.Fatal(err)
	}
	d.pool.Clear()
	closePool(t, p)
	if n := p.Stat().Closed[pool.CloseCleared]; n != 1 {
		t.Errorf("%d connections were cleared, want 1", n)
	}
	closePool(t, p)
	if d.detached != 1 {
		t.Errorf("detached %d times, want 1", d.detached)
	}
	layer := newFaceted("layer")
	d = &attachedDriver{refuse: errors.New("no pool for me")}
	if _, err := pool.New(d, pool.Config{}, pool.Bracket(layer)); !errors.Is(err, d.refuse) || d.detached != 0 || layer.detached != 1 {
		t.Errorf("New: %v; detached %d and %d times, want 0 and 1", err, d.detached, layer.detached)
	}
}
