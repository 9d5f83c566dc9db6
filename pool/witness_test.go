package pool_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// testifying is a driver whose client has a hook. The hook sees each command and its result.
type testifying struct {
	*pooltest.Fake

	mu       sync.Mutex
	accounts map[conn]*driver.Testimony
	met      map[conn][]error
	fail     func(method string) // may panic
}

func newTestifying() *testifying {
	return &testifying{
		Fake: &pooltest.Fake{}, accounts: map[conn]*driver.Testimony{}, met: map[conn][]error{}, fail: func(string) {},
	}
}

func (h *testifying) BeginUse(ctx context.Context, c conn) context.Context {
	h.fail("BeginUse")
	h.mu.Lock()
	defer h.mu.Unlock()
	h.accounts[c], h.met[c] = &driver.Testimony{}, nil
	return ctx
}

func (h *testifying) EndUse(c conn, err error) (driver.Testimony, bool) {
	h.fail("EndUse")
	h.mu.Lock()
	defer h.mu.Unlock()
	t, ok := h.accounts[c]
	if !ok {
		return driver.Testimony{}, false
	}
	delete(h.accounts, c)
	mine := false
	t.Own = driver.Without(err, func(err error) bool {
		if !slices.Contains(clients, err) {
			return false
		}
		met := slices.Contains(h.met[c], err)
		mine = mine || met
		return !met
	})
	if !mine {
		t.Own = nil
	}
	return *t, true
}

// clients are the errors of the client.
var clients = []error{pooltest.ErrBroken, pooltest.ErrRefused, pooltest.ErrDenied, pooltest.ErrReply, pooltest.ErrMiss}

// send is a command: a write or a read, with the result err.
func (h *testifying) send(c conn, write bool, err error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.accounts[c]
	t.Asked = true
	if err == nil || h.Classify(err).Fault == driver.FaultNone {
		t.Answered = true
	}
	t.Done = t.Done || write && (err == nil || errors.Is(err, pooltest.ErrBroken))
	if err != nil {
		h.met[c] = append(h.met[c], err)
	}
	return err
}

// The testimony corrects the class of the error, in one-step and two-step uses.
func TestWitness(t *testing.T) {
	h, other := newTestifying(), newTestifying()
	a := &heard{}
	p := newPoolOver(t, h.Fake, h, pool.Config{}, pool.Bracket(a))
	q := newPoolOver(t, other.Fake, other, pool.Config{})
	elsewhere := driver.Class{Fault: driver.FaultElsewhere, Type: "_OTHER"}
	refused := driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatAlways, Code: "REFUSED", Type: "REFUSED"}
	once := refused
	once.Repeat = driver.RepeatIfIdempotent
	foreign := func(err error) error { return other.send(lentOnce(q.Acquire(background, op)), false, err) }
	for _, tc := range []struct {
		name  string
		use   func(c conn) error
		asked bool
		want  driver.Class
	}{
		{"nothing was asked", func(conn) error { return nil }, false, driver.Class{}},
		{"a success", func(c conn) error { return h.send(c, true, nil) }, true, driver.Class{}},
		{"the function's own error", func(conn) error { return errWhy }, false, elsewhere},
		{"the function's own error, after an answer", func(c conn) error { return errors.Join(h.send(c, false, nil), errWhy) }, true,
			driver.Class{Type: "_OTHER"}},
		{"its own failure", func(c conn) error { return h.send(c, false, pooltest.ErrRefused) }, true, refused},
		{"its own failure, after a read", func(c conn) error { return errors.Join(h.send(c, false, nil), h.send(c, false, pooltest.ErrRefused)) },
			true, refused},
		{"its own failure, after a write", func(c conn) error { return errors.Join(h.send(c, true, nil), h.send(c, true, pooltest.ErrRefused)) },
			true, once},
		{"another connection's, raw", func(conn) error { return foreign(pooltest.ErrBroken) }, false, elsewhere},
		{"the same, after an answer", func(c conn) error { return errors.Join(h.send(c, true, nil), foreign(pooltest.ErrBroken)) }, true,
			driver.Class{Type: "_OTHER"}},
		{"a miss elsewhere", func(conn) error { return foreign(pooltest.ErrMiss) }, false, driver.Class{Fault: driver.FaultElsewhere, Miss: true}},
		{"an answer elsewhere", func(conn) error { return foreign(pooltest.ErrReply) }, false,
			driver.Class{Fault: driver.FaultElsewhere, Code: "REPLY", Type: "REPLY"}},
		{"a miss of its own", func(c conn) error { return h.send(c, false, pooltest.ErrMiss) }, true, driver.Class{Miss: true}},
		{"its own beside another's", func(c conn) error {
			return errors.Join(foreign(pooltest.ErrBroken), h.send(c, false, pooltest.ErrDenied))
		},
			true, driver.Class{Fault: driver.FaultServer, Code: "DENIED", Type: "DENIED"}},
		{"a layer's refusal within, after a write", func(c conn) error {
			return errors.Join(h.send(c, true, nil), layers{refused})
		}, true, once},
		{"a lost reply", func(c conn) error { return h.send(c, true, pooltest.ErrBroken) }, true,
			driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatIfIdempotent, Broken: true, Type: "broken"}},
		{"a lost reply to a read", func(c conn) error { return h.send(c, false, pooltest.ErrBroken) }, true,
			driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatAlways, Broken: true, Type: "broken"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			opened := p.Stat().Opened
			_ = p.Do(background, op, func(_ context.Context, c conn) error { return tc.use(c) })
			if a.class != tc.want || a.asked != tc.asked {
				t.Errorf("Do: got %+v, asked %t, want %+v, %t", a.class, a.asked, tc.want, tc.asked)
			}
			*a = heard{}
			l := acquire(t, p)
			l.Release(tc.use(value(t, l)))
			if a.class != tc.want || a.asked != tc.asked {
				t.Errorf("Acquire: got %+v, asked %t, want %+v, %t", a.class, a.asked, tc.want, tc.asked)
			}
			if err := p.Do(background, op, use); err != nil {
				t.Error(err)
			}
			if broke := p.Stat().Opened > opened+1; broke != tc.want.Broken {
				t.Errorf("the connection was closed: %t", broke)
			}
		})
	}
}

