package redispool

import (
	"context"
	"io"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// Conn is a connection to Redis, lent by a pool. It has the commands of [redis.Conn], pipelines and transactions included. It is made
// by a [Driver] and used by one borrower at a time; its methods may be called concurrently, and then wait for one another, none for longer
// than its context lasts. Each command heeds the context that it is given.
//
// Whatever a borrower changes about the session (SELECT, AUTH, WATCH, MULTI, CLIENT SETNAME, ...) is undone before the next borrower gets
// the connection. A command whose context is over is not sent. An error that is no reply is an [Error].
//
// It cannot receive published messages: a subscription needs a connection of its own, so Conn has no Subscribe. [Client.Subscribe] has one.
// SUBSCRIBE, MONITOR and CLIENT REPLY sent by [Conn.Do] cost the connection: it is closed when it comes back.
//
// Of a redis.Conn's methods these are missing: Close, as the pool closes a connection; AddHook and RegisterPushNotificationHandler, as what they
// add would stay for the next borrower; and Monitor, whose connection is no use for anything else.
type Conn struct {
	redis.StatefulCmdable

	client  *redis.Client // its only connection is pinned by session
	session *redis.Conn
	socket  *socket
	addr    string // as go-redis knows it

	driver   *Driver
	fellBack bool // the server refused HELLO and speaks protocol 2
	traces   atomic.Uint32

	evidence evidence
	given    useContext
	left     atomic.Bool           // the server is not the primary any more
	ended    atomic.Pointer[Error] // what has ended the connection in the present use; nil if nothing has

	turn chan struct{} // full while a command or a pipeline is in progress
}

var (
	_ redis.StatefulCmdable = (*Conn)(nil)
	_ redis.Scripter        = (*Conn)(nil)
)

// Do sends a command given by its words, for commands that have no method.
func (c *Conn) Do(ctx context.Context, args ...any) *redis.Cmd { return c.session.Do(ctx, args...) }

// DoRaw is [Conn.Do] with the reply as it comes from the server, in the wire protocol.
func (c *Conn) DoRaw(ctx context.Context, args ...any) *redis.RawCmd {
	return c.session.DoRaw(ctx, args...)
}

// DoRawWriteTo is [Conn.DoRaw] that writes the reply to w as the reply arrives. An error of w costs the connection.
func (c *Conn) DoRawWriteTo(ctx context.Context, w io.Writer, args ...any) *redis.RawWriteToCmd {
	return c.session.DoRawWriteTo(ctx, w, args...)
}

// Wait waits until so many replicas have acknowledged the writes of this connection, for at most timeout; 0 means until ctx is over. It returns
// how many have.
func (c *Conn) Wait(ctx context.Context, replicas int, timeout time.Duration) *redis.IntCmd {
	return c.session.Wait(ctx, replicas, timeout)
}

// WaitAOF is [Conn.Wait] for writes that are on the disks of the server (local is 1) and of so many replicas.
func (c *Conn) WaitAOF(ctx context.Context, local, replicas int, timeout time.Duration) *redis.IntSliceCmd {
	return c.session.WaitAOF(ctx, local, replicas, timeout)
}

// Process sends a command that was made by one of go-redis' constructors, and stores the reply in it.
func (c *Conn) Process(ctx context.Context, cmd redis.Cmder) error {
	return c.session.Process(ctx, cmd)
}

// Watch runs fn after WATCH keys, on this connection. A transaction that fn sends with tx.TxPipelined is carried out only if none of the
// keys has changed since, and is [redis.TxFailedErr] otherwise: nothing was done then, and the whole Watch may be tried again. Watches
// that fn leaves behind are removed.
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
		_ = c.Process(ctx, redis.NewStatusCmd(ctx, "unwatch")) // if that fails, the pool sees to it
	}
	return err
}

// takeTurn waits until nothing is in progress on the connection. It returns false if ctx is over before that. A context is asked for Done
// only if there is something to wait for, because that is what starts the timer of a lazy one.
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

// leaveTurn lets the next command be sent. One that has not returned has panicked, and go-redis has given the connection up.
func (c *Conn) leaveTurn(returned bool) {
	if !returned {
		c.mark(dead)
	}
	<-c.turn
}

// abort ends the connection and every command in progress on it.
func (c *Conn) abort() {
	c.mark(aborted)
	c.socket.abort()
}

func (c *Conn) at() string { return c.addr }

// leave ends the connection, as its server is not the primary any more.
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

// guarded runs f, and has the socket closed if ctx ends meanwhile: go-redis honours a context's deadline, not its cancellation.
func (c *Conn) guarded(ctx context.Context, f func() error) error {
	stop := context.AfterFunc(ctx, c.abort)
	err := f()
	if !stop() && err == nil {
		err = over(ctx)
	}
	return err
}
