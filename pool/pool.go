package pool

import (
	"context"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/earnorm/poolstack/pool/driver"
)

// Pool lends resources of type T to one borrower at a time. It is made by [New] and ended by
// [Pool.Close]; all methods may be called concurrently.
type Pool[T any] struct {
	driver      driver.Driver[T]
	resetter    driver.Resetter[T]    // nil if the driver is none, like the next four
	validator   driver.Validator[T]   //
	interrupter driver.Interrupter[T] //
	inspector   driver.Inspector[T]   //
	witness     driver.Witness[T]     //
	hub         *hub
	handler     Handler // nil without layers
	noHooks     bool    // no method of the driver and no observer is called when a use succeeds
	layers      []Describer
	advice      advice
	levelers    []Leveler
	reporters   []HealthReporter
	detach      []func()

	base    context.Context // of everything done in the background; cancelled by Close
	cancel  context.CancelFunc
	wake    chan struct{} // of capacity 1: the maintainer has something to do
	drained chan struct{} // closed when a closed pool has nothing left
	leaks   atomic.Bool   // Config.LeakAfter is set

	slotsMu     sync.Mutex
	slots       atomic.Pointer[[]any] // of *slots[T, R], one for each R
	doUses      sync.Pool             // of *doUse[T]
	leaseUses   sync.Pool             // of *leaseUse[T]
	freeWaiters sync.Pool             // of *waiter[T]; the pool's own, as their channels may belong to a synctest bubble

	mu        sync.Mutex
	cfg       Config         // with its defaults filled in
	idle      []*resource[T] // a stack: the top was used last
	all       []*resource[T] // idle, lent, being checked and being closed
	waiters   queue[T]
	stat      Stat         // counters only
	tentative atomic.Int64 // of stat.Acquires: lent, but the validator has not answered yet
	inUse     int
	opening   int
	// Resources that are being checked, reset or closed.
	checking, closing int
	calls             []*call // of the driver that are under way; see progress.go
	paces             [callKinds]pace
	vainResets        int // see supply.go
	tasks             int // goroutines of the pool
	closed            bool
	paused            error // what uses are refused with, or nil

	gen         uint64          // moved by Clear
	opens       context.Context // of what is being opened for this generation
	cancelOpens context.CancelFunc
	suspicion   uint64 // moved when a resource turns out to be broken: all others are then checked before they are lent

	now      time.Duration // the coarse clock: time since start, to within clockStep while the pool is in use
	active   bool          // used since the maintainer looked last
	resting  bool          // the coarse clock stands still
	busyAt   time.Duration // when the maintainer last found the pool active
	nextScan time.Duration
	watching []watched[T] // the maintainer's own

	need   time.Duration // how long the quickest of the recent uses took, see waiter.go
	trials uint8         // counts the waiters that were passed over

	failures     int           // tries to open that have failed in a row
	failing      time.Duration // since when
	retryOpen    time.Duration // not before this is another try made
	brokeAt      time.Duration // when a use last broke its resource
	openedAt     time.Duration // when a dial last succeeded
	lastOpenErr  error
	lastCheckErr error // nil once a check has passed
	warmers      []*warmer
	looks        []*look
	lookDialled  bool // a dial was begun for the latest look, or need not be
	lookDropped  bool // a dial was dropped for the latest look
}