// Answered is true after a single answered command, however the use ends. Without a witness
// Answered is false.
func TestAnswered(t *testing.T) {
	h, a, b := newTestifying(), &heard{}, &heard{}
	p := newPoolOver(t, h.Fake, h, pool.Config{}, pool.Bracket(a))
	plain := newPool(t, &pooltest.Fake{}, pool.Config{}, pool.Bracket(b))
	for _, test := range []struct {
		met  []error // the results of the commands of a use
		want bool
	}{
		{nil, false},
		{[]error{nil}, true},
		{[]error{pooltest.ErrDenied}, false},
		{[]error{nil, pooltest.ErrBroken}, true},
		{[]error{pooltest.ErrMiss, pooltest.ErrDenied}, true},
	} {
		_ = p.Do(background, op, func(_ context.Context, c conn) (err error) {
			for _, met := range test.met {
				err = h.send(c, false, met)
			}
			return err
		})
		if a.answered != test.want {
			t.Errorf("%v: answered %t, want %t", test.met, a.answered, test.want)
		}
	}
	if _ = plain.Do(background, op, use); b.answered {
		t.Error("without a witness it has answered")
	}
}

// lentOnce returns the connection of a lease that is never released.
func lentOnce(l pool.Lease[conn], err error) conn {
	if err != nil {
		panic(err)
	}
	c, _ := l.Value()
	l.Release(nil)
	return c
}

// heard is a layer that records the answers of the Call.
type heard struct {
	class    driver.Class
	asked    bool
	answered bool
}

func (*heard) Begin(ctx context.Context, _ *pool.Call) (context.Context, struct{}, error) {
	return ctx, struct{}{}, nil
}

func (a *heard) End(_ context.Context, c *pool.Call, _ struct{}, err error) {
	a.class, a.asked, a.answered = c.Classify(err), c.Asked(), c.Answered()
}

