package redispool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
)

// hook runs between the commands of a connection and the socket. It notes the traces and the
// evidence of each command, and reports the command to the pool's layers. It makes an [Error] of
// each error other than a reply.
type hook struct{ c *Conn }

func (h hook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		own := h.c.given.is(ctx)
		if !driver.Observing(ctx) {
			return h.c.send(ctx, own, cmd, next)
		}
		return h.c.sendObserved(ctx, own, cmd, next)
	}
}

func (h hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		own := h.c.given.is(ctx)
		if !driver.Observing(ctx) {
			return h.c.sendAll(ctx, own, cmds, next)
		}
		return h.c.sendAllObserved(ctx, own, cmds, next)
	}
}

func (c *Conn) sendObserved(ctx context.Context, own bool, cmd redis.Cmder, next redis.ProcessHook) (err error) {
	command := driver.Command{Name: displayName(cmd.Name()), Server: c.addr}
	if driver.ObservingText(ctx) {
		command.Text = text(cmd)
	}
	ctx = driver.BeginCommand(ctx, command)
	err = pool.ErrAborted // the outcome after a panic
	defer func() { driver.EndCommand(ctx, command, err) }()
	err = c.send(ctx, own, cmd, next)
	return err
}

func (c *Conn) sendAllObserved(ctx context.Context, own bool, cmds []redis.Cmder, next redis.ProcessPipelineHook) error {
	command := batchCommand(cmds)
	command.Server = c.addr
	if driver.ObservingText(ctx) {
		command.Text = batchText(cmds)
	}
	ctx = driver.BeginCommand(ctx, command)
	outcome := pool.ErrAborted
	defer func() { driver.EndCommand(ctx, command, outcome) }()
	outcome = c.sendAll(ctx, own, cmds, next)
	return outcome
}

// worst returns the outcome of a pipeline. err is the first error of its commands, as returned by
// go-redis. If err is a miss, worst returns the first error other than a miss. So a miss does not
// hide a failure from the borrower and the layers.
func worst(cmds []redis.Cmder, err error) error {
	if !isNil(err) {
		return err
	}
	for _, cmd := range cmds {
		if other := cmd.Err(); other != nil && !isNil(other) {
			return other
		}
	}
	return err
}

// send takes the turn and sends a command. Without the turn, go-redis would wait for the connection
// and ignore ctx. own is true if ctx is the context of the use, which the pool watches.
func (c *Conn) send(ctx context.Context, own bool, cmd redis.Cmder, next redis.ProcessHook) error {
	if !c.takeTurn(ctx) {
		return &Error{Command: displayName(cmd.Name()), Context: ctx.Err()}
	}
	returned := false
	defer func() { c.leaveTurn(returned) }()
	if !own {
		defer c.heed(ctx)()
	}
	err := c.exchange(ctx, cmd, next)
	returned = true
	return err
}

func (c *Conn) exchange(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
	if err := c.prepare(ctx); err != nil {
		err.Command = displayName(cmd.Name())
		return err
	}
	k := c.kindOf(cmd)
	if t := trace(k & traces); t != 0 {
		c.mark(t)
	}
	c.expect(k, 1, 1)
	if k&unkept != 0 {
		c.waitFor(ctx, cmd)
	}
	use := c.evidence.use.Load() // the use of this command, even if the command returns late
	c.evidence.add(asked)
	// A part of the reply may already have been handed to the caller.
	if cmd.NoRetry() {
		c.evidence.add(done)
	}
	open := c.has(queueing) && k&(ends|kind(queueing)) == 0
	err := next(ctx, cmd)
	if unanswered := c.unanswered(ctx, err); unanswered != nil {
		if unanswered.Err != nil {
			c.evidence.noteUnanswered(k, open)
		}
		unanswered.use, unanswered.Command = use, displayName(cmd.Name())
		if endsServer(cmd, unanswered) {
			return io.EOF // the method of SHUTDOWN treats io.EOF as success
		}
		return unanswered
	}
	if c.socket.misread() {
		c.abort() // the next command would read the rest as its reply
	}
	c.evidence.note(k, cmd, err, open)
	if k&ends != 0 && endsTransaction(k, err) {
		c.clear(watching | queueing)
	}
	c.judge(err)
	return err
}