// New makes a pool over d, wrapped by layers, the first outermost:
//
//	New(d, cfg, a, b, c)  =  a( b( c( the pool over d ) ) )
//
// It opens nothing by itself but what Config.MinIdle asks for, in the background. The error names
// what is wrong with cfg or with the order of the layers; it may also come from a layer that
// refuses to be attached to this pool. The pool must be closed.
func New[T any](d driver.Driver[T], cfg Config, layers ...Middleware) (*Pool[T], error) {
	if isNil(d) {
		return nil, fmt.Errorf("pool: the driver is nil: %T", d)
	}
	cfg, err := sized(d, cfg)
	if err != nil {
		return nil, err
	}
	if err = cfg.Validate(); err != nil {
		return nil, err
	}
	p := &Pool[T]{
		driver: d, hub: &hub{classifier: defaultClassifier{}, start: time.Now()},
		wake: make(chan struct{}, 1), drained: make(chan struct{}), nextScan: never, brokeAt: -never, openedAt: -never,
	}
	p.resetter, _ = d.(driver.Resetter[T])
	p.validator, _ = d.(driver.Validator[T])
	p.interrupter, _ = d.(driver.Interrupter[T])
	p.inspector, _ = d.(driver.Inspector[T])
	p.witness, _ = d.(driver.Witness[T])
	if c, ok := d.(driver.Classifier); ok {
		p.hub.classifier = c
	}
	id, err := identify(d, cfg.Name)
	if err != nil {
		return nil, err
	}
	if err = contained("a layer's", "Wrap or WantsEvent", func() error { return p.stack(layers) }); err != nil {
		return nil, err
	}
	var freeName func()
	id.Name, freeName = takeName(id.Name)
	p.hub.id = id
	cfg.Name = id.Name
	p.setConfig(cfg)
	p.noHooks = p.resetter == nil && p.validator == nil && p.interrupter == nil && p.witness == nil && !p.hub.watched()
	if len(p.hub.commands) > 0 {
		observing.Add(1)
		p.detach = append(p.detach, func() { observing.Add(-1) })
	}
	p.base, p.cancel = context.WithCancel(context.Background()) //nolint:gosec // Close calls it
	p.opens, p.cancelOpens = context.WithCancel(p.base)         //nolint:gosec // Clear and, through base, Close
	if err := p.attach(layers); err != nil {
		freeName()
		return nil, err
	}
	p.detach = append(p.detach, freeName) // last, when no layer reports anything under the name any more
	p.mu.Lock()
	p.spawn(p.maintain)
	p.pump()
	p.mu.Unlock()
	p.advise()
	return p, nil
}

// Driver returns the driver that the pool was made with, for a package that has made the driver and
// needs what the driver knows. Only the pool calls the methods of a Driver.
func (p *Pool[T]) Driver() driver.Driver[T] { return p.driver }

// identify asks the driver what it connects to, and makes sure of a name.
func identify(d any, name string) (id driver.Identity, err error) {
	if describer, ok := d.(driver.Identifier); ok {
		if err = protect("Identity", func() error { id = describer.Identity(); return nil }); err != nil {
			return id, err
		}
	}
	if name != "" {
		id.Name = name
	}
	if id.Name == "" {
		id.Name = "pool"
		if id.System != "" {
			id.Name = id.System
		}
		switch {
		case id.Port != 0:
			id.Name += " " + net.JoinHostPort(id.Address, strconv.Itoa(id.Port))
		case id.Address != "":
			id.Name += " " + id.Address
		}
		if id.Namespace != "" {
			id.Name += "/" + id.Namespace
		}
	}
	return id, nil
}

// stack composes the handler and finds the layers' optional faces.
func (p *Pool[T]) stack(layers []Middleware) error {
	for i, l := range layers {
		if nothing, found := findNil(l); found {
			return fmt.Errorf("pool: layer %d of %d is nil, or holds one that is: %T", i+1, len(layers), nothing)
		}
	}
	all := chain(layers).Unwrap()
	p.layers = faces[Describer](all...)
	if err := checkOrder(p.Layers()); err != nil {
		return err
	}
	p.levelers = faces[Leveler](append(slices.Clip(all), p.driver)...)
	p.reporters = faces[HealthReporter](all...)
	p.hub.observe(faces[Observer](all...))
	p.hub.commands = faces[CommandObserver](all...)
	if len(layers) > 0 {
		p.handler = chain(layers).Wrap(func(ctx context.Context, c *Call) error { return c.term.run(ctx, c) })
	}
	return nil
}

// findNil returns what is nil in a layer, which may be several: nil itself, or a pointer or
// function that is nil.
func findNil(layer any) (nothing any, found bool) {
	if isNil(layer) {
		return layer, true
	}
	if u, ok := layer.(Composite); ok {
		for _, l := range u.Unwrap() {
			if nothing, found = findNil(l); found {
				return nothing, true
			}
		}
	}
	return nil, false
}

