package pool

import "errors"

// Without returns err without the errors for which drop returns true. Without returns err itself if
// drop returns true for no error, and nil if no other error remains. A wrapper with only dropped
// errors inside is dropped, too. Without is for a [Witness].
func Without(err error, drop func(error) bool) error {
	rest, _ := prune(err, func(err error) verdict {
		if drop(err) {
			return cut
		}
		return descend
	})
	return rest
}

// verdict is the decision of prune about a single error.
type verdict uint8

const (
	descend verdict = iota // look into the error
	// keep the error with everything inside
	keep
	// remove the error
	cut
)

// prune returns err without the cut errors. If no error is cut, prune returns err itself and false.
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
	switch e := err.(type) { //nolint:errorlint // the walk along the tree
	case *overError: // the end of a context alone gives no information
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

// pruneAll is prune for the branches of a joined error.
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
