package pool_test

import (
	"testing"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// Two open pools never have the same name, even with the same Config.Name.
func TestNames(t *testing.T) {
	open := func(want string, cfg pool.Config) *pool.Pool[conn] {
		t.Helper()
		p := newPool(t, &pooltest.Fake{}, cfg)
		if got := p.Identity().Name; got != want {
			t.Errorf("the pool is called %q, not %q", got, want)
		}
		return p
	}
	named := pool.Config{Name: "orders"}
	first := open("orders", named)
	second := open("orders~2", named)
	open("orders~2~2", pool.Config{Name: "orders~2"})
	open("orders~3", named)
	open("fake memory/0", pool.Config{})
	open("fake memory/0~2", pool.Config{})

	cfg := second.Config()
	if cfg.Name != "orders~2" {
		t.Errorf("its Config says %q", cfg.Name)
	}
	if err := second.Configure(cfg); err != nil {
		t.Errorf("Configure with its own Config: %v", err)
	}

	closePool(t, first)
	open("orders", named)
	closePool(t, first) // a second Close: the name now belongs to another pool
	closePool(t, second)
	if _, err := pool.New(&pooltest.Fake{}, named, refusing{}); err == nil {
		t.Fatal("New did not fail")
	}
	open("orders~2", named)
	open("orders~4", named)
}
