package pool

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/earnorm/poolstack/pool/driver"
)

// The reasons of an [Error]. Test for a reason with errors.Is.
var (
	// ErrClosed: the pool is closed.
	ErrClosed = errors.New("pool is closed")
	// ErrPaused: the pool is paused. Cause is the cause given to Pause.
	ErrPaused = errors.New("pool is paused")
	// ErrExhausted: no resource is free, and the use does not wait. Too many borrowers wait already
	// (Config.MaxWaiters), or the use is a TryAcquire.
	ErrExhausted = errors.New("pool is exhausted")
	// ErrAcquireTimeout: Config.AcquireTimeout or the deadline of the context has passed. See
	// State.EndedBy.
	ErrAcquireTimeout = errors.New("acquire timed out")
	// ErrAcquireCanceled: the caller or a layer has cancelled the context.
	ErrAcquireCanceled = errors.New("acquire canceled")
	// ErrOpen: dials fail, and no lent resource is likely to come back soon.
	ErrOpen = errors.New("open failed")
)

// Errors met by layers.
var (
	// ErrAborted is the outcome of a use that ended by a panic or by runtime.Goexit. The End of a
	// layer gets ErrAborted.
	ErrAborted error = &outcome{"pool: use aborted by a panic or Goexit", driver.Class{Fault: driver.FaultCaller, Broken: true, Type: "aborted"}}
	// ErrLost is the outcome of a fork after Drop: the layer has chosen another attempt. The Ends of
	// the fork's layers get ErrLost. ErrLost is no failure.
	ErrLost error = &outcome{"pool: another attempt was chosen", driver.Class{Fault: driver.FaultLocal, Type: "lost"}}
	// ErrGranted is returned to a layer that calls next while the two-step use already holds a
	// resource.
	ErrGranted error = &outcome{"pool: the use holds a resource already", driver.Class{Fault: driver.FaultLocal, Type: "granted"}}
	// ErrNotGranted is returned by Acquire if a layer has returned no error and the use holds no
	// resource.
	ErrNotGranted error = &outcome{"pool: a layer returned no error although no resource was acquired",
		driver.Class{Fault: driver.FaultLocal, Type: "not_granted"}}
)

// outcome is an error with a text and a class.
type outcome struct {
	text  string
	class driver.Class
}

func (o *outcome) Error() string { return o.text }

// Class implements [driver.Classified].
func (o *outcome) Class() driver.Class { return o.class }

// Occupancy is the state of a pool at the time of an [Error].
type Occupancy struct {
	Max         int
	InUse       int
	Idle        int
	Opening     int
	Checking    int // being checked or reset
	Closing     int
	Late        int           // calls among Opening and Checking that take longer than recent calls
	Waiters     int           // without the waiter that gets the error
	OldestLease time.Duration // 0 if no resource is lent
	LastCheck   error         // the latest failed check or reset; nil after a success
	EndedBy     EndedBy       // the bound of a wait that timed out; otherwise ""
}

// EndedBy names the bound that ended a wait.
type EndedBy string

// The values of EndedBy.
const (
	EndedByPool   EndedBy = "AcquireTimeout"        // see Config
	EndedByCaller EndedBy = "the caller's deadline" // of the context given to the use
	EndedByLayer  EndedBy = "a layer's limit"       // of a context derived by a layer
)

// Error is the error of a use that got no resource from the pool. Error wraps Reason and Cause.
// Cause is the latest error of a dial, the cause given to Pause, or the error and cause of the
// context.
type Error struct {
	Pool string
	// Reason is ErrClosed, ErrPaused, ErrExhausted, ErrAcquireTimeout, ErrAcquireCanceled or ErrOpen.
	Reason    error
	Cause     error // nil if there is none
	Occupancy Occupancy
	Waited    time.Duration

	class driver.Class
}

