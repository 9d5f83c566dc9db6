package timeout

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/earnorm/poolstack/pool"
)

// What an [Error] can be about; test for them with errors.Is. All of them are context.DeadlineExceeded as well.
var (
	ErrTotal   = errors.New("the use took too long")         // the limit of NewTotal has passed
	ErrAttempt = errors.New("the attempt took too long")     // the limit of NewAttempt has passed
	ErrNoTime  = errors.New("too little time left to begin") // refused: Config.MinLeft
)

// Stage is what was cut short.
type Stage string

// The stages: also Event.Reason and the stage of poolstack.timeouts.
const (
	StageBegin   Stage = "begin"   // nothing: too little time was left to begin
	StageAcquire Stage = "acquire" // the wait for a resource: the total limit has passed
	StageAttempt Stage = "attempt" // an attempt that had its resource
	StageTotal   Stage = "total"   // a use that had its resource, or waited between attempts
)

// Error is a use that took too long, or was not begun because it would have. It is also the context's cause once a limit has passed;
// Err is nil then. It is the kind of error that says so by itself: Timeout() is true.
type Error struct {
	Pool  string // the pool's name; empty in a context's cause
	Stage Stage
	Limit time.Duration // the limit that passed; what was left, if the use was refused: 0 or less after the deadline
	Err   error         // what came back from inside; nil if the use was refused

	about   error // ErrTotal, ErrAttempt or ErrNoTime
	class   pool.Class
	attempt int // of the use; 0 in a context's cause
}

// Error names the pool, and says which limit passed, what the limit cut short, and what came back.
func (e *Error) Error() string {
	text := "timeout: "
	if e.Pool != "" && e.Stage != StageAcquire { // there the pool's own error names the pool
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

// Is makes the error ErrTotal, ErrAttempt or ErrNoTime, and context.DeadlineExceeded.
func (e *Error) Is(target error) bool { return target == e.about || target == context.DeadlineExceeded }

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// Timeout is true.
func (e *Error) Timeout() bool { return true }

// Class makes the error [pool.Classified]. A server that did not answer in time has failed, and nobody knows whether the server did what it
// was asked. When only the wait for a resource was cut short, the pool's own error decides, for nothing has been sent. The error is laid at
// this process when the total limit has passed and the use spent at least half of the limit on its wait, and when what came back is by its
// own class not of the server's making: what a use of another pool met, or an operation that is meant to block (a negative Op.Limit).
func (e *Error) Class() pool.Class { return e.class }

// newCause makes the cause of a context whose limit passes.
func newCause(stage Stage, about error, limit time.Duration) *Error {
	return &Error{Stage: stage, Limit: limit, about: about, class: pool.Class{
		Fault: pool.FaultServer, Repeat: pool.RepeatIfIdempotent, Broken: true, Type: "timeout_" + string(stage),
	}}
}

// newRefusal makes the error of a use that is not begun with so little time left. A deadline that has passed is the caller's affair, one
// that is too near for Config.MinLeft is refused by us.
func newRefusal(left time.Duration, in string) *Error {
	e := &Error{Pool: in, Stage: StageBegin, Limit: left, about: ErrNoTime, class: pool.Class{Fault: pool.FaultLocal, Type: "timeout_begin"}}
	if left <= 0 {
		e.class.Fault = pool.FaultCaller
	}
	return e
}

// translate returns err as an Error if it came about because the time was up, nil if it did not. outer is the context that the limit was
// put on.
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
	case !granted, isOver(outer): // the class says that it is the caller's, and nobody knows what it was before
	case class.Fault != pool.FaultServer: // the use has spent its time on something else than its resource's server
		e.class.Fault = pool.FaultLocal
	case e.Stage == StageTotal && waitedMost(c, e.Limit):
		e.class.Fault = pool.FaultLocal
	}
	return &e
}

// waitedMost says whether a use whose total limit has passed spent at least half of the limit on the wait for its resource. A use that was
// repeated did not: retry repeats what the server has failed to do.
func waitedMost(c *pool.Call, limit time.Duration) bool {
	wait, _, _ := c.Acquired()
	return c.Attempt() == 1 && wait >= limit/2
}

func isOver(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && time.Until(deadline) <= 0
}

// cutShort says whether err is what a passed deadline makes of an operation. Not so when the latest attempt's error has been translated
// already: the limit that passed first is the one to name. What retry has kept of earlier attempts does not count.
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

// acquireClass is the pool's class of an acquisition that we cut short: that the time was up was not the caller's doing.
func acquireClass(class pool.Class) pool.Class {
	if class.Fault == pool.FaultCaller {
		class.Fault, class.Repeat = pool.FaultLocal, pool.RepeatAlways
	}
	return class
}
