package pool

import (
	"reflect"
)

// UseError is a failure that has left a use: what Do, Get, Acquire and [Lease.Finish] return for an error that says something about the
// use, be it its server's, the pool's or a layer's. Its text is that of Err, and errors.Is and errors.As find what they found in Err.
// What tells nothing about the pool is returned as it is: a miss, an answer that the caller did not like, an error of the function's own
// (so err == redis.Nil holds).
//
// It is how an enclosing use, of whatever pool, tells what befell another use from what befell its own: an error in which nothing else
// is has said all it has to say where it left, and counts as nothing here ([FaultElsewhere]).
type UseError struct {
	Err error

	class Class
	hub   *hub
}

// Error returns the text of Err.
func (e *UseError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *UseError) Unwrap() error { return e.Err }

// Pool says which pool's use it left.
func (e *UseError) Pool() Identity { return e.hub.id }

// Class says what the error meant in that use.
func (e *UseError) Class() Class {
	if own, ok := e.Err.(Classified); ok && e.class.Fault == FaultLocal { //nolint:errorlint // about this very error
		return own.Class() // its RetryAfter runs
	}
	return e.class
}

// leave marks err as having left a use, unless it says nothing about it or has left another before.
func (h *hub) leave(err error, class Class) error {
	if _, marked := err.(*UseError); marked { //nolint:errorlint // about this very error
		return err
	}
	if !class.tells() {
		return err
	}
	return &UseError{Err: err, class: class, hub: h}
}

// leaveUse is leave for a use with layers. The refusals of an open breaker are one value, and so is their mark.
func (c *Call) leaveUse(err error) error {
	if !c.granted && reflect.TypeOf(err).Kind() == reflect.Pointer {
		if last := c.hub.refusal.Load(); last != nil && last.Err == err { //nolint:errorlint // the very value
			return last
		}
		e, ok := c.hub.leave(err, c.Classify(err)).(*UseError) //nolint:errorlint // made here
		if !ok {
			return err
		}
		c.hub.refusal.Store(e)
		return e
	}
	return c.hub.leave(err, c.Classify(err))
}

// tells says whether an error of this class says anything about its use that would mislead an enclosing one.
func (c *Class) tells() bool {
	return c.Broken || c.Suspect || c.Fault == FaultServer || c.Fault == FaultCaller || c.Fault == FaultLocal
}

// strip returns what is in err beside errors that have left other uses: nil when there is nothing else. changed says that it is not err.
// An error of a layer's around such an error is the layer's word, and stays.
func (h *hub) strip(err error, granted bool) (rest error, changed bool) {
	return prune(err, func(err error) verdict {
		switch e := err.(type) { //nolint:errorlint // about this very error
		case *UseError:
			return cut
		case *Error: // the refusal of a use: not of one that has its resource
			if granted || e.hub != nil && e.hub != h && e.hub != h.whole {
				return cut
			}
			return keep
		case Classified:
			return keep
		}
		return descend
	})
}

type verdict uint8

const (
	descend verdict = iota
	keep
	cut
)

// Without returns what is left of err's tree without the errors that drop says: nil when there is nothing else, err itself when there is
// none. What wraps nothing but such an error goes with it.
func Without(err error, drop func(error) bool) error {
	rest, _ := prune(err, func(err error) verdict {
		if drop(err) {
			return cut
		}
		return descend
	})
	return rest
}

func prune(err error, judge func(error) verdict) (rest error, changed bool) {
	switch judge(err) {
	case cut:
		return nil, true
	case keep:
		return err, false
	case descend:
	}
	switch e := err.(type) { //nolint:errorlint // this is the walk along the tree
	case *overError: // that the context is over says nothing about the resource
		if rest, changed = prune(e.err, judge); !changed || rest == nil {
			return same(err, rest, changed)
		}
		return &overError{e.over, rest}, true
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			rest, changed = prune(inner, judge)
			return same(err, rest, changed)
		}
	case interface{ Unwrap() []error }:
		var kept remains
		for _, branch := range e.Unwrap() {
			if branch == nil {
				continue
			}
			part, cut := prune(branch, judge)
			changed = changed || cut
			if part != nil {
				kept = append(kept, part)
			}
		}
		switch {
		case changed && len(kept) == 0:
			return nil, true
		case changed:
			return kept, true
		}
	}
	return err, false
}

func same(err, rest error, changed bool) (error, bool) {
	if changed {
		return rest, true
	}
	return err, false
}

// remains are the branches of a joined error that belong to the use that is judged.
type remains []error

func (remains) Error() string     { return "what is left of a joined error" }
func (r remains) Unwrap() []error { return r }

// Classify says what err means to this pool: an error that has left one of its uses what it meant there; an error of another pool's use
// nothing at all ([FaultElsewhere]); any other what the driver makes of it, as if a resource had met it.
func (p *Pool[T]) Classify(err error) Class {
	if e, ok := find(err, func(e *UseError) bool { return e.hub == p.hub }); ok {
		return e.Class()
	}
	class := Class{}
	_ = protect("Classify", func() error { class = p.hub.classify(p.base, err, true, nil); return nil })
	return class
}
