package middleware_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/earnorm/poolstack/middleware/breaker"
	"github.com/earnorm/poolstack/middleware/retry"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// threeMethods is a driver that is nothing else, as one over a client of database/sql would be.
type threeMethods struct{ driver.Driver[conn] }

// errNoRows is such a client's name for a miss: a plain value, of which the pool cannot know.
var errNoRows = errors.New("sql: no rows in result set")

// Requests for a missing row, over a driver of three methods and the whole stack at its defaults:
// each is sent once, no connection is closed, the breaker has nothing to count, and err ==
// errNoRows holds.
func TestMissingRows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const requests = 20
		fake := &pooltest.Fake{}
		stack := standard(t, quiet())
		p, end := newPool(t, threeMethods{fake}, pool.Config{}, stack.Layers()...)
		defer end()
		sent := 0
		for range requests {
			err := p.Do(t.Context(), pool.Op{Name: "SELECT", Idempotent: true}, func(ctx context.Context, c conn) error {
				sent++
				if err := c.Use(ctx); err != nil {
					return err
				}
				return errNoRows
			})
			if err != errNoRows {
				t.Fatalf("got %v, want the very %v", err, errNoRows)
			}
		}
		if s := p.Stat(); sent != requests || s.Opened != 1 {
			t.Errorf("%d requests were sent %d times, over %d connections", requests, sent, s.Opened)
		}
		if s := stack.Breaker.Snapshot(); s.State != breaker.StateClosed || s.Counts.Calls() > 0 {
			t.Errorf("the breaker is %v, with %+v", s.State, s.Counts)
		}
	})
}

// "Not the server's fault" does not mean "the server is well". Uses that met only the outage of
// another pool do not close the breaker of a dead server, do not keep a breaker closed, and earn no
// retries.
func TestElsewhereIsNoEvidence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake, down := &pooltest.Fake{}, &pooltest.Fake{}
		down.Inject(pooltest.Open, -1, pooltest.Fail(pooltest.ErrRefused))
		other, end := newPool(t, down, pool.Config{Name: "other"})
		defer end()
		b, err := breaker.New(breaker.Config{ConsecutiveFailures: 4})
		if err != nil {
			t.Fatal(err)
		}
		r, err := retry.New(retry.Config{InitialDelay: 1, MaxAttempts: 2, BudgetBurst: 10})
		if err != nil {
			t.Fatal(err)
		}
		p, end := newPool(t, fake, pool.Config{Name: "own"}, r, b)
		defer end()
		elsewhere := func() {
			err := p.Do(t.Context(), pool.Op{}, func(ctx context.Context, _ conn) error {
				return other.Do(ctx, pool.Op{}, func(context.Context, conn) error { return nil })
			})
			if err == nil {
				t.Fatal("the other pool works")
			}
		}
		before := r.Budget()
		for i := range 4 {
			if i > 0 {
				elsewhere()
			}
			_ = p.Do(t.Context(), pool.Op{}, func(context.Context, conn) error { return pooltest.ErrDenied })
		}
		if s := b.Snapshot(); s.State != breaker.StateOpen || r.Budget() > before {
			t.Errorf("after four failures, others among them, the breaker is %v with %+v, the budget %v after %v", s.State, s.Counts, r.Budget(), before)
		}
	})
}
