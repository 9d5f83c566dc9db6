package pool_test

import (
	"context"
	"sync"
	"testing"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// listener counts the events received. wants lists the wanted kinds among the kinds reported by
// every use.
type listener struct {
	pool.MiddlewareFunc

	wants map[pool.EventKind]bool
	mu    sync.Mutex
	heard map[pool.EventKind]int
}

func newListener(wants ...pool.EventKind) *listener {
	l := &listener{
		MiddlewareFunc: func(next pool.Handler) pool.Handler { return next },
		wants:          map[pool.EventKind]bool{}, heard: map[pool.EventKind]int{},
	}
	for _, k := range wants {
		l.wants[k] = true
	}
	return l
}

func (l *listener) Observe(_ context.Context, e pool.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard[e.Kind]++
}

func (l *listener) WantsEvent(k pool.EventKind) bool { return l.wants[k] }

// Each observer receives the wanted kinds of events of uses, and all other events, independently of
// other observers.
func TestEventFilter(t *testing.T) {
	const uses = 30
	all := []pool.EventKind{pool.EventAcquired, pool.EventReleased}
	for name, wants := range map[string][][]pool.EventKind{
		"nothing":      {nil},
		"acquired":     {all[:1]},
		"released":     {all[1:]},
		"each its own": {nil, all[:1], all[1:], all},
	} {
		t.Run(name, func(t *testing.T) {
			var listeners []*listener
			var layers []pool.Middleware
			for _, w := range wants {
				l := newListener(w...)
				listeners, layers = append(listeners, l), append(layers, l)
			}
			p := newBarePool(t, pool.Config{MaxSize: 2}, layers...)
			for range uses {
				acquire(t, p).Release(nil)
				if err := p.Do(background, op, func(context.Context, conn) error { return nil }); err != nil {
					t.Fatal(err)
				}
			}
			acquire(t, p).Release(pooltest.ErrBroken)
			closePool(t, p)
			for i, l := range listeners {
				for _, k := range all {
					want := 0
					if l.wants[k] {
						want = 2*uses + 1
					}
					if l.heard[k] != want {
						t.Errorf("observer %d heard %d times of %q, want %d", i, l.heard[k], k, want)
					}
				}
				if l.heard[pool.EventOpened] != 1 || l.heard[pool.EventClosed] != 1 {
					t.Errorf("observer %d heard %v", i, l.heard)
				}
			}
		})
	}
}

func TestCallObserved(t *testing.T) {
	var observed bool
	ask := pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
		return func(ctx context.Context, c *pool.Call) error {
			observed = c.Observed()
			return next(ctx, c)
		}
	})
	for _, test := range []struct {
		layers []pool.Middleware
		want   bool
	}{
		{[]pool.Middleware{ask}, false},
		{[]pool.Middleware{ask, newListener()}, true},
	} {
		p := newBarePool(t, pool.Config{}, test.layers...)
		acquire(t, p).Release(nil)
		if observed != test.want {
			t.Errorf("with %d layers Observed is %t", len(test.layers), observed)
		}
	}
}
