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
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/description"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/topology"

	"github.com/earnorm/poolstack/pool"
)

// The evidence of a use. The driver's command monitor reports the end of each command together with the command's context. So each use gets a
// context of its own, and the monitor's reports are noted there:
//
//   - A command was sent; the server has answered well; the server has answered with these codes; a command got no answer.
//   - A write was carried out, or may have been. A write without effect does not count, nor does a write in a transaction.
//
// An error of one of the driver's types belongs to the use if a command of the use has met the error's code. No command monitor reports a command
// without a server or a socket. Such an error belongs to the use if the client was short of a socket meanwhile, or if the error names one of the
// client's servers. After a command in the context of no use an error is judged as it is: the command may have been of this use. If the command has
// changed something, so may have this use.

// evidence is the account of one use. The commands of the use find the evidence in their context; the key is the Driver's commands.
type evidence struct {
	context.Context

	of       *commands
	meter    *meter // of the client
	orphans  uint64 // of the Driver when the use began
	strays   uint64 // likewise
	noSocket uint64 // likewise

	asked, answered, done atomic.Bool

	mu       sync.Mutex
	met      []int            // the codes of failures, each once; 0 for a command without an answer
	sessions []*mongo.Session // that have had a transaction in a command of the use
	cursors  []int64          // that the use has opened, if the client follows cursors
}

// Value returns the evidence for the key of its Driver.
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
		orphans: d.commands.orphans.Load(), strays: d.commands.strays.Load(), noSocket: d.totals.noSocket.Load(),
	}
	res.evidence = e
	return e
}

// Testify closes the account.
func (d *Driver) Testify(res *Conn, err error) (pool.Testimony, bool) {
	e := res.evidence
	d.claim(res)
	res.evidence = nil
	if e != nil && err != nil && errors.Is(err, driver.ErrDeadlineWouldBeExceeded) {
		if deadline, ok := e.Deadline(); ok {
			res.heldBack = time.Until(deadline)
		}
	}
	if e == nil {
		return pool.Testimony{}, false
	}
	t := pool.Testimony{Asked: e.asked.Load(), Answered: e.answered.Load(), Done: e.done.Load() || d.commands.strays.Load() != e.strays}
	if d.commands.orphans.Load() == e.orphans {
		var short bool
		t.Own, short = e.own(err)
		t.Asked = t.Asked || short
	} else { // some command was in the context of no use, and may have been of this one
		t.Own, t.Asked = err, true
	}
	_ = d.judge(res.client, t.Own) // a pool in steady use opens nothing, and learns of a refusal here
	if hasPassed(t.Own) && e.lasts() {
		t.Own = &ownDeadlineError{t.Own}
	}
	return t, true
}

// lasts says whether the use might go on.
func (e *evidence) lasts() bool {
	deadline, ok := e.Deadline()
	return e.Err() == nil && (!ok || time.Now().Before(deadline))
}

// ownDeadlineError is an error of a use that might go on: the borrower has given a command less time.
type ownDeadlineError struct{ error }

func (e *ownDeadlineError) Unwrap() error { return e.error }

// hasPassed says whether err is about a deadline of a command, and not about one of the driver's own in opening a socket.
func hasPassed(err error) bool {
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, driver.ErrDeadlineWouldBeExceeded) {
		return false
	}
	class := classify(err)
	return class.Fault == pool.FaultServer && class.Code == "" && !class.Certain && class.Type != "connect"
}

// own returns err without the errors of other clients, nil if this use has met no part of err. short: the use was short of a server or a socket.
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

// judge says whether the use has met this very error. known: the error has a type of the driver. unsent: the error is about a command before the
// sending.
func (e *evidence) judge(err error) (met, unsent, known bool) {
	switch x := err.(type) { //nolint:errorlint // this very error
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

// wasShort says whether a command of the client has got no socket since the beginning of the use.
func (e *evidence) wasShort() bool { return e.of.totals.noSocket.Load() != e.noSocket }

// knows says whether err can be about the client's servers: err names one of them, or none at all.
func (e *evidence) knows(err topology.ServerSelectionError) bool {
	return len(err.Desc.Servers) == 0 || slices.ContainsFunc(err.Desc.Servers, func(s description.Server) bool {
		return e.meter.knows(s.Addr.String())
	})
}

// note notes the end of a command in the evidence of the command's use.
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

// neverSent says whether err, from the driver to a command monitor, is about a command with a context over before the sending.
func neverSent(err error) bool {
	return err == context.Canceled || err == context.DeadlineExceeded || //nolint:errorlint // this very error: all others have types
		errors.Is(err, driver.ErrDeadlineWouldBeExceeded)
}

// noteTransaction keeps the session of a command in a transaction, whoever has begun it.
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

// isAnswer says whether the server has answered without a fault of its own.
func (f failure) isAnswer() bool { return f.code != 0 && f.class().Fault != pool.FaultServer }

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

// mayHaveChanged says whether a command with this end has changed something, or may have.
func mayHaveChanged(ctx context.Context, name string, err error, reply bson.Raw) bool {
	if inTransaction(ctx, name) {
		return false
	}
	if err == nil {
		return changes(name, reply)
	}
	f, _ := commandFailure(err)
	repeat := f.class().Repeat
	unknown := repeat == pool.RepeatIfIdempotent || f.code == 0 && repeat == pool.RepeatNever
	return unknown && !f.isAnswer() && changes(name, nil)
}

// inTransaction says whether an abort would undo the command. An abort undoes no commit.
func inTransaction(ctx context.Context, name string) bool {
	s := mongo.SessionFromContext(ctx)
	return s != nil && s.TransactionRunning() && name != "commitTransaction"
}
