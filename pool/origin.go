package pool

import (
	"context"
	"errors"
	"reflect"
)

// Whose error it is. The error of a use has one of three origins: the use's own resource, another use inside its function, or the function
// itself. Neither the type of an error nor the name of a pool tells the three apart. So the pool records the origin:
//
//   - A failure that leaves a use is marked once: Do, Get, Acquire and Lease.Finish return it as a UseError.
//   - A use that judges an error cuts the marked branches out of the error's tree first. It judges the rest. Where nothing is left, the
//     error says nothing about this use: FaultElsewhere.
//   - A refusal by a pool is another use's affair to a use that has a resource: that use has not been refused.
//   - A driver that sees the commands of its resources testifies what this resource has met in this use; see Witness.
//   - An error that says nothing about the pool leaves the use as it is: a miss, an answer, the function's own error. So err == redis.Nil
//     holds, and a success costs nothing.

// UseError is a failure that has left a use. Do, Get, Acquire and [Lease.Finish] return one for an error that is laid at the server, at the
// caller or at this process, or that broke the resource. Its text is that of Err. errors.Is and errors.As find in it what they find in
// Err. Any other error is returned as it is: a miss, an answer that the caller did not like, an error of the function's own.
//
// A UseError counts as nothing ([FaultElsewhere]) in a use around the one that it left. It is never changed and may be shared.
type UseError struct {
	Err error

	class Class
	hub   *hub
}

// Error returns the text of Err.
func (e *UseError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *UseError) Unwrap() error { return e.Err }

// Pool returns the identity of the pool whose use the error left.
func (e *UseError) Pool() Identity { return e.hub.id }

// Class returns what the error meant in the use that it left. RetryAfter of a refusal is counted from now.
func (e *UseError) Class() Class {
	if refusal, ok := e.Err.(Classified); ok && e.class.Fault == FaultLocal { //nolint:errorlint // about this very error
		return refusal.Class()
	}
	return e.class
}

// leave marks an error of the class given as having left a use, unless it says nothing about the pool or is marked already.
func (h *hub) leave(err error, class Class) error {
	_, marked := err.(*UseError) //nolint:errorlint // about this very error
	if marked || !class.Broken && (class.Fault == FaultNone || class.Fault == FaultElsewhere) {
		return err
	}
	return &UseError{Err: err, class: class, hub: h}
}

// leaveUse is leave for a use with layers. An open breaker refuses with the same value again and again. The value gets the same mark each
// time, so that a refusal allocates nothing.
func (c *Call) leaveUse(err error) error {
	if c.granted {
		return c.hub.leave(err, c.Classify(err))
	}
	if last := c.hub.refusal.Load(); last != nil && last.Err == err { //nolint:errorlint // the very value: a pointer
		return last
	}
	left := c.hub.leave(err, c.Classify(err))
	mark, ok := left.(*UseError) //nolint:errorlint // made by leave, or err itself
	if _, once := err.(*Error); ok && !once && left != err && reflect.TypeOf(err).Kind() == reflect.Pointer {
		c.hub.refusal.Store(mark)
	}
	return left
}

// Classify says what err means to this pool. An error that has left a use of this pool means what it meant there. An error that has left a
// use of another pool means nothing ([FaultElsewhere]). Any other is classified as if a borrower's function had returned it. Classify may
// be called concurrently, also after Close.
func (p *Pool[T]) Classify(err error) Class {
	if e, ok := find(err, func(e *UseError) bool { return e.hub == p.hub }); ok {
		return e.Class()
	}
	return p.hub.classify(context.Background(), err, true, &account{})
}

// classify gives the class of err, the outcome of a use whose caller passed in ctx. granted says whether the use has got a resource; told is
// what a witness has said of it.
func (h *hub) classify(ctx context.Context, err error, granted bool, told *account) (class Class) {
	if err == nil {
		return class
	}
	plain, own := isPlain(err), err
	if !plain {
		own = ownPart(err, granted)
	}
	if !granted {
		told = &account{}
	}
	if word, ok := find(own, anyClassified); ok && !(granted && isCallers(ctx, word)) {
		class = told.amend(word.Class())
		class.name(err, plain)
		return class
	}
	switch {
	case own == nil:
		class.Fault = FaultElsewhere
	case !told.known:
		class = h.ask(own)
	case told.Own != nil:
		class = h.ask(told.Own)
	default: // another resource has met it: what it is called is all there is to say
		class = h.ask(own)
		class = Class{Fault: FaultElsewhere, Miss: class.Miss, Code: class.Code, Type: class.Type}
	}
	class = told.amend(class)
	over, _ := ended(ctx)
	elsewhere := class.Fault == FaultElsewhere && errors.Is(over, context.DeadlineExceeded) // the time was not spent here
	if over != nil && !elsewhere {
		class.Fault, class.Repeat = FaultCaller, RepeatNever
	}
	class.name(err, plain)
	return class
}

// isCallers says whether ctx, the caller's context, is over and word is why.
func isCallers(ctx context.Context, word Classified) bool {
	over, cause := ended(ctx)
	return over != nil && errors.Is(cause, word)
}

// ownPart returns err without the branches that have left other uses: nil when nothing else is in it. An error that knows its class stays
// as it is, with all that it wraps: it is the word of a layer, and the layer has seen what it wraps.
func ownPart(err error, granted bool) error {
	rest, _ := prune(err, func(err error) verdict {
		switch err.(type) { //nolint:errorlint // about this very error
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

// Without returns what is left of err's tree without the errors for which drop is true: err itself when drop is true for none, nil when
// nothing else is in it. A wrapper around dropped errors only is dropped with them. Without is for a [Witness].
func Without(err error, drop func(error) bool) error {
	rest, _ := prune(err, func(err error) verdict {
		if drop(err) {
			return cut
		}
		return descend
	})
	return rest
}

// verdict says what becomes of an error in a tree.
type verdict uint8

const (
	descend verdict = iota // look at what it wraps
	keep
	cut
)

// prune returns what is left of err's tree without the errors that judge cuts: err itself and false when judge cuts none.
func prune(err error, judge func(error) verdict) (rest error, changed bool) {
	if err == nil {
		return nil, false
	}
	switch judge(err) {
	case cut:
		return nil, true
	case keep:
		return err, false
	case descend:
	}
	switch e := err.(type) { //nolint:errorlint // this is the walk along the tree
	case *overError: // that a context is over says nothing by itself
		if rest, changed = prune(e.err, judge); changed && rest != nil {
			rest = &overError{e.over, rest}
		}
	case interface{ Unwrap() error }:
		rest, changed = prune(e.Unwrap(), judge)
	case interface{ Unwrap() []error }:
		rest, changed = pruneAll(e.Unwrap(), judge)
	}
	if changed {
		return rest, true
	}
	return err, false
}

func pruneAll(branches []error, judge func(error) verdict) (rest error, changed bool) {
	var kept []error
	for i, branch := range branches {
		part, other := prune(branch, judge)
		if other && !changed {
			kept, changed = append(kept, branches[:i]...), true
		}
		if changed {
			kept = append(kept, part)
		}
	}
	return errors.Join(kept...), changed
}
