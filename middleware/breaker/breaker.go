package breaker

import (
	"cmp"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/settings"
)

// kind is the kind of the layer in descriptions. A breaker without a name is called so in events.
const kind = "breaker"

// Breaker is a circuit breaker around a single pool, and a [pool.Middleware] for [pool.New]. [New]
// makes a Breaker. All methods may be called concurrently, also from an observer. There is nothing
// to close.
type Breaker struct {
	name    string          // Config.Name
	start   time.Time       // the origin of the breaker's clock
	bracket pool.Middleware // around layer
	live    *settings.Live[Config]
	// cfg has defaults filled in. cfg, phase and scope are stored under mu.
	cfg     atomic.Pointer[Config]
	phase   atomic.Pointer[phase]
	scope   atomic.Pointer[scope] // the rejected uses while the breaker is not closed
	refused atomic.Uint64         // number of rejected uses
	seen    atomic.Bool           // uses may be probes: a look passed, or looks cannot find out
	needs   *needs                // how long recent successes took
	silence silence               // the time without an answer
	info    pool.PoolInfo         // the pool; guarded by mu

	// mu guards the fields below and every call into circuit. Even calls without arguments, such as
	// State, may change the state of circuit.
	mu        sync.Mutex
	circuit   *gobreaker.CircuitBreaker[struct{}]
	moved     bool // circuit has changed its state to next
	next      State
	trip      Trip    // why the breaker last left the closed state
	watch     *watch  // the goroutine of the looks; nil if there is none
	rounds    int     // rounds of probes failed since trip
	doublings int     // doublings of the open period
	probed    string  // the error of the latest failed round
	shy       work    // the operation of the latest failed probe
	rejected  *scope  // the scope when the breaker opened last
	draw      float64 // the random share of the jitter in this open period, from 0 to 1
	opened    uint64  // how often the breaker has opened
	attached  bool
	pool      string        // the name of the pool
	pools     pool.Attached // the same pool, for events without a use
}

// phase is a stay in a state. A published phase does not change, except for near and round. A timer
// sets near, and mu guards round.
type phase struct {
	state  State
	since  time.Time
	window *window // only when closed; nil if the breaker is disabled
	gate   *gate   // a forced state, or a ramp-up; mostly nil
	// until is on the breaker's clock. In open, until is the end of the open period. In half-open, any
	// use may be a probe from until on.
	until   time.Duration
	near    *atomic.Bool // when open: until is less than a tick away, or has passed
	round   *round       // only when half-open
	refusal *OpenError   // nil when closed
}

// New returns a closed breaker. The error names each invalid field of cfg, as [Config.Validate]
// does.
func New(cfg Config) (*Breaker, error) {
	b := &Breaker{name: cfg.Name, start: time.Now()}
	spec := configSpec
	spec.Layer = b.label()
	live, err := settings.New(&spec, cfg, settings.Hooks[Config]{Fill: Config.withDefaults, Apply: b.configure, Report: b.report})
	if err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	b.live, b.needs = live, &needs{window: cfg.Window}
	b.bracket = pool.Bracket(layer{b})
	b.cfg.Store(&cfg)
	b.phase.Store(&phase{state: StateClosed, since: b.start, window: newWindow(&cfg, b.needs)})
	b.circuit = gobreaker.NewCircuitBreaker[struct{}](b.circuitSettings())
	return b, nil
}

// Wrap implements [pool.Middleware].
func (b *Breaker) Wrap(next pool.Handler) pool.Handler { return b.bracket.Wrap(next) }

// Describe implements [pool.Describer]. Limit is Config.ProbeTimeout.
func (b *Breaker) Describe() pool.LayerInfo {
	cfg := b.Effective()
	return pool.LayerInfo{
		Layer: kind, Name: cfg.Name, Role: pool.RoleJudge, Limit: cfg.ProbeTimeout, Settings: b.live.Texts(), Events: knownEvents,
	}
}

