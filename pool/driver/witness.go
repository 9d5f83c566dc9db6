package driver

import (
	"context"

	"github.com/earnorm/poolstack/pool/internal/errtree"
)

// A Witness is a [Driver] with hooks in its client: the driver sees each command of a resource.
type Witness[T any] interface {
	// BeginUse begins a new account of res. The pool calls BeginUse in the goroutine of the borrower,
	// before the borrower's function gets res. The function gets the returned context: ctx, or a
	// context derived from ctx for a client with hooks that see only a context.
	BeginUse(ctx context.Context, res T) context.Context
	// EndUse closes the account of res. The pool calls EndUse at most once after each BeginUse, in the
	// goroutine at the end of the use, and before any other method for res. The pool skips EndUse
	// after a panic, and for a success without layers. err is the outcome without the failures of
	// other uses (pool.UseError). err is nil after a success, or if no other error remains. ok is
	// false if the driver has no testimony. Then the pool judges the outcome alone.
	EndUse(res T, err error) (t Testimony, ok bool)
}

// Testimony is the statement of a [Witness] about a single use.
type Testimony struct {
	// Asked: a command was sent to the server, or could not be sent because there was no server or no
	// connection.
	Asked    bool
	Answered bool // the server has answered, without a fault of the server
	Done     bool // a write was carried out, or may have been carried out

	// Own is err without the errors of other resources (see [Without]). Own is nil if this resource
	// has met no part of err in this use. The pool judges Own in place of err.
	Own error
}

// Without returns err without the errors for which drop returns true. Without returns err itself if
// drop returns true for no error, and nil if no other error remains. A wrapper with only dropped
// errors inside is dropped, too. Without is for a [Witness].
func Without(err error, drop func(error) bool) error {
	rest, _ := errtree.Prune(err, func(err error) errtree.Verdict {
		if drop(err) {
			return errtree.Cut
		}
		return errtree.Descend
	})
	return rest
}
