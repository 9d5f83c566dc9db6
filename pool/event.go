package pool

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/settings"
)

// EventKind is the kind of an [Event]. Layers of other packages may use names of their own.
type EventKind string

// The kinds of events. Each comment lists the fields set besides Kind, Pool and Layer. The kinds
// within a use also set Op and Attempt.
const (
	// EventAcquired: a resource was lent. Duration is the wait; Fresh reports whether the resource is
	// new.
	EventAcquired EventKind = "acquired"
	// EventAcquireFailed: a use got no resource. Sets Duration (the wait), Reason and Err.
	EventAcquireFailed EventKind = "acquire_failed"
	// EventReleased: a resource was returned to the pool. Duration is the time of the lease; Err is
	// the outcome.
	EventReleased EventKind = "released"
	// EventOpened: a resource was opened. Duration is the time of the dial.
	EventOpened EventKind = "opened"
	// EventOpenFailed: a dial failed. Sets Duration and Err. Reason is the error.type of Err, or
	// "open_failed" if Err has no name.
	EventOpenFailed EventKind = "open_failed"
	// EventCheckFailed: a check or a reset failed. Sets Err. Reason is "check" or "reset".
	EventCheckFailed EventKind = "check_failed"
	// EventClosed: a resource was closed. Reason is the name of a [CloseReason]; Err is the error of
	// the driver's Close.
	EventClosed EventKind = "closed"
	// EventLeaked: a lease has lasted longer than Config.LeakAfter. Sets Duration and Stack.
	EventLeaked EventKind = "leaked"
	// EventPaused: the pool was paused. Err is the cause given to Pause.
	EventPaused EventKind = "paused"
	// EventResumed: the pool was resumed.
	EventResumed EventKind = "resumed"
	// EventCleared: the pool was cleared.
	EventCleared EventKind = "cleared"
	// EventConfigured: the pool or a layer got new settings. Sets Settings, if the layer keeps its
	// settings in a [settings.Live].
	EventConfigured EventKind = "configured"
	// EventWarning: settings or a use of the API may have an unwanted effect. Sent by New, after new
	// settings, by a layer or by a driver. Reason is a sentence without secrets. If no layer of the
	// pool is an [Observer], the pool gives each distinct warning once to [slog.Default]. Any Observer
	// among the layers, also an Observer that ignores the event, keeps the default logger silent.
	EventWarning EventKind = "warning"
	// EventRetry: another attempt begins. Attempt is the failed attempt; Duration is the pause. Sets
	// Reason and Err.
	EventRetry EventKind = "retry"
	// EventGaveUp: the error allows another attempt, but no further attempt is made. Sets Attempt,
	// Reason and Err. Duration is the pause, if a pause was cut short.
	EventGaveUp EventKind = "gave_up"
	// EventStateChanged: a breaker changed its state. Sets From, To and Reason. If To is "open",
	// Duration is the time until the next probe.
	EventStateChanged EventKind = "state_changed"
	// EventRejected: a layer refused the use. Sets Reason and Err. Duration is the time after which
	// another attempt is useful; 0 if unknown.
	EventRejected EventKind = "rejected"
	// EventTimeout: the time limit of a layer ended the use. Reason is the stage; Duration is the
	// limit.
	EventTimeout EventKind = "timeout"
)

// Event is a fact reported by the pool or a layer to the observers among the layers. An Event is a
// plain value.
type Event struct {
	Kind     EventKind
	Pool     string // the name of the pool
	Layer    string // the source of the event: "pool", or the name of a layer (its kind without a name)
	Op       Op     // the operation; zero outside a use
	Attempt  int    // the attempt within the use, from 1; 0 outside a use
	Reason   string // a word or a few words; low-cardinality
	From, To string // the states of EventStateChanged
	Duration time.Duration
	Fresh    bool
	Err      error
	// Stack is the stack of the borrower: of EventLeaked, and of a warning about state left behind.
	Stack string
	// Settings is the change of EventConfigured: source, actor, reason, revision and changed values.
	// nil for other kinds. An observer must not change the Result.
	Settings *settings.Result
}

// An Observer is a [Middleware] (or the [Layer] inside a Bracket) that receives events. Observe is
// called in the goroutine that reports the fact, and may be called concurrently. ctx is the context
// of the fact, or context.Background() outside a use. No lock of the pool or of the reporting layer
// is held during the call. Observe must not block.
type Observer interface {
	Observe(ctx context.Context, e Event)
}

// A UseObserver is an [Observer] that also receives the Call for events within a use. For such
// events ObserveUse is called in place of Observe. ObserveUse must not keep the Call.
type UseObserver interface {
	Observer
	ObserveUse(ctx context.Context, c *Call, e Event)
}