// prepare reads the late replies to earlier commands. It returns an Error if no command can be
// sent, and nil otherwise.
func (c *Conn) prepare(ctx context.Context) *Error {
	if err := ctx.Err(); err != nil {
		return &Error{Context: err}
	}
	if c.traces.Load()&uint32(aborted|interrupted|late|dead) == 0 {
		return nil
	}
	use := c.evidence.use.Load()
	if first := c.ended.Load(); first != nil {
		return &Error{use: use, Err: &endedError{first}}
	}
	if c.has(aborted) && c.socket.misread() {
		return &Error{use: use, Err: errMisread}
	}
	if c.has(aborted | interrupted) {
		return &Error{use: use, Err: net.ErrClosed}
	}
	if !c.has(late) { // go-redis returns the reason why the connection is dead
		return nil
	}
	if err := c.catchUp(ctx); err != nil {
		return &Error{use: use, Err: err, Context: over(ctx), kept: c.has(late) && !c.has(beyondReset)}
	}
	return nil
}

// expect prepares the socket for n commands with the given number of answers. k is the union of
// their kinds.
func (c *Conn) expect(k kind, n, answers int) {
	c.socket.expect(n, answers, k&unkept == 0 && !c.has(spoiled|pushing), k&uncounted == 0 && !c.has(spoiled))
}

// unanswered makes an Error of err unless err is a reply, and notes the state of the connection.
// err is the error returned by go-redis. unanswered returns nil if there was a reply.
func (c *Conn) unanswered(ctx context.Context, err error) *Error {
	switch why := c.socket.why; {
	case why == nil:
	case !c.socket.unsent:
		c.mark(late)
		return &Error{Err: why, Context: over(ctx), kept: true}
	case over(ctx) != nil || c.has(interrupted):
		return &Error{Context: cmp.Or(over(ctx), context.Canceled), kept: true}
	default: // WriteTimeout has passed
		c.abort()
		return c.end(&Error{Err: why})
	}
	if err == nil || isReply(err) {
		return nil
	}
	c.mark(dead)
	if c.left.Load() {
		err = fmt.Errorf("the primary has changed: %w", err)
	}
	return c.end(&Error{Err: err, Context: over(ctx)})
}

// end notes err as the end of the connection, unless an earlier error is noted.
func (c *Conn) end(err *Error) *Error {
	c.ended.CompareAndSwap(nil, err)
	return err
}

// waitFor sets the deadline for the replies to commands that are meant to block (see
// replyDeadline).
func (c *Conn) waitFor(ctx context.Context, cmds ...redis.Cmder) {
	if until, ok := replyDeadline(ctx, cmds); ok {
		c.socket.waitFor(until)
	}
}

// endsServer reports whether cmd is a SHUTDOWN sent by a method of go-redis, and the server has
// hung up as expected.
func endsServer(cmd redis.Cmder, err *Error) bool {
	_, method := cmd.(*redis.StatusCmd)
	return method && cmd.Name() == "shutdown" && err.Context == nil && (errors.Is(err.Err, io.EOF) || errors.Is(err.Err, syscall.ECONNRESET))
}

// sendAll is send for a pipeline.
func (c *Conn) sendAll(ctx context.Context, own bool, cmds []redis.Cmder, next redis.ProcessPipelineHook) error {
	if !c.takeTurn(ctx) {
		return notSent(cmds, &Error{Command: batchCommand(cmds).Name, Context: ctx.Err()})
	}
	returned := false
	defer func() { c.leaveTurn(returned) }()
	if !own {
		defer c.heed(ctx)()
	}
	err := c.exchangeAll(ctx, cmds, next)
	returned = true
	return err
}

