package pool

import (
	"context"
	"errors"
	"reflect"

	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/internal/errtree"
)

// The origin of an error. A use may end with an error from three origins: its own resource, another
// use inside its function, or the function itself. The type of an error and the name of a pool do
// not distinguish the three cases. So the pool records the origin:
//
//   - Do, Get, Acquire and Lease.Finish mark each failure once, when the failure leaves its use
//     (UseError).
//   - A use removes all marked branches from the tree of an error, and judges the rest. If no rest
//     remains, the class is FaultElsewhere.
//   - A use with a resource also removes refusals by a pool: the use itself has not been refused.
//   - Close, Warm, Look and Check mark their errors as well. A function that manages another pool
//     has not met the server of its own pool.
//   - A driver testifies about the commands of its resource (Witness). The testimony corrects the
//     class. Without a testimony, a rest with FaultElsewhere makes the resource suspect: the rest
//     may hide an error of the resource.
//   - A miss, an answer and an error of the function give no information about the pool. The pool
//     returns these errors without a mark, so err == redis.Nil holds.

// UseError marks the failure of a use. Do, Get, Acquire and [Lease.Finish] return a UseError in two
// cases: the server, the caller or this process is at fault, or the error broke the resource. All
// other errors are returned unchanged: a miss, an unwelcome answer, an error of the function. The
// text is the text of Err. errors.Is and errors.As look into Err. The errors of Close, Warm, Look
// and Check ([Health].Err) are UseErrors, too.
//
// An enclosing use ignores a UseError ([driver.FaultElsewhere]). A UseError is immutable, and
// several uses may share a UseError.
type UseError struct {
	Err error

	class driver.Class
	hub   *hub
}

// Error returns the text of Err.
func (e *UseError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *UseError) Unwrap() error { return e.Err }

// Pool returns the identity of the pool of the failed use.
func (e *UseError) Pool() driver.Identity { return e.hub.id }

// Class returns the class of the error in the failed use. For a refusal, RetryAfter counts from the
// call of Class.
func (e *UseError) Class() driver.Class {
	if refusal, ok := e.Err.(driver.Classified); ok && e.class.Fault == driver.FaultLocal { //nolint:errorlint // this very error
		return refusal.Class()
	}
	return e.class
}

// markFailure marks err when err leaves its use. markFailure returns err unchanged if the class
// gives no information about the pool, or if err has a mark already.
func (h *hub) markFailure(err error, class driver.Class) error {
	_, marked := err.(*UseError) //nolint:errorlint // this very error
	if marked || !class.Broken && (class.Fault == driver.FaultNone || class.Fault == driver.FaultElsewhere) {
		return err
	}
	return &UseError{Err: err, class: class, hub: h}
}

// markIgnored marks the error of a call that is no use, such as Warm. An enclosing use then ignores
// the error.
func (h *hub) markIgnored(err error) error {
	if _, marked := err.(*UseError); marked || err == nil { //nolint:errorlint // this very error
		return err
	}
	class := driver.Class{Fault: driver.FaultElsewhere}
	_ = protect("Classify", func() error { class = h.classify(context.Background(), err, false, nil); return nil })
	return &UseError{Err: err, class: class, hub: h}
}

// markFailure is hub.markFailure for a use with layers. An open breaker refuses many uses with the
// same error value. All these uses share a single mark, so a refusal does not allocate.
func (c *Call) markFailure(err error) error {
	if c.granted {
		return c.hub.markFailure(err, c.Classify(err))
	}
	if last := c.hub.refusal.Load(); last != nil && last.Err == err { //nolint:errorlint // identity
		return last
	}
	left := c.hub.markFailure(err, c.Classify(err))
	mark, ok := left.(*UseError) //nolint:errorlint // made by leave, or err itself
	_, once := err.(*Error)      //nolint:errorlint // made for a single use
	// A pointer may come again with the next refusal, so its mark is shared.
	if ok && !once && left != err && reflect.TypeOf(err).Kind() == reflect.Pointer { //nolint:errorlint // identity
		c.hub.refusal.Store(mark)
	}
	return left
}

// Classify returns the class of err for this pool. For a failure of a use of this pool, the class
// is the class in the failed use. For a failure of a use of another pool, the fault is
// [driver.FaultElsewhere]. For any other error, the class is the class of a use whose function has
// returned err. For nil the class is zero. Classify may be called concurrently, also after Close.
func (p *Pool[T]) Classify(err error) driver.Class {
	if e, ok := errtree.Find(err, func(e *UseError) bool { return e.hub == p.hub }); ok {
		return e.Class()
	}
	return p.hub.classify(context.Background(), err, true, &untold)
}

// classify returns the class of err in a use. ctx is the context of the caller. granted reports
// whether the use has got a resource. told is the testimony of the witness.
func (h *hub) classify(ctx context.Context, err error, granted bool, told *account) (class driver.Class) {
	if err != nil {
		h.classifyInto(ctx, &class, err, granted, told)
	}
	return class
}

// classifyInto is classify for an err that is not nil. The result is stored in *class, because a
// copy of a Class costs as much as the rest.
func (h *hub) classifyInto(ctx context.Context, class *driver.Class, err error, granted bool, told *account) {
	plain, own := isSimple(err), err
	if !plain {
		own = ownPart(err, granted)
	}
	if !granted {
		told = &untold
	}
	if !plain {
		if word, ok := errtree.Find(own, anyClassified); ok && (!granted || !isCallers(ctx, word)) {
			*class = word.Class()
			told.amend(class)
			nameClass(class, err, plain)
			return
		}
	}
	switch {
	case own == nil:
		class.Fault = driver.FaultElsewhere
	case !told.known:
		h.ask(class, own)
		// The error may hide the end of the connection. Example: fmt.Errorf("%v") keeps only the text of
		// io.EOF.
		class.Suspect = class.Suspect || granted && class.Fault == driver.FaultElsewhere
	case told.Own != nil:
		h.ask(class, told.Own)
	default: // an error of another resource: only the names are kept
		h.ask(class, own)
		*class = driver.Class{Fault: driver.FaultElsewhere, Miss: class.Miss, Code: class.Code, Type: class.Type}
	}
	told.amend(class)
	over, _ := contextErr(ctx)
	// The caller's time was not spent in this use.
	elsewhere := class.Fault == driver.FaultElsewhere && errors.Is(over, context.DeadlineExceeded)
	if over != nil && !elsewhere {
		blameCaller(class)
	}
	nameClass(class, err, plain)
}

// blameCaller gives the fault to the caller, because the context of the caller has ended. No
// repetition is allowed any more.
func blameCaller(c *driver.Class) {
	c.Repeat = driver.RepeatNever
	if !c.Certain {
		c.Fault = driver.FaultCaller
	}
}

// isCallers reports whether the context of the caller has ended with word as the cause.
func isCallers(ctx context.Context, word driver.Classified) bool {
	over, cause := contextErr(ctx)
	return over != nil && errors.Is(cause, word)
}

// ownPart returns err without the branches of other uses, or nil if no other branch exists. A
// Classified error stays whole: a layer has judged everything inside the error.
func ownPart(err error, granted bool) error {
	rest, _ := errtree.Prune(err, func(err error) errtree.Verdict {
		switch err.(type) { //nolint:errorlint // this very error
		case *UseError:
			return errtree.Cut
		case *Error:
			if granted {
				return errtree.Cut
			}
			return errtree.Keep
		case driver.Classified:
			return errtree.Keep
		}
		return errtree.Descend
	})
	return rest
}