// An EventFilter is an [Observer] that need not receive the events of every use. New calls
// WantsEvent once for each kind reported by all uses: [EventAcquired] and [EventReleased]. The
// observer receives all other kinds in any case. An event without an observer costs nothing.
type EventFilter interface {
	Observer
	WantsEvent(k EventKind) bool
}

// PoolInfo is the part of a [Pool] without the type of the resources. A layer or a driver gets a
// PoolInfo in Attach. Only a Pool is a PoolInfo, so PoolInfo can get further methods. All methods
// may be called concurrently.
type PoolInfo interface { //nolint:interfacebloat // the methods without the type of the resources
	Identity() driver.Identity
	Config() Config
	Effective() Config
	Tunings() []*settings.Tuning
	Layers() []LayerInfo
	KnownEvents() []Event
	Levels() []Level
	Stat() Stat
	Check(ctx context.Context) Health
	Look(ctx context.Context) error
	Classify(err error) driver.Class
	Clear()
	Cleared() <-chan struct{}
	Emit(e Event)

	sealed()
}

// An Attacher is a [Middleware] (or the [Layer] inside a Bracket) or a [driver.Driver] that gets
// access to its pool. New calls Attach once, after everything else has succeeded: first for the
// layers, last for the driver. Close calls the returned detach function; detach may be nil. If
// Attach returns an error, New fails, and the functions of earlier Attach calls are called.
//
// The pool starts its work after Attach. A call of Check in Attach is bounded by its context and by
// Config.OpenTimeout, but not yet by Config.AcquireTimeout.
type Attacher interface {
	Attach(p PoolInfo) (detach func(), err error)
}

// hub is the part of a pool shared by uses and background work that does not depend on the type of
// the resources.
type hub struct {
	id         driver.Identity
	classifier driver.Classifier
	observers  []observer
	acquired   []observer // the observers that receive EventAcquired
	released   []observer // the observers that receive EventReleased
	warnings   warnings   // without observers: the warnings in the default logger
	commands   []CommandObserver
	refusal    atomic.Pointer[UseError] // the latest refusal; the same error is often returned again
	calls      atomic.Uint32            // the number of Calls made so far
	start      time.Time                // the creation of the pool, the origin of its clock
	now        atomic.Int64             // the coarse clock: nanoseconds since start; 0 while at rest
}

// observer is an observer among the layers.
type observer struct {
	Observer

	ofUses UseObserver // the same observer, if it is a UseObserver
}

// observe sets the observers of events.
func (h *hub) observe(all []Observer) {
	for _, o := range all {
		listed := observer{Observer: o}
		listed.ofUses, _ = o.(UseObserver)
		h.observers = append(h.observers, listed)
		k, choosy := o.(EventFilter)
		if !choosy || k.WantsEvent(EventAcquired) {
			h.acquired = append(h.acquired, listed)
		}
		if !choosy || k.WantsEvent(EventReleased) {
			h.released = append(h.released, listed)
		}
	}
}

// observed reports whether there is any observer.
func (h *hub) observed() bool { return len(h.observers) > 0 }

// watched reports whether any observer receives the events of every use.
func (h *hub) watched() bool { return len(h.acquired)+len(h.released) > 0 }

// emitUse reports an event within the use c to the observers.
func (h *hub) emitUse(ctx context.Context, c *Call, e *Event, to []observer) {
	h.sign(e)
	for i := range to {
		to[i].tell(ctx, c, e)
	}
}

// announce reports events outside any use.
func (h *hub) announce(events ...Event) {
	if !h.observed() {
		for _, e := range events {
			if e.Kind == EventWarning {
				h.warn(context.Background(), &e)
			}
		}
		return
	}
	for _, e := range events {
		h.sign(&e)
		if e.Kind == EventOpenFailed {
			e.Reason = openFailure(h.classifyDial(e.Err))
		}
		for i := range h.observers {
			h.observers[i].tell(context.Background(), nil, &e)
		}
	}
}

// tell reports an event to a single observer. A panic of the observer ends in tell, and must not
// end the pool's work or the use of a borrower.
func (o *observer) tell(ctx context.Context, c *Call, e *Event) {
	defer func() { _ = recover() }()
	if c != nil && o.ofUses != nil {
		o.ofUses.ObserveUse(ctx, c, *e)
		return
	}
	o.Observe(ctx, *e)
}

// sign fills in the name of the pool and the source of the event.
func (h *hub) sign(e *Event) {
	e.Pool = h.id.Name
	if e.Layer == "" {
		e.Layer = "pool"
	}
}

// sinceStart reads the real clock, for a time when the coarse clock is at rest.
func (h *hub) sinceStart() time.Duration { return time.Since(h.start) }