// isNil says whether v is nil, or a pointer or function that is.
func isNil(v any) bool {
	if v == nil {
		return true
	}
	kind := reflect.TypeOf(v).Kind()
	return (kind == reflect.Pointer || kind == reflect.Func) && reflect.ValueOf(v).IsNil()
}

// attach tells the layers which pool they are around, and the driver which pool it serves. If one
// refuses, the pool is closed.
func (p *Pool[T]) attach(layers []Middleware) error {
	for _, l := range faces[Attacher](chain(layers).Unwrap()...) {
		if err := p.attachOne(l, "a layer"); err != nil {
			return err
		}
	}
	if d, ok := p.driver.(Attacher); ok {
		return p.attachOne(d, "the driver")
	}
	return nil
}

func (p *Pool[T]) attachOne(a Attacher, what string) error {
	var detach func()
	err := contain(a, "Attach", func() (err error) {
		detach, err = a.Attach(p)
		return err
	})
	if err != nil {
		closing, cancel := context.WithTimeout(context.Background(), p.checkTimeout())
		defer cancel()
		return join(fmt.Errorf("pool %q: %s cannot be attached: %w", p.hub.id.Name, what, err), p.Close(closing))
	}
	if detach != nil {
		p.detach = append(p.detach, detach)
	}
	return nil
}

// Identity returns what the pool connects to, and the name it has in telemetry.
func (p *Pool[T]) Identity() driver.Identity { return p.hub.id }

// Layers describes the layers that describe themselves, as they are set now, outermost first.
func (p *Pool[T]) Layers() []LayerInfo {
	infos := make([]LayerInfo, len(p.layers))
	for i, l := range p.layers {
		err := contain(l, "Describe", func() error { infos[i] = l.Describe(); return nil })
		if err != nil {
			infos[i] = LayerInfo{Layer: fmt.Sprintf("%T", l)}
		}
	}
	return infos
}

// Emit reports an event that belongs to no use, such as that a layer got new settings, to the
// observers among the layers. A layer that was attached to the pool may call it, concurrently, but
// not while it holds a lock. After an [EventConfigured] the pool looks at all settings again, and
// warns of what may surprise in them ([EventWarning]).
func (p *Pool[T]) Emit(e Event) {
	p.hub.announce(e)
	if e.Kind == EventConfigured {
		p.advise()
	}
}

// Config returns the settings in force, with defaults filled in.
func (p *Pool[T]) Config() Config {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cfg
}

// Configure puts other settings in force. What is in flight is not disturbed: resources beyond a
// smaller MaxSize are closed when they are idle, waits and calls of the driver that have begun keep
// their bounds. Resources keep the jitter they drew. cfg.Name must be "" or the pool's name. After
// an error nothing has changed.
func (p *Pool[T]) Configure(cfg Config) error {
	cfg, err := sized(p.driver, cfg)
	if err != nil {
		return err
	}
	if err = cfg.Validate(); err != nil {
		return err
	}
	if cfg.Name != "" && cfg.Name != p.hub.id.Name {
		return fmt.Errorf("pool: Name is %q: must be %q or empty, it cannot be changed", cfg.Name, p.hub.id.Name)
	}
	cfg.Name = p.hub.id.Name
	p.mu.Lock()
	p.setConfig(cfg)
	for _, r := range p.all {
		r.setLifetime(cfg.MaxLifetime)
	}
	p.reap(p.elapsed())
	p.tellLargeWarmers()
	p.schedule(0)
	p.pump()
	p.mu.Unlock()
	p.Emit(Event{Kind: EventConfigured})
	return nil
}

// sized returns cfg with the size that the driver knows, where cfg leaves the size open.
func sized(d any, cfg Config) (Config, error) {
	s, ok := d.(driver.Sizer)
	if !ok || cfg.MaxSize != 0 {
		return cfg, nil
	}
	err := protect("DefaultSize", func() error { cfg.MaxSize = s.DefaultSize(); return nil })
	return cfg, err
}

func (p *Pool[T]) setConfig(cfg Config) {
	p.cfg = cfg.withDefaults()
	p.leaks.Store(cfg.LeakAfter > 0)
}

