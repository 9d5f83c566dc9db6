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
)

// hook sits between a connection's commands and the wire. It notes what they leave behind, tells the pool's layers of them, and makes an
// [Error] of what is no reply.
type hook struct{ c *Conn }

func (h hook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		own := h.c.given.is(ctx)
		if !pool.Observing(ctx) {
			return h.c.send(ctx, own, cmd, next)
		}
		return h.c.sendObserved(ctx, own, cmd, next)
	}
}

func (h hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		own := h.c.given.is(ctx)
		if !pool.Observing(ctx) {
			return h.c.sendAll(ctx, own, cmds, next)
		}
		return h.c.sendAllObserved(ctx, own, cmds, next)
	}
}

func (c *Conn) sendObserved(ctx context.Context, own bool, cmd redis.Cmder, next redis.ProcessHook) (err error) {
	command := pool.Command{Name: displayName(cmd.Name())}
	if pool.ObservingText(ctx) {
		command.Text = text(cmd)
	}
	ctx = pool.BeginCommand(ctx, command)
	err = pool.ErrAborted // what a panic leaves
	defer func() { pool.EndCommand(ctx, command, err) }()
	err = c.send(ctx, own, cmd, next)
	return err
}

func (c *Conn) sendAllObserved(ctx context.Context, own bool, cmds []redis.Cmder, next redis.ProcessPipelineHook) error {
	command := batchCommand(cmds)
	if pool.ObservingText(ctx) {
		command.Text = batchText(cmds)
	}
	ctx = pool.BeginCommand(ctx, command)
	outcome := pool.ErrAborted
	defer func() { pool.EndCommand(ctx, command, outcome) }()
	outcome = c.sendAll(ctx, own, cmds, next)
	return outcome
}

// worst is the outcome of a pipeline that go-redis says has ended with err, the first error of its commands: a miss hides no failure, from
// the borrower and from the layers.
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

// send sends a command when its turn has come. go-redis by itself would have it wait for the connection without heeding ctx. own says that ctx
// is the context of the use, which the pool watches.
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
	use := c.evidence.use.Load() // of which this command is, however late it returns
	c.evidence.add(asked)
	if cmd.NoRetry() { // what has been read of the reply is out of our hands
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
			return io.EOF // which its method takes for success
		}
		return unanswered
	}
	if c.socket.misread() {
		c.abort() // the next command would get the rest for an answer
	}
	c.evidence.note(k, cmd, err, open)
	if k&ends != 0 && endsTransaction(k, err) {
		c.clear(watching | queueing)
	}
	c.judge(err)
	return err
}

// prepare says why nothing can be sent; nil if something can. Late replies to what was sent before are read first.
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
	if !c.has(late) { // go-redis says why it has given the connection up
		return nil
	}
	if err := c.catchUp(ctx); err != nil {
		return &Error{use: use, Err: err, Context: over(ctx), kept: c.has(late) && !c.has(beyondReset)}
	}
	return nil
}

// expect prepares the socket for so many commands; k are their kinds together.
func (c *Conn) expect(k kind, n, answers int) {
	c.socket.expect(n, answers, k&unkept == 0 && !c.has(spoiled|pushing), k&uncounted == 0 && !c.has(spoiled))
}

// unanswered makes an Error of what is no reply, and notes what has become of the connection; nil is for a reply. err is what go-redis
// returned.
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

// end notes that err has ended the connection, unless something else has before.
func (c *Conn) end(err *Error) *Error {
	c.ended.CompareAndSwap(nil, err)
	return err
}

// waitFor has the replies of commands that are meant to block waited for as long as they say.
func (c *Conn) waitFor(ctx context.Context, cmds ...redis.Cmder) {
	if until, ok := replyDeadline(ctx, cmds); ok {
		c.socket.waitFor(until)
	}
}