func (c *Conn) exchangeAll(ctx context.Context, cmds []redis.Cmder, next redis.ProcessPipelineHook) error {
	if err := c.prepare(ctx); err != nil {
		err.Command = batchCommand(cmds).Name
		return notSent(cmds, err)
	}
	open := c.has(queueing)
	all, effect := kind(0), false
	for _, cmd := range cmds {
		k := c.kindOf(cmd)
		all |= k
		if cmd.NoRetry() {
			c.evidence.add(done) // see exchange
		}
		effect = effect || k&harmless == 0 || k&(ends|kind(queueing)) != 0
	}
	c.mark(trace(all & traces))
	whole, answers := transaction(cmds), len(cmds)
	if whole {
		answers = 1 // if MULTI is refused, go-redis reads no other reply
	}
	c.expect(all, len(cmds), answers)
	if all&unkept != 0 {
		c.waitFor(ctx, cmds...)
	}
	use := c.evidence.use.Load()
	c.evidence.add(asked)
	err := next(ctx, cmds)
	unanswered := c.unanswered(ctx, err)
	// endTransaction handles a refused MULTI.
	if unanswered == nil && c.socket.misread() && (!whole || cmds[0].Err() == nil) {
		c.abort()
		c.evidence.add(answered)
		if effect {
			c.evidence.add(done)
		}
		return misread(cmds, &Error{Command: batchCommand(cmds).Name, Err: errMisread, use: use})
	}
	if unanswered == nil && err == nil && !effect {
		c.evidence.add(answered)
	} else {
		c.noteAll(cmds, whole, open, unanswered)
	}
	if c.has(watching | queueing) {
		c.replay(cmds)
	}
	if unanswered != nil {
		unanswered.use, unanswered.Command = use, batchCommand(cmds).Name
		return notAnswered(cmds, unanswered)
	}
	if err == nil {
		return nil
	}
	for _, cmd := range cmds {
		c.judge(cmd.Err())
	}
	err = worst(cmds, err)
	if whole {
		return c.endTransaction(cmds, err)
	}
	return err
}

// noteAll notes the outcome of a pipeline as evidence, command by command. open is true if a
// transaction was open before the pipeline. whole is true if the pipeline is a whole transaction.
// Then the commands have the replies returned by EXEC, or were not carried out.
func (c *Conn) noteAll(cmds []redis.Cmder, whole, open bool, unanswered *Error) {
	e := &c.evidence
	carriedOut := whole && (unanswered != nil || cmds[len(cmds)-1].Err() == nil)
	for _, cmd := range cmds {
		k, err := c.kindOf(cmd), cmd.Err()
		noReply := unanswered != nil && (unanswered.kept || err != nil && !isReply(err))
		switch {
		case noReply && unanswered.Err == nil: // not sent
		case noReply:
			e.noteUnanswered(k, !whole && open && k&ends == 0)
		case whole && (!carriedOut || k&(executes|kind(queueing)) != 0):
			e.note(harmless, cmd, err, false)
		default:
			e.note(k, cmd, err, open && k&ends == 0)
		}
		switch {
		case whole:
		case k&kind(queueing) != 0 && err == nil:
			open = true
		case endsTransaction(k, err):
			open = false
		}
	}
}

// misread sets err on the commands whose replies may be parts of other replies. go-redis reads a
// reply to its end unless there is an error or a null in the reply. So misread sets err on the
// commands after the first error. Without an error, misread sets err on all commands but the first.
func misread(cmds []redis.Cmder, err *Error) error {
	first := max(slices.IndexFunc(cmds, func(cmd redis.Cmder) bool { return cmd.Err() != nil }), 0)
	for _, cmd := range cmds[first+1:] {
		cmd.SetErr(err)
	}
	return err
}

// notSent sets err on all commands of a pipeline.
func notSent(cmds []redis.Cmder, err error) error {
	for _, cmd := range cmds {
		cmd.SetErr(err)
	}
	return err
}

// notAnswered sets err on each command with an error other than a reply. If err.kept is true,
// notAnswered sets err on all commands: their replies were made by the socket.
func notAnswered(cmds []redis.Cmder, err *Error) error {
	for _, cmd := range cmds {
		if old := cmd.Err(); err.kept || old != nil && !isReply(old) {
			cmd.SetErr(err)
		}
	}
	return err
}

