package mongopool

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	mongodriver "go.mongodb.org/mongo-driver/v2/x/mongo/driver"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/description"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/topology"

	"github.com/earnorm/poolstack/pool/driver"
)

// The record of a use. The driver's command monitor reports the end of each command together with
// the command's context. So each use gets its own context, and the context holds the record:
//
//   - A command was sent. The server has answered without a fault of its own. The server has
//     answered with these codes. A command got no answer.
//   - A write was carried out, or may have been. A write without effect does not count. A write in
//     an open transaction does not count.
//
// An error of the driver's types belongs to the use if a command of the use failed with the error's
// code. The command monitor does not report a command without a server or a socket. The error of
// such a command belongs to the use in two cases: a command got no socket during the use, or the
// error names a server of the client.
//
// A command outside of every use's context may belong to this use. After such a command an error is
// judged by the error alone. If the command has changed something, this use may have changed
// something.

// evidence is the record of a single use. The commands of the use find the record in their context,
// under the key &Driver.commands.
type evidence struct {
	context.Context

	of       *commands
	meter    *meter // of the client
	orphans  uint64 // commands.orphans when the use began
	strays   uint64 // commands.strays when the use began
	noSocket uint64 // totals.noSocket when the use began

	asked, answered, done atomic.Bool

	mu       sync.Mutex
	met      []int            // codes of failures without duplicates; 0: a command without an answer
	sessions []*mongo.Session // sessions with a transaction in a command of the use
	cursors  []int64          // cursors opened by the use, if the client tracks cursors
}

// Value returns the record for the key of its Driver, and else the value of the parent context.
func (e *evidence) Value(key any) any {
	if key == any(e.of) {
		return e
	}
	return e.Context.Value(key)
}

// BeginUse begins the record of a use, and returns a context with the record.
func (d *Driver) BeginUse(ctx context.Context, res *Conn) context.Context {
	e := &evidence{
		Context: ctx, of: &d.commands, meter: res.client.meter,
		orphans: d.commands.orphans.Load(), strays: d.commands.strays.Load(), noSocket: d.totals.noSocket.Load(),
	}
	res.evidence = e
	return e
}

// EndUse ends the record of the use, and returns its testimony. ok is false without a record.
// EndUse also takes over the cursors and transactions that the use has left open.
func (d *Driver) EndUse(res *Conn, err error) (driver.Testimony, bool) {
	e := res.evidence
	d.claim(res)
	res.evidence = nil
	if e != nil && err != nil && errors.Is(err, mongodriver.ErrDeadlineWouldBeExceeded) {
		if deadline, ok := e.Deadline(); ok {
			res.heldBack = time.Until(deadline)
		}
	}
	if e == nil {
		return driver.Testimony{}, false
	}
	t := driver.Testimony{Asked: e.asked.Load(), Answered: e.answered.Load(), Done: e.done.Load() || d.commands.strays.Load() != e.strays}
	if d.commands.orphans.Load() == e.orphans {
		var short bool
		t.Own, short = e.own(err)
		t.Asked = t.Asked || short
	} else { // a command outside of every use's context may belong to this use
		t.Own, t.Asked = err, true
	}
	// A pool in steady use opens no resources, and learns here that the credentials are refused.
	_ = d.judge(res.client, t.Own)
	if hasPassed(t.Own) && e.lasts() {
		t.Own = &ownDeadlineError{t.Own}
	}
	return t, true
}

// lasts reports whether the context of the use is not over.
func (e *evidence) lasts() bool {
	deadline, ok := e.Deadline()
	return e.Err() == nil && (!ok || time.Now().Before(deadline))
}

// ownDeadlineError marks a command's deadline in a use whose context is not over: the borrower has
// given less time to the command.
type ownDeadlineError struct{ error }

func (e *ownDeadlineError) Unwrap() error { return e.error }

// hasPassed reports whether err is about a command's deadline. The driver's own deadlines for the
// opening of a socket do not count.
func hasPassed(err error) bool {
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, mongodriver.ErrDeadlineWouldBeExceeded) {
		return false
	}
	class := classify(err)
	return class.Fault == driver.FaultServer && class.Code == "" && !class.Certain && class.Type != "connect"
}

// own returns err without the errors of other clients, or nil if no part of err belongs to this
// use. short reports whether the use got no server or no socket.
func (e *evidence) own(err error) (own error, short bool) {
	mine := false
	rest := driver.Without(err, func(err error) bool {
		met, unsent, known := e.judge(err)
		mine, short = mine || met, short || met && unsent
		return known && !met
	})
	if !mine {
		return nil, false
	}
	return rest, short
}

