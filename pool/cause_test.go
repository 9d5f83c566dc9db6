package pool_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// What ended a connection, or kept it from being opened, has a name of its own: one of a few.
func TestErrorTypesOfBrokenConnections(t *testing.T) {
	for want, cause := range map[string]error{
		"connection_refused": &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED},
		"connection_reset":   &net.OpError{Op: "read", Err: syscall.ECONNRESET},
		"unreachable":        &net.OpError{Op: "dial", Err: syscall.EHOSTUNREACH},
		"dns":                &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "secret"}},
		"tls":                fmt.Errorf("handshake: %w", tls.AlertError(80)),
		"eof":                io.EOF,
		"timeout":            &net.OpError{Op: "read", Err: context.DeadlineExceeded},
	} {
		t.Run(want, func(t *testing.T) {
			inUse := fmt.Errorf("%w: %w", pooltest.ErrBroken, cause)
			p := newPool(t, &pooltest.Fake{}, pool.Config{})
			if got := p.Classify(inUse).Type; got != want {
				t.Errorf("in a use its type is %q", got)
			}
			fake := &pooltest.Fake{}
			fake.Inject(pooltest.Open, -1, pooltest.Fail(inUse))
			dead := newPool(t, fake, pool.Config{})
			err := dead.Do(context.Background(), pool.Op{}, func(context.Context, *pooltest.Conn) error { return nil })
			if got := dead.Classify(err); got.Type != want || !errors.Is(err, pool.ErrOpen) {
				t.Errorf("of a dial its type is %q: %v", got.Type, err)
			}
			if n := testing.AllocsPerRun(100, func() { p.Classify(inUse) }); n > 2 && want != "timeout" {
				t.Errorf("to name it costs %v allocations", n)
			}
		})
	}
}

// refusedFor is an error of a layer that refuses uses because of a failure.
type refusedFor struct{ because driver.Class }

func (refusedFor) Error() string { return "refused" }
func (refusedFor) Class() driver.Class {
	return driver.Class{Fault: driver.FaultLocal, Type: "refused"}
}
func (r refusedFor) Because() driver.Class { return r.because }

func TestBecause(t *testing.T) {
	root := driver.Class{Fault: driver.FaultServer, Type: "eof"}
	for _, tc := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{io.EOF, false},
		{refusedFor{}, false}, // by hand
		{refusedFor{root}, true},
		{fmt.Errorf("use: %w", refusedFor{root}), true},
		{pool.ErrLost, false},
	} {
		if got, ok := pool.Because(tc.err); ok != tc.want || ok && got != root {
			t.Errorf("%v: got %+v, %v, want %v", tc.err, got, ok, tc.want)
		}
	}
	layer := pool.MiddlewareFunc(func(pool.Handler) pool.Handler {
		return func(context.Context, *pool.Call) error { return &refusedFor{root} }
	})
	left := newPool(t, &pooltest.Fake{}, pool.Config{}, layer).Do(context.Background(), pool.Op{}, nil)
	if got, ok := pool.Because(left); !ok || got != root {
		t.Errorf("of %v, which has left a use: %+v, %v", left, got, ok)
	}
	err := error(&refusedFor{root})
	if n := testing.AllocsPerRun(100, func() { _, _ = pool.Because(err) }); n != 0 {
		t.Errorf("it costs %v allocations", n)
	}
}
