package redispool

import (
	"context"
	"io"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// Conn is a connection to Redis, acquired from a pool. Conn has the commands of [redis.Conn],
// including pipelines and transactions. A [Driver] makes a Conn, and the pool closes the Conn. The
// zero Conn is not usable. A Conn has a single borrower at a time. The methods may be called
// concurrently: they wait for one another, and the command's context bounds each wait. A command
// obeys the deadline and the cancellation of its own context. A command is not sent if its context
// is already done. An error other than an error reply is an [Error].
//
// A borrower may change the session (SELECT, AUTH, WATCH, MULTI, CLIENT SETNAME, ...). The pool
// undoes the changes before the next borrower gets the connection.
//
// A Conn cannot receive published messages, because a subscription needs its own connection. Use
// [Client.Subscribe]. A connection is closed at its release if SUBSCRIBE, MONITOR or CLIENT REPLY
// was sent by [Conn.Do].
//
// Conn leaves out some methods of redis.Conn. Close is missing because the pool closes a
// connection. AddHook and RegisterPushNotificationHandler are missing because the next borrower
// would inherit their additions. Monitor is missing because its connection cannot be used for
// anything else.
type Conn struct {
	redis.StatefulCmdable

	client  *redis.Client // session holds its only connection
	session *redis.Conn
	socket  *socket
	addr    string // in the form of go-redis

	driver   *Driver
	fellBack bool // the server refused HELLO: protocol 2 is used
	traces   atomic.Uint32

	evidence evidence
	given    useContext
	left     atomic.Bool           // the server is no longer the primary
	ended    atomic.Pointer[Error] // ended the connection in the present use, or nil

	turn chan struct{} // a lock: full while a command or a pipeline is in progress
}

var (
	_ redis.StatefulCmdable = (*Conn)(nil)
	_ redis.Scripter        = (*Conn)(nil)
)

// Do sends a command given as a list of words. Do is for commands without a method.
func (c *Conn) Do(ctx context.Context, args ...any) *redis.Cmd { return c.session.Do(ctx, args...) }

// DoRaw is [Conn.Do] with the undecoded reply, in the wire protocol.
func (c *Conn) DoRaw(ctx context.Context, args ...any) *redis.RawCmd {
	return c.session.DoRaw(ctx, args...)
}

// DoRawWriteTo is [Conn.DoRaw], but writes the reply to w while the reply arrives. The connection
// is closed after an error of w.
func (c *Conn) DoRawWriteTo(ctx context.Context, w io.Writer, args ...any) *redis.RawWriteToCmd {
	return c.session.DoRawWriteTo(ctx, w, args...)
}

// Wait waits until the given number of replicas have acknowledged the writes of this connection,
// for at most timeout. A timeout of 0 means until ctx is done. Wait returns the number of replicas
// that have acknowledged the writes.
func (c *Conn) Wait(ctx context.Context, replicas int, timeout time.Duration) *redis.IntCmd {
	return c.session.Wait(ctx, replicas, timeout)
}

// WaitAOF is [Conn.Wait] for writes to disk: on the server (local is 1) and on the given number of
// replicas.
func (c *Conn) WaitAOF(ctx context.Context, local, replicas int, timeout time.Duration) *redis.IntSliceCmd {
	return c.session.WaitAOF(ctx, local, replicas, timeout)
}

// Process sends a command made by a constructor of go-redis, and stores the reply in cmd.
func (c *Conn) Process(ctx context.Context, cmd redis.Cmder) error {
	return c.session.Process(ctx, cmd)
}

// Watch runs WATCH keys and then fn, on this connection. A transaction sent by fn with
// tx.TxPipelined is carried out only if none of the keys has changed since WATCH. Otherwise it
// returns [redis.TxFailedErr] and has changed nothing, so the whole Watch may be tried again. Watch
// removes the watches left by fn.
func (c *Conn) Watch(ctx context.Context, fn func(tx redis.Cmdable) error, keys ...string) error {
	args := make([]any, 1, 1+len(keys))
	args[0] = "watch"
	for _, key := range keys {
		args = append(args, key)
	}
	if err := c.Process(ctx, redis.NewStatusCmd(ctx, args...)); err != nil {
		return err
	}
	err := fn(c.StatefulCmdable)
	if c.has(watching) {
		// After an error the pool resets or closes the connection.
		_ = c.Process(ctx, redis.NewStatusCmd(ctx, "unwatch"))
	}
	return err
}

// takeTurn takes the lock turn: it waits until no command is in progress on the connection. It
// returns false if ctx is done first. It calls ctx.Done only if it has to wait, because Done starts
// the timer of a lazy context (see pool.WithDeadline).
func (c *Conn) takeTurn(ctx context.Context) bool {
	select {
	case c.turn <- struct{}{}:
		return true
	default:
	}
	select {
	case c.turn <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// leaveTurn releases the lock turn, so the next command can be sent. A command that has not
// returned has panicked. Then go-redis has given up the connection.
func (c *Conn) leaveTurn(returned bool) {
	if !returned {
		c.mark(dead)
	}
	<-c.turn
}

// abort closes the socket. Every command in progress on the connection ends.
func (c *Conn) abort() {
	c.mark(aborted)
	c.socket.abort()
}

func (c *Conn) at() string { return c.addr }

// leave closes the connection because its server is no longer the primary.
func (c *Conn) leave() {
	c.left.Store(true)
	c.abort()
}

func (c *Conn) kindOf(cmd redis.Cmder) kind { return c.driver.commands.Load().of(cmd) }

func (c *Conn) mark(t trace) {
	if t != 0 {
		c.traces.Or(uint32(t))
	}
}
func (c *Conn) clear(t trace)    { c.traces.And(^uint32(t)) }
func (c *Conn) has(t trace) bool { return c.traces.Load()&uint32(t) != 0 }

// guarded runs f, and closes the socket if ctx is done meanwhile. go-redis obeys the deadline of a
// context, but not its cancellation.
func (c *Conn) guarded(ctx context.Context, f func() error) error {
	stop := context.AfterFunc(ctx, c.abort)
	err := f()
	if !stop() && err == nil {
		err = over(ctx)
	}
	return err
}
