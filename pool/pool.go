package pool

import (
	"cmp"
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
	"github.com/earnorm/poolstack/pool/settings"
)

// Pool lends resources of type T, each resource to one borrower at a time. [New] makes a Pool, and
// [Pool.Close] ends the Pool. The zero Pool is not usable. All methods may be called concurrently.
type Pool[T any] struct {
	driver      driver.Driver[T]
	resetter    driver.Resetter[T] // nil if the driver is no Resetter; the same for the next four
	validator   driver.Validator[T]
	interrupter driver.Interrupter[T]
	inspector   driver.Inspector[T]
	witness     driver.Witness[T]
	hub         *hub
	handler     Handler // nil without layers
	noHooks     bool    // a successful release calls no method of the driver and no observer
	layers      []Describer
	advice      advice
	levelers    []Leveler
	reporters   []HealthReporter
	tunables    []settings.Tunable
	settings    *settings.Live[Config]
	spec        *settings.Spec[Config]
	size        int      // of the driver, for a MaxSize of 0; 0 for a driver without a size
	detach      []func() // called by Close

	base    context.Context // of dials, checks and resets; cancelled by Close
	cancel  context.CancelFunc
	wake    chan struct{} // capacity 1; wakes the maintainer
	drained chan struct{} // closed when a closed pool has no goroutine and no resource left
	leaks   atomic.Bool   // Config.LeakAfter is set

	slotsMu   sync.Mutex
	slots     atomic.Pointer[[]any] // of *slots[T, R], a single element for each R
	doUses    sync.Pool             // of *doUse[T]
	leaseUses sync.Pool             // of *leaseUse[T]
	// freeWaiters belongs to a single pool, because the channels may belong to a synctest bubble.
	freeWaiters sync.Pool // of *waiter[T]

	mu        sync.Mutex
	cfg       Config         // with the defaults in place of zero values
	idle      []*resource[T] // a stack: the resource used last is on top
	all       []*resource[T] // idle, lent, being checked, reset or closed
	waiters   queue[T]
	stat      Stat         // the counters only
	tentative atomic.Int64 // uses among stat.Acquires whose resource is with the Validator
	inUse     int
	opening   int
	// checking includes resets.
	checking, closing int
	calls             []*call         // in progress, see progress.go
	paces             [callKinds]pace // see progress.go
	vainResets        int             // see supply.go
	tasks             int             // goroutines of the pool
	closed            bool
	paused            error // the error of a paused pool, or nil

	gen         uint64          // increased by Clear
	opens       context.Context // of the dials of this generation; derived from base
	cancelOpens context.CancelFunc
	// suspicion is increased when a resource turns out to be broken. Every other resource is then
	// checked before the next lease (unproven).
	suspicion uint64

	// now is the time since hub.start. While the pool is in use, now is exact to within clockStep.
	now      time.Duration // the coarse clock, see clock
	active   bool          // the pool was used since the latest tick
	resting  bool          // the coarse clock stands still
	busyAt   time.Duration // the latest tick of an active pool
	nextScan time.Duration // the time of the next scan
	watching []watched[T]  // used by the maintainer only

	need   time.Duration // the time needed by the quickest of the recent uses, see waiter.go
	trials uint8         // the number of waiters passed over

	failures     int           // dials failed in a row; dials that failed together count once
	failing      time.Duration // the time of the first of these failures
	retryOpen    time.Duration // the earliest time of the next dial
	brokeAt      time.Duration // the latest time at which a use broke its resource
	openedAt     time.Duration // the time of the latest successful dial
	lastOpenErr  error
	lastCheckErr error // the latest failed check or reset; nil after a success
	warmers      []*warmer
	looks        []*look
	lookDialled  bool // the latest look needs no further dial
	lookDropped  bool // a dial was dropped for the latest look
}

