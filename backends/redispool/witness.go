package redispool

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/earnorm/poolstack/pool/driver"
)

// evidence holds the facts about the present use of a connection, for [driver.Testimony]. A use
// with reads only sets two flags, each by a single atomic operation.
//
// A use has done something if a write was answered with success, or was not answered. A read
// changes nothing; the flags in the server's reply to COMMAND distinguish reads from writes. EXEC
// carries out the queued commands.
type evidence struct {
	use  atomic.Uint64 // the number of the use, unique among all connections
	seen atomic.Uint32 // the flags below

	mu  sync.Mutex
	met []string // the texts of the error replies, without duplicates
}

const (
	asked    uint32 = 1 << iota // a command was sent, or was to be sent
	answered                    // the server has answered, without a fault of the server
	done                        // a write was carried out, or may have been
	queued                      // the open transaction has a write
	metSome                     // there were error replies
	overflow                    // more error replies than mostMet
)

// mostMet is the largest number of error replies kept.
const mostMet = 16

var connections atomic.Uint64

// numberUses gives unique numbers to the uses of the connection.
func (e *evidence) numberUses() { e.use.Store(connections.Add(1) << 32) }

func (e *evidence) begin() {
	e.use.Add(1)
	if e.seen.Swap(0)&metSome != 0 {
		e.mu.Lock()
		e.met = e.met[:0]
		e.mu.Unlock()
	}
}

func (e *evidence) add(flags uint32) {
	if e.seen.Load()&flags != flags {
		e.seen.Or(flags)
	}
}

// note notes the reply to a command of kind k. err is the error reply, or nil. open is true if a
// transaction is open, so the command is only queued.
func (e *evidence) note(k kind, cmd redis.Cmder, err error, open bool) {
	if err == nil || isNil(err) {
		e.add(answered)
		e.noteEffect(k, cmd, err, open)
		return
	}
	if k&scripts != 0 && !open && code(err) != "NOSCRIPT" {
		e.add(done) // a script may have changed something before its error
	}
	reply, ok := err.(redis.Error) //nolint:errorlint // given to a hook by go-redis, not wrapped
	if ok && classifyReply(reply).Fault != driver.FaultServer {
		e.add(answered)
	}
	e.add(metSome)
	e.mu.Lock()
	defer e.mu.Unlock()
	text := err.Error()
	switch {
	case slices.Contains(e.met, text):
	case len(e.met) == mostMet:
		e.add(overflow)
	default:
		e.met = append(e.met, text)
	}
}

// noteEffect notes the effect of a command that succeeded.
func (e *evidence) noteEffect(k kind, cmd redis.Cmder, err error, open bool) {
	switch {
	case e.seen.Load()&done != 0:
	case k&executes != 0:
		if err == nil && e.seen.Load()&queued != 0 {
			e.add(done)
		}
	case k&harmless != 0:
		if k&kind(queueing) != 0 || k&ends != 0 {
			e.seen.And(^queued) // the transaction begins or is discarded
		}
	case open:
		e.add(queued)
	case !changedNothing(k, cmd, err):
		e.add(done)
	}
}

// noteUnanswered notes a command with an unknown outcome. Only EXEC carries out a queued command.
func (e *evidence) noteUnanswered(k kind, open bool) {
	switch {
	case k&executes != 0 && e.seen.Load()&queued != 0:
		e.add(done)
	case k&harmless != 0:
	case open:
		e.add(queued)
	default:
		e.add(done)
	}
}

// own returns err without the errors of other connections. It returns nil if this connection has
// met no part of err in the present use.
func (e *evidence) own(err error) error {
	met := false
	rest := driver.Without(err, func(err error) bool {
		var mine bool
		switch x := err.(type) { //nolint:errorlint // only this error, not its chain
		case *Error:
			mine = x.use == e.use.Load() || x.Err == nil
		case *abortedError:
			mine = e.hasMet(x.cause)
		case redis.Error:
			mine = isNil(x) || e.hasMet(x)
		default:
			return false
		}
		met = met || mine
		return !mine
	})
	if !met {
		return nil
	}
	return rest
}

func (e *evidence) hasMet(reply error) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.seen.Load()&overflow != 0 || slices.Contains(e.met, reply.Error())
}

// BeginUse begins the evidence of a new use. It returns ctx.
func (d *Driver) BeginUse(ctx context.Context, c *Conn) context.Context {
	c.evidence.begin()
	c.ended.Store(nil)
	c.given.set(ctx)
	return ctx
}

// EndUse returns the testimony about the use. ok is always true.
func (d *Driver) EndUse(c *Conn, err error) (driver.Testimony, bool) {
	seen := c.evidence.seen.Load()
	t := driver.Testimony{Asked: seen&asked != 0, Answered: seen&answered != 0, Done: seen&done != 0, Own: c.evidence.own(err)}
	if hasPassed(t.Own) && c.given.lasts() {
		t.Own = &ownDeadlineError{t.Own}
	}
	return t, true
}

// ownDeadlineError is the error of a command whose own deadline has passed, while the use may go
// on.
type ownDeadlineError struct{ error }

func (e *ownDeadlineError) Unwrap() error { return e.error }

// hasPassed reports whether err is about the deadline of a command's context.
func hasPassed(err error) bool {
	unanswered, ok := errors.AsType[*Error](err)
	return ok && unanswered.Err != nil && errors.Is(unanswered.Context, context.DeadlineExceeded)
}
