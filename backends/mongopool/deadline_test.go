package mongopool

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/earnorm/poolstack/middleware/breaker"
	"github.com/earnorm/poolstack/middleware/retry"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
)

// shortFind is a find that the borrower gives less time than the use has.
func shortFind(d time.Duration) func(ctx context.Context, c *Conn) error {
	return func(ctx context.Context, c *Conn) error {
		ctx, cancel := context.WithTimeout(ctx, d)
		defer cancel()
		return find(ctx, c)
	}
}

// A deadline set by the borrower's function is the borrower's. A late find is not sent again. The
// breaker of a server that has always been slow stays closed.
func TestOwnDeadline(t *testing.T) {
	f := newFake(t)
	never := make(chan struct{})
	defer close(never)
	f.script("find", reply{after: never, drop: true})
	r, err := retry.New(retry.Config{InitialDelay: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	j := &judge{}
	_, p := newPool(t, Options{URI: f.uri()}, pool.Config{MaxSize: 1}, pool.Bracket(j), r)
	err = p.Do(t.Context(), pool.Op{Name: "find", Idempotent: true}, shortFind(20*time.Millisecond))
	if n := len(f.commands("find")); n != 1 || j.class.Fault != driver.FaultCaller || j.class.Type != "timeout" {
		t.Errorf("%d finds, %v, %+v", n, err, j.class)
	}
	// Now the only socket waits for a reply.
	err = p.Do(t.Context(), pool.Op{Name: "find", Idempotent: true}, shortFind(20*time.Millisecond))
	if j.class.Fault != driver.FaultCaller || j.class.Type != "timeout" {
		t.Errorf("%v, %+v", err, j.class)
	}
}

// A server that was quick, and hangs, is found by such deadlines all the same.
func TestOwnDeadlinesFindAServerThatHangs(t *testing.T) {
	f := newFake(t)
	f.script("find", nothing)
	b, err := breaker.New(breaker.Config{})
	if err != nil {
		t.Fatal(err)
	}
	_, p := newPool(t, Options{URI: f.uri()}, pool.Config{MaxSize: 4}, b)
	use := func(d time.Duration) { _ = p.Do(t.Context(), pool.Op{Name: "find", Idempotent: true}, shortFind(d)) }
	for range 200 {
		use(time.Second)
	}
	never := make(chan struct{})
	defer close(never)
	f.script("find", reply{after: never, drop: true})
	var all sync.WaitGroup
	defer all.Wait()
	for range 4 {
		all.Go(func() {
			for range 40 {
				use(200 * time.Millisecond)
			}
		})
	}
	eventually(t, "the breaker is open", func() bool { return b.Snapshot().Opened > 0 })
}
