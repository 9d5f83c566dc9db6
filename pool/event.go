package pool

import (
	"context"
	"sync/atomic"
	"time"
)

// Kind names what an [Event] reports. Layers of other packages may use names of their own.
type Kind string

// The kinds of events, and which fields each fills in besides Pool and Layer.
const (
	EventAcquired      Kind = "acquired"       // a resource was lent: Duration is the wait for it, Fresh whether it is new
	EventAcquireFailed Kind = "acquire_failed" // none was: Duration, Reason, Err
	EventReleased      Kind = "released"       // a resource came back: Duration is how long it was held, Err the outcome
	EventOpened        Kind = "opened"         // Duration is how long opening took
	EventOpenFailed    Kind = "open_failed"    // Duration, Err; Reason is error.type of Err, "open_failed" if it has no name
	EventCheckFailed   Kind = "check_failed"   // Err; Reason is "check" or "reset"
	EventClosed        Kind = "closed"         // Reason is a CloseReason's name, Err what the driver's Close returned
	EventLeaked        Kind = "leaked"         // a lease is out for longer than Config.LeakAfter: Duration, Stack
	EventPaused        Kind = "paused"         // Err is the cause given
	EventResumed       Kind = "resumed"        //
	EventCleared       Kind = "cleared"        //
	EventConfigured    Kind = "configured"     // the pool or a layer got new settings
	EventWarning       Kind = "warning"        // something may surprise, in New, after new settings or in a layer: Reason is a sentence
	EventRetry         Kind = "retry"          // another attempt begins: Attempt is the failed one, Duration the pause, Reason, Err
	EventGaveUp        Kind = "gave_up"        // no attempt more is made though the error allows it: Attempt, Duration of a pause cut short, Reason, Err
	EventStateChanged  Kind = "state_changed"  // a breaker: From, To, Reason, Duration until the next probe when To is "open"
	EventRejected      Kind = "rejected"       // a layer refused the use: Reason, Err, Duration until it makes sense to come back, 0 if unknown
	EventTimeout       Kind = "timeout"        // a layer's time limit ended the use: Reason is the stage, Duration the limit
)

// Event is a fact that the pool or one of its layers reports to the observers among the layers. It is a plain value.
type Event struct {
	Kind     Kind
	Pool     string // the pool's name
	Layer    string // who reports: "pool", or the layer's kind
	Op       Op     // the operation; zero outside a use
	Attempt  int    // which attempt of the use, from 1; 0 outside a use
	Reason   string // why, in a word or a few: low-cardinality
	From, To string // the states of EventStateChanged
	Duration time.Duration
	Fresh    bool
	Err      error
	Stack    string // the borrower's: of EventLeaked, and of a warning about what a borrower has left behind
}

// An Observer is a [Middleware] (or the [Layer] inside a Bracket) that wants to hear of events. Observe is called in the goroutine in
// which the fact happened, with the context it happened in, context.Background() when it belongs to no use; concurrently; never while
// the pool's or the reporting layer's lock is held. It must not block.
type Observer interface {
	Observe(ctx context.Context, e Event)
}

// A UseObserver is an [Observer] that wants the Call of what happens within a use: then ObserveUse is called in place of Observe. The Call
// must not be kept.
type UseObserver interface {
	Observer
	ObserveUse(ctx context.Context, c *Call, e Event)
}

// A KindObserver is an [Observer] that need not hear of every use. New asks it once for each of the kinds that all uses report,
// [EventAcquired] and [EventReleased]; it is told of all others whatever it answers. What nobody wants costs nothing.
type KindObserver interface {
	Observer
	WantsKind(k Kind) bool
}

// PoolInfo is the side of a [Pool] that is the same whatever it pools: what a layer or a driver that attaches to it may ask. All methods may be
// called concurrently.
type PoolInfo interface { //nolint:interfacebloat // all that does not depend on the type of the resources
	Identity() Identity
	Config() Config
	Layers() []LayerInfo
	Levels() []Level
	Stat() Stat
	Check(ctx context.Context) Health
	Look(ctx context.Context) error
	Classify(err error) Class
	Clear()
	Cleared() <-chan struct{}
	Emit(e Event)
}

// An Attacher is a [Middleware] (or the [Layer] inside a Bracket) that is told once which pool it has been put around, or a [Driver] that is told
// which pool it serves. New calls Attach after everything else has succeeded, the driver's last, and the detach function that Attach returned (nil
// for none) when the pool is closed. An error makes New fail; what was attached before is detached. The pool sets to work after that: a Check in
// Attach is bounded by its context and by Config.OpenTimeout, not yet by Config.AcquireTimeout.
type Attacher interface {
	Attach(p PoolInfo) (detach func(), err error)
}

// hub is what a pool's uses and background work share that does not depend on the type of its resources.
type hub struct {
	id         Identity
	classifier Classifier
	observers  []observer
	acquired   []observer // those of them that want an EventAcquired
	released   []observer // and an EventReleased
	commands   []CommandObserver
	refusal    atomic.Pointer[UseError] // the latest, for one value is refused again and again
	calls      atomic.Uint32            // how many Calls have been made
	start      time.Time                // when the pool was made: the origin of its clock
	now        atomic.Int64             // the coarse clock, as time since start in nanoseconds; 0 while it is at rest
}

// observer is one of the layers' observers.
type observer struct {
	Observer

	ofUses UseObserver // the same, if it is one
}

// observe notes who is to be told of events.
func (h *hub) observe(all []Observer) {
	for _, o := range all {
		listed := observer{Observer: o}
		listed.ofUses, _ = o.(UseObserver)
		h.observers = append(h.observers, listed)
		k, choosy := o.(KindObserver)
		if !choosy || k.WantsKind(EventAcquired) {
			h.acquired = append(h.acquired, listed)
		}
		if !choosy || k.WantsKind(EventReleased) {
			h.released = append(h.released, listed)
		}
	}
}

// observed says whether anybody listens.
func (h *hub) observed() bool { return len(h.observers) > 0 }

// watched says whether anybody wants to hear of every use.
func (h *hub) watched() bool { return len(h.acquired)+len(h.released) > 0 }

// emitUse tells observers of an event within the use of c.
func (h *hub) emitUse(ctx context.Context, c *Call, e *Event, to []observer) {
	h.sign(e)
	for i := range to {
		to[i].tell(ctx, c, e)
	}
}

// announce emits events that belong to no use.
func (h *hub) announce(events ...Event) {
	if !h.observed() {
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

// tell hands one observer an event. What it panics with ends here: neither the pool nor the use of a borrower is its to end.
func (o *observer) tell(ctx context.Context, c *Call, e *Event) {
	defer func() { _ = recover() }()
	if c != nil && o.ofUses != nil {
		o.ofUses.ObserveUse(ctx, c, *e)
		return
	}
	o.Observe(ctx, *e)
}

// sign fills in who reports.
func (h *hub) sign(e *Event) {
	e.Pool = h.id.Name
	if e.Layer == "" {
		e.Layer = "pool"
	}
}

// sinceStart reads the real clock: the coarse one is at rest.
func (h *hub) sinceStart() time.Duration { return time.Since(h.start) }
