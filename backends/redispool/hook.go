package redispool

import (
	"context"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/earnorm/poolstack/pool"
)

// hook sits between a connection's commands and the wire. It notes what they leave behind, tells the pool's layers of them, and makes an
// [Error] of what is no reply.
type hook struct{ c *Conn }

func (h hook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if !h.c.ready {
			return h.c.greeting(cmd, next(ctx, cmd))
		}
		if !pool.Observing(ctx) {
			return h.c.send(ctx, cmd, next)
		}
		return h.c.sendObserved(ctx, cmd, next)
	}
}

func (h hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if !h.c.ready {
			return h.c.exchangeAll(ctx, cmds, next) // without a turn: go-redis sends its handshake from within ours
		}
		if !pool.Observing(ctx) {
			return h.c.sendAll(ctx, cmds, next)
		}
		return h.c.sendAllObserved(ctx, cmds, next)
	}
}

// refusal is a reply to HELLO that ends the opening of a connection. It is hidden from go-redis, which takes every reply that is an error
// for a sign that the server does not know HELLO, and would go on to send AUTH.
type refusal struct{ reply error }

func (r *refusal) Error() string { return r.reply.Error() }

// greeting judges the reply to a command of the client's own handshake.
func (c *Conn) greeting(cmd redis.Cmder, err error) error {
	if !isReply(err) || cmd.Name() != "hello" {
		return err
	}
	if known := code(err); known != "ERR" && known != "NOPROTO" || redis.IsMaxClientsError(err) || c.exact {
		return &refusal{err}
	}
	c.fellBack = true
	return err
}

func (c *Conn) sendObserved(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) (err error) {
	command := pool.Command{Name: displayName(cmd.Name())}
	if pool.ObservingText(ctx) {
		command.Text = text(cmd)
	}
	ctx = pool.BeginCommand(ctx, command)
	err = pool.ErrAborted // what a panic leaves
	defer func() { pool.EndCommand(ctx, command, err) }()
	err = c.send(ctx, cmd, next)
	return err
}

