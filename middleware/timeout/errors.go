package timeout

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
)

// The reasons of an [Error]; test for a reason with errors.Is. An Error with any of these reasons
// is also context.DeadlineExceeded.
var (
	ErrTotal   = errors.New("the use took too long")         // the limit of NewTotal has passed
	ErrAttempt = errors.New("the attempt took too long")     // the limit of NewAttempt has passed
	ErrNoTime  = errors.New("too little time left to begin") // rejected: see Config.MinLeft
)

// Stage is the part of a use cut short by a limit.
type Stage string

// The stages. A stage is also the Reason of [pool.EventTimeout] and the attribute stage of
// poolstack.timeouts.
const (
	StageBegin   Stage = "begin"   // nothing began: too little time was left
	StageAcquire Stage = "acquire" // the wait for a resource
	StageAttempt Stage = "attempt" // an attempt that had a resource
	StageTotal   Stage = "total"   // a use that had a resource, or paused between attempts
)

// typeBegin is the error.type of a use refused because too little time was left.
const typeBegin = "timeout_begin"

// Error is the error of a use that took too long, or had too little time to begin. Timeout()
// returns true. Error is also the cause of a context whose limit has passed, and then has no Err.
// An Error must not be modified. All methods may be called concurrently.
type Error struct {
	Pool  string // name of the pool; empty in the cause of a context
	Stage Stage
	// Limit is the passed limit. If the use was rejected, Limit is the time left: 0 or less after the
	// deadline.
	Limit time.Duration
	Err   error // the wrapped error from inside of the layer; nil if the use was rejected

	about   error // ErrTotal, ErrAttempt or ErrNoTime
	class   driver.Class
	attempt int // number of the attempt; 0 in the cause of a context
}

// Error returns the name of the pool, the passed limit, the stage and the wrapped error as a
// sentence.
func (e *Error) Error() string {
	text := "timeout: "
	if e.Pool != "" && e.Stage != StageAcquire { // there, the error of the pool has the name
		text = fmt.Sprintf("timeout: pool %q: ", e.Pool)
	}
	if e.Stage == StageBegin && e.Limit <= 0 {
		text += "no time left to begin"
	} else {
		text += fmt.Sprintf("%v (%v)", e.about, e.Limit)
	}
	if e.Stage == StageAcquire {
		text += " while it waited for a resource"
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Is reports whether target is the reason of the error (ErrTotal, ErrAttempt or ErrNoTime) or
// context.DeadlineExceeded.
func (e *Error) Is(target error) bool { return target == e.about || target == context.DeadlineExceeded }

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// Timeout returns true.
func (e *Error) Timeout() bool { return true }

// Class implements [driver.Classified]. A server without an answer in time has failed
// (FaultServer), and the operation may or may not be done. If the limit cut short only the wait for
// a resource, the class is from the error of the pool, because nothing was sent. The Fault is
// FaultLocal in two cases. In the first case, the total limit has passed, the use was in its first
// attempt, and the wait took at least half of the limit. In the second case, the wrapped error is
// by its own class not a failure of the server. Examples are a failure in a use of another pool,
// and a timeout in an operation meant to block (a negative Op.Limit).
func (e *Error) Class() driver.Class { return e.class }

// newCause returns the cause of a context with a passed limit.
func newCause(stage Stage, about error, limit time.Duration) *Error {
	return &Error{Stage: stage, Limit: limit, about: about, class: driver.Class{
		Fault: driver.FaultServer, Repeat: driver.RepeatIfIdempotent, Broken: true, Type: "timeout_" + string(stage),
	}}
}

// newRefusal returns the error of a use rejected for lack of time. A passed deadline is the
// caller's fault. A deadline too near for Config.MinLeft is a rejection by this layer.
func newRefusal(left time.Duration, in string) *Error {
	e := &Error{Pool: in, Stage: StageBegin, Limit: left, about: ErrNoTime, class: driver.Class{Fault: driver.FaultLocal, Type: typeBegin}}
	if left <= 0 {
		e.class.Fault = driver.FaultCaller
	}
	return e
}

// translate returns err wrapped into an Error if the passed limit caused err, and nil otherwise.
// outer is the context around the limit.
func translate(outer context.Context, cause *Error, c *pool.Call, err error) *Error {
	if !cutShort(c, err) {
		return nil
	}
	e := *cause
	e.Pool, e.Err, e.attempt = c.Identity().Name, err, c.Attempt()
	class := c.Classify(err)
	_, refused := errors.AsType[*pool.Error](err)
	switch _, _, granted := c.Acquired(); {
	case refused && !granted:
		e.Stage = StageAcquire
		e.class = acquireClass(class)
	// The pool classified err as the caller's because outer is over. The class before this correction
	// is unknown.
	case !granted, isOver(outer):
	// The use spent its time on something else than the server of its resource.
	case class.Fault != driver.FaultServer:
		e.class.Fault = driver.FaultLocal
	case e.Stage == StageTotal && waitedMost(c, e.Limit):
		e.class.Fault = driver.FaultLocal
	}
	return &e
}

// waitedMost reports whether a use over its total limit waited for its resource during at least
// half of the limit. A repeated use did not, because retry repeats the failures of the server.
func waitedMost(c *pool.Call, limit time.Duration) bool {
	wait, _, _ := c.Acquired()
	return c.Attempt() == 1 && wait >= limit/2
}

// isOver reports whether ctx is done, or its deadline has passed.
func isOver(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && time.Until(deadline) <= 0
}

// cutShort reports whether err is the usual result of a passed deadline. cutShort returns false if
// the latest attempt's error is already an Error, because the limit that passed first has named the
// error. An Error of an earlier attempt, kept by retry, does not count.
func cutShort(c *pool.Call, err error) bool {
	if translated, ok := errors.AsType[*Error](err); ok && translated.attempt == c.Attempt() {
		return false
	}
	_, _, granted := c.Acquired()
	if refused, ok := errors.AsType[*pool.Error](err); ok && !granted {
		return errors.Is(refused, pool.ErrAcquireTimeout)
	}
	var t interface{ Timeout() bool }
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || errors.Is(err, net.ErrClosed) ||
		errors.As(err, &t) && t.Timeout()
}

// acquireClass returns the class of an acquisition cut short by this layer, given the class of the
// pool. The pool attributes the passed deadline to the caller, and acquireClass corrects this.
func acquireClass(class driver.Class) driver.Class {
	if class.Fault == driver.FaultCaller {
		class.Fault, class.Repeat = driver.FaultLocal, driver.RepeatAlways
	}
	return class
}
