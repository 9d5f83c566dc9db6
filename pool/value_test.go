package pool_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// keeper is a layer that keeps a value in the Call, and looks for the value at events and commands.
type keeper struct {
	seen   map[pool.EventKind]int // the events with the value
	mu     sync.Mutex             // other events come from goroutines of the pool
	others []pool.Event           // events outside any use
	text   string
}

type keeperKey struct{}

func (k *keeper) Begin(ctx context.Context, c *pool.Call) (context.Context, *int, error) {
	n := new(int)
	c.SetValue(keeperKey{}, nil) // removes no value: none is kept
	c.SetValue(keeperKey{}, 1)
	c.SetValue(keeperKey{}, n)
	return ctx, n, nil
}

func (k *keeper) End(_ context.Context, c *pool.Call, n *int, _ error) {
	if c.Value(keeperKey{}) != n {
		panic("another use's value")
	}
	c.SetValue(keeperKey{}, nil)
	if c.Value(keeperKey{}) != nil {
		panic("it is still there")
	}
}

func (k *keeper) Observe(_ context.Context, e pool.Event) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.others = append(k.others, e)
}

func (k *keeper) ObserveUse(_ context.Context, c *pool.Call, e pool.Event) {
	if _, ok := c.Value(keeperKey{}).(*int); ok && e.Pool == "p" {
		k.seen[e.Kind]++
	}
}

func (k *keeper) BeginCommand(ctx context.Context, _ *pool.Call, _ driver.Command) context.Context {
	return ctx
}

func (k *keeper) EndCommand(_ context.Context, _ *pool.Call, cmd driver.Command, _ error) {
	k.text = cmd.Text
}

// textKeeper wants the text of commands.
type textKeeper struct{ *keeper }

func (k textKeeper) WantsCommandText() bool { return true }

func TestValuesAndUseObservers(t *testing.T) {
	for _, wants := range []bool{false, true} {
		k := &keeper{seen: map[pool.EventKind]int{}}
		layer := pool.Bracket(k)
		if wants {
			layer = pool.Bracket(textKeeper{k})
		}
		p, err := pool.New(&pooltest.Fake{}, pool.Config{Name: "p"}, layer, pool.MiddlewareFunc(fork))
		if err != nil {
			t.Fatal(err)
		}
		ctx := context.Background()
		if driver.ObservingText(ctx) {
			t.Error("outside of a use somebody wants text")
		}
		for range 2 { // the second round uses records again
			_, err = pool.Get(ctx, p, pool.Op{}, func(ctx context.Context, _ *pooltest.Conn) (int, error) {
				if got := driver.ObservingText(ctx); got != wants {
					t.Errorf("ObservingText is %t, want %t", got, wants)
				}
				cmd := driver.Command{Name: "GET", Text: "GET ?"}
				driver.EndCommand(driver.BeginCommand(ctx, cmd), cmd, nil)
				return 0, nil
			})
			if err != nil || k.text != "GET ?" {
				t.Errorf("Get returned %v, the text is %q", err, k.text)
			}
		}
		lease, err := p.Acquire(ctx, pool.Op{})
		if err != nil {
			t.Fatal(err)
		}
		lease.Release(nil)
		if err := p.Close(ctx); err != nil {
			t.Error(err)
		}
		if k.seen[pool.EventAcquired] != 3 || k.seen[pool.EventReleased] != 3 {
			t.Errorf("within uses %v, want 3 acquired and 3 released", k.seen)
		}
		for _, e := range k.others {
			if e.Kind != pool.EventOpened && e.Kind != pool.EventClosed || e.Pool != "p" || e.Layer != "pool" {
				t.Errorf("outside of uses %+v", e)
			}
		}
		if len(k.others) == 0 {
			t.Error("nothing was heard of outside of uses")
		}
	}
}

// fork is a layer that makes a single attempt with a fork, like a hedge.
func fork(next pool.Handler) pool.Handler {
	return func(ctx context.Context, c *pool.Call) error {
		f := c.Fork()
		if f == nil {
			return next(ctx, c)
		}
		if err := next(ctx, f); err != nil {
			f.Drop()
			return err
		}
		c.Adopt(f)
		return nil
	}
}

// After the adoption of a fork with a lease, the ends of the fork and the commands sent under the
// lease find the values of the fork's layers.
func TestValuesAfterAdopt(t *testing.T) {
	for _, layers := range [][]pool.Middleware{
		{pool.MiddlewareFunc(fork), pool.Bracket(&keeper{seen: map[pool.EventKind]int{}})},
		{pool.MiddlewareFunc(fork), pool.MiddlewareFunc(fork), pool.Bracket(&keeper{seen: map[pool.EventKind]int{}})},
	} {
		p := newPool(t, &pooltest.Fake{}, pool.Config{}, layers...)
		for range 2 { // the second round uses records again
			acquire(t, p).Release(nil) // keeper panics if the value is wrong
		}
	}
}

// EventOpenFailed reports the kind of the failure.
func TestOpenFailedReason(t *testing.T) {
	for want, failure := range map[string]error{"open_failed": errors.New("secret"), "REFUSED": pooltest.ErrRefused} {
		k := &keeper{seen: map[pool.EventKind]int{}}
		fake := &pooltest.Fake{}
		fake.Inject(pooltest.Open, 1, pooltest.Fail(failure))
		p, err := pool.New(fake, pool.Config{Name: "p"}, pool.Bracket(k))
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Warm(context.Background(), 1); !errors.Is(err, failure) {
			t.Errorf("Warm returned %v", err)
		}
		if err := p.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if len(k.others) != 1 || k.others[0].Kind != pool.EventOpenFailed || k.others[0].Reason != want {
			t.Errorf("events %+v, want one open_failed with %s", k.others, want)
		}
	}
}
