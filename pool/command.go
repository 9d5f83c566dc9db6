package pool

import (
	"context"
	"slices"
	"sync/atomic"
)

// Command is one command that a backend's client sends within a use. Nothing in it is a value, a key or a secret.
type Command struct {
	Name      string // "GET", "find"; "PIPELINE" or "MULTI" for several
	Target    string // a collection's name; "" for Redis
	Namespace string // the database, when it is not the pool's
	Batch     int    // how many commands a pipeline holds; 0 for a single command, EmptyBatch for a pipeline of none
	Text      string // the command without its values, if some layer asked for it (ObservingText) and the backend can tell; else ""
}

// EmptyBatch is Command.Batch of a pipeline without commands.
const EmptyBatch = -1

// A CommandObserver is a [Middleware] (or the [Layer] inside a Bracket) that wants to see the commands a backend's client sends within a
// use. Both methods are called concurrently for different uses and must not block.
type CommandObserver interface {
	// BeginCommand is called before the command is sent. The context it returns, ctx itself or one derived from it, goes to EndCommand.
	BeginCommand(ctx context.Context, c *Call, cmd Command) context.Context
	// EndCommand is called when the command has been answered or has failed. ctx descends from what this observer's BeginCommand
	// returned.
	EndCommand(ctx context.Context, c *Call, cmd Command, err error)
}

// A CommandTextObserver is a CommandObserver that can do with Command.Text. The backend has taken the values out of it, whoever asks.
type CommandTextObserver interface {
	CommandObserver
	// WantsCommandText says whether to go to that expense.
	WantsCommandText() bool
}

type callKey struct{}

// callContext carries the Call of a use to the backend's hooks. It lets go of it when the use is over, for a borrower may keep a context.
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

// observing counts the pools with command observers. While the count is 0, no context is searched for a Call.
var observing atomic.Int64

// withCall puts c into the context that the borrower's function gets, if some layer wants to see commands.
func (h *hub) withCall(ctx context.Context, c *Call) context.Context {
	if observing.Load() == 0 {
		return ctx
	}
	return h.observedIn(ctx, c)
}

func (h *hub) observedIn(ctx context.Context, c *Call) context.Context {
	switch {
	case c != nil && len(h.commands) > 0:
		return &callContext{ctx, c, c.uses.Load()}
	case callFrom(ctx) != nil: // that of a use around this one
		return &callContext{Context: ctx}
	}
	return ctx
}

func callFrom(ctx context.Context) *Call {
	c, _ := ctx.Value(callKey{}).(*Call)
	return c
}

// Observing says whether commands sent in ctx are seen by some layer. A backend asks before it prepares a [Command].
func Observing(ctx context.Context) bool { return callFrom(ctx) != nil }

// ObservingText says whether some layer wants the Text of commands sent in ctx. A backend asks before it works it out.
func ObservingText(ctx context.Context) bool {
	c := callFrom(ctx)
	return c != nil && slices.ContainsFunc(c.hub.commands, func(o CommandObserver) bool {
		t, ok := o.(CommandTextObserver)
		return ok && wantsText(t)
	})
}

// wantsText asks one observer, as beginCommand and endCommand tell one. A panic of the observer ends there: the use of a borrower is not the
// observer's to end.
func wantsText(o CommandTextObserver) bool {
	defer func() { _ = recover() }()
	return o.WantsCommandText()
}

// BeginCommand tells the layers that asked for it that a command is about to be sent in ctx, which descends from a use's context. A
// backend calls it from its client's hooks, and gives the context it returns to EndCommand. Without such a layer it returns ctx.
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

// EndCommand tells the same layers, the last first, how the command ended. It must be called once for each BeginCommand, before the
// borrower's function returns or its lease is released.
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
