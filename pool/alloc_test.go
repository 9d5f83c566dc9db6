package pool_test

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// allocations fails the test when a run of f allocates more than want times, on the average.
func allocations(t *testing.T, what string, want float64, f func()) {
	t.Helper()
	if got := testing.AllocsPerRun(500, f); got > want {
		t.Errorf("%s: %v allocations, want at most %v", what, got, want)
	}
}

func skipUnderRace(t *testing.T) {
	t.Helper()
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
}

// The functions of the borrowers capture nothing.
func useLease(l pool.Lease[conn], err error) bool { return err == nil && l.Release(nil) }

// Results of five types.
func getID(_ context.Context, c conn) (int, error)     { return c.ID, nil }
func getText(context.Context, conn) (string, error)    { return "text", nil }
func getBytes(context.Context, conn) ([]byte, error)   { return nil, nil }
func getTime(context.Context, conn) (time.Time, error) { return time.Time{}, nil }
func getPair(_ context.Context, c conn) (pair, error)  { return pair{"id", c.ID}, nil }
func noError[R any](_ R, err error) bool               { return err == nil }
func getFiveTypes(ctx context.Context, p *pool.Pool[conn]) bool { // in turn
	return noError(pool.Get(ctx, p, op, getID)) && noError(pool.Get(ctx, p, op, getText)) && noError(pool.Get(ctx, p, op, getBytes)) &&
		noError(pool.Get(ctx, p, op, getTime)) && noError(pool.Get(ctx, p, op, getPair))
}

type pair struct {
	name string
	n    int
}

// passing is a layer that hands a value of type S from Begin to End.
type passing[S any] struct{ value S }

func (l *passing[S]) Begin(ctx context.Context, _ *pool.Call) (context.Context, S, error) {
	return ctx, l.value, nil
}
func (l *passing[S]) End(context.Context, *pool.Call, S, error) {}

// sixBrackets hold states of six types.
func sixBrackets() []pool.Middleware {
	return []pool.Middleware{
		pool.Bracket(&passing[int]{1}), pool.Bracket(&passing[string]{"state"}), pool.Bracket(&passing[time.Time]{time.Unix(1, 0)}),
		pool.Bracket(&passing[pair]{pair{"state", 1}}), pool.Bracket(&passing[*pair]{&pair{"state", 1}}),
		pool.Bracket(&passing[[8]uint64]{[8]uint64{1, 2, 3}}),
	}
}

func TestAllocations(t *testing.T) {
	skipUnderRace(t)
	cancellable, cancel := context.WithCancel(background)
	defer cancel()
	for _, stack := range []struct {
		name   string
		layers []pool.Middleware
	}{{"bare", nil}, {"six layers", sixBrackets()}} {
		t.Run(stack.name, func(t *testing.T) {
			p := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 2, CheckAfter: -1}, stack.layers...)
			if err := p.Warm(background, 1); err != nil {
				t.Fatal(err)
			}
			ok := true
			for _, c := range []struct {
				what string
				want float64
				f    func()
			}{
				{"Do", 0, func() { ok = ok && p.Do(background, op, use) == nil }},
				{"Get", 0, func() { ok = ok && noError(pool.Get(background, p, op, getID)) }},
				{"Get, five types in turn", 0, func() { ok = ok && getFiveTypes(background, p) }},
				{"Acquire", 0, func() { ok = ok && useLease(p.Acquire(background, op)) }},
				{"TryAcquire", 0, func() { ok = ok && useLease(p.TryAcquire(background, op)) }},
				// The driver is an Interrupter, but the pool only watches long uses.
				{"Do, cancellable", 0, func() { ok = ok && p.Do(cancellable, op, use) == nil }},
				{"Acquire, cancellable", 0, func() { ok = ok && useLease(p.Acquire(cancellable, op)) }},
			} {
				allocations(t, c.what, c.want, c.f)
			}
			if !ok {
				t.Error("not every use succeeded")
			}
		})
	}
}

// A driver that is no Interrupter makes a cancellable context as cheap as any other.
func TestAllocationsWithoutInterrupter(t *testing.T) {
	skipUnderRace(t)
	fake := &pooltest.Fake{}
	p, err := pool.New[conn](struct{ driver.Driver[conn] }{fake}, pool.Config{MaxSize: 1, CheckAfter: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer closePool(t, p)
	ctx, cancel := context.WithCancel(background)
	defer cancel()
	allocations(t, "Do", 0, func() { _ = p.Do(ctx, op, use) })
	if s := p.Stat(); s.Acquires == 0 || s.Opened != 1 {
		t.Errorf("got %+v", s)
	}
}

// A borrower that has to wait allocates nothing: the pool uses records and channels again.
func TestAllocationsOfAWait(t *testing.T) {
	skipUnderRace(t)
	p := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 1, CheckAfter: -1})
	ask, gotten, release := make(chan struct{}), make(chan bool), make(chan struct{})
	go func() {
		for range ask {
			l, err := p.Acquire(background, op)
			gotten <- err == nil
			<-release
			l.Release(nil)
			release <- struct{}{}
		}
	}()
	defer close(ask)
	ok := true
	allocations(t, "a wait", 0, func() {
		l, err := p.Acquire(background, op)
		ask <- struct{}{}
		for p.Stat().Waiters == 0 {
			runtime.Gosched()
		}
		l.Release(nil)
		ok = ok && <-gotten && err == nil
		release <- struct{}{}
		<-release
	})
	if s := p.Stat(); !ok || s.Waited < 500 {
		t.Errorf("waits did not go as expected: %+v", s)
	}
}

// deadlines is a layer that bounds each use, as a timeout does.
type deadlines struct{ d time.Duration }

func (l deadlines) Begin(ctx context.Context, _ *pool.Call) (context.Context, *pool.Deadline, error) {
	ctx, d := pool.WithDeadline(ctx, time.Now().Add(l.d), nil)
	return ctx, d, nil
}
func (l deadlines) End(_ context.Context, _ *pool.Call, d *pool.Deadline, _ error) { d.Cancel() }

var keptContext context.Context // so that the compiler cannot put it on the stack

func TestAllocationsOfDeadlines(t *testing.T) {
	skipUnderRace(t)
	late := time.Now().Add(time.Hour)
	near, cancel := context.WithTimeout(background, time.Minute)
	defer cancel()
	allocations(t, "WithDeadline", 1, func() {
		ctx, d := pool.WithDeadline(background, late, nil)
		keptContext = ctx
		d.Cancel()
	})
	allocations(t, "WithDeadline, the parent's is nearer", 0, func() {
		ctx, d := pool.WithDeadline(near, late, nil)
		keptContext = ctx
		d.Cancel()
	})
	p := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 1, CheckAfter: -1},
		pool.Bracket(deadlines{time.Minute}), pool.Bracket(deadlines{time.Hour}), pool.Bracket(deadlines{time.Second}))
	ok := true
	// Two of the three deadlines are needed. Neither the pool nor the interrupter makes a real context
	// for a deadline.
	allocations(t, "Do under three deadlines", 2, func() { ok = ok && p.Do(background, op, use) == nil })
	allocations(t, "Acquire under three deadlines", 2, func() { ok = ok && useLease(p.Acquire(background, op)) })
	if !ok {
		t.Error("not every use succeeded")
	}
}

// The search for leaks costs time for the stack, but no memory.
func TestAllocationsOfLeakDetection(t *testing.T) {
	skipUnderRace(t)
	p := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 1, CheckAfter: -1, LeakAfter: time.Hour})
	allocations(t, "Do", 0, func() { _ = p.Do(background, op, use) })
}
