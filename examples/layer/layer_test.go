package main

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

func TestMain(m *testing.M) { os.Exit(pooltest.Main(m)) }

// The layer keeps the rules of package pool.
func TestConformance(t *testing.T) {
	pooltest.RunMiddleware(t, func(t testing.TB) pool.Middleware { return pool.Bracket(newLimit(t, 1)) })
}

// A use of a full operation is refused, and reported to the observers. A released lease makes room.
func TestLimit(t *testing.T) {
	ctx, seen := t.Context(), &rejections{}
	p, err := pool.New(&pooltest.Fake{}, pool.Config{MaxSize: 4}, seen, pool.Bracket(newLimit(t, 1)))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close(ctx)
	use := func(ctx context.Context, c *pooltest.Conn) error { return c.Use(ctx) }
	report := pool.Op{Name: "report"}

	lease, err := p.Acquire(ctx, report)
	if err != nil {
		t.Fatal(err)
	}
	err = p.Do(ctx, report, use)
	if _, ok := errors.AsType[FullError](err); !ok || p.Classify(err).Fault != driver.FaultLocal {
		t.Errorf("the second report ends with %v, want a FullError", err)
	}
	if len(seen.events) != 1 || seen.events[0].Layer != "per_operation" {
		t.Errorf("the observers see %+v, want one rejection", seen.events)
	}
	if err := p.Do(ctx, pool.Op{Name: "get"}, use); err != nil {
		t.Errorf("another operation: %v", err)
	}
	lease.Release(nil)
	if err := p.Do(ctx, report, use); err != nil {
		t.Errorf("a report after the first has ended: %v", err)
	}
}

func TestNoLimit(t *testing.T) {
	if _, err := NewPerOperation(0); err == nil {
		t.Error("a layer that refuses everything is no error")
	}
}

func newLimit(t testing.TB, n int) *PerOperation {
	t.Helper()
	l, err := NewPerOperation(n)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// rejections is a layer that keeps the rejections seen by an observer.
type rejections struct{ events []pool.Event }

func (*rejections) Wrap(next pool.Handler) pool.Handler { return next }

func (r *rejections) Observe(_ context.Context, e pool.Event) {
	if e.Kind == pool.EventRejected {
		r.events = append(r.events, e)
	}
}
