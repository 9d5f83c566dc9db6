package breaker

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/earnorm/poolstack/pool"
)

// A gate stands before the uses of a closed breaker, or of a forced breaker: a forced state or a
// ramp-up. Most breakers have no gate.
type gate struct {
	forced Forced      // the zero Forced in a ramp-up
	expiry *time.Timer // ends the forced state; nil in a ramp-up

	// The ramp-up after a recovery. A growing share of the uses of the operations in scope passes.
	since, length time.Duration // on the breaker's clock
	scope         *scope
	refusal       *OpenError
	round         uint64        // tells the ramp-up from other ramp-ups of the breaker
	number        atomic.Uint64 // of the latest use
}

// firstShare is the share of the uses at the beginning of a ramp-up.
const firstShare = 0.1

// newRamp returns the gate of a ramp-up that begins now, or nil without a ramp-up. rejected is the
// scope of the breaker before its recovery. refusal tells why the breaker was open; newRamp fills
// in the rest. newRamp is called under mu.
func (b *Breaker) newRamp(rejected *scope, refusal *OpenError) *gate {
	length := b.cfg.Load().RampUp
	if length <= 0 {
		return nil
	}
	refusal.Pool, refusal.Name, refusal.State, refusal.RampUpEnd = b.pool, b.name, StateClosed, time.Now().Add(length)
	return &gate{since: b.elapsed(), length: length, scope: rejected, refusal: refusal, round: b.opened}
}

// share returns the share of the uses that pass.
func (g *gate) share(now time.Duration) float64 {
	if g.forced.Mode != 0 {
		return 1
	}
	return min(firstShare+(1-firstShare)*float64(now-g.since)/float64(g.length), 1)
}

// admits reports whether the next use passes. The hash of its number decides, so the uses that pass
// are spread evenly, and a use that comes again has another chance. The hash draws nothing at
// random: a replay of the same uses admits the same uses.
func (g *gate) admits(now time.Duration) bool {
	const all = 1 << 53
	return float64(mix(g.round<<32+g.number.Add(1))>>11) < g.share(now)*all
}

// mix returns a hash of x: the finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// pass decides about an attempt that found a gate before the closed breaker.
func (b *Breaker) pass(ctx context.Context, c *pool.Call, p *phase) (admission, *OpenError) {
	g := p.gate
	if g.forced.Mode != 0 {
		return newAdmission(c, p), nil
	}
	now := b.elapsed()
	if now-g.since >= g.length {
		b.endRamp(p)
		return newAdmission(c, p), nil
	}
	if concerned, _ := g.scope.covers(ctx, c); concerned && !g.admits(now) {
		return admission{}, g.refusal
	}
	return newAdmission(c, p), nil
}

// endRamp removes the gate from the phase p after the ramp-up.
func (b *Breaker) endRamp(p *phase) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.phase.Load() == p {
		open := *p
		open.gate = nil
		b.phase.Store(&open)
	}
}
