package pool

import (
	"context"
	"sync/atomic"
)

// A Witness is a [Driver] that knows what a resource goes through while it is lent: the client's hooks see every command. What it says
// is evidence; an error that a borrower's function returns may come from anywhere.
type Witness[T any] interface {
	// Lent is called when res has been lent, in the borrower's goroutine, and begins a new account. The borrower's function gets the
	// context that it returns: ctx itself, or one derived from it, for a client whose hooks see nothing but a context.
	Lent(ctx context.Context, res T) context.Context
	// Testify is called once, when the borrower is done, unless its function panicked. err is the outcome, nil for success. ok is false
	// if the driver cannot tell; the outcome is then judged by itself.
	Testify(res T, err error) (t Testimony, ok bool)
}

// Testimony is what a [Witness] says about one use.
type Testimony struct {
	Asked    bool // something was sent to the server, or would have been had it been reachable
	Answered bool // the server has answered, with something that is not laid at it
	Done     bool // something may have been carried out that is not done twice with impunity

	// Own is what is left of the outcome without what other resources have met ([Without]); nil when this one has met nothing of it in
	// this use. It is judged in place of the outcome.
	Own error
}

// account is a Testimony, if there is one.
type account struct {
	Testimony
	known bool
}

// observing is how many pools have layers that look at commands. While there is none, no context has to be searched for a Call.
var observing atomic.Int64

// forUse makes the context that a borrower's function gets. What is ambient in it ends at this pool's boundary: the commands of its
// resources are not those of a use around this one.
func (p *Pool[T]) forUse(ctx context.Context, c *Call, r *resource[T]) context.Context {
	ctx = p.hub.withCall(ctx, c)
	if p.witness != nil {
		r.told = account{} // a layer may fail before anybody has been heard
		ctx = p.witness.Lent(ctx, r.v)
	}
	return ctx
}

// hear asks the witness about a use that has ended with err.
func (p *Pool[T]) hear(r *resource[T], err error) {
	r.told = account{}
	if p.witness != nil {
		_ = protect("Testify", func() error { r.told.Testimony, r.told.known = p.witness.Testify(r.v, err); return nil })
	}
}

// judged corrects what the driver made of the outcome alone by what the witness has seen.
func (a *account) judged(class Class) Class {
	if a.known && a.Own == nil {
		class.Broken, class.Repeat, class.RetryAfter = false, RepeatNever, 0
		if class.Fault != FaultCaller {
			class.Fault = FaultElsewhere
		}
	}
	return class
}

// settle does so for any class, a layer's included.
func (a *account) settle(class Class) Class {
	switch {
	case class.Fault == FaultElsewhere && a.Answered:
		class.Fault = FaultNone
	case class.Fault == FaultNone && a.known && !a.Asked:
		class.Fault = FaultElsewhere // a miss of another resource's, which is a plain value
	}
	if a.Done && class.Repeat == RepeatAlways {
		class.Repeat = RepeatIfIdempotent
	}
	return class
}