// New makes a pool of the resources of d, inside the given layers. The first layer is the
// outermost:
//
//	New(d, cfg, a, b, c)  =  a( b( c( the pool of d ) ) )
//
// New opens no resource and waits for no resource. The pool opens Config.MinIdle resources in the
// background. The caller must close the pool.
//
// New returns an error if a field of cfg is out of range ([Config.Validate]), if the driver or a
// layer is nil, or if the order of the layers cannot work. New also returns the error of a layer or
// driver that refuses this pool ([Attacher]), and an error for a panic in a method called by New.
func New[T any](d driver.Driver[T], cfg Config, layers ...Middleware) (*Pool[T], error) {
	if isNil(d) {
		return nil, fmt.Errorf("pool: the driver is nil: %T", d)
	}
	size, err := sizeOf(d)
	if err != nil {
		return nil, err
	}
	p := &Pool[T]{
		size: size, spec: specFor(size),
		driver: d, hub: &hub{classifier: defaultClassifier{}, start: time.Now()},
		wake: make(chan struct{}, 1), drained: make(chan struct{}), nextScan: never, brokeAt: -never, openedAt: -never,
	}
	if err = p.sized(cfg).validate(p.spec); err != nil {
		return nil, err
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
	if err = p.declare(cfg); err != nil {
		freeName()
		return nil, err
	}
	p.noHooks = p.resetter == nil && p.validator == nil && p.interrupter == nil && p.witness == nil && !p.hub.watched()
	if len(p.hub.commands) > 0 {
		observing.Add(1)
		p.detach = append(p.detach, func() { observing.Add(-1) })
	}
	p.base, p.cancel = context.WithCancel(context.Background()) //nolint:gosec // called by Close
	p.opens, p.cancelOpens = context.WithCancel(p.base)         //nolint:gosec // called by Clear
	if err := p.attach(layers); err != nil {
		freeName()
		return nil, err
	}
	p.detach = append(p.detach, freeName) // last: no layer reports under the name any more
	p.mu.Lock()
	p.spawn(p.maintain)
	p.pump()
	p.mu.Unlock()
	p.advise()
	return p, nil
}

// Driver returns the driver given to New. Driver is for a package that has made the driver, and
// needs data of the driver. Only the pool calls the methods of the interface [driver.Driver].
func (p *Pool[T]) Driver() driver.Driver[T] { return p.driver }

// identify returns the identity given by the driver. If name is not empty, name replaces the name
// given by the driver. Without a name, identify makes a name from the other fields.
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

// stack composes the handler, and finds the optional interfaces of the layers. stack returns an
// error for a nil layer or a wrong order.
func (p *Pool[T]) stack(layers []Middleware) error {
	for i, l := range layers {
		if nothing, found := findNil(l); found {
			return fmt.Errorf("pool: layer %d of %d is nil, or holds one that is: %T", i+1, len(layers), nothing)
		}
	}
	all := chain(layers).Unwrap()
	p.layers = faces[Describer](all...)
	p.levelers = faces[Leveler](append(slices.Clip(all), p.driver)...)
	p.reporters = faces[HealthReporter](all...)
	p.tunables = faces[settings.Tunable](all...)
	if err := p.checkDescriptions(); err != nil {
		return err
	}
	if err := checkOrder(p.Layers()); err != nil {
		return err
	}
	p.hub.observe(faces[Observer](all...))
	p.hub.commands = faces[CommandObserver](all...)
	if len(layers) > 0 {
		p.handler = chain(layers).Wrap(func(ctx context.Context, c *Call) error { return c.term.run(ctx, c) })
	}
	return nil
}

// checkDescriptions calls the methods by which layers and the driver describe themselves. Later the
// pool contains a panic of such a method. At the beginning a panic is an error of New.
func (p *Pool[T]) checkDescriptions() error {
	for _, d := range append(slices.Clip(p.layers), faces[Describer](p.driver)...) {
		if err := contain(d, "Describe", func() error { d.Describe(); return nil }); err != nil {
			return err
		}
	}
	for _, l := range p.levelers {
		if err := contain(l, "Levels", func() error { return checkLevels(l.Levels()) }); err != nil {
			return err
		}
	}
	for _, t := range p.tunables {
		if err := contain(t, "Tuning", func() error { return checkTuning(t) }); err != nil {
			return err
		}
	}
	return nil
}

func checkLevels(levels []Level) error {
	for _, l := range levels {
		if l.Layer == "" || l.Name == "" || l.Read == nil {
			return fmt.Errorf("pool: the level %q of layer %q needs a Layer, a Name and a Read", l.Name, l.Layer)
		}
	}
	return nil
}

func checkTuning(t settings.Tunable) error {
	if t.Tuning() == nil {
		return fmt.Errorf("pool: the Tuning of the layer %T is nil", t)
	}
	return nil
}

// findNil searches for a nil value in a layer, and returns the value found. A layer with an Unwrap
// method contains further layers.
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

// isNil reports whether v is nil, a nil pointer or a nil function.
func isNil(v any) bool {
	if v == nil {
		return true
	}
	kind := reflect.TypeOf(v).Kind()
	return (kind == reflect.Pointer || kind == reflect.Func) && reflect.ValueOf(v).IsNil()
}

// attach calls Attach of the layers and of the driver. If an Attach returns an error, attach closes
// the pool and returns the error.
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

// Identity returns the identity of the server. Identity.Name is the name of the pool in telemetry.
func (p *Pool[T]) Identity() driver.Identity { return p.hub.id }

// Layers returns the present descriptions of the layers with a [Describer], the outermost
// first.
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

// KnownEvents returns the events in the descriptions of the layers and of the driver
// ([LayerInfo].Events). Event.Layer is the source of the event.
func (p *Pool[T]) KnownEvents() []Event {
	infos := p.Layers()
	for _, d := range faces[Describer](p.driver) {
		_ = contain(d, "Describe", func() error { infos = append(infos, d.Describe()); return nil })
	}
	var all []Event
	for _, info := range infos {
		for _, e := range info.Events {
			e.Pool, e.Layer = p.hub.id.Name, cmp.Or(e.Layer, info.label())
			all = append(all, e)
		}
	}
	return all
}

// Emit reports an event outside any use to the observers among the layers, such as new settings of
// a layer. A layer attached to the pool may call Emit, but not while the layer holds a lock. After
// an [EventConfigured] the pool reports each declared value without effect ([settings.Hold]), and
// examines all settings again. Each report is an [EventWarning]. Emit may be called concurrently.
func (p *Pool[T]) Emit(e Event) {
	p.hub.announce(e)
	if e.Kind != EventConfigured {
		return
	}
	if e.Settings != nil {
		for _, h := range e.Settings.Held {
			p.hub.announce(Event{Kind: EventWarning, Layer: e.Layer, Reason: fmt.Sprintf(warnHeld, h)})
		}
	}
	p.advise()
}

// Config returns the settings declared by New or Configure: a field that was not set is 0. Name is
// the name of the pool.
func (p *Pool[T]) Config() Config {
	cfg := p.settings.Config()
	cfg.Name = p.hub.id.Name
	return cfg
}

// Effective returns the settings in force: the merge of all sources, with the defaults in place of
// zero values. The default of MaxSize may be the driver's ([driver.Sizer]).
func (p *Pool[T]) Effective() Config { return p.settings.Effective() }

// Tuning implements [settings.Tunable]: the face of the pool's own settings.
func (p *Pool[T]) Tuning() *settings.Tuning { return p.settings.Tuning() }

// Tunings returns the faces of all settings: the pool's own first, and then those of the layers,
// the outermost first.
func (p *Pool[T]) Tunings() []*settings.Tuning {
	all := []*settings.Tuning{p.Tuning()}
	for _, l := range p.tunables {
		_ = contain(l, "Tuning", func() error {
			if t := l.Tuning(); t != nil {
				all = append(all, t)
			}
			return nil
		})
	}
	return all
}

// sealed implements PoolInfo.
func (*Pool[T]) sealed() {}

// declare makes the Live of the pool's settings, and puts cfg in force.
func (p *Pool[T]) declare(cfg Config) (err error) {
	p.settings, err = settings.New(p.spec, cfg, settings.Hooks[Config]{
		Fill: p.fill, Validate: p.validate, Apply: p.apply,
		Report: func(r settings.Result) { p.Emit(Event{Kind: EventConfigured, Settings: &r}) },
	})
	if err == nil {
		p.setConfig(cfg)
	}
	return err
}

// Configure replaces the settings declared by code. A field declared by a higher source keeps its
// value (see package settings); the pool then reports a warning. cfg.Name must be "" or the name of
// the pool. After an error the old settings still hold.
//
// Configure does not disturb work in progress. The pool closes the resources beyond a smaller
// MaxSize when these resources are idle. Waits and calls of the driver in progress keep their
// bounds. Each resource keeps its random reduction of MaxLifetime.
func (p *Pool[T]) Configure(cfg Config) error { return p.settings.Configure(cfg) }

// validate returns an error if cfg is not valid for this pool.
func (p *Pool[T]) validate(cfg Config) error {
	if err := p.sized(cfg).validate(p.spec); err != nil {
		return err
	}
	if cfg.Name != "" && cfg.Name != p.hub.id.Name {
		return fmt.Errorf("pool: Name is %q: must be %q or empty, it cannot be changed", cfg.Name, p.hub.id.Name)
	}
	return nil
}

// apply puts cfg in force.
func (p *Pool[T]) apply(cfg Config) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.setConfig(cfg)
	for _, r := range p.all {
		r.setLifetime(cfg.MaxLifetime)
	}
	p.reap(p.elapsed())
	p.tellLargeWarmers()
	// A shorter OpenBackoff also ends the present pause earlier.
	p.retryOpen = min(p.retryOpen, plus(p.elapsed(), p.cfg.OpenBackoff))
	p.schedule(0)
	p.pump()
}