// judge reports whether the use has met err itself, without its wrapped errors. known: err has a
// type of the driver. unsent: err is about a command that was not sent.
func (e *evidence) judge(err error) (met, unsent, known bool) {
	switch x := err.(type) { //nolint:errorlint // err itself
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
	// A ConnectionError is inside of a command's error, or inside of a handshake's error.
	case topology.ConnectionError:
		return e.has(0) || e.wasShort(), !e.has(0), true
	}
	switch {
	case err == mongo.ErrNoDocuments, err == mongo.ErrFileNotFound: //nolint:errorlint // as before
		return e.answered.Load(), false, true
	case err == mongo.ErrClientDisconnected, err == mongodriver.ErrDeadlineWouldBeExceeded: //nolint:errorlint // as before
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

// wasShort reports whether any command of the Driver has got no socket since the use began.
func (e *evidence) wasShort() bool { return e.of.totals.noSocket.Load() != e.noSocket }

// knows reports whether err can be about the client's servers. err names a server of the client, or
// no server at all.
func (e *evidence) knows(err topology.ServerSelectionError) bool {
	return len(err.Desc.Servers) == 0 || slices.ContainsFunc(err.Desc.Servers, func(s description.Server) bool {
		return e.meter.knows(s.Addr.String())
	})
}

// note records the end of a command in the evidence of its use.
func (c *commands) note(ctx context.Context, name string, err error, reply bson.Raw) {
	e, ok := ctx.Value(c).(*evidence)
	switch {
	case !ok:
		c.orphans.Add(1)
		if !neverSent(err) && mayHaveChanged(ctx, name, err, reply) {
			c.strays.Add(1)
		}
	case neverSent(err):
	case err == nil:
		e.asked.Store(true)
		e.noteTransaction(ctx)
		e.noteReply(ctx, name, reply)
	default:
		e.asked.Store(true)
		e.noteTransaction(ctx)
		e.noteFailure(ctx, name, err)
	}
}

// neverSent reports whether the context of a command was over before the sending. err is the error
// that the driver reports to a command monitor.
func neverSent(err error) bool {
	return err == context.Canceled || err == context.DeadlineExceeded || //nolint:errorlint // untyped
		errors.Is(err, mongodriver.ErrDeadlineWouldBeExceeded)
}

// noteTransaction records the session of a command in a transaction, no matter how the session
// began.
func (e *evidence) noteTransaction(ctx context.Context) {
	s := mongo.SessionFromContext(ctx)
	if s == nil || !s.TransactionRunning() {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !slices.Contains(e.sessions, s) {
		e.sessions = append(e.sessions, s)
	}
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
	e.noteDone(ctx, name, nil, reply)
}

func (e *evidence) noteFailure(ctx context.Context, name string, err error) {
	f, _ := commandFailure(err)
	e.meet(f.code)
	if f.isAnswer() {
		e.answered.Store(true)
	}
	e.noteDone(ctx, name, err, nil)
}

// isAnswer reports whether the server has answered without a fault of its own.
func (f failure) isAnswer() bool { return f.code != 0 && f.class().Fault != driver.FaultServer }

func (e *evidence) meet(codes ...int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, code := range codes {
		if !slices.Contains(e.met, code) {
			e.met = append(e.met, code)
		}
	}
}

func (e *evidence) noteDone(ctx context.Context, name string, err error, reply bson.Raw) {
	if !e.done.Load() && mayHaveChanged(ctx, name, err, reply) {
		e.done.Store(true)
	}
}

// mayHaveChanged reports whether a command with this result has changed something, or may have.
func mayHaveChanged(ctx context.Context, name string, err error, reply bson.Raw) bool {
	if inTransaction(ctx, name) {
		return false
	}
	if err == nil {
		return changes(name, reply)
	}
	f, _ := commandFailure(err)
	repeat := f.class().Repeat
	unknown := repeat == driver.RepeatIfIdempotent || f.code == 0 && repeat == driver.RepeatNever
	return unknown && !f.isAnswer() && changes(name, nil)
}

// inTransaction reports whether an abort would undo the command. An abort does not undo a commit.
func inTransaction(ctx context.Context, name string) bool {
	s := mongo.SessionFromContext(ctx)
	return s != nil && s.TransactionRunning() && name != "commitTransaction"
}
