package mongopool

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/description"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/topology"

	"github.com/earnorm/poolstack/pool"
)

// What a use has gone through. The driver's command monitor reports the end of each command with the command's context. So each use has a
// context of its own, and what the monitor reports is noted there:
//
//   - Was anything sent? Was anything answered well? Which codes have come back? Was a command left without an answer?
//   - Has a write been carried out, or may it have been? A write that changed nothing does not count, nor does a write in a transaction.
//
// An error of one of the driver's types is the use's own if a command of the use has met the error's code. A command that got no server or no
// socket is reported by no command monitor: such an error is the use's own unless the client was never short of a socket meanwhile, or the
// error names other servers only. Where commands were sent in nobody's context, the witness cannot tell (see pool.Witness).

// evidence is what is known of one use. The use's commands find it in their context, under the key of their Driver.
type evidence struct {
	context.Context

	of       *commands
	meter    *meter // of the client
	orphans  uint64 // of the Driver when the use began
	noSocket uint64 // likewise

	asked, answered, done atomic.Bool

	mu  sync.Mutex
	met []int // the codes that came back, each once; 0 for a command without an answer
}

// Value returns the evidence to those who ask for that of its Driver.
func (e *evidence) Value(key any) any {
	if key == any(e.of) {
		return e
	}
	return e.Context.Value(key)
}

// Lent begins a new account.
func (d *Driver) Lent(ctx context.Context, res *Conn) context.Context {
	e := &evidence{
		Context: ctx, of: &d.commands, meter: res.client.meter,
		orphans: d.commands.orphans.Load(), noSocket: d.totals.noSocket.Load(),
	}
	res.evidence = e
	return e
}

// Testify says what the use's commands have met.
func (d *Driver) Testify(res *Conn, err error) (pool.Testimony, bool) {
	e := res.evidence
	res.evidence = nil
	if e == nil || d.commands.orphans.Load() != e.orphans {
		return pool.Testimony{}, false
	}
	own, short := e.own(err)
	return pool.Testimony{Asked: e.asked.Load() || short, Answered: e.answered.Load(), Done: e.done.Load(), Own: own}, true
}

// own returns what is left of err without what other clients have met, nil if this use has met nothing of it. short says whether the use was
// short of a server or a socket.
func (e *evidence) own(err error) (own error, short bool) {
	mine := false
	rest := pool.Without(err, func(err error) bool {
		met, unsent, known := e.judge(err)
		mine, short = mine || met, short || met && unsent
		return known && !met
	})
	if !mine {
		return nil, false
	}
	return rest, short
}

// judge says whether the use has met this very error, if it is of a type that is known to be the driver's. unsent says that such an error is
// about a command that was not sent.
func (e *evidence) judge(err error) (met, unsent, known bool) {
	switch x := err.(type) { //nolint:errorlint // about this very error
	case mongo.CommandError:
		unsent = inHandshake(x)
		return e.has(int(x.Code)) || unsent && e.wasShort(), unsent, true
	case mongo.WriteException, mongo.BulkWriteException, mongo.ClientBulkWriteException:
		codes, unconfirmed := writeCodes(err)
		for _, c := range unconfirmed {
			codes = append(codes, c.Code)
		}
		return slices.ContainsFunc(codes, e.has), false, true
	case topology.ServerSelectionError:
		return e.knows(x), true, true
	case topology.WaitQueueTimeoutError:
		return e.wasShort(), true, true
	case topology.ConnectionError: // within a command's error, or a handshake's
		return e.has(0) || e.wasShort(), !e.has(0), true
	}
	switch {
	case err == mongo.ErrNoDocuments, err == mongo.ErrFileNotFound: //nolint:errorlint // as before
		return e.answered.Load(), false, true
	case err == mongo.ErrClientDisconnected, err == driver.ErrDeadlineWouldBeExceeded: //nolint:errorlint // as before
		return true, false, true
	case err == topology.ErrPoolClosed, err == topology.ErrServerClosed, isCleared(err): //nolint:errorlint // as before
		return e.wasShort(), true, true
	}
	return false, false, false
}

func (e *evidence) has(code int) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Contains(e.met, code)
}

// wasShort says whether some command has got no socket since the use began.
func (e *evidence) wasShort() bool { return e.of.totals.noSocket.Load() != e.noSocket }

// knows says whether the error can be about the client's servers: unless it names others only.
func (e *evidence) knows(err topology.ServerSelectionError) bool {
	return len(err.Desc.Servers) == 0 || slices.ContainsFunc(err.Desc.Servers, func(s description.Server) bool {
		return e.meter.knows(s.Addr.String())
	})
}

