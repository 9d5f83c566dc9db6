package mongopool

import (
	"testing"

	"github.com/earnorm/poolstack/middleware"
	"github.com/earnorm/poolstack/pool"
)

// A service and a library in the service each make a pool over the same server, with the default
// stack. Neither knows of the other.
func TestTwoPoolsOverOneServer(t *testing.T) {
	f := newFake(t)
	for i, want := range []string{"mongodb " + f.address + "/test", "mongodb " + f.address + "/test~2"} {
		stack, err := middleware.Standard(middleware.Options{})
		if err != nil {
			t.Fatal(err)
		}
		_, p := newPool(t, Options{URI: f.uri()}, pool.Config{}, stack.Layers()...)
		if got := p.Identity().Name; got != want {
			t.Errorf("pool %d is called %q, not %q", i+1, got, want)
		}
		if err := p.Do(bounded(t), pool.Op{Name: "ping"}, ping); err != nil {
			t.Errorf("pool %d: %v", i+1, err)
		}
	}
}