// sizeOf returns the size given by the driver, or 0.
func sizeOf(d any) (size int, err error) {
	if s, ok := d.(driver.Sizer); ok {
		err = protect("DefaultSize", func() error { size = s.DefaultSize(); return nil })
	}
	return size, err
}

// sized returns cfg with the size given by the driver, if cfg.MaxSize is 0.
func (p *Pool[T]) sized(cfg Config) Config {
	setDefault(&cfg.MaxSize, p.size)
	return cfg
}

// fill returns cfg with the pool's name, and the defaults in place of zero values.
func (p *Pool[T]) fill(cfg Config) Config {
	cfg.Name = p.hub.id.Name
	return p.sized(cfg).withDefaults()
}

func (p *Pool[T]) setConfig(cfg Config) {
	p.cfg = p.fill(cfg)
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

// Pause makes the pool refuse every use with [ErrPaused] until Resume. The error wraps cause, and
// cause may be nil. Pause ends all waits at once with the same error. Lent resources stay lent, and
// idle resources stay open. A paused pool begins no dial. A second Pause replaces the cause.
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

// Resume ends a Pause.
func (p *Pool[T]) Resume() {
	p.mu.Lock()
	p.paused = nil
	p.pump()
	p.mu.Unlock()
	p.hub.announce(Event{Kind: EventResumed})
}

// Clear closes every present resource: idle resources at once, all other resources when they are
// released or their check ends. Clear cancels all dials in progress, and begins new dials for the
// waiters.
func (p *Pool[T]) Clear() {
	p.mu.Lock()
	p.gen++
	p.retryOpen = 0 // the pool may now dial another server
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

// Cleared returns a channel closed by the next Clear or Close. Earlier measurements of the server
// may be wrong afterwards.
func (p *Pool[T]) Cleared() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.opens.Done()
}

// CloseExpired closes the idle resources that have reached their lifetime or their idle time, ahead
// of the pool's own schedule. CloseExpired returns the number of these resources. The pool closes
// the resources in the background.
func (p *Pool[T]) CloseExpired() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.reap(p.elapsed())
	p.pump()
	return n
}

// Close closes the pool. From now on the pool refuses uses with [ErrClosed]. Close ends all waits
// with the same error, and closes the idle resources. Close then waits until all lent resources
// have been released and closed, or until ctx ends.
//
// Close returns nil when no resource and no goroutine of the pool is left. If ctx ends first, Close
// returns a [UseError] with the number of remaining resources; the pool closes these resources when
// their leases end. In both cases the layers and the driver are detached ([Attacher]). A second
// Close waits in the same way.
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
