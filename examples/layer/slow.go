package main

import (
	"cmp"
	"context"
	"sync/atomic"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/settings"
)

const slowUses = "slow_uses"

// SlowConfig holds the settings of a SlowUses.
type SlowConfig struct {
	Over time.Duration // a longer use is slow; 0 means 100 ms
}

// slowSpec describes the settings for consoles and files.
var slowSpec = settings.Spec[SlowConfig]{Layer: slowUses, Fields: []settings.Entry[SlowConfig]{
	settings.Duration(func(c *SlowConfig) *time.Duration { return &c.Over }, settings.Field{Go: "Over", Min: "1ms", Help: "A longer use is slow."}),
}}

// SlowUses is a layer that counts slow uses. The settings can change while pools use the layer: the
// Live gives the layer the methods Config, Effective, Configure and Tuning.
type SlowUses struct {
	*settings.Live[SlowConfig]

	pools pool.Attached
	slow  atomic.Int64
}

// NewSlowUses returns a layer with the settings cfg.
func NewSlowUses(cfg SlowConfig) (l *SlowUses, err error) {
	l = &SlowUses{}
	l.Live, err = settings.New(&slowSpec, cfg, settings.Hooks[SlowConfig]{
		Fill: func(c SlowConfig) SlowConfig { c.Over = cmp.Or(c.Over, 100*time.Millisecond); return c },
		Report: func(r settings.Result) {
			l.pools.Emit(pool.Event{Kind: pool.EventConfigured, Layer: slowUses, Settings: &r})
		},
	})
	return l, err
}

// Begin returns the time of the beginning.
func (*SlowUses) Begin(ctx context.Context, _ *pool.Call) (context.Context, time.Time, error) {
	return ctx, time.Now(), nil
}

// End counts a slow use.
func (l *SlowUses) End(ctx context.Context, c *pool.Call, began time.Time, _ error) {
	if took := time.Since(began); took > l.Effective().Over {
		l.slow.Add(1)
		c.Emit(ctx, pool.Event{Kind: "slow", Layer: slowUses, Duration: took})
	}
}

// Attach keeps the pool, for reports of new settings.
func (l *SlowUses) Attach(p pool.PoolInfo) (detach func(), err error) { return l.pools.Add(p), nil }

// Levels returns the number of slow uses, for the metrics.
func (l *SlowUses) Levels() []pool.Level {
	return []pool.Level{{
		Layer: slowUses, Name: "total", Unit: "{use}", Help: "Slow uses so far, of all pools of the layer.",
		Read: func() (float64, bool) { return float64(l.slow.Load()), true },
	}}
}

// Describe names the layer, the settings and the events.
func (l *SlowUses) Describe() pool.LayerInfo {
	return pool.LayerInfo{Layer: slowUses, Settings: l.Texts(), Events: []pool.Event{{Kind: "slow"}, {Kind: pool.EventConfigured}}}
}