func (p *Pool[T]) isDrained() bool {
	select {
	case <-p.drained:
		return true
	default:
		return false
	}
}

func (p *Pool[T]) checkTimeout() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cfg.CheckTimeout
}

// Pause makes the pool refuse every use with [ErrPaused], wrapping cause, until Resume; those who
// wait are told at once. What is lent stays lent, what is idle stays open, nothing is opened. A
// second Pause replaces the cause, which may be nil.
func (p *Pool[T]) Pause(cause error) {
	p.mu.Lock()
	p.paused = ErrPaused
	if cause != nil {
		p.paused = &pause{cause}
	}
	p.refuse(ErrPaused, cause, &p.stat.Refused, p.waiters.n, 0)
	p.endWarmers(p.paused, p.elapsed())
	p.endLooks(p.paused, p.elapsed())
	p.mu.Unlock()
	p.hub.announce(Event{Kind: EventPaused, Err: cause})
}

type pause struct{ cause error }

func (e *pause) Error() string   { return ErrPaused.Error() + ": " + e.cause.Error() }
func (e *pause) Unwrap() []error { return []error{ErrPaused, e.cause} }

// Resume undoes Pause.
func (p *Pool[T]) Resume() {
	p.mu.Lock()
	p.paused = nil
	p.pump()
	p.mu.Unlock()
	p.hub.announce(Event{Kind: EventResumed})
}

// Clear closes every resource that exists now: the idle ones at once, the others when they come
// back. What is being opened is given up, and opened anew for those who wait.
func (p *Pool[T]) Clear() {
	p.mu.Lock()
	p.gen++
	p.retryOpen = 0 // the server may be another one
	p.cancelOpens()
	for _, c := range p.calls {
		if c.kind == callOpen {
			c.giveUp(p.elapsed())
		}
	}
	p.lookDialled, p.lookDropped = false, false // a look goes on with a new dial
	p.opens, p.cancelOpens = context.WithCancel(p.base)
	p.reap(p.elapsed())
	p.pump()
	p.mu.Unlock()
	p.hub.announce(Event{Kind: EventCleared})
}

// Cleared returns a channel that is closed by the next Clear, or by Close. What was learned of the
// server before may not hold then.
func (p *Pool[T]) Cleared() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.opens.Done()
}

// Cleanup closes the idle resources that have reached their lifetime or idle time, without waiting
// for the pool to do so by itself, and returns how many. They are closed in the background.
func (p *Pool[T]) CloseExpired() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.reap(p.elapsed())
	p.pump()
	return n
}

// Close refuses further uses, tells those who wait, closes what is idle, and waits until everything
// lent has come back and been closed, or ctx is over; the error, a [UseError], then says how many
// are still out. Those are closed when they come back. When Close has returned nil, no goroutine of
// the pool is left. A second Close waits likewise.
func (p *Pool[T]) Close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	p.refuse(ErrClosed, nil, &p.stat.Refused, p.waiters.n, 0)
	p.endWarmers(ErrClosed, p.elapsed())
	p.endLooks(ErrClosed, p.elapsed())
	p.reap(p.elapsed())
	p.settle()
	p.kick() // the maintainer ends with the last lease
	p.mu.Unlock()
	p.cancel()
	var err error
	select {
	case <-p.drained:
	case <-ctx.Done():
		if p.isDrained() {
			break
		}
		p.mu.Lock()
		lent, rest := p.inUse, len(p.all)+p.opening-p.inUse
		p.mu.Unlock()
		err = fmt.Errorf("pool %q: close: not drained, %d lent, %d being opened, checked or closed: %w",
			p.hub.id.Name, lent, rest, contextCause(ctx))
		err = &UseError{Err: err, class: driver.Class{Fault: driver.FaultElsewhere, Type: "not_drained"}, hub: p.hub}
	}
	p.mu.Lock()
	detach := p.detach
	p.detach = nil
	p.mu.Unlock()
	for _, f := range detach {
		_ = contain(f, "detach", func() error { f(); return nil })
	}
	return err
}
