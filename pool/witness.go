package pool

import (
	"context"

	"github.com/earnorm/poolstack/pool/driver"
)

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

// account is a Testimony, or none if known is false.
type account struct {
	driver.Testimony

	known bool
}

// untold is the account of a use without a resource.
var untold account

// amend corrects the class of an error by the testimony.
func (a *account) amend(class *driver.Class) {
	if !a.known {
		return
	}
	switch {
	case class.Fault == driver.FaultElsewhere && a.Answered:
		class.Fault = driver.FaultNone
	case class.Fault == driver.FaultNone && !a.Asked:
		class.Fault = driver.FaultElsewhere
	}
	switch {
	case class.Repeat == driver.RepeatAlways && a.Done:
		class.Repeat = driver.RepeatIfIdempotent
	case class.Repeat == driver.RepeatIfIdempotent && !a.Done:
		class.Repeat = driver.RepeatAlways // the use has only read
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

// lentBare is lent without layers. If the witness ends the goroutine, nobody else returns r.
func (p *Pool[T]) lentBare(ctx context.Context, r *resource[T]) context.Context {
	if p.witness == nil {
		return p.hub.withCall(ctx, nil)
	}
	returned := false
	defer func() {
		if !returned {
			p.give(ctx, nil, r, ErrAborted)
		}
	}()
	ctx = p.lent(ctx, nil, r)
	returned = true
	return ctx
}

// beginAccount calls BeginUse. After a panic in BeginUse the function gets ctx.
func (p *Pool[T]) beginAccount(ctx context.Context, r *resource[T]) (derived context.Context) {
	r.told = account{} // a layer may fail before EndUse
	defer func() {
		if recover() != nil {
			derived = ctx
		}
	}()
	return p.witness.BeginUse(ctx, r.v)
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
	_ = protect("EndUse", func() error {
		if t, ok := p.witness.EndUse(r.v, err); ok {
			r.told = account{t, true}
		}
		return nil
	})
	if c != nil {
		c.told = r.told
	}
}
