package pool_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// tank is a layer with a level.
type tank struct{ litres float64 }

func (*tank) Begin(ctx context.Context, _ *pool.Call) (context.Context, struct{}, error) {
	return ctx, struct{}{}, nil
}
func (*tank) End(context.Context, *pool.Call, struct{}, error) {}

func (t *tank) Levels() []pool.Level {
	return []pool.Level{{Layer: "tank", Name: "litres", Read: func() (float64, bool) { return t.litres, t.litres >= 0 }}}
}

// valve is a layer with a level that is a state.
type valve struct{ pool.MiddlewareFunc }

func (valve) Levels() []pool.Level {
	return []pool.Level{{Layer: "valve", Name: "state", States: []string{"shut", "open"}, Read: func() (float64, bool) { return 1, true }}}
}

// A layer or a driver attached to a pool can read the levels of all layers.
func ExampleLeveler() {
	water := &tank{litres: 3}
	through := func(next pool.Handler) pool.Handler { return next }
	p, _ := examplePool(pool.Config{}, pool.Bracket(water), valve{through})
	defer p.Close(context.Background())
	levels := p.Levels()
	water.litres = 2.5
	for _, l := range levels {
		value, ok := l.Read()
		if l.States != nil {
			fmt.Println(l.Layer, l.Name, l.States[int(value)], ok)
			continue
		}
		fmt.Println(l.Layer, l.Name, value, ok)
	}
	// Output:
	// tank litres 2.5 true
	// valve state open true
}

func TestLevelsAreFoundThroughBracketAndChain(t *testing.T) {
	through := func(next pool.Handler) pool.Handler { return next }
	p, err := pool.New(&pooltest.Fake{}, pool.Config{}, pool.Chain(valve{through}, pool.Chain(pool.Bracket(&tank{litres: -1}))))
	if err != nil {
		t.Fatal(err)
	}
	defer closePool(t, p)
	got := ""
	for _, l := range p.Levels() {
		value, ok := l.Read()
		got += fmt.Sprintln(l.Layer, l.Name, value, ok)
	}
	if want := "valve state 1 true\ntank litres -1 false\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// pump is a driver that describes itself.
type pump struct{ pooltest.Fake }

func (*pump) Describe() pool.LayerInfo {
	return pool.LayerInfo{Layer: "pump", Events: []pool.Event{{Kind: "primed"}}}
}

// faucet is a layer with known events.
type faucet struct{ pool.MiddlewareFunc }

func (faucet) Describe() pool.LayerInfo {
	return pool.LayerInfo{Layer: "faucet", Name: "kitchen", Events: []pool.Event{{Kind: pool.EventRejected, Reason: "shut"}, {Kind: "dripped"}}}
}

func TestKnownEvents(t *testing.T) {
	through := func(next pool.Handler) pool.Handler { return next }
	p, err := pool.New(&pump{}, pool.Config{Name: "water"}, faucet{through}, pool.Bracket(&tank{}))
	if err != nil {
		t.Fatal(err)
	}
	defer closePool(t, p)
	for range 2 { // the descriptions stay as they are
		got := ""
		for _, e := range p.KnownEvents() {
			got += fmt.Sprintln(e.Pool, e.Layer, e.Kind, e.Reason)
		}
		if want := "water kitchen rejected shut\nwater kitchen dripped \nwater pump primed \n"; got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
}

// A layer that publishes counters can begin them with 0 for the events known beforehand.
func ExamplePool_KnownEvents() {
	through := func(next pool.Handler) pool.Handler { return next }
	p, _ := examplePool(pool.Config{}, faucet{through})
	defer p.Close(context.Background())
	for _, e := range p.KnownEvents() {
		fmt.Println(e.Layer, e.Kind, e.Reason)
	}
	// Output:
	// kitchen rejected shut
	// kitchen dripped
}
