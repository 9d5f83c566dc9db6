package pool_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// share prevents a single target (a collection, a family of keys) from using the whole pool. share
// admits at most limit concurrent uses of a target.
type share struct {
	limit int
	mu    sync.Mutex
	busy  map[string]int
}

func (s *share) Begin(ctx context.Context, c *pool.Call) (context.Context, string, error) {
	target := c.Op().Target
	if s.add(target, 1) > s.limit {
		s.add(target, -1)
		err := overShare(target)
		c.Emit(ctx, pool.Event{Kind: pool.EventRejected, Layer: "share", Reason: err.Class().Type, Err: err})
		return ctx, "", err
	}
	return ctx, target, nil
}

func (s *share) End(_ context.Context, _ *pool.Call, target string, _ error) { s.add(target, -1) }

func (s *share) add(target string, n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy[target] += n
	return s.busy[target]
}

func (s *share) Describe() pool.LayerInfo {
	return pool.LayerInfo{Layer: "share", Role: pool.RoleJudge}
}

// overShare is the rejection. Its class is for retry, breaker and telemetry.
type overShare string

func (e overShare) Error() string { return fmt.Sprintf("share: too many uses of %q", string(e)) }
func (overShare) Class() driver.Class {
	return driver.Class{Fault: driver.FaultLocal, Repeat: driver.RepeatAlways, Type: "over_share"}
}

// A layer that prevents a single collection from using the whole pool.
func Example_layer() {
	p, err := pool.New(&pooltest.Fake{}, pool.Config{MaxSize: 8}, pool.Bracket(&share{limit: 2, busy: map[string]int{}}))
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	defer p.Close(ctx)
	for _, target := range []string{"reports", "reports", "reports", "users"} {
		lease, err := p.Acquire(ctx, pool.Op{Name: "find", Target: target})
		fmt.Println(target, err)
		defer lease.Release(nil) // a failed Acquire returns the zero Lease, and its Release does nothing
	}
	// Output:
	// reports <nil>
	// reports <nil>
	// reports share: too many uses of "reports"
	// users <nil>
}

// The layer of the example keeps the laws of every layer, and its own promise.
func TestExampleLayer(t *testing.T) {
	pooltest.RunMiddleware(t, func(testing.TB) pool.Middleware { return pool.Bracket(&share{limit: 100, busy: map[string]int{}}) })
}
