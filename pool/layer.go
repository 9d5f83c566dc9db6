package pool

import (
	"context"
	"slices"
	"sync"
)

// Handler performs a use of the pool. In a one-step use, the Handler returns at the end of the use.
// In a two-step use ([Call.TwoStep]), the Handler returns when the resource has been lent.
type Handler func(ctx context.Context, c *Call) error

// Middleware is a layer around the pool. [New] or [Chain] calls Wrap once, never per use. The
// returned Handler is called concurrently. A Middleware may also implement [Observer], [Attacher],
// [Describer], [Leveler], [HealthReporter], [CommandObserver] and [settings.Tunable].
//
// A layer that acts only at the start and at the end of a use implements [Layer]. Only a layer that
// calls next several times or not at all implements Middleware directly. In a two-step use next
// returns at the start of the lease, so a Middleware must not hold anything after the return of
// next. A deferred cancel would end the context of the lease at once. A layer that acts at the end
// of the lease uses a Bracket.
type Middleware interface {
	Wrap(next Handler) Handler
}

// MiddlewareFunc is a function that implements Middleware and no other interface.
type MiddlewareFunc func(next Handler) Handler

// Wrap calls f.
func (f MiddlewareFunc) Wrap(next Handler) Handler { return f(next) }

// Layer is a layer that acts at the start and at the end of a use. S is the type of the state
// passed from Begin to End. S may be any type; passing S costs no allocation. Both methods are
// called concurrently for different uses.
type Layer[S any] interface {
	// Begin runs at the start of a use. Begin may derive a context for the inner layers. An error
	// rejects the use: the inner layers, the pool and End of this layer are not called.
	Begin(ctx context.Context, c *Call) (context.Context, S, error)
	// End runs at the end of a use. End is called exactly once for every Begin without an error. In a
	// one-step use, End is called after the borrower's function has returned. In a two-step use, End
	// is called at Release, from any goroutine, or when the acquisition fails. ctx is the context
	// returned by Begin. err is the outcome as seen by this layer, or [ErrAborted] after a panic or
	// runtime.Goexit.
	End(ctx context.Context, c *Call, s S, err error)
}

// Bracket makes a Middleware of a Layer. Go infers S: pool.Bracket(&myLayer{}). The pool also finds
// the optional interfaces of the Layer (Observer, Attacher, Describer, Leveler,
// HealthReporter, CommandObserver, settings.Tunable).
func Bracket[S any](l Layer[S]) Middleware {
	b := &bracket[S]{layer: l}
	b.records.New = func() any { return &endRecord[S]{home: b} }
	return b
}

// A Composite is a [Middleware] made of other values: the layers of a Chain, the [Layer] inside a
// Bracket. New searches these values for the optional interfaces of a Middleware.
type Composite interface {
	// Unwrap returns the values inside, from the outermost to the innermost. Unwrap returns the same
	// values at each call.
	Unwrap() []any
}

type bracket[S any] struct {
	layer   Layer[S]
	records sync.Pool // of *endRecord[S], so S is not boxed
}

// Unwrap returns the layer, so New finds the optional interfaces of the layer.
func (b *bracket[S]) Unwrap() []any { return []any{b.layer} }

// Wrap returns the Handler that calls Begin, next and End.
func (b *bracket[S]) Wrap(next Handler) Handler {
	return func(ctx context.Context, c *Call) (err error) {
		if c.twoStep {
			return b.twoStep(ctx, c, next)
		}
		ctx, s, err := b.layer.Begin(ctx, c)
		if err != nil {
			return err
		}
		err = ErrAborted // the outcome after a panic or Goexit
		defer func() { b.layer.End(ctx, c, s, err) }()
		err = next(ctx, c)
		return err
	}
}

// twoStep puts End on the stack of ends of the Call. End then runs at the end of the lease. If next
// fails, twoStep runs the ends down to and including its own End.
func (b *bracket[S]) twoStep(ctx context.Context, c *Call, next Handler) (err error) {
	ctx, s, err := b.layer.Begin(ctx, c)
	if err != nil {
		return err
	}
	mark := len(c.ends)
	b.push(c, ctx, s)
	err = ErrAborted
	defer func() {
		if err != nil {
			c.unwind(mark, err)
		}
	}()
	err = next(ctx, c)
	return err
}

// push puts End on top of the ends of c. A Call is used again and mostly passes the same brackets.
// push then uses the record left in the same place by an earlier use.
func (b *bracket[S]) push(c *Call, ctx context.Context, s S) {
	top := len(c.ends)
	if top < cap(c.ends) {
		left := c.ends[:top+1]
		if r, ok := left[top].(*endRecord[S]); ok && r.home == b {
			r.ctx, r.s = ctx, s
			c.ends = left
			return
		}
		if r, ok := left[top].(interface{ free() }); ok {
			r.free()
		}
	}
	r, _ := b.records.Get().(*endRecord[S])
	r.ctx, r.s = ctx, s
	c.ends = append(c.ends, r)
}

// endRecord is a pending End of a two-step use.
type endRecord[S any] struct {
	home *bracket[S]
	ctx  context.Context
	s    S
}

func (r *endRecord[S]) fire(c *Call, err error) {
	ctx, s := r.ctx, r.s
	*r = endRecord[S]{home: r.home}
	r.home.layer.End(ctx, c, s, err)
}

// free returns the record to the records of its bracket.
func (r *endRecord[S]) free() { r.home.records.Put(r) }

// Chain combines several layers into a single Middleware. The first layer is the outermost layer,
// as in [New]. The pool also finds the optional interfaces of the layers.
func Chain(layers ...Middleware) Middleware { return chain(layers) }

type chain []Middleware

// Wrap wraps next in the layers, beginning with the last layer.
func (l chain) Wrap(next Handler) Handler {
	for _, m := range slices.Backward(l) {
		next = m.Wrap(next)
	}
	return next
}

// Unwrap returns the layers, so New finds the optional interfaces of the layers.
func (l chain) Unwrap() []any {
	faces := make([]any, len(l))
	for i, m := range l {
		faces[i] = m
	}
	return faces
}

// faces returns all values of type F in layers, from the outermost to the innermost. faces also
// searches inside values with an Unwrap method.
func faces[F any](layers ...any) []F {
	var found []F
	for _, l := range layers {
		if f, ok := l.(F); ok {
			found = append(found, f)
		}
		if u, ok := l.(Composite); ok {
			found = append(found, faces[F](u.Unwrap()...)...)
		}
	}
	return found
}