// Error returns the reason, the cause and the state of the pool in a single line.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "pool %q: %v", e.Pool, e.Reason)
	if e.Waited > 0 {
		fmt.Fprintf(&b, " after %v", e.Waited.Round(time.Microsecond))
	}
	if e.Cause != nil {
		b.WriteString(": " + oneLine(e.Cause))
	}
	s := e.Occupancy
	fmt.Fprintf(&b, " (in use %d of %d, idle %d, opening %d", s.InUse, s.Max, s.Idle, s.Opening)
	for _, part := range []struct {
		name string
		n    int
	}{{"checking", s.Checking}, {"closing", s.Closing}, {"late", s.Late}} {
		if part.n > 0 {
			fmt.Fprintf(&b, ", %s %d", part.name, part.n)
		}
	}
	fmt.Fprintf(&b, ", waiters %d", s.Waiters)
	if s.OldestLease > 0 {
		fmt.Fprintf(&b, ", oldest lease %v", s.OldestLease.Round(time.Millisecond))
	}
	if s.LastCheck != nil {
		b.WriteString(", last check: " + oneLine(s.LastCheck))
	}
	if s.EndedBy != "" {
		fmt.Fprintf(&b, ", ended by %s", s.EndedBy)
	}
	b.WriteByte(')')
	return b.String()
}

// Unwrap returns Reason and Cause.
func (e *Error) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Reason}
	}
	return []error{e.Reason, e.Cause}
}

// Class returns the class of the error. Nothing has been sent, so the use may be repeated, with a
// few exceptions. The use must not be repeated if the pool is closed, if the caller has cancelled,
// or if the caller's deadline was too short. The driver's class for the failed dial may also forbid
// a repetition.
func (e *Error) Class() driver.Class { return e.class }

// classifyRefusal returns the class of a use without a resource. openErr is the error of the latest
// dial, or nil. fault tells who is to blame for the time of the wait.
func (h *hub) classifyRefusal(reason, openErr error, fault driver.Fault) driver.Class {
	switch reason {
	case ErrClosed:
		return driver.Class{Fault: driver.FaultLocal, Repeat: driver.RepeatNever, Type: "pool_closed"}
	case ErrPaused:
		return driver.Class{Fault: driver.FaultLocal, Repeat: driver.RepeatAlways, Type: "pool_paused"}
	case ErrExhausted:
		return driver.Class{Fault: driver.FaultLocal, Repeat: driver.RepeatAlways, Type: "pool_exhausted"}
	case ErrAcquireCanceled:
		return driver.Class{Fault: driver.FaultCaller, Repeat: driver.RepeatNever, Type: "canceled"}
	}
	class := driver.Class{Repeat: driver.RepeatAlways, Type: "acquire_timeout"}
	if openErr != nil {
		class = h.classifyDial(openErr)
		// Nothing was sent, so only an error known to the driver may forbid a repetition.
		if class.Repeat != driver.RepeatNever || class.Fault == driver.FaultElsewhere {
			class.Repeat = driver.RepeatAlways
		}
		class.Type = openFailure(class)
	}
	if fault == driver.FaultCaller {
		class.Repeat = driver.RepeatNever
	}
	class.Fault, class.Broken, class.Miss, class.Suspect = fault, false, false, false
	return class
}

// classifyDial is classifyOpening for an error whose methods may panic.
func (h *hub) classifyDial(err error) (class driver.Class) {
	class = driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatNever, Type: "_OTHER"}
	_ = protect("Classify", func() error { class = h.classifyOpening(err); return nil })
	return class
}

// openFailure returns the error type of a failed dial.
func openFailure(class driver.Class) string {
	switch class.Type {
	case "", "broken", "canceled", "_OTHER":
		return "open_failed"
	}
	return class.Type
}

// oneLine returns the text of err without line breaks. oneLine returns a text even if a method of
// err panics.
func oneLine(err error) string {
	return strings.ReplaceAll(fmt.Sprint(err), "\n", "; ")
}

// joined is like the error of errors.Join, with a text in a single line.
type joined []error

func join(errs ...error) error {
	all := joined(slices.DeleteFunc(errs, func(err error) bool { return err == nil }))
	switch len(all) {
	case 0:
		return nil
	case 1:
		return all[0]
	}
	return all
}

func (j joined) Error() string {
	texts := make([]string, len(j))
	for i, err := range j {
		texts[i] = oneLine(err)
	}
	return strings.Join(texts, "; ")
}

func (j joined) Unwrap() []error { return j }
