package pool

import (
	"context"
	"slices"
	"sync/atomic"
)

// Command describes a command sent by the client of a backend within a use. A Command contains no
// value, no key and no secret.
type Command struct {
	Name      string // "GET", "find"; "PIPELINE" or "MULTI" for several commands
	Target    string // the name of a collection; "" for Redis
	Namespace string // the database, if different from the pool's Namespace
	// Batch is the number of commands in a pipeline: 0 for a single command, EmptyBatch for a pipeline
	// without commands.
	Batch int
	// Text is the command without its values. Text is "" if no layer asked for the text
	// (ObservingText), or if the backend has no text.
	Text string
}

// EmptyBatch is the Batch of a pipeline without commands, see [Command].
const EmptyBatch = -1

// A CommandObserver is a [Middleware] (or the [Layer] inside a Bracket) that observes the commands
// sent by the client of a backend within a use. Both methods are called concurrently for different
// uses and must not block.
type CommandObserver interface {
	// BeginCommand is called before the command is sent. BeginCommand returns ctx or a context derived
	// from ctx. The returned context is passed to EndCommand.
	BeginCommand(ctx context.Context, c *Call, cmd Command) context.Context
	// EndCommand is called after the command has been answered or has failed. ctx descends from the
	// context returned by BeginCommand of this observer.
	EndCommand(ctx context.Context, c *Call, cmd Command, err error)
}

// A CommandTextObserver is a CommandObserver that can use Command.Text. The backend removes the
// values from the text for every observer.
type CommandTextObserver interface {
	CommandObserver
	// WantsCommandText reports whether the observer wants the text. The text costs the backend time.
	WantsCommandText() bool
}

type callKey struct{}

// callContext carries the Call of a use to the hooks of the backend. After the end of the use,
// callContext returns no Call, because a borrower may keep the context.
type callContext struct {
	context.Context
	c   *Call
	use uint64
}

func (x *callContext) Value(key any) any {
	if _, ok := key.(callKey); ok {
		if x.c != nil && x.c.uses.Load() == x.use {
			return x.c
		}
		return nil
	}
	return x.Context.Value(key)
}

// observing counts the pools with command observers. While the count is 0, no context is searched
// for a Call.
var observing atomic.Int64

// withCall puts c into the context of the borrower's function, if some layer observes commands.
func (h *hub) withCall(ctx context.Context, c *Call) context.Context {
	if observing.Load() == 0 {
		return ctx
	}
	return h.observedIn(ctx, c)
}

// observedIn is withCall while some pool observes commands. Without a layer of its own that
// observes commands, observedIn hides the Call of an enclosing use.
func (h *hub) observedIn(ctx context.Context, c *Call) context.Context {
	switch {
	case c != nil && len(h.commands) > 0:
		return &callContext{ctx, c, c.uses.Load()}
	case callFrom(ctx) != nil: // the Call of an enclosing use
		return &callContext{Context: ctx}
	}
	return ctx
}

// callFrom returns the Call in ctx, or nil.
func callFrom(ctx context.Context) *Call {
	c, _ := ctx.Value(callKey{}).(*Call)
	return c
}

// Observing reports whether some layer observes the commands sent in ctx. A backend calls Observing
// before the backend builds a [Command].
func Observing(ctx context.Context) bool { return callFrom(ctx) != nil }

// ObservingText reports whether some layer wants the Text of the commands sent in ctx. A backend
// calls ObservingText before the backend builds the text.
func ObservingText(ctx context.Context) bool {
	c := callFrom(ctx)
	return c != nil && slices.ContainsFunc(c.hub.commands, func(o CommandObserver) bool {
		t, ok := o.(CommandTextObserver)
		return ok && wantsText(t)
	})
}

// wantsText asks a single observer. A panic of the observer ends in wantsText, and must not end the
// use of a borrower. The same holds for beginCommand and endCommand.
func wantsText(o CommandTextObserver) bool {
	defer func() { _ = recover() }()
	return o.WantsCommandText()
}

// BeginCommand reports to the command observers of the pool that a command is about to be sent in
// ctx. ctx descends from the context of a use. A backend calls BeginCommand from the hooks of its
// client, and passes the returned context to EndCommand. Without an observer BeginCommand returns
// ctx.
func BeginCommand(ctx context.Context, cmd Command) context.Context {
	c := callFrom(ctx)
	if c == nil {
		return ctx
	}
	for _, o := range c.hub.commands {
		ctx = beginCommand(ctx, o, c, cmd)
	}
	return ctx
}

// EndCommand reports the end of the command to the same observers, in reverse order. A backend must
// call EndCommand once for each BeginCommand, before the borrower's function returns or the lease
// is released.
func EndCommand(ctx context.Context, cmd Command, err error) {
	c := callFrom(ctx)
	if c == nil {
		return
	}
	for _, o := range slices.Backward(c.hub.commands) {
		endCommand(ctx, o, c, cmd, err)
	}
}

func beginCommand(ctx context.Context, o CommandObserver, c *Call, cmd Command) (derived context.Context) {
	defer func() {
		if recover() != nil {
			derived = ctx
		}
	}()
	return o.BeginCommand(ctx, c, cmd)
}

func endCommand(ctx context.Context, o CommandObserver, c *Call, cmd Command, err error) {
	defer func() { _ = recover() }()
	o.EndCommand(ctx, c, cmd, err)
}
