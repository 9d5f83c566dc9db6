package main

import (
	"context"
	"errors"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/earnorm/poolstack/middleware/breaker"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
)

// A tally is a layer that counts the results of uses, and the events of the pool and of other
// layers. It must be the outermost layer.
type tally struct {
	retries, rejections, timeouts atomic.Int64 // totals, for the live table
	sign                          atomic.Pointer[time.Time]
	lastOK                        atomic.Pointer[time.Time]
	dialled                       func() // called for each dial, if not nil

	mu       sync.Mutex
	figures  figures
	onChange func(change)
}

// figures are the counts of a tally. The keys are from the events and the error classes.
type figures struct {
	errors      map[string]int // failed uses, by error.type
	retries     map[string]int // retries, by the previous attempt's error.type
	unexplained int            // errors with the fault none: should be 0
	giveUps     map[string]int // retries not made, by reason
	rejections  map[string]int // by layer and reason
	timeouts    map[string]int // by stage
	changes     []change
}

// A change is a breaker's transition.
type change struct {
	at               time.Time
	from, to, reason string
}

func newTally() *tally {
	return &tally{figures: figures{
		errors: map[string]int{}, retries: map[string]int{}, giveUps: map[string]int{},
		rejections: map[string]int{}, timeouts: map[string]int{},
	}}
}

// Begin implements pool.Layer.
func (t *tally) Begin(ctx context.Context, _ *pool.Call) (context.Context, struct{}, error) {
	return ctx, struct{}{}, nil
}

// End implements pool.Layer.
func (t *tally) End(_ context.Context, c *pool.Call, _ struct{}, err error) {
	if err == nil {
		now := time.Now()
		t.lastOK.Store(&now)
		return
	}
	class := c.Classify(err)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.figures.errors[class.Type]++
	// The server is healthy and has answered, but not with an expected result of these operations.
	if class.Fault == driver.FaultNone {
		t.figures.unexplained++
	}
}

// Observe implements pool.Observer.
func (t *tally) Observe(_ context.Context, e pool.Event) {
	t.noteSign(e)
	switch e.Kind {
	case pool.EventOpened, pool.EventOpenFailed:
		if t.dialled != nil {
			t.dialled()
		}
	case pool.EventRetry:
		t.retries.Add(1)
		t.count(t.figures.retries, e.Reason)
	case pool.EventGaveUp:
		t.count(t.figures.giveUps, e.Reason)
	case pool.EventAcquireFailed:
		if errors.Is(e.Err, pool.ErrExhausted) {
			t.rejections.Add(1)
			t.count(t.figures.rejections, "pool: "+e.Reason)
		}
	case pool.EventRejected:
		t.rejections.Add(1)
		t.count(t.figures.rejections, e.Layer+": "+e.Reason)
	case pool.EventTimeout:
		t.timeouts.Add(1)
		t.count(t.figures.timeouts, e.Reason)
	case pool.EventStateChanged:
		if e.Layer == "breaker" {
			t.changed(change{at: time.Now(), from: e.From, to: e.To, reason: e.Reason})
		}
	default:
	}
}

// noteSign records the first sign of trouble after watch: a failed attempt, or a failure to
// acquire, open or check a connection.
func (t *tally) noteSign(e pool.Event) {
	switch e.Kind {
	case pool.EventReleased, pool.EventAcquireFailed, pool.EventOpenFailed, pool.EventCheckFailed:
		if e.Err != nil && t.sign.Load() == nil {
			now := time.Now()
			t.sign.CompareAndSwap(nil, &now)
		}
	default:
	}
}

// watch resets the first sign of trouble.
func (t *tally) watch() { t.sign.Store(nil) }

// okSince reports whether a use has succeeded after the moment.
func (t *tally) okSince(moment time.Time) bool {
	last := t.lastOK.Load()
	return last != nil && last.After(moment)
}

func (t *tally) count(m map[string]int, what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m[what]++
}

// announce sets tell, which is called for each later change of the breaker's state.
func (t *tally) announce(tell func(change)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.onChange = tell
}

func (t *tally) changed(c change) {
	t.mu.Lock()
	t.figures.changes = append(t.figures.changes, c)
	tell := t.onChange
	t.mu.Unlock()
	if tell != nil {
		tell(c)
	}
}

// openedSince returns the time of the breaker's first opening after the moment. If the breaker has
// not opened, ok is false.
func (t *tally) openedSince(moment time.Time) (at time.Time, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.figures.changes {
		if c.to == breaker.StateOpen.String() && c.at.After(moment) {
			return c.at, true
		}
	}
	return time.Time{}, false
}

// snapshot returns a copy of the figures.
func (t *tally) snapshot() figures {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.figures
	f.errors, f.retries, f.giveUps = maps.Clone(f.errors), maps.Clone(f.retries), maps.Clone(f.giveUps)
	f.rejections, f.timeouts = maps.Clone(f.rejections), maps.Clone(f.timeouts)
	f.changes = append([]change(nil), f.changes...)
	return f
}
