package pool

import "context"

// The testimony of a driver. A borrower's function may return any error: also a raw error from the
// client of another server, or of a lease ended with Release. Such an error can look like an error
// of the use's own resource. A driver with hooks sees each command of a resource, and distinguishes
// the two cases. The pool asks the driver at the end of a use:
//
//   - The resource has met no part of the error: FaultElsewhere.
//   - The server has answered well, and the error is an error of the function: FaultNone.
//   - The use has sent nothing to the server: neither a success nor an error is evidence about the
//     server.
//   - The use has carried out a write, or may have carried out a write: RepeatAlways becomes
//     RepeatIfIdempotent.
//   - The use has certainly changed nothing: RepeatIfIdempotent becomes RepeatAlways.

// A Witness is a [Driver] with hooks in its client: the driver sees each command of a resource.
type Witness[T any] interface {
	// Lent begins a new account of res. The pool calls Lent in the goroutine of the borrower, before
	// the borrower's function gets res. The function gets the returned context: ctx, or a context
	// derived from ctx for a client with hooks that see only a context.
	Lent(ctx context.Context, res T) context.Context
	// Testify closes the account of res. The pool calls Testify at most once after each Lent, in the
	// goroutine at the end of the use, and before any other method for res. The pool skips Testify
	// after a panic, and for a success without layers. err is the outcome without the failures of
	// other uses ([UseError]). err is nil after a success, or if no other error remains. ok is false
	// if the driver has no testimony. Then the pool judges the outcome alone.
	Testify(res T, err error) (t Testimony, ok bool)
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

// account is a Testimony, or none if known is false.
type account struct {
	Testimony

	known bool
}

// untold is the account of a use without a resource.
var untold account

// amend corrects the class of an error by the testimony.
func (a *account) amend(class *Class) {
	if !a.known {
		return
	}
	switch {
	case class.Fault == FaultElsewhere && a.Answered:
		class.Fault = FaultNone
	case class.Fault == FaultNone && !a.Asked:
		class.Fault = FaultElsewhere
	}
	switch {
	case class.Repeat == RepeatAlways && a.Done:
		class.Repeat = RepeatIfIdempotent
	case class.Repeat == RepeatIfIdempotent && !a.Done:
		class.Repeat = RepeatAlways // the use has only read
	}
}

// lent returns the context for the borrower's function. The context hides the Call of an enclosing
// use.
func (p *Pool[T]) lent(ctx context.Context, c *Call, r *resource[T]) context.Context {
	ctx = p.hub.withCall(ctx, c)
	if p.witness == nil {
		return ctx
	}
	return p.beginAccount(ctx, r)
}

// beginAccount calls Lent. After a panic in Lent the function gets ctx.
func (p *Pool[T]) beginAccount(ctx context.Context, r *resource[T]) (derived context.Context) {
	r.told = account{} // a layer may fail before Testify
	defer func() {
		if recover() != nil {
			derived = ctx
		}
	}()
	return p.witness.Lent(ctx, r.v)
}

// hear asks the witness about a use with the outcome err. c is nil without layers.
func (p *Pool[T]) hear(c *Call, r *resource[T], err error) {
	if p.witness != nil {
		p.testify(c, r, err)
	}
}

func (p *Pool[T]) testify(c *Call, r *resource[T], err error) {
	r.told = account{}
	err = ownPart(err, true)
	_ = protect("Testify", func() error {
		if t, ok := p.witness.Testify(r.v, err); ok {
			r.told = account{t, true}
		}
		return nil
	})
	if c != nil {
		c.told = r.told
	}
}
