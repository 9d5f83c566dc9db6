package pool

import (
	"context"
	"errors"
	"reflect"
)

// The origin of an error. A use may end with an error of its own resource, with an error of another use inside its function, or with an
// error of the function itself. The type of an error and the name of a pool do not tell the three apart. So the pool records the origin:
//
//   - Do, Get, Acquire and Lease.Finish mark each failure once, when the failure leaves its use (UseError).
//   - A use cuts all marked branches out of an error's tree, and judges the rest. Without a rest the class is FaultElsewhere.
//   - A use with a resource cuts refusals by a pool as well: the use has not been refused.
//   - Close, Warm, Look and Check mark their errors as well: a function that manages another pool has not met its own server.
//   - A driver testifies about the commands of its resource (Witness). The testimony corrects the class. Without a testimony, a rest that the
//     classifier lays elsewhere makes the resource suspect: the rest may be an error of the resource in other words.
//   - A miss, an answer and the function's own error say nothing about the pool. The pool returns them unmarked, so err == redis.Nil holds.

// UseError is a failure after its use. Do, Get, Acquire and [Lease.Finish] return a UseError for an error with a fault of the server, the
// caller or this process, and for an error after a broken resource. All other errors are returned unchanged: a miss, an unwelcome answer, the
// function's own error. The text is the text of Err; errors.Is and errors.As look into Err. The errors of Close, Warm, Look and Check
// ([Health].Err) are UseErrors too.
//
// In an enclosing use a UseError counts as nothing ([FaultElsewhere]). A UseError is immutable; several uses may share one.
type UseError struct {
	Err error

	class Class
	hub   *hub
}

// Error returns the text of Err.
func (e *UseError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *UseError) Unwrap() error { return e.Err }

// Pool returns the identity of the pool of the failed use.
func (e *UseError) Pool() Identity { return e.hub.id }

// Class returns the error's class in the failed use. RetryAfter of a refusal counts from now.
func (e *UseError) Class() Class {
	if refusal, ok := e.Err.(Classified); ok && e.class.Fault == FaultLocal { //nolint:errorlint // this very error
		return refusal.Class()
	}
	return e.class
}

// leave returns err with a mark, or err itself if the class says nothing about the pool or err has a mark already.
func (h *hub) leave(err error, class Class) error {
	_, marked := err.(*UseError) //nolint:errorlint // this very error
	if marked || !class.Broken && (class.Fault == FaultNone || class.Fault == FaultElsewhere) {
		return err
	}
	return &UseError{Err: err, class: class, hub: h}
}

// aside marks the error of a call that is no use, such as Warm: to a use around the call the error says nothing.
func (h *hub) aside(err error) error {
	if _, marked := err.(*UseError); marked || err == nil { //nolint:errorlint // this very error
		return err
	}
	class := Class{Fault: FaultElsewhere}
	_ = protect("Classify", func() error { class = h.classify(context.Background(), err, false, nil); return nil })
	return &UseError{Err: err, class: class, hub: h}
}

// leaveUse is leave for a use with layers. An open breaker refuses many uses with one error value. All of them get one mark: a refusal allocates
// nothing.
func (c *Call) leaveUse(err error) error {
	if c.granted {
		return c.hub.leave(err, c.Classify(err))
	}
	if last := c.hub.refusal.Load(); last != nil && last.Err == err { //nolint:errorlint // the very value: a pointer
		return last
	}
	left := c.hub.leave(err, c.Classify(err))
	mark, ok := left.(*UseError)                                                     //nolint:errorlint // made by leave, or err itself
	_, once := err.(*Error)                                                          //nolint:errorlint // made for this use alone
	if ok && !once && left != err && reflect.TypeOf(err).Kind() == reflect.Pointer { //nolint:errorlint // the very value
		c.hub.refusal.Store(mark)
	}
	return left
}

// Classify returns the class of err for this pool: for a failure of one of the pool's uses the class in the failed use, for a failure of another
// pool's use [FaultElsewhere], for any other error the class after a borrower's function with this error. For nil the class is zero. Classify
// may be called concurrently, also after Close.
func (p *Pool[T]) Classify(err error) Class {
	if e, ok := find(err, func(e *UseError) bool { return e.hub == p.hub }); ok {
		return e.Class()
	}
	return p.hub.classify(context.Background(), err, true, &untold)
}

// classify returns the class of err in a use with the caller's context ctx. granted: the use has got a resource. told: the witness's testimony.
func (h *hub) classify(ctx context.Context, err error, granted bool, told *account) (class Class) {
	if err != nil {
		h.classifyInto(ctx, &class, err, granted, told)
	}
	return class
}

// classifyInto is classify for an error, with the place for the class: a copy of a Class costs as much as the rest.
func (h *hub) classifyInto(ctx context.Context, class *Class, err error, granted bool, told *account) {
	plain, own := isPlain(err), err
	if !plain {
		own = ownPart(err, granted)
	}
	if !granted {
		told = &untold
	}
	if !plain {
		if word, ok := find(own, anyClassified); ok && (!granted || !isCallers(ctx, word)) {
			*class = word.Class()
			told.amend(class)
			class.name(err, plain)
			return
		}
	}
	switch {
	case own == nil:
		class.Fault = FaultElsewhere
	case !told.known:
		h.ask(class, own)
		// The error may hide the end of the connection: fmt.Errorf("%v") leaves of io.EOF a text only.
		class.Suspect = class.Suspect || granted && class.Fault == FaultElsewhere
	case told.Own != nil:
		h.ask(class, told.Own)
	default: // an error of another resource: only the names are kept
		h.ask(class, own)
		*class = Class{Fault: FaultElsewhere, Miss: class.Miss, Code: class.Code, Type: class.Type}
	}
	told.amend(class)
	over, _ := ended(ctx)
	elsewhere := class.Fault == FaultElsewhere && errors.Is(over, context.DeadlineExceeded) // the time was not spent here
	if over != nil && !elsewhere {
		class.overrule()
	}
	class.name(err, plain)
}

// overrule lays an error at the caller, whose context is over.
func (c *Class) overrule() {
	c.Repeat = RepeatNever
	if !c.Certain {
		c.Fault = FaultCaller
	}
}

// isCallers says whether the caller's context is over because of word.
func isCallers(ctx context.Context, word Classified) bool {
	over, cause := ended(ctx)
	return over != nil && errors.Is(cause, word)
}

// ownPart returns err without the branches of other uses: nil if no other branch exists. An error with a class of its own stays as a whole: a
// layer has judged everything inside the error.
func ownPart(err error, granted bool) error {
	rest, _ := prune(err, func(err error) verdict {
		switch err.(type) { //nolint:errorlint // this very error
		case *UseError:
			return cut
		case *Error:
			if granted {
				return cut
			}
			return keep
		case Classified:
			return keep
		}
		return descend
	})
	return rest
}
