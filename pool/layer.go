package pool

import (
	"context"
	"slices"
	"sync"
)

// Handler carries out one use of the pool. In a one-step use it returns when the use is over, in a two-step use ([Call.TwoStep]) when
// the resource has been lent.
type Handler func(ctx context.Context, c *Call) error

// Middleware is a layer around the pool. Wrap is called once, by [New] or [Chain], never per use; the Handler it returns is called
// concurrently. It may also be an [Observer], an [Attacher], a [Describer] of itself ([LayerDescriber]), a [Leveler] and a
// [CommandObserver].
//
// A layer that only looks at the beginning and the end of a use is written as a [Layer]. Only one that calls next several times, or not
// at all, needs to be a Middleware itself. It must not hold anything past the return of next in a two-step use: a deferred cancel would
// kill the context of the lease. Such things belong into a Bracket.
type Middleware interface {
	Wrap(next Handler) Handler
}

// MiddlewareFunc is a Middleware that is nothing else: it observes nothing and has no description.
type MiddlewareFunc func(next Handler) Handler

// Wrap calls f.
func (f MiddlewareFunc) Wrap(next Handler) Handler { return f(next) }

// Layer is a layer that looks at the beginning and the end of a use. S is what Begin hands to its own End; it may be anything, and costs
// no allocation. Both methods are called concurrently for different uses.
type Layer[S any] interface {
	// Begin may derive a context for what is inside. An error rejects the use: nothing inside is called, and neither is this End.
	Begin(ctx context.Context, c *Call) (context.Context, S, error)
	// End is called exactly once for every Begin that returned no error: when the function has returned or, in a two-step use, at
	// Release, from any goroutine. ctx is what Begin returned. err is the outcome as seen from this layer, [ErrAborted] after a panic or
	// runtime.Goexit.
	End(ctx context.Context, c *Call, s S, err error)
}

// Bracket makes a Middleware of a Layer. S is inferred: pool.Bracket(&myLayer{}). Its optional faces (Observer, Attacher,
// LayerDescriber, CommandObserver) are found through the Bracket.
func Bracket[S any](l Layer[S]) Middleware {
	b := &bracket[S]{layer: l}
	b.records.New = func() any { return &endRecord[S]{home: b} }
	return b
}

type bracket[S any] struct {
	layer   Layer[S]
	records sync.Pool // of endRecord[S]: exactly this S, so that nothing is boxed
}

// Unwrap shows the layer to those who look for its optional faces.
func (b *bracket[S]) Unwrap() []any { return []any{b.layer} }

// Wrap makes the handler that calls Begin, next and End.
func (b *bracket[S]) Wrap(next Handler) Handler {
	return func(ctx context.Context, c *Call) (err error) {
		if c.twoStep {
			return b.twoStep(ctx, c, next)
		}
		ctx, s, err := b.layer.Begin(ctx, c)
		if err != nil {
			return err
		}
		err = ErrAborted // what End sees after a panic or Goexit
		defer func() { b.layer.End(ctx, c, s, err) }()
		err = next(ctx, c)
		return err
	}
}

// twoStep leaves End on the Call's stack when the resource is lent; if it comes to nothing, it unwinds down to its own End.
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

// push puts End on top of c's ends. A Call is used again, and mostly passes through the same brackets: the record that its earlier use
// left in that place then serves again.
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

// free gives up the record's place in a Call.
func (r *endRecord[S]) free() { r.home.records.Put(r) }

// Chain makes one Middleware of several, the first outermost, as [New] does. Their optional faces are found through it.
func Chain(layers ...Middleware) Middleware { return chain(layers) }

type chain []Middleware

// Wrap wraps next in the layers, the last first.
func (l chain) Wrap(next Handler) Handler {
	for _, m := range slices.Backward(l) {
		next = m.Wrap(next)
	}
	return next
}

// Unwrap shows the layers to those who look for their optional faces.
func (l chain) Unwrap() []any {
	faces := make([]any, len(l))
	for i, m := range l {
		faces[i] = m
	}
	return faces
}

// faces returns everything that is F in layers, outermost first, looking into what has an Unwrap method.
func faces[F any](layers ...any) []F {
	var found []F
	for _, l := range layers {
		if f, ok := l.(F); ok {
			found = append(found, f)
		}
		if u, ok := l.(interface{ Unwrap() []any }); ok {
			found = append(found, faces[F](u.Unwrap()...)...)
		}
	}
	return found
}
