package mongopool

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/earnorm/poolstack/pool"
)

// A cursor belongs to the use that has opened the cursor. The command monitor sees when cursors
// open and end. A reply with an id other than 0 opens a cursor. A cursor ends when getMore fails or
// is answered with the id 0, or when killCursors is sent. A cursor left open at the end of the use
// is counted. If the pool looks for leaks, the cursor is reported with the borrower's stack.
//
// Behind a load balancer the driver keeps a socket for each open cursor, and only the cursor can
// give the socket back. The borrower has the cursor, and may have forgotten the cursor. So the
// shared client is replaced there. The old client is disconnected, with the socket, when its last
// resource has moved. Source: "Load Balancer Support" of MongoDB's driver specifications.

// The commands that continue or end cursors.
const (
	getMore     = "getMore"
	killCursors = "killCursors"
)

// cursors are the open cursors of a client. A client has this record only if the pool looks for
// leaks, or behind a load balancer. The reason: a monitor with Started costs a copy of each
// command.
type cursors struct {
	of     *commands
	stacks bool     // the pool looks for leaks
	open   sync.Map // cursor id (int64) -> *cursor
	ending sync.Map // request id (int64) -> []int64: the cursors that the request continues or ends
}

// tipPause is the time between two warnings.
const tipPause = 10 * time.Second

// cursor is an open cursor.
type cursor struct {
	namespace string
	stack     []uintptr // of the borrower
}

func (c *cursors) monitor() *event.CommandMonitor {
	return &event.CommandMonitor{
		Started: c.started,
		Succeeded: func(ctx context.Context, e *event.CommandSucceededEvent) {
			c.ended(ctx, e.CommandName, e.RequestID, e.Reply)
		},
		Failed: func(ctx context.Context, e *event.CommandFailedEvent) { c.ended(ctx, e.CommandName, e.RequestID, nil) },
	}
}

// started records the cursors that a command continues or ends.
func (c *cursors) started(_ context.Context, e *event.CommandStartedEvent) {
	switch e.CommandName {
	case getMore:
		if id, ok := e.Command.Lookup(getMore).AsInt64OK(); ok {
			c.ending.Store(e.RequestID, []int64{id})
		}
	case killCursors:
		c.ending.Store(e.RequestID, ids(e.Command.Lookup("cursors")))
	}
}

func ids(list bson.RawValue) (all []int64) {
	array, _ := list.ArrayOK()
	values, _ := array.Values()
	for _, v := range values {
		if id, ok := v.AsInt64OK(); ok {
			all = append(all, id)
		}
	}
	return all
}

// ended records the effect of a command on cursors. reply is nil if the command has failed.
func (c *cursors) ended(ctx context.Context, name string, request int64, reply bson.Raw) {
	switch name {
	case getMore, killCursors:
		list, ok := c.ending.LoadAndDelete(request)
		if !ok || name == getMore && positive(reply, "cursor", "id") {
			return
		}
		for _, id := range list.([]int64) { //nolint:forcetypeassert // nothing else is stored
			c.open.Delete(id)
		}
	default:
		id, _ := bsoncore.Document(reply).Lookup("cursor", "id").AsInt64OK()
		e, ok := ctx.Value(c.of).(*evidence)
		if id == 0 || !ok {
			return
		}
		opened := &cursor{}
		opened.namespace, _ = bsoncore.Document(reply).Lookup("cursor", "ns").StringValueOK()
		if c.stacks {
			opened.stack = borrowersStack()
		}
		c.open.Store(id, opened)
		e.mu.Lock()
		e.cursors = append(e.cursors, id)
		e.mu.Unlock()
	}
}

// left returns the cursors of ids that are still open, and removes the cursors from the record.
func (c *cursors) left(ids []int64) (open []*cursor) {
	for _, id := range ids {
		if one, ok := c.open.LoadAndDelete(id); ok {
			open = append(open, one.(*cursor)) //nolint:forcetypeassert // nothing else is stored
		}
	}
	return open
}

// leave counts and reports the cursors that a use has left open.
func (d *Driver) leave(c *client, ids []int64) {
	open := c.cursors.left(ids)
	if len(open) == 0 {
		return
	}
	d.totals.cursorsLeft.Add(uint64(len(open)))
	if one := open[0]; one.stack != nil && d.totals.tip() {
		c.meter.events.send(pool.Event{
			Kind: pool.EventWarning, Stack: formatStack(one.stack),
			Reason: fmt.Sprintf("a use has left a cursor on %s open: close each cursor, or read it to its end, before the use ends", one.namespace),
		})
	}
	if c.loadBalanced {
		d.giveUp(c)
	}
}

// tip reports whether a warning about cursors is due.
func (t *totals) tip() bool {
	now := time.Now().UnixNano()
	last := t.tipped.Load()
	return now-last >= int64(tipPause) && t.tipped.CompareAndSwap(last, now)
}

// borrowersStack returns the stack of its caller: functions of this package, of the driver, and
// then of the borrower.
func borrowersStack() []uintptr {
	var stack [64]uintptr
	return slices.Clone(stack[:runtime.Callers(2, stack[:])])
}

// formatStack formats recorded program counters like runtime/debug.Stack. The text starts at the
// function that has called the driver.
func formatStack(pcs []uintptr) string {
	var b strings.Builder
	frames := runtime.CallersFrames(pcs)
	// called: a frame of the driver has come. mine: this frame and all later frames are the
	// borrower's.
	called, mine := false, false
	for {
		f, more := frames.Next()
		isDriver := strings.HasPrefix(f.Function, "go.mongodb.org/mongo-driver/")
		mine = mine || called && !isDriver
		called = called || isDriver
		if mine {
			fmt.Fprintf(&b, "%s\n\t%s:%d\n", f.Function, f.File, f.Line)
		}
		if !more {
			return b.String()
		}
	}
}
