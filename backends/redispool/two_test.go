package redispool_test

import (
	"context"
	"testing"

	"github.com/earnorm/poolstack/backends/redispool"
	"github.com/earnorm/poolstack/middleware"
	"github.com/earnorm/poolstack/pool"
)

// A service and a library in this service each make a pool for the same server, with the default
// stack. Neither pool depends on the other.
func TestTwoPoolsOverOneServer(t *testing.T) {
	s := need(t)
	options, err := redispool.ParseURL("redis://" + s.addr + "/0")
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	for i, want := range []string{"redis " + s.addr + "/0", "redis " + s.addr + "/0~2"} {
		stack, err := middleware.Standard(middleware.Options{})
		if err != nil {
			t.Fatal(err)
		}
		p, err := redispool.New(options, pool.Config{}, stack.Layers()...)
		if err != nil {
			t.Fatalf("pool %d: %v", i+1, err)
		}
		t.Cleanup(func() {
			if err := p.Close(ctx); err != nil {
				t.Error(err)
			}
		})
		if got := p.Identity().Name; got != want {
			t.Errorf("pool %d is called %q, not %q", i+1, got, want)
		}
		if err := p.Do(ctx, pool.Op{Name: "PING"}, func(ctx context.Context, c *redispool.Conn) error { return c.Ping(ctx).Err() }); err != nil {
			t.Errorf("pool %d: %v", i+1, err)
		}
	}
}
