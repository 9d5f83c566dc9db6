package pool_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// A use releases a lease of another pool. Finish marks the error returned by the outer function.
func TestNestedLease(t *testing.T) {
	for _, inner := range [][]pool.Middleware{nil, {pool.Bracket(&asking{})}} {
		a := &asking{}
		outer := newPool(t, &pooltest.Fake{}, pool.Config{Name: "same"}, pool.Bracket(a))
		other := newPool(t, &pooltest.Fake{}, pool.Config{Name: "same"}, inner...)
		for _, failure := range []error{pooltest.ErrBroken, pooltest.ErrRefused, pooltest.ErrDenied, context.DeadlineExceeded} {
			err := outer.Do(background, op, func(ctx context.Context, _ conn) error {
				return acquireIn(ctx, t, other).Finish(failure)
			})
			if a.class.Fault != driver.FaultElsewhere || a.class.Broken || a.class.Repeat != driver.RepeatNever || !errors.Is(err, failure) {
				t.Errorf("%v: got %+v", err, a.class)
			}
			if got := other.Classify(err); got.Fault != driver.FaultServer {
				t.Errorf("to the other pool, %v is %+v", err, got)
			}
		}
		for _, plain := range []error{nil, pooltest.ErrMiss, pooltest.ErrReply} {
			if got := acquireIn(background, t, other).Finish(plain); got != plain {
				t.Errorf("got %v, want the very %v", got, plain)
			}
		}
		if s := outer.Stat(); s.Opened != 1 {
			t.Errorf("%+v", s)
		}
	}
}

func acquireIn(ctx context.Context, t *testing.T, p *pool.Pool[conn]) pool.Lease[conn] {
	t.Helper()
	l, err := p.Acquire(ctx, op)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// An error without information about the pool is returned unchanged.
func TestPlainErrorsStayPlain(t *testing.T) {
	own := errors.New("mine")
	p := newPool(t, &pooltest.Fake{}, pool.Config{})
	for _, want := range []error{own, pooltest.ErrMiss, pooltest.ErrReply} {
		if err := p.Do(background, op, func(context.Context, conn) error { return want }); err != want {
			t.Errorf("got %v, want the very %v", err, want)
		}
	}
	err := p.Do(background, op, func(context.Context, conn) error { return pooltest.ErrBroken })
	if left, ok := errors.AsType[*pool.UseError](err); !ok || left.Class().Fault != driver.FaultServer || err.Error() != pooltest.ErrBroken.Error() {
		t.Errorf("got %v", err)
	}
}

// A driver with the three methods only. An unknown error is nobody's fault. The use is not
// repeated, and the connection is checked before the next lease, not closed.
func TestThreeMethods(t *testing.T) {
	noRows := errors.New("no rows in result set")
	a, fake := &asking{}, &pooltest.Fake{}
	p, err := pool.New[conn](struct{ driver.Driver[conn] }{fake}, pool.Config{}, pool.Bracket(a))
	if err != nil {
		t.Fatal(err)
	}
	defer closePool(t, p)
	for range 5 {
		_ = p.Do(background, op, func(context.Context, conn) error { return noRows })
	}
	if s := p.Stat(); s.Opened != 1 || a.class.Fault != driver.FaultElsewhere || a.class.Repeat != driver.RepeatNever {
		t.Errorf("%+v, %+v", a.class, s)
	}
	fake.Inject(pooltest.Check, 1, pooltest.Fail(pooltest.ErrBroken))
	if err := p.Do(background, op, use); err != nil {
		t.Error(err)
	}
	if s := p.Stat(); s.Opened != 2 {
		t.Errorf("the suspect connection, which fails its check, was lent: %+v", s)
	}
	p.Clear()
	fake.Inject(pooltest.Open, 1, pooltest.Fail(errors.New("FATAL: the database system is starting up")))
	if err := p.Do(background, op, use); err == nil || a.class.Fault != driver.FaultServer || a.class.Repeat != driver.RepeatAlways {
		t.Errorf("%v, %+v; want it to be the server's and repeatable, as nothing was sent", err, a.class)
	}
	for _, tc := range []struct {
		err  error
		want driver.Class
	}{
		{io.EOF, driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatIfIdempotent, Broken: true}},
		{&net.OpError{Op: "dial", Err: errors.New("refused")}, driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatAlways, Broken: true}},
		{&net.OpError{Op: "read", Err: errors.New("reset")}, driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatIfIdempotent, Broken: true}},
		{context.Canceled, driver.Class{Fault: driver.FaultCaller, Broken: true}},
	} {
		if got, ok := driver.ClassifyCommon(tc.err); !ok || got != tc.want {
			t.Errorf("%v: got %+v, want %+v", tc.err, got, tc.want)
		}
	}
	if _, ok := driver.ClassifyCommon(noRows); ok {
		t.Error("an unknown error is known")
	}
}
