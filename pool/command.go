package pool

import (
	"context"
	"slices"
	"sync/atomic"

	"github.com/earnorm/poolstack/pool/driver"
)

// A CommandObserver is a [Middleware] (or the [Layer] inside a Bracket) that observes the commands
// sent by the client of a backend within a use. Both methods are called concurrently for different
// uses and must not block.
type CommandObserver interface {
	// BeginCommand is called before the command is sent. BeginCommand returns ctx or a context derived
	// from ctx. The returned context is passed to EndCommand.
	BeginCommand(ctx context.Context, c *Call, cmd driver.Command) context.Context
	// EndCommand is called after the command has been answered or has failed. ctx descends from the
	// context returned by BeginCommand of this observer.
	EndCommand(ctx context.Context, c *Call, cmd driver.Command, err error)
}

// A CommandTextObserver is a CommandObserver that can use Command.Text. The backend removes the
// values from the text for every observer.
type CommandTextObserver interface {
	CommandObserver
	// WantsCommandText reports whether the observer wants the text. The text costs the backend time.
	WantsCommandText() bool
}

// callContext carries the Call of a use to the hooks of the driver, as a [driver.Commands]. After
// the end of the use, callContext hides the Call, because a borrower may keep the context.
type callContext struct {
	context.Context
	c   *Call
	use uint64
}

// Value returns the callContext itself for [driver.CommandsKey], or nil without a Call.
func (x *callContext) Value(key any) any {
	if _, ok := key.(driver.CommandsKey); ok {
		if x.c != nil && x.c.uses.Load() == x.use {
			return x
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
	case driver.Observing(ctx): // the Call of an enclosing use
		return &callContext{Context: ctx}
	}
	return ctx
}

// WantsCommandText implements [driver.Commands].
func (x *callContext) WantsCommandText() bool {
	return slices.ContainsFunc(x.c.hub.commands, func(o CommandObserver) bool {
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

// BeginCommand implements [driver.Commands].
func (x *callContext) BeginCommand(ctx context.Context, cmd driver.Command) context.Context {
	for _, o := range x.c.hub.commands {
		ctx = beginCommand(ctx, o, x.c, cmd)
	}
	return ctx
}

// EndCommand implements [driver.Commands]. The observers are called in reverse order.
func (x *callContext) EndCommand(ctx context.Context, cmd driver.Command, err error) {
	for _, o := range slices.Backward(x.c.hub.commands) {
		endCommand(ctx, o, x.c, cmd, err)
	}
}

func beginCommand(ctx context.Context, o CommandObserver, c *Call, cmd driver.Command) (derived context.Context) {
	defer func() {
		if recover() != nil {
			derived = ctx
		}
	}()
	return o.BeginCommand(ctx, c, cmd)
}

func endCommand(ctx context.Context, o CommandObserver, c *Call, cmd driver.Command, err error) {
	defer func() { _ = recover() }()
	o.EndCommand(ctx, c, cmd, err)
}
