// Package errtree walks along the trees that errors form by wrapping.
package errtree

import "errors"

// Find returns the outermost error of type E in the tree of err for which suits returns true. Find
// does the work of errors.As without reflection and allocation, because Find runs several times in
// every failed use.
func Find[E any](err error, suits func(E) bool) (found E, ok bool) {
	for err != nil {
		if e, ok := err.(E); ok && suits(e) {
			return e, true
		}
		switch w := err.(type) { //nolint:errorlint // the walk along the chain
		case interface{ Unwrap() error }:
			err = w.Unwrap()
		case interface{ Unwrap() []error }:
			for _, branch := range w.Unwrap() {
				if e, ok := Find(branch, suits); ok {
					return e, true
				}
			}
			return found, false
		default:
			return found, false
		}
	}
	return found, false
}

// timeouter is an error that reports whether time ran out, such as net.Error.
type timeouter interface{ Timeout() bool }

// IsTimeout reports whether err is a timeout: of a context, of a socket, or any error with a
// Timeout method that returns true.
func IsTimeout(err error) bool {
	_, ok := Find(err, timeouter.Timeout)
	return ok
}

// OverError is the error of a client whose context has ended: the end of the context, and the
// error.
type OverError struct{ End, Err error }

func (e *OverError) Error() string   { return e.End.Error() + ": " + e.Err.Error() }
func (e *OverError) Unwrap() []error { return []error{e.End, e.Err} }

// Verdict is the decision of Prune about a single error.
type Verdict uint8

// The verdicts.
const (
	Descend Verdict = iota // look into the error
	Keep                   // keep the error with everything inside
	Cut                    // remove the error
)

// Prune returns err without the cut errors. If no error is cut, Prune returns err itself and false.
func Prune(err error, judge func(error) Verdict) (rest error, changed bool) {
	if err == nil {
		return nil, false
	}
	switch judge(err) {
	case Cut:
		return nil, true
	case Keep:
		return err, false
	case Descend:
	}
	switch e := err.(type) { //nolint:errorlint // the walk along the tree
	case *OverError: // the end of a context alone gives no information
		if rest, changed = Prune(e.Err, judge); changed && rest != nil {
			rest = &OverError{e.End, rest}
		}
	case interface{ Unwrap() error }:
		rest, changed = Prune(e.Unwrap(), judge)
	case interface{ Unwrap() []error }:
		rest, changed = pruneAll(e.Unwrap(), judge)
	}
	if changed {
		return rest, true
	}
	return err, false
}

// pruneAll is prune for the branches of a joined error.
func pruneAll(branches []error, judge func(error) Verdict) (rest error, changed bool) {
	var kept []error
	for i, branch := range branches {
		part, other := Prune(branch, judge)
		if other && !changed {
			kept, changed = append(kept, branches[:i]...), true
		}
		if changed {
			kept = append(kept, part)
		}
	}
	return errors.Join(kept...), changed
}