// Attach implements [pool.Attacher]. Attach returns an error if the breaker already serves a pool.
// A breaker for several pools would reject the uses of all pools when a single server fails. Such a
// breaker would also take the successes of other servers for a recovery. After its pool is closed,
// the breaker may serve another pool, and continues in its current state.
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
	if p := b.phase.Load(); p.state == StateOpen && !p.isForced() {
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

// rename puts the name of the breaker's pool into the rejections of the current phase. rename is
// called under mu.
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

// Config returns the settings declared by New or Configure: a field that was not set is 0.
func (b *Breaker) Config() Config { return b.live.Config() }

// Effective returns the settings in force: the merge of all sources, with defaults in place of 0. A
// field with an automatic value stays 0.
func (b *Breaker) Effective() Config { return b.live.Effective() }

// Tuning implements [settings.Tunable].
func (b *Breaker) Tuning() *settings.Tuning { return b.live.Tuning() }

// Configure replaces the settings declared by code. A field declared by a higher source keeps its
// value (see package settings); the pool then reports a warning. Configure never changes the state,
// and uses in progress continue. The next failure evaluates the rules with the new settings and the
// existing counts. Another Window or Buckets starts from empty counts, and the breaker does not
// count uses in progress at the change. An open period is measured again from its beginning, with
// the jitter already drawn. Probes in progress keep their permits, and the outcomes of finished
// probes remain. The new limits for probes apply from the next use or outcome on. Configure reports
// a [pool.EventConfigured]. cfg.Name must be "" or the name of the breaker. Otherwise the error is
// the error of [Config.Validate]; after an error, the settings are unchanged.
func (b *Breaker) Configure(cfg Config) error {
	if cfg.Name != "" && cfg.Name != b.name {
		return fmt.Errorf("breaker: Name is %q: must be %q or empty, it cannot be changed", cfg.Name, b.name)
	}
	cfg.Name = b.name
	return b.live.Configure(cfg)
}

func (b *Breaker) report(r settings.Result) {
	b.pools.Emit(pool.Event{Kind: pool.EventConfigured, Layer: b.label(), Settings: &r})
}

// label returns the breaker as in events.
func (b *Breaker) label() string { return cmp.Or(b.name, kind) }

// configure puts cfg in force.
func (b *Breaker) configure(cfg Config) {
	cfg = cfg.withDefaults()
	b.mu.Lock()
	defer b.mu.Unlock()
	old := b.cfg.Swap(&cfg)
	p := *b.phase.Load()
	switch p.state {
	case StateClosed:
		if cfg.Window == old.Window && cfg.Buckets == old.Buckets || p.window == nil {
			return
		}
		p.window = newWindow(&cfg, b.needs)
	case StateOpen:
		if p.isForced() {
			return
		}
		b.schedule(&p)
		b.lookAnew()
	case StateHalfOpen:
		return
	}
	b.phase.Store(&p)
}

// State returns the current state. State changes nothing and takes no lock.
func (b *Breaker) State() State { return b.phase.Load().state }

// Snapshot returns the state, the counts and the settings of the breaker. Snapshot changes nothing.
func (b *Breaker) Snapshot() Snapshot {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.phase.Load()
	s := Snapshot{
		Pool: b.pool, State: p.state, Since: p.since,
		Opened: b.opened, Refused: b.refused.Load(), Config: *b.cfg.Load(),
	}
	if p.gate != nil {
		s.Forced = p.gate.forced
	}
	switch {
	case p.isForced() && p.state == StateOpen:
		return s
	case p.state == StateClosed:
		s.Admitted = 1
		if p.gate != nil {
			s.Admitted = p.gate.share(b.elapsed())
		}
		if p.window != nil {
			s.Counts = p.window.counts(b.elapsed())
		}
		return s
	}
	s.Counts, s.Trip, s.Rounds, s.NextProbe = b.trip.Counts, b.trip, b.rounds, p.refusal.NextProbe
	if p.state == StateHalfOpen {
		s.ProbesUnderway, s.ProbesSucceeded, s.ProbesFailed = len(p.round.underway), p.round.successes, p.round.failures
	}
	return s
}

// elapsed returns the time on the breaker's clock. The call is cheaper than time.Now. The breaker
// has its own clock, so the clock also works in a synctest bubble.
func (b *Breaker) elapsed() time.Duration { return time.Since(b.start) }

// schedule sets the end of p, an open phase. schedule is called under mu.
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
	return &OpenError{Pool: b.pool, Name: b.name, State: s, Trip: b.trip, Rounds: b.rounds, LastProbe: b.probed}
}
