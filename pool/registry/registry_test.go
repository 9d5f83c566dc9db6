package registry_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
	"github.com/earnorm/poolstack/pool/registry"
)

func TestMain(m *testing.M) { os.Exit(pooltest.Main(m)) }

// makePool makes a pool with the layers; the returned function closes the pool.
func makePool(t *testing.T, name string, layers ...pool.Middleware) (end func()) {
	t.Helper()
	p, err := pool.New(&pooltest.Fake{}, pool.Config{Name: name}, layers...)
	if err != nil {
		t.Error(err)
		return func() {}
	}
	return func() {
		if err := p.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}
}

func names(r *registry.Registry) (all []string) {
	for _, p := range r.Pools() {
		all = append(all, p.Identity().Name)
	}
	return all
}

func want(t *testing.T, r *registry.Registry, all ...string) {
	t.Helper()
	if got := names(r); !slices.Equal(got, all) {
		t.Errorf("the list is %q, want %q", got, all)
	}
}

func TestSuite(t *testing.T) {
	pooltest.RunMiddleware(t, func(testing.TB) pool.Middleware { return new(registry.Registry) })
}

// A pool is in the list from its making until Close, if the pool has the registry among its layers.
// The order is the order of the making.
func TestList(t *testing.T) {
	r := new(registry.Registry)
	want(t, r)
	first := makePool(t, "z", r)
	second := makePool(t, "a", pool.Chain(r, pool.Chain(r))) // twice among the layers
	defer makePool(t, "b")()                                 // does not take part
	third := makePool(t, "m", r)
	want(t, r, "z", "a", "m")
	r.Pools()[0] = nil
	want(t, r, "z", "a", "m")
	second()
	want(t, r, "z", "m")
	again := makePool(t, "a", r)
	want(t, r, "z", "m", "a")
	first()
	third()
	again()
	want(t, r)
}

// The list contains the very pool: its figures and its methods.
func TestPoolInTheList(t *testing.T) {
	r := new(registry.Registry)
	p, err := pool.New(&pooltest.Fake{}, pool.Config{Name: "cache", MaxSize: 3}, r)
	if err != nil {
		t.Fatal(err)
	}
	l, err := p.Acquire(context.Background(), pool.Op{})
	if err != nil {
		t.Fatal(err)
	}
	seen := r.Pools()[0]
	if s := seen.Stat(); s.InUse != 1 || s.Max != 3 {
		t.Errorf("the figures in the list are %+v", s)
	}
	l.Release(nil)
	if h := seen.Check(context.Background()); h.Status != pool.StatusOK {
		t.Errorf("Check in the list says %+v", h)
	}
	if err := p.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if h := seen.Check(context.Background()); h.Status != pool.StatusDown {
		t.Errorf("after Close, Check says %+v", h)
	}
}

// refuser is a layer that refuses its pool.
type refuser struct{ pool.MiddlewareFunc }

func (refuser) Attach(pool.PoolInfo) (func(), error) { return nil, errors.New("not this one") }

// A pool that New refuses does not stay in the list.
func TestRefusedPool(t *testing.T) {
	r := new(registry.Registry)
	none := refuser{func(next pool.Handler) pool.Handler { return next }}
	if _, err := pool.New(&pooltest.Fake{}, pool.Config{}, r, none); err == nil {
		t.Fatal("the pool is accepted")
	}
	want(t, r)
}

// A reader wakes at each arrival and each departure.
func TestChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := new(registry.Registry)
		var seen []string
		ctx, stop := context.WithCancel(context.Background())
		var reader sync.WaitGroup
		reader.Go(func() {
			for {
				changed := r.Changed()
				seen = append(seen, fmt.Sprint(names(r)))
				select {
				case <-changed:
				case <-ctx.Done():
					return
				}
			}
		})
		synctest.Wait()
		a := makePool(t, "a", r)
		synctest.Wait()
		b := makePool(t, "b", r)
		synctest.Wait()
		a()
		synctest.Wait()
		b()
		synctest.Wait()
		stop()
		reader.Wait()
		if want := []string{"[]", "[a]", "[a b]", "[b]", "[]"}; !slices.Equal(seen, want) {
			t.Errorf("the reader saw %q, want %q", seen, want)
		}
	})
}

// Pools arrive and leave while readers read; at rest the readers know the last list.
func TestConcurrently(t *testing.T) {
	const makers, rounds = 4, 25
	r := new(registry.Registry)
	ctx, stop := context.WithCancel(context.Background())
	var readers, work sync.WaitGroup
	last := make([][]string, 3)
	for i := range last {
		readers.Go(func() {
			for {
				changed := r.Changed()
				last[i] = names(r)
				select {
				case <-changed:
				case <-ctx.Done():
					last[i] = names(r)
					return
				}
			}
		})
	}
	kept := make([]func(), makers)
	for m := range makers {
		work.Go(func() {
			kept[m] = makePool(t, fmt.Sprintf("kept %d", m), r)
			for range rounds {
				end := makePool(t, fmt.Sprintf("maker %d", m), r)
				if !slices.Contains(names(r), fmt.Sprintf("maker %d", m)) {
					t.Error("a pool is not in the list after its making")
				}
				end()
				if slices.Contains(names(r), fmt.Sprintf("maker %d", m)) {
					t.Error("a pool is in the list after Close")
				}
			}
		})
	}
	work.Wait()
	all := names(r)
	stop()
	readers.Wait()
	for _, got := range last {
		if len(all) != makers || !slices.Equal(got, all) {
			t.Errorf("a reader saw %q last; the list is %q", got, all)
		}
	}
	for _, end := range kept {
		end()
	}
	want(t, r)
}