// note takes down how a command has ended, if it was a use's.
func (c *commands) note(ctx context.Context, name string, err error, reply bson.Raw) {
	e, ok := ctx.Value(c).(*evidence)
	switch {
	case !ok:
		c.orphans.Add(1)
	case neverSent(err):
	case err == nil:
		e.asked.Store(true)
		e.noteReply(ctx, name, reply)
	default:
		e.asked.Store(true)
		e.noteFailure(ctx, name, err)
	}
}

// neverSent says whether err, as the driver hands it to a command monitor, is of a command whose context was over before it was sent.
func neverSent(err error) bool {
	return err == context.Canceled || err == context.DeadlineExceeded || //nolint:errorlint // about this very error: others have types
		errors.Is(err, driver.ErrDeadlineWouldBeExceeded)
}

func (e *evidence) noteReply(ctx context.Context, name string, reply bson.Raw) {
	if acknowledged(name, reply) {
		e.answered.Store(true)
	}
	if codes, unconfirmed := writeCodes(refusedWrites(reply)); codes != nil || unconfirmed != nil {
		for _, c := range unconfirmed {
			codes = append(codes, c.Code)
		}
		e.meet(codes...)
	}
	e.noteDone(ctx, name, reply)
}

func (e *evidence) noteFailure(ctx context.Context, name string, err error) {
	f, _ := commandFailure(err)
	e.meet(f.code)
	class := f.class()
	switch {
	case f.code != 0 && class.Fault != pool.FaultServer:
		e.answered.Store(true)
	case class.Repeat == pool.RepeatIfIdempotent, f.code == 0 && class.Repeat == pool.RepeatNever: // nobody knows
		e.noteDone(ctx, name, nil)
	}
}

func (e *evidence) meet(codes ...int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, code := range codes {
		if !slices.Contains(e.met, code) {
			e.met = append(e.met, code)
		}
	}
}

func (e *evidence) noteDone(ctx context.Context, name string, reply bson.Raw) {
	if !e.done.Load() && changes(name, reply) && !inTransaction(ctx, name) {
		e.done.Store(true)
	}
}

// inTransaction says whether what a command has done is undone by an abort: a commit is not.
func inTransaction(ctx context.Context, name string) bool {
	s := mongo.SessionFromContext(ctx)
	return s != nil && s.TransactionRunning() && name != "commitTransaction"
}

// acknowledged says whether a reply is the server's: for a write that asks for none the driver makes one up, without a number.
func acknowledged(name string, reply bson.Raw) bool {
	switch name {
	case "insert", "update", "delete":
		return has(reply, "n")
	}
	return true
}

// readOnly are the commands that change nothing. See "Database Commands" in MongoDB's manual.
var readOnly = map[string]bool{
	"find": true, "getMore": true, "count": true, "distinct": true, "explain": true, "killCursors": true,
	"listCollections": true, "listIndexes": true, "listDatabases": true, "listCommands": true,
	"abortTransaction": true, "endSessions": true, "refreshSessions": true, "startSession": true,
	"hello": true, "isMaster": true, "ping": true, "buildInfo": true, "hostInfo": true, "connectionStatus": true, "whatsmyuri": true,
	"dbStats": true, "collStats": true, "dataSize": true, "serverStatus": true, "replSetGetStatus": true, "currentOp": true,
	"getParameter": true, "getCmdLineOpts": true, "getLog": true, "top": true, "usersInfo": true, "rolesInfo": true,
}

// changes says whether a command that was answered with reply, nil for no answer, has changed something, or may have.
func changes(name string, reply bson.Raw) bool {
	switch {
	case readOnly[name]:
		return false
	case reply == nil:
		return true
	}
	switch name {
	case "insert", "delete":
		return !has(reply, "n") || positive(reply, "n")
	case "update": // n counts what was found
		return !has(reply, "nModified") || positive(reply, "nModified") || has(reply, "upserted")
	case "findAndModify":
		return !has(reply, "lastErrorObject") || positive(reply, "lastErrorObject", "n")
	case "bulkWrite":
		return positive(reply, "nInserted") || positive(reply, "nModified") || positive(reply, "nDeleted") || positive(reply, "nUpserted") ||
			!has(reply, "nInserted")
	case "aggregate": // $out and $merge, which only the command shows, return nothing
		first, _ := bsoncore.Document(reply).Lookup("cursor", "firstBatch").ArrayOK()
		return len(first) <= len(emptyArray) && !positive(reply, "cursor", "id")
	}
	return true
}

// emptyArray is BSON's: a length and an end.
var emptyArray = []byte{5, 0, 0, 0, 0}

func has(reply bson.Raw, key string) bool {
	_, err := bsoncore.Document(reply).LookupErr(key)
	return err == nil
}

// positive says whether there is a number other than 0 at the path.
func positive(reply bson.Raw, path ...string) bool {
	n, _ := bsoncore.Document(reply).Lookup(path...).AsInt64OK()
	return n != 0
}
