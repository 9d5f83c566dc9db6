package pool_test

import (
	"cmp"
	"context"
	"fmt"
	"sync/atomic"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
	"github.com/earnorm/poolstack/pool/settings"
)

// Cap is the Config of a layer of a third party.
type Cap struct {
	Uses int // the maximum number of uses in progress; 0 means 100
}

var capSpec = settings.Spec[Cap]{Layer: "cap", Fields: []settings.Entry[Cap]{
	settings.Int(func(c *Cap) *int { return &c.Uses }, settings.Field{Go: "Uses", Unit: "uses", Help: "The maximum number of uses in progress."}),
}}

// capper is the layer. The embedded Live gives the layer Config, Effective, Configure and Tuning.
type capper struct {
	*settings.Live[Cap]
	pool.Attached

	inUse atomic.Int64
}

func newCapper(cfg Cap) (c *capper, err error) {
	c = &capper{}
	c.Live, err = settings.New(&capSpec, cfg, settings.Hooks[Cap]{
		Fill:   func(c Cap) Cap { return Cap{cmp.Or(c.Uses, 100)} },
		Report: func(r settings.Result) { c.Emit(pool.Event{Kind: pool.EventConfigured, Layer: "cap", Settings: &r}) },
	})
	return c, err
}

func (c *capper) Attach(p pool.PoolInfo) (detach func(), err error) { return c.Add(p), nil }

func (c *capper) Describe() pool.LayerInfo {
	return pool.LayerInfo{Layer: "cap", Role: pool.RoleAdmit, Settings: c.Texts()}
}

func (c *capper) Begin(ctx context.Context, _ *pool.Call) (context.Context, struct{}, error) {
	if n := c.inUse.Add(1); n > int64(c.Effective().Uses) {
		c.inUse.Add(-1)
		return ctx, struct{}{}, fmt.Errorf("uses in progress: %d", n-1)
	}
	return ctx, struct{}{}, nil
}

func (c *capper) End(context.Context, *pool.Call, struct{}, error) { c.inUse.Add(-1) }

// A layer of a third party takes part in tuning. A console finds the layer by Pool.Tunings.
func ExamplePool_Tunings() {
	layer, err := newCapper(Cap{})
	if err != nil {
		panic(err)
	}
	p, err := pool.New(&pooltest.Fake{}, pool.Config{}, pool.Bracket(layer))
	if err != nil {
		panic(err)
	}
	defer p.Close(context.Background())

	for _, t := range p.Tunings() {
		fmt.Println(t.Layer(), len(t.Fields()), "settings")
	}
	t := p.Tunings()[1]
	change := settings.Request{
		Source: settings.Force, Values: map[string]string{"uses": "1"}, Revision: t.Read().Revision, Actor: "ann", Reason: "the server is overloaded",
	}
	r, err := t.Apply(change)
	fmt.Println(r.Changes, err, p.Layers()[0].Settings)

	nothing := func(context.Context, *pooltest.Conn) error { return nil }
	err = p.Do(context.Background(), pool.Op{Name: "outer"}, func(ctx context.Context, _ *pooltest.Conn) error {
		return p.Do(ctx, pool.Op{Name: "inner"}, nothing)
	})
	fmt.Println(err)
	change.Values, change.Revision = map[string]string{"uses": "-1"}, r.Revision
	_, err = t.Apply(change)
	fmt.Println(err)
	// Output:
	// pool 13 settings
	// cap 1 settings
	// [{uses 100 1}] <nil> map[uses:1]
	// uses in progress: 1
	// cap: uses is -1: must be at least 0
}