// judge marks the connection as dead if a reply has made go-redis give up the connection.
func (c *Conn) judge(err error) {
	if err == nil || isNil(err) {
		return
	}
	if redis.IsReadOnlyError(err) {
		c.mark(dead)
	}
	if addr, moved := redis.IsMovedError(err); moved && strings.HasSuffix(addr, c.addr) {
		c.mark(dead)
	}
}

// replay finds out whether a pipeline has left a transaction or watches. It follows the commands in
// their order.
func (c *Conn) replay(cmds []redis.Cmder) {
	for _, cmd := range cmds {
		k := c.kindOf(cmd)
		c.mark(trace(k) & (watching | queueing))
		if k&ends != 0 && endsTransaction(k, cmd.Err()) {
			c.clear(watching | queueing)
		}
	}
}

// endTransaction returns the error of a TxPipelined. err is the first error of its commands. If
// MULTI was refused, endTransaction closes the connection.
func (c *Conn) endTransaction(cmds []redis.Cmder, err error) error {
	exec := cmds[len(cmds)-1]
	if exec.Err() != nil && !endsTransaction(executes|ends, exec.Err()) {
		// MULTI was refused. go-redis has not read the replies to the later commands. No other command
		// may read these replies.
		c.abort()
		return err
	}
	if !redis.IsExecAbortError(err) {
		return err
	}
	for _, cmd := range cmds[1 : len(cmds)-1] {
		if cause := cmd.Err(); cause != nil && !redis.IsExecAbortError(cause) {
			return &abortedError{cause: cause, abort: err}
		}
	}
	return err
}

// abortedError is an EXECABORT reply together with its cause. The cause decides the class.
type abortedError struct{ cause, abort error }

func (e *abortedError) Error() string   { return e.abort.Error() + ": " + e.cause.Error() }
func (e *abortedError) Unwrap() []error { return []error{e.abort, e.cause} }

// RedisError marks abortedError as a reply. So the functions of go-redis about EXECABORT recognize
// it.
func (e *abortedError) RedisError() {}

// isReply and isNil work on errors given to a hook by go-redis, which are never wrapped. Both run
// for every miss, so they do not use errors.As.

func isReply(err error) bool { _, ok := err.(redis.Error); return ok } //nolint:errorlint // above

func isNil(err error) bool { return err == redis.Nil } //nolint:errorlint // above

// transaction reports whether cmds were sent by TxPipelined. A MULTI or EXEC put into a pipeline by
// the borrower is an ordinary command, and has another type.
func transaction(cmds []redis.Cmder) bool {
	last := len(cmds) - 1
	if last < 2 || cmds[0].Name() != "multi" || cmds[last].Name() != "exec" {
		return false
	}
	_, multi := cmds[0].(*redis.StatusCmd)
	_, exec := cmds[last].(*redis.SliceCmd)
	return multi && exec
}

// batchCommand describes a pipeline or a transaction: PIPELINE or MULTI, followed by the name of
// the commands if all have the same name. By the conventions of OpenTelemetry, a pipeline of a
// single command is described as the command. A transaction of a single command stays a
// transaction: the command has the outcome of EXEC.
func batchCommand(cmds []redis.Cmder) driver.Command {
	name, cmds := unwrapped(cmds)
	if len(cmds) == 0 {
		return driver.Command{Name: name, Batch: driver.EmptyBatch}
	}
	first := cmds[0].Name()
	if len(cmds) == 1 && name == pipelineName {
		return driver.Command{Name: displayName(first)}
	}
	for _, cmd := range cmds[1:] {
		if cmd.Name() != first {
			return driver.Command{Name: name, Batch: len(cmds)}
		}
	}
	return driver.Command{Name: name + " " + displayName(first), Batch: len(cmds)}
}

const pipelineName = "PIPELINE"

// unwrapped returns the commands of a transaction without MULTI and EXEC. name is MULTI for a
// transaction, else PIPELINE.
func unwrapped(cmds []redis.Cmder) (name string, inside []redis.Cmder) {
	if last := len(cmds) - 1; last > 0 && cmds[0].Name() == "multi" && cmds[last].Name() == "exec" {
		return "MULTI", cmds[1:last]
	}
	return pipelineName, cmds
}