func (c *Conn) sendAllObserved(ctx context.Context, cmds []redis.Cmder, next redis.ProcessPipelineHook) error {
	command := batchCommand(cmds)
	if pool.ObservingText(ctx) {
		command.Text = batchText(cmds)
	}
	ctx = pool.BeginCommand(ctx, command)
	outcome := pool.ErrAborted
	defer func() { pool.EndCommand(ctx, command, outcome) }()
	outcome = c.sendAll(ctx, cmds, next)
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

// send sends a command when its turn has come. go-redis by itself would have it wait for the connection without heeding ctx.
func (c *Conn) send(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
	if !c.takeTurn(ctx) {
		return &Error{Command: displayName(cmd.Name()), Context: ctx.Err()}
	}
	returned := false
	defer func() { c.leaveTurn(returned) }()
	err := c.exchange(ctx, cmd, next)
	returned = true
	return err
}

func (c *Conn) exchange(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
	if err := ctx.Err(); err != nil {
		return &Error{Command: displayName(cmd.Name()), Context: err}
	}
	if c.has(aborted) {
		return &Error{use: c.evidence.use.Load(), Command: displayName(cmd.Name()), Err: net.ErrClosed}
	}
	if t := traceOf(cmd); t != 0 {
		c.mark(t)
	}
	use := c.evidence.use.Load() // of which this command is, however late it returns
	c.evidence.add(asked)
	queued := c.has(queueing) && cmd.Name() != "exec"
	err := next(ctx, cmd)
	if err == nil || isReply(err) {
		if name := cmd.Name(); queued {
			c.evidence.note("multi", err)
		} else if name != "exec" || !isNil(err) {
			c.evidence.note(name, err)
		}
	} else {
		c.evidence.add(done) // for all we know
	}
	if c.has(watching|queueing) && endsTransaction(cmd.Name(), err) {
		c.clear(watching | queueing)
	}
	if err == nil || isNil(err) {
		return err
	}
	if isReply(err) {
		c.judge(err)
		return err
	}
	c.mark(dead)
	return &Error{use: use, Command: displayName(cmd.Name()), Err: err, Context: over(ctx)}
}

// sendAll is send for a pipeline.
func (c *Conn) sendAll(ctx context.Context, cmds []redis.Cmder, next redis.ProcessPipelineHook) error {
	if !c.takeTurn(ctx) {
		return notSent(cmds, &Error{Command: batchCommand(cmds).Name, Context: ctx.Err()})
	}
	returned := false
	defer func() { c.leaveTurn(returned) }()
	err := c.exchangeAll(ctx, cmds, next)
	returned = true
	return err
}

func (c *Conn) exchangeAll(ctx context.Context, cmds []redis.Cmder, next redis.ProcessPipelineHook) error {
	if err := ctx.Err(); err != nil {
		return notSent(cmds, &Error{Command: batchCommand(cmds).Name, Context: err})
	}
	if c.has(aborted) {
		return notSent(cmds, &Error{use: c.evidence.use.Load(), Command: batchCommand(cmds).Name, Err: net.ErrClosed})
	}
	for _, cmd := range cmds {
		if t := traceOf(cmd); t != 0 {
			c.mark(t)
		}
	}
	use := c.evidence.use.Load()
	c.evidence.add(asked)
	err := next(ctx, cmds)
	c.noteAll(cmds, err)
	if c.has(watching | queueing) {
		c.replay(cmds)
	}
	if err == nil {
		return nil
	}
	if !isReply(err) {
		c.mark(dead)
		return notAnswered(cmds, &Error{use: use, Command: batchCommand(cmds).Name, Err: err, Context: over(ctx)})
	}
	for _, cmd := range cmds {
		c.judge(cmd.Err())
	}
	err = worst(cmds, err)
	if transaction(cmds) {
		return c.endTransaction(cmds, err)
	}
	return err
}

// noteAll takes down what has become of a pipeline.
func (c *Conn) noteAll(cmds []redis.Cmder, err error) {
	e := &c.evidence
	if err != nil && !isReply(err) {
		e.add(done) // for all we know
	}
	whole := transaction(cmds)
	for i, cmd := range cmds {
		switch failure := cmd.Err(); {
		case failure != nil && !isReply(failure):
		case whole && (i < len(cmds)-1 || isNil(failure)):
			e.note("multi", failure)
		default:
			e.note(cmd.Name(), failure)
		}
	}
}

// notSent sets err on all commands of a pipeline.
func notSent(cmds []redis.Cmder, err *Error) error {
	for _, cmd := range cmds {
		cmd.SetErr(err)
	}
	return err
}

// notAnswered sets err on those that have an error but no reply.
func notAnswered(cmds []redis.Cmder, err *Error) error {
	for _, cmd := range cmds {
		if old := cmd.Err(); old != nil && !isReply(old) {
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
		if t := traceOf(cmd) & (watching | queueing); t != 0 {
			c.mark(t)
		}
		if endsTransaction(cmd.Name(), cmd.Err()) {
			c.clear(watching | queueing)
		}
	}
}

// endTransaction looks at what became of a TxPipelined that was answered with err.
func (c *Conn) endTransaction(cmds []redis.Cmder, err error) error {
	exec := cmds[len(cmds)-1]
	if exec.Err() != nil && !endsTransaction("exec", exec.Err()) {
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
func (e *abortedError) Unwrap() []error { return []error{e.cause, e.abort} }

// isReply and isNil look at errors as go-redis hands them to a hook, which are never wrapped. They run on every miss, so they do without
// errors.As.

func isReply(err error) bool { _, ok := err.(redis.Error); return ok } //nolint:errorlint // see above

func isNil(err error) bool { return err == redis.Nil } //nolint:errorlint // see above

// transaction says whether cmds were sent by TxPipelined.
func transaction(cmds []redis.Cmder) bool {
	return len(cmds) > 2 && cmds[0].Name() == "multi" && cmds[len(cmds)-1].Name() == "exec"
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
