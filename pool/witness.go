package pool

import (
	"context"
	"sync/atomic"
)

// What a resource has gone through. The error that a borrower's function returns may come from anywhere: from another server's client, or
// from a lease that the function released by hand. Such an error may look like an error of the use's own resource. A driver that sees each
// command of a resource knows better. The pool asks such a driver when the use is over, and judges by what the driver says:
//
//   - The resource has met nothing of the error: the error is another's, and counts as nothing (FaultElsewhere).
//   - The server has answered well, and the error is the function's own: the server is well (FaultNone).
//   - Nothing was asked of the server: neither a success nor an error says anything about the server.
//   - Something was carried out that must not be done twice: no later refusal makes the whole use repeatable (RepeatIfIdempotent).

// A Witness is a [Driver] that sees the commands of its resources, as by its client's hooks.
type Witness[T any] interface {
	// Lent is called when res has been lent, in the borrower's goroutine, before the borrower's function gets res. It begins a new account
	// of res. The function gets the context that Lent returns: ctx itself, or a context derived from ctx, for a client whose hooks see
	// nothing but a context.
	Lent(ctx context.Context, res T) context.Context
	// Testify closes the account of res. It is called at most once for each Lent, in the goroutine that ends the use, before anything else
	// is done with res. It is not called for a use that panicked, nor for one that nobody judges. err is the outcome, without what has left
	// other uses ([UseError]); nil when nothing else is in the outcome, or for a success. ok is false when the driver cannot tell; the
	// outcome is then judged by itself.
	Testify(res T, err error) (t Testimony, ok bool)
}

// Testimony is what a [Witness] says about one use.
type Testimony struct {
	Asked    bool // something was sent to the server, or would have been had the server been reachable
	Answered bool // the server has given an answer that is not laid at the server
	Done     bool // something was carried out, or may have been, that must not be done twice

	// Own is err without what other resources have met (see [Without]): nil when this resource has met nothing of err in this use. Own is
	// judged in place of err.
	Own error
}

// account is a Testimony, if there is one.
type account struct {
	Testimony

	known bool
}

// amend corrects the class that an error has by itself.
func (a *account) amend(class Class) Class {
	if !a.known {
		return class
	}
	switch {
	case class.Fault == FaultElsewhere && a.Answered:
		class.Fault = FaultNone
	case class.Fault == FaultNone && !a.Asked:
		class.Fault = FaultElsewhere
	}
	if class.Repeat == RepeatAlways && a.Done {
		class.Repeat = RepeatIfIdempotent
	}
	return class
}

// lent makes the context that a borrower's function gets. The Call of a use around this one is not seen in it.
func (p *Pool[T]) lent(ctx context.Context, c *Call, r *resource[T]) context.Context {
	ctx = p.hub.withCall(ctx, c)
	if p.witness == nil {
		return ctx
	}
	r.told = account{} // for a layer may fail before Testify
	return p.beginAccount(ctx, r)
}

// beginAccount calls Lent. If Lent panics, the function gets ctx.
func (p *Pool[T]) beginAccount(ctx context.Context, r *resource[T]) (derived context.Context) {
	derived = ctx
	defer func() { _ = recover() }()
	return p.witness.Lent(ctx, r.v)
}

// hear asks the witness about a use that has ended with err. c is nil without layers.
func (p *Pool[T]) hear(c *Call, r *resource[T], err error) {
	if p.witness == nil {
		return
	}
	r.told = account{}
	err = ownPart(err, true)
	_ = protect("Testify", func() error { r.told.Testimony, r.told.known = p.witness.Testify(r.v, err); return nil })
	if c != nil {
		c.told = r.told
	}
}

// observing is how many pools have layers that look at commands. While there is none, no context is searched for a Call.
var observing atomic.Int64
