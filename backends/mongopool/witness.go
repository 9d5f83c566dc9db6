package mongopool

import (
	"context"
	"errors"
	"sync/atomic"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/earnorm/poolstack/pool"
)

// evidence is what the commands of one use have met. The driver's monitors see nothing but a command's context, so it is in there, under
// the key of the commands of this Driver and no other's.
type evidence struct {
	context.Context

	of       *commands
	orphans  uint64 // of the Driver when the use began
	asked    atomic.Bool
	answered atomic.Bool
	failed   atomic.Bool
	done     atomic.Bool // a write has been carried out, or may have been
}

func (e *evidence) Value(key any) any {
	if key == any(e.of) {
		return e
	}
	return e.Context.Value(key)
}

// Lent begins a new account.
func (d *Driver) Lent(ctx context.Context, res *Conn) context.Context {
	e := &evidence{Context: ctx, of: &d.commands, orphans: d.commands.orphans.Load()}
	res.evidence = e
	return e
}

// Testify says what the use's commands have met. It cannot tell if there were commands of nobody's context meanwhile: they may have been
// this use's.
func (d *Driver) Testify(res *Conn, err error) (pool.Testimony, bool) {
	e := res.evidence
	res.evidence = nil
	if e == nil || d.commands.orphans.Load() != e.orphans {
		return pool.Testimony{}, false
	}
	t := pool.Testimony{Asked: e.asked.Load(), Answered: e.answered.Load(), Done: e.done.Load()}
	switch {
	case err == nil:
	case neverSent(err): // no monitor hears of it with a context
		t.Asked, t.Own = true, err
	case e.failed.Load(), errors.Is(err, mongo.ErrClientDisconnected):
		t.Own = err
	}
	return t, true
}

// neverSent says whether err is one of the driver's about a command that was not sent, or about a socket for it.
func neverSent(err error) bool {
	down := (*downError)(nil)
	return errors.As(err, &down) || inHandshake(err) || unsent(err) != ""
}

// note takes down how a command has ended, if it was a use's.
func (c *commands) note(ctx context.Context, e event.CommandFinishedEvent, err error, reply bson.Raw) {
	own, ok := ctx.Value(c).(*evidence)
	if !ok {
		c.orphans.Add(1)
		return
	}
	own.asked.Store(true)
	if err == nil {
		own.answered.Store(true)
		if refusedWrites(reply) != nil {
			own.failed.Store(true)
		}
		if !own.done.Load() && writes(e.CommandName, reply) && !inTransaction(ctx, e.CommandName) {
			own.done.Store(true)
		}
		return
	}
	own.failed.Store(true)
	if f, ok := commandFailure(err); ok && f.code != 0 {
		if codeClass(f.code).Fault != pool.FaultServer {
			own.answered.Store(true)
		}
		return
	}
	if writes(e.CommandName, nil) && !inTransaction(ctx, e.CommandName) {
		own.done.Store(true) // nobody knows
	}
}

// reads are the commands that change nothing.
var reads = map[string]bool{
	"find": true, "getMore": true, "count": true, "distinct": true, "listCollections": true, "listIndexes": true, "listDatabases": true,
	"killCursors": true, "endSessions": true, "abortTransaction": true, "hello": true, "ping": true, "buildInfo": true,
	"explain": true, "dbStats": true, "collStats": true, "serverStatus": true,
}

// writes says whether a command that was answered with reply may have changed something. An aggregate may have an $out.
func writes(name string, reply bson.Raw) bool {
	if reads[name] {
		return false
	}
	if name == "aggregate" {
		return false // a sketch: to be told by the pipeline's last stage, which only Started sees
	}
	switch name {
	case "insert", "update", "delete":
		if n, ok := bsoncore.Document(reply).Lookup("n").AsInt64OK(); ok && n == 0 {
			return false
		}
	}
	return true
}

// inTransaction says whether what a command has done is undone by an abort: a commit is not.
func inTransaction(ctx context.Context, name string) bool {
	s := mongo.SessionFromContext(ctx)
	return s != nil && s.TransactionRunning() && name != "commitTransaction"
}
