package pool

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// What a pool's [Error] can be about; test for them with errors.Is.
var (
	ErrClosed          = errors.New("pool is closed")
	ErrPaused          = errors.New("pool is paused")
	ErrExhausted       = errors.New("pool is exhausted")
	ErrAcquireTimeout  = errors.New("acquire timed out") // Config.AcquireTimeout or the context's deadline has passed
	ErrAcquireCanceled = errors.New("acquire canceled")  // the context was cancelled
	ErrOpen            = errors.New("open failed")       // no resource can be opened, and leases give no hope
)

// What a layer can meet.
var (
	// ErrAborted is the outcome a layer's End sees when the use ended by a panic or by runtime.Goexit.
	ErrAborted error = &outcome{"pool: use aborted by a panic or Goexit", Class{Fault: FaultCaller, Broken: true, Type: "aborted"}}
	// ErrLost is the outcome the layers of a fork see when another attempt was chosen. It is nobody's fault.
	ErrLost error = &outcome{"pool: another attempt was chosen", Class{Fault: FaultLocal, Type: "lost"}}
	// ErrGranted is returned to a layer that calls next again although the two-step use holds a resource already.
	ErrGranted error = &outcome{"pool: the use holds a resource already", Class{Fault: FaultLocal, Type: "granted"}}
	// ErrNotGranted is returned by Acquire when a layer returned no error although it got no resource.
	ErrNotGranted error = &outcome{"pool: a layer returned no error although no resource was acquired",
		Class{Fault: FaultLocal, Type: "not_granted"}}
)

// outcome is an error with a class and no further facts.
type outcome struct {
	text  string
	class Class
}

func (o *outcome) Error() string { return o.text }

// Class makes it Classified.
func (o *outcome) Class() Class { return o.class }

// State is how things stood in a pool when an [Error] came about.
type State struct {
	Max         int
	InUse       int
	Idle        int
	Opening     int
	Checking    int // checked or reset
	Closing     int
	Late        int           // of Opening and Checking, those that take longer than such calls lately took
	Waiters     int           // besides the one that the error is for
	OldestLease time.Duration // 0 when nothing is lent
	LastCheck   error         // of the latest check or reset that failed, nil once one has passed
	EndedBy     EndedBy       // whose time has run out; "" unless the Error is about that
}

// EndedBy says whose bound ended a wait.
type EndedBy string

// The bounds of a wait.
const (
	EndedByPool   EndedBy = "AcquireTimeout"        // Config.AcquireTimeout
	EndedByCaller EndedBy = "the caller's deadline" // of the context that the use began with
	EndedByLayer  EndedBy = "a layer's limit"       // of a context that a layer has derived
)

// Error is why a pool did not lend a resource. It wraps one of the package's Err values, and the cause if there is one: the error that
// opening a resource met last, the reason given to Pause, the context's error and cause.
type Error struct {
	Pool   string
	Reason error // ErrClosed, ErrPaused, ErrExhausted, ErrAcquireTimeout, ErrAcquireCanceled or ErrOpen
	Cause  error // nil when there is none
	State  State
	Waited time.Duration

	class Class
}

// Error says what happened and how things stood.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "pool %q: %v", e.Pool, e.Reason)
	if e.Waited > 0 {
		fmt.Fprintf(&b, " after %v", e.Waited.Round(time.Microsecond))
	}
	if e.Cause != nil {
		b.WriteString(": " + oneLine(e.Cause))
	}
	s := e.State
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

// Class says what the error means for the use. Nothing has been sent, so nothing forbids to repeat it, except what the driver says of
// the error that opening met.
func (e *Error) Class() Class { return e.class }

// classifyRefusal gives the class of a use without a resource. openErr is the error of the latest dial, or nil. fault says whose time the wait
// was.
func (h *hub) classifyRefusal(reason, openErr error, fault Fault) Class {
	switch reason {
	case ErrClosed:
		return Class{Fault: FaultLocal, Repeat: RepeatNever, Type: "pool_closed"}
	case ErrPaused:
		return Class{Fault: FaultLocal, Repeat: RepeatAlways, Type: "pool_paused"}
	case ErrExhausted:
		return Class{Fault: FaultLocal, Repeat: RepeatAlways, Type: "pool_exhausted"}
	case ErrAcquireCanceled:
		return Class{Fault: FaultCaller, Repeat: RepeatNever, Type: "canceled"}
	}
	class := Class{Repeat: RepeatAlways, Type: "acquire_timeout"}
	if openErr != nil {
		class = h.classifyDial(openErr)
		if class.Repeat != RepeatNever || class.Fault == FaultElsewhere { // nothing was sent, and nobody says that another try is in vain
			class.Repeat = RepeatAlways
		}
		class.Type = openFailure(class)
	}
	if fault == FaultCaller {
		class.Repeat = RepeatNever
	}
	class.Fault, class.Broken, class.Miss, class.Suspect = fault, false, false, false
	return class
}

// classifyDial is classifyOpening for an error whose methods may panic.
func (h *hub) classifyDial(err error) (class Class) {
	class = Class{Fault: FaultServer, Repeat: RepeatNever, Type: "_OTHER"}
	_ = protect("Classify", func() error { class = h.classifyOpening(err); return nil })
	return class
}

// openFailure is the error type of opening a resource in vain.
func openFailure(class Class) string {
	switch class.Type {
	case "", "broken", "canceled", "_OTHER":
		return "open_failed"
	}
	return class.Type
}

// oneLine is the text of err without line breaks. An error whose method panics has a text as well.
func oneLine(err error) string {
	return strings.ReplaceAll(fmt.Sprint(err), "\n", "; ")
}

// joined is errors.Join with a text of one line.
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