// A panic of the witness means no testimony: the class depends on the error alone, and the resource
// is not lost.
func TestWitnessFails(t *testing.T) {
	for _, method := range []string{"BeginUse", "EndUse"} {
		for name, layers := range map[string][]pool.Middleware{"layers": {pool.Bracket(&passing[int]{})}, "bare": nil} {
			h := newTestifying()
			h.fail = func(called string) {
				if called == method {
					panic(method)
				}
			}
			p := newPoolOver(t, h.Fake, h, pool.Config{MaxSize: 1}, layers...)
			err := p.Do(background, op, func(context.Context, conn) error { return pooltest.ErrDenied })
			if left, ok := errors.AsType[*pool.UseError](err); !ok || left.Class().Fault != driver.FaultServer {
				t.Errorf("%s, %s: %v", method, name, err)
			}
			if err := acquire(t, p).Finish(nil); err != nil || p.Stat().Idle != 1 {
				t.Errorf("%s, %s: %v, %+v", method, name, err, p.Stat())
			}
		}
	}
}

// A witness that ends the goroutine of the borrower leaks no resource.
func TestWitnessExits(t *testing.T) {
	for name, layers := range map[string][]pool.Middleware{"layers": {pool.Bracket(&passing[int]{})}, "bare": nil} {
		for use, lend := range map[string]func(*pool.Pool[conn]){
			"Do": func(p *pool.Pool[conn]) {
				_ = p.Do(background, op, func(context.Context, conn) error { return nil })
			},
			"Acquire":    func(p *pool.Pool[conn]) { _, _ = p.Acquire(background, op) },
			"TryAcquire": func(p *pool.Pool[conn]) { _, _ = p.TryAcquire(background, op) },
		} {
			h := newTestifying()
			h.fail = func(string) {}
			p := newPoolOver(t, h.Fake, h, pool.Config{MaxSize: 1}, layers...)
			acquire(t, p).Release(nil)
			h.fail = func(called string) {
				if called == "BeginUse" {
					runtime.Goexit()
				}
			}
			over := make(chan struct{})
			go func() {
				defer close(over)
				lend(p)
			}()
			<-over
			if s := p.Stat(); s.InUse != 0 {
				t.Errorf("%s, %s: %+v", use, name, s)
			}
		}
	}
}

// The testimony belongs to a single use: neither a panic nor a failed layer leaves the testimony to
// the next use.
func TestWitnessIsAskedAboutOneUse(t *testing.T) {
	h, a, fail := newTestifying(), &heard{}, false
	p := newPoolOver(t, h.Fake, h, pool.Config{MaxSize: 1}, pool.Bracket(a), pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
		return func(ctx context.Context, c *pool.Call) error {
			if err := next(ctx, c); err != nil || !fail {
				return err
			}
			return pooltest.ErrRefused // after the grant
		}
	}))
	l := acquire(t, p)
	_ = h.send(value(t, l), true, nil)
	l.Release(nil)
	fail = true
	if _, err := p.Acquire(background, op); err == nil {
		t.Fatal("it was lent")
	}
	if a.class.Repeat != driver.RepeatAlways {
		t.Errorf("after a use that wrote, another that did nothing is %+v", a.class)
	}
}

// Adopt takes over the testimony of the fork.
func TestWitnessOfAFork(t *testing.T) {
	h, a := newTestifying(), &heard{}
	p := newPoolOver(t, h.Fake, h, pool.Config{}, pool.Bracket(a), pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
		return func(ctx context.Context, c *pool.Call) error {
			f := c.Fork()
			err := next(ctx, f)
			c.Adopt(f)
			return err
		}
	}))
	for _, write := range []bool{true, false} {
		_, _ = pool.Get(background, p, op, func(_ context.Context, c conn) (int, error) {
			return 0, errors.Join(h.send(c, write, nil), h.send(c, true, pooltest.ErrRefused))
		})
		want := driver.RepeatAlways
		if write {
			want = driver.RepeatIfIdempotent
		}
		if a.class.Repeat != want || !a.asked {
			t.Errorf("write %t: %+v", write, a.class)
		}
	}
}

// A use answered by a layer has sent no command.
func TestAnsweredByALayer(t *testing.T) {
	a := &heard{}
	p := newPool(t, &pooltest.Fake{}, pool.Config{}, pool.Bracket(a), pool.MiddlewareFunc(func(pool.Handler) pool.Handler {
		return func(_ context.Context, c *pool.Call) error { return c.SetResult(1) }
	}))
	if n, err := pool.Get(background, p, op, getID); n != 1 || err != nil || a.asked {
		t.Errorf("%d, %v, asked %t", n, err, a.asked)
	}
}
