package pool

import "context"

// The testimony of a driver. A borrower's function may return any error: also a raw error of another server's client, or of a lease after a
// Release by hand. Such an error can look like an error of the use's own resource. A driver with hooks sees each command of a resource, and
// tells the two apart. The pool asks the driver at the end of a use:
//
//   - The resource has met no part of the error: FaultElsewhere.
//   - The server has answered well, and the error is the function's own: FaultNone.
//   - The use has asked the server nothing: neither a success nor an error says anything about the server.
//   - The use has carried out a write, or may have: RepeatAlways becomes RepeatIfIdempotent.
//   - The use has changed nothing, not even perhaps: RepeatIfIdempotent becomes RepeatAlways.

// A Witness is a [Driver] with hooks in its client: the driver sees each command of a resource.
type Witness[T any] interface {
	// Lent begins a new account of res. The pool calls Lent in the borrower's goroutine, before the borrower's function gets res. The
	// function gets the returned context: ctx, or a context derived from ctx for a client with hooks that see only a context.
	Lent(ctx context.Context, res T) context.Context
	// Testify closes the account of res. The pool calls Testify at most once after each Lent, in the goroutine at the end of the use, and
	// before any other method for res. The pool skips Testify after a panic, and for a success without layers. err is the outcome without
	// the failures of other uses ([UseError]); nil after a success, or if nothing else remains. ok is false if the driver cannot tell. Then
	// the pool judges the outcome alone.
	Testify(res T, err error) (t Testimony, ok bool)
}

// Testimony is a [Witness]'s statement about one use.
type Testimony struct {
	Asked    bool // something was sent to the server, or failed to be sent for want of a server or a connection
	Answered bool // the server has sent an answer without a fault of the server
	Done     bool // a write was carried out, or may have been

	// Own is err without the errors of other resources (see [Without]): nil if this resource has met no part of err in this use. The pool
	// judges Own in place of err.
	Own error
}

// account is a Testimony, or none.
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

// lent makes the context for the borrower's function. The context hides the Call of an enclosing use.
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