// endsServer says whether cmd is a SHUTDOWN by one of go-redis' methods, and the server has hung up as it should.
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
		answers = 1 // go-redis reads no further when MULTI is refused
	}
	c.expect(all, len(cmds), answers)
	if all&unkept != 0 {
		c.waitFor(ctx, cmds...)
	}
	use := c.evidence.use.Load()
	c.evidence.add(asked)
	err := next(ctx, cmds)
	unanswered := c.unanswered(ctx, err)
	if unanswered == nil && c.socket.misread() && (!whole || cmds[0].Err() == nil) { // go-redis knows of a MULTI that was refused
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

// noteAll takes down what has become of a pipeline, command by command. open says that a transaction was open when it was sent; whole, that
// it is one: its commands have the replies that EXEC brought, or were not carried out.
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

// misread sets err on the commands of a pipeline whose replies may be parts of other replies. go-redis reads a reply to the end unless there is
// an error or a null in it.
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

// notAnswered sets err on those that have an error but no reply. What replies say that were made here is no reply.
func notAnswered(cmds []redis.Cmder, err *Error) error {
	for _, cmd := range cmds {
		if old := cmd.Err(); err.kept || old != nil && !isReply(old) {
			cmd.SetErr(err)
		}
	}
	return err
}

// judge notes when a reply has made go-redis give the connection up.
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

// replay works out, in the order of the commands, whether a pipeline leaves a transaction or watches behind.
func (c *Conn) replay(cmds []redis.Cmder) {
	for _, cmd := range cmds {
		k := c.kindOf(cmd)
		c.mark(trace(k) & (watching | queueing))
		if k&ends != 0 && endsTransaction(k, cmd.Err()) {
			c.clear(watching | queueing)
		}
	}
}

// endTransaction looks at what became of a TxPipelined that was answered with err.
func (c *Conn) endTransaction(cmds []redis.Cmder, err error) error {
	exec := cmds[len(cmds)-1]
	if exec.Err() != nil && !endsTransaction(executes|ends, exec.Err()) {
		// MULTI was refused, and go-redis has left the replies to all that followed unread. Nobody must take them for his own.
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

// abortedError is EXECABORT together with the reply that was the cause of it, by which it is classified.
type abortedError struct{ cause, abort error }

func (e *abortedError) Error() string   { return e.abort.Error() + ": " + e.cause.Error() }
func (e *abortedError) Unwrap() []error { return []error{e.abort, e.cause} }

// RedisError makes it a reply, so that go-redis' own questions about EXECABORT find it.
func (e *abortedError) RedisError() {}

// isReply and isNil look at errors as go-redis hands them to a hook, which are never wrapped. They run on every miss, so they do without
// errors.As.

func isReply(err error) bool { _, ok := err.(redis.Error); return ok } //nolint:errorlint // see above

func isNil(err error) bool { return err == redis.Nil } //nolint:errorlint // see above

// transaction says whether cmds were sent by TxPipelined. MULTI and EXEC that a borrower puts into a pipeline are commands like others: their
// types are different.
func transaction(cmds []redis.Cmder) bool {
	last := len(cmds) - 1
	if last < 2 || cmds[0].Name() != "multi" || cmds[last].Name() != "exec" {
		return false
	}
	_, multi := cmds[0].(*redis.StatusCmd)
	_, exec := cmds[last].(*redis.SliceCmd)
	return multi && exec
}

// batchCommand describes a pipeline: PIPELINE or MULTI, followed by the command's name if all are the same.
func batchCommand(cmds []redis.Cmder) pool.Command {
	name, cmds := unwrapped(cmds)
	if len(cmds) == 0 {
		return pool.Command{Name: name, Batch: pool.EmptyBatch}
	}
	first := cmds[0].Name()
	for _, cmd := range cmds[1:] {
		if cmd.Name() != first {
			return pool.Command{Name: name, Batch: len(cmds)}
		}
	}
	return pool.Command{Name: name + " " + displayName(first), Batch: len(cmds)}
}

// unwrapped takes off the MULTI and EXEC around the commands of a transaction, and says what they are sent in.
func unwrapped(cmds []redis.Cmder) (name string, inside []redis.Cmder) {
	if last := len(cmds) - 1; last > 0 && cmds[0].Name() == "multi" && cmds[last].Name() == "exec" {
		return "MULTI", cmds[1:last]
	}
	return "PIPELINE", cmds
}

// displayName is a command's name in upper case. What does not look like one, such as a key that was given to Do in the wrong place, is
// not shown.
func displayName(name string) string {
	const longest = 32
	if name == "" || len(name) > longest {
		return "OTHER"
	}
	for i := range len(name) {
		switch b := name[i]; {
		case 'a' <= b && b <= 'z', '0' <= b && b <= '9', b == '.', b == '_', b == '-':
		default:
			return "OTHER"
		}
	}
	return strings.ToUpper(name)
}
