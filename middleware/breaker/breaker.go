package breaker

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/earnorm/poolstack/pool"
)

// kind names the layer in descriptions and events.
const kind = "breaker"

// Breaker is a circuit breaker around one pool: a [pool.Middleware] for [pool.New]. It is made by [New]; all methods may be called
// concurrently, also from an observer. There is nothing to close.
type Breaker struct {
	start   time.Time              // the origin of its clock
	bracket pool.Middleware        // over layer
	cfg     atomic.Pointer[Config] // with defaults filled in; stored under mu, like the next
	phase   atomic.Pointer[phase]  //
	scope   atomic.Pointer[scope]  // what is refused while it is not closed
	refused atomic.Uint64          //
	seen    atomic.Bool            // a look has passed since the breaker opened, or nobody looks
	needs   *needs                 // what the server lately needed
	silence silence                // since the last answer
	info    pool.PoolInfo          // the pool; under mu

	// mu guards the rest, and every call into the circuit: those that look harmless move it as well.
	mu        sync.Mutex
	circuit   *gobreaker.CircuitBreaker[struct{}]
	moved     bool    // the circuit has changed its state, to the next one
	next      State   //
	trip      Trip    // why it opened when it was last closed
	watch     *watch  // who looks; nil when nobody does
	rounds    int     // rounds of probes that have failed since then
	doublings int     // of the open period
	probed    string  // what ended the latest of them
	shy       work    // whose probe failed last
	draw      float64 // the jitter of this open period, from 0 to 1
	opened    uint64
	attached  bool
	pool      string
	pools     pool.Attached // the one, to report to
}

// phase is one stay in a state. A published phase does not change, except for near, which a timer sets, and round, which mu guards.
type phase struct {
	state   State
	since   time.Time
	window  *window       // when closed
	until   time.Duration // on the breaker's clock. When open: the end of the open period. When half-open: from then on any use is a probe
	near    *atomic.Bool  // when open: until is less than a tick away, or over
	round   *round        // when half-open
	refusal *OpenError    // unless closed
}

// New makes a breaker, closed. The error names what is wrong with cfg.
func New(cfg Config) (*Breaker, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	b := &Breaker{start: time.Now(), needs: &needs{window: cfg.Window}}
	b.bracket = pool.Bracket(layer{b})
	b.cfg.Store(&cfg)
	b.phase.Store(&phase{state: StateClosed, since: b.start, window: newWindow(&cfg, b.needs)})
	b.circuit = gobreaker.NewCircuitBreaker[struct{}](b.circuitSettings())
	return b, nil
}

// Wrap makes the breaker a [pool.Middleware].
func (b *Breaker) Wrap(next pool.Handler) pool.Handler { return b.bracket.Wrap(next) }

// Describe makes it a [pool.LayerDescriber].
func (b *Breaker) Describe() pool.LayerInfo {
	cfg := b.Config()
	return pool.LayerInfo{Kind: kind, Role: pool.RoleJudge, Limit: cfg.ProbeTimeout, Settings: cfg.settings()}
}

// Attach makes it a [pool.Attacher]. A breaker serves one pool at a time: one for several would shut them all when one server fails,
// and take the successes of the others for its recovery. When its pool has been closed it may be given to another; it goes on from
// the state it is in.
func (b *Breaker) Attach(p pool.PoolInfo) (detach func(), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	name := p.Identity().Name
	if b.attached {
		return nil, fmt.Errorf("breaker: it is attached to pool %q already: give pool %q a breaker of its own", b.pool, name)
	}
	b.attached, b.pool, b.info = true, name, p
	forget := b.pools.Add(p)
	b.rename()
	if b.phase.Load().state == StateOpen {
		b.look()
	}
	return func() {
		forget()
		b.mu.Lock()
		w := b.watch
		b.attached, b.info, b.watch = false, nil, nil
		b.mu.Unlock()
		w.stop()
	}, nil
}

// rename has the refusals of the present phase name the breaker's pool. It is called under mu.
func (b *Breaker) rename() {
	p := *b.phase.Load()
	if p.state == StateClosed || p.refusal.Pool == b.pool {
		return
	}
	refusal := *p.refusal
	refusal.Pool = b.pool
	p.refusal = &refusal
	b.phase.Store(&p)
}

// Config returns the settings in force, with defaults filled in.
func (b *Breaker) Config() Config { return *b.cfg.Load() }

// Configure puts other settings in force. It never changes the state, and uses under way go on. The rules look at what has been counted
// so far when the next failure comes in; another Window or Buckets starts from empty counts, and uses under way are then not counted. An
// open breaker's period is measured anew from when it opened, with the jitter it drew. The probes under way keep their permits and what
// the others have shown stands; the new limits hold from the next use or outcome on. After an error nothing has changed.
func (b *Breaker) Configure(cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	b.configure(cfg.withDefaults())
	b.pools.Emit(pool.Event{Kind: pool.EventConfigured, Layer: kind})
	return nil
}

func (b *Breaker) configure(cfg Config) {
	b.mu.Lock()
	defer b.mu.Unlock()
	old := b.cfg.Swap(&cfg)
	p := *b.phase.Load()
	switch p.state {
	case StateClosed:
		if cfg.Window == old.Window && cfg.Buckets == old.Buckets {
			return
		}
		p.window = newWindow(&cfg, b.needs)
	case StateOpen:
		b.schedule(&p)
		b.lookAnew()
	case StateHalfOpen:
		return
	}
	b.phase.Store(&p)
}

// State returns the state. It never changes it, and takes no lock.
func (b *Breaker) State() State { return b.phase.Load().state }

// Snapshot returns how the breaker stands. It changes nothing.
func (b *Breaker) Snapshot() Snapshot {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.phase.Load()
	s := Snapshot{
		Pool: b.pool, State: p.state, Since: p.since,
		Opened: b.opened, Refused: b.refused.Load(), Config: *b.cfg.Load(),
	}
	if p.state == StateClosed {
		s.Counts = p.window.counts(b.elapsed())
		return s
	}
	s.Counts, s.Trip, s.Rounds, s.NextProbe = b.trip.Counts, b.trip, b.rounds, p.refusal.NextProbe
	if p.state == StateHalfOpen {
		s.ProbesUnderway, s.ProbesSucceeded, s.ProbesFailed = len(p.round.underway), p.round.successes, p.round.failures
	}
	return s
}

// elapsed is the breaker's clock. It is cheaper than time.Now and, being its own, at home in a synctest bubble.
func (b *Breaker) elapsed() time.Duration { return time.Since(b.start) }

// schedule sets the end of p, an open phase.
func (b *Breaker) schedule(p *phase) {
	due := p.since.Add(b.cfg.Load().openPeriod(b.doublings, b.draw))
	p.until = due.Sub(b.start)
	near := &atomic.Bool{}
	time.AfterFunc(p.until-b.elapsed()-tick, func() { near.Store(true) })
	p.near = near
	p.refusal = b.refusal(StateOpen)
	p.refusal.NextProbe = due
}

func (b *Breaker) refusal(s State) *OpenError {
	return &OpenError{Pool: b.pool, State: s, Trip: b.trip, Rounds: b.rounds, LastProbe: b.probed}
}
