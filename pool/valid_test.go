package pool_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/earnorm/poolstack/pool"
)

// validating is a driver that is a Validator.
type validating struct {
	hooks
	valid func(res int) bool
	asked atomic.Int64
}

func (d *validating) Valid(res int) bool {
	d.asked.Add(1)
	return d.valid(res)
}

// Idle resources that are not valid are closed, and the borrower gets another resource at once.
// Each acquisition counts once.
func TestInvalidIsNotLent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &validating{}
		var dead atomic.Int64 // all resources with an ID up to dead
		d.valid = func(res int) bool { return int64(res) > dead.Load() }
		p, err := pool.New(d, pool.Config{MaxSize: 5})
		if err != nil {
			t.Fatal(err)
		}
		defer closePoolOf(t, p)
		if err := p.Warm(t.Context(), 5); err != nil {
			t.Fatal(err)
		}
		use := func() (got int) {
			t.Helper()
			err := p.Do(t.Context(), pool.Op{}, func(_ context.Context, res int) error { got = res; return nil })
			if err != nil {
				t.Error(err)
			}
			return got
		}
		dead.Store(3)
		for range 3 {
			if got := use(); got <= 3 {
				t.Errorf("resource %d was lent", got)
			}
		}
		dead.Store(5)
		if got := use(); got != 6 {
			t.Errorf("resource %d was lent", got)
		}
		synctest.Wait()
		s := p.Stat()
		if s.Acquires != 4 || s.InUse != 0 || s.CheckFailures != 0 || s.Closed[pool.CloseCheck] == 0 || s.Closed.Total() != s.Closed[pool.CloseCheck] {
			t.Errorf("%+v", s)
		}
	})
}

// A panic in Valid means an invalid resource.
func TestValidThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &validating{}
		d.valid = func(res int) bool {
			if res == 1 {
				panic("boom")
			}
			return true
		}
		p, err := pool.New(d, pool.Config{MaxSize: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer closePoolOf(t, p)
		for range 2 { // the first use gets the resource of its dial
			if err := p.Do(t.Context(), pool.Op{}, func(context.Context, int) error { return nil }); err != nil {
				t.Error(err)
			}
		}
		if s := p.Stat(); s.Acquires != 2 || s.Closed[pool.CloseCheck] != 1 || s.Opened != 2 {
			t.Errorf("%+v", s)
		}
	})
}

// The pool does not call Valid for a resource that comes directly from another borrower or from a
// dial.
func TestValidIsAskedOfTheIdleOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &validating{valid: func(int) bool { return true }}
		p, err := pool.New(d, pool.Config{MaxSize: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer closePoolOf(t, p)
		l, err := p.Acquire(t.Context(), pool.Op{})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() { done <- p.Do(t.Context(), pool.Op{}, func(context.Context, int) error { return nil }) }()
		synctest.Wait()
		l.Release(nil)
		if err := <-done; err != nil || d.asked.Load() != 0 {
			t.Errorf("%v; asked %d times", err, d.asked.Load())
		}
	})
}
