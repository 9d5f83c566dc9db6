package redispool

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/earnorm/poolstack/pool"
)

// evidence is the account of a connection in the present use. A read sets two flags, each by an atomic operation, once a use.
//
// Something is done when a write has been answered with success, or has not been answered. A read changes nothing; the flags in the server's
// reply to COMMAND tell reads. A queued command is done by EXEC.
type evidence struct {
	use  atomic.Uint64 // which use: of all connections
	seen atomic.Uint32 // of the flags

	mu  sync.Mutex
	met []string // the error replies, each once
}

const (
	asked    uint32 = 1 << iota // something was sent, or was to be sent
	answered                    // the server has given an answer without a fault of its own
	done                        // something may have been carried out
	queued                      // a transaction holds a write
	metSome                     // error replies
	overflow                    // more error replies than mostMet
)

// mostMet bounds the error replies kept.
const mostMet = 16

var connections atomic.Uint64

// numberUses gives the connection's uses unique numbers.
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

// note takes down the reply to a command of kind k; err is the error reply, or nil. open says that a transaction is open: the command is only
// queued.
func (e *evidence) note(k kind, cmd redis.Cmder, err error, open bool) {
	if err == nil || isNil(err) {
		e.add(answered)
		e.noteEffect(k, cmd, err, open)
		return
	}
	if k&scripts != 0 && !open && code(err) != "NOSCRIPT" {
		e.add(done) // up to where it failed
	}
	reply, ok := err.(redis.Error) //nolint:errorlint // as go-redis hands it to a hook
	if ok && classifyReply(reply).Fault != pool.FaultServer {
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

// noteEffect takes down the effect of a command after success.
func (e *evidence) noteEffect(k kind, cmd redis.Cmder, err error, open bool) {
	switch {
	case e.seen.Load()&done != 0:
	case k&executes != 0:
		if err == nil && e.seen.Load()&queued != 0 {
			e.add(done)
		}
	case k&harmless != 0:
		if k&kind(queueing) != 0 || k&ends != 0 {
			e.seen.And(^queued) // the transaction begins, or is given up
		}
	case open:
		e.add(queued)
	case !changedNothing(k, cmd, err):
		e.add(done)
	}
}

// noteUnanswered takes down a command with an unknown outcome. A queued command is done by EXEC alone.
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

// own returns err without the errors of other connections; nil if this connection has met nothing of err in the present use.
func (e *evidence) own(err error) error {
	met := false
	rest := pool.Without(err, func(err error) bool {
		var mine bool
		switch x := err.(type) { //nolint:errorlint // about this very error
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

// Lent begins a new account.
func (d *Driver) Lent(ctx context.Context, c *Conn) context.Context {
	c.evidence.begin()
	c.ended.Store(nil)
	c.given.set(ctx)
	return ctx
}

// Testify closes the account.
func (d *Driver) Testify(c *Conn, err error) (pool.Testimony, bool) {
	seen := c.evidence.seen.Load()
	t := pool.Testimony{Asked: seen&asked != 0, Answered: seen&answered != 0, Done: seen&done != 0, Own: c.evidence.own(err)}
	if hasPassed(t.Own) && c.given.lasts() {
		t.Own = &ownDeadlineError{t.Own}
	}
	return t, true
}

// ownDeadlineError is an error of a use that might go on: the borrower has given a command less time.
type ownDeadlineError struct{ error }

func (e *ownDeadlineError) Unwrap() error { return e.error }

// hasPassed says whether err is about the deadline of a command's context.
func hasPassed(err error) bool {
	unanswered, ok := errors.AsType[*Error](err)
	return ok && unanswered.Err != nil && errors.Is(unanswered.Context, context.DeadlineExceeded)
}
