package registry_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
	"github.com/earnorm/poolstack/pool/registry"
)

// An HTTP endpoint shows all pools that have opted in, wherever in the program they were made.
func Example() {
	sessions, _ := pool.New(&pooltest.Fake{}, pool.Config{Name: "sessions", MaxSize: 4}, registry.Process)
	orders, _ := pool.New(&pooltest.Fake{}, pool.Config{Name: "orders"}, registry.Process)
	private, _ := pool.New(&pooltest.Fake{}, pool.Config{Name: "private"})

	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for _, p := range registry.Process.Pools() {
			fmt.Fprintf(w, "%s: %d of %d in use\n", p.Identity().Name, p.Stat().InUse, p.Stat().Max)
		}
	}))
	defer page.Close()
	show := func() {
		reply, err := http.Get(page.URL)
		if err != nil {
			fmt.Println(err)
			return
		}
		defer reply.Body.Close()
		text, _ := io.ReadAll(reply.Body)
		fmt.Print(string(text))
	}

	lease, _ := sessions.Acquire(context.Background(), pool.Op{Name: "GET"})
	show()
	lease.Release(nil)
	_ = sessions.Close(context.Background())
	fmt.Println("sessions is closed")
	show()
	_ = orders.Close(context.Background())
	_ = private.Close(context.Background())
	// Output:
	// sessions: 1 of 4 in use
	// orders: 0 of 10 in use
	// sessions is closed
	// orders: 0 of 10 in use
}

// A console follows the list without a poll: Changed tells when to read the list again.
func ExampleRegistry_Changed() {
	var pools registry.Registry // of its own, in place of Process
	changed := pools.Changed()
	fmt.Println(len(pools.Pools()), "pools")
	cache, _ := pool.New(&pooltest.Fake{}, pool.Config{Name: "cache"}, &pools)
	<-changed
	changed = pools.Changed()
	fmt.Println(len(pools.Pools()), "pool:", pools.Pools()[0].Identity().Name)
	_ = cache.Close(context.Background())
	<-changed
	fmt.Println(len(pools.Pools()), "pools")
	// Output:
	// 0 pools
	// 1 pool: cache
	// 0 pools
}
