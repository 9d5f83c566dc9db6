package redispool

import (
	"context"
	"sync"
)

// go-redis obeys the deadline of a command's context, but not the cancellation. The pool watches
// the context of the use ([driver.Interrupter]). A borrower may give a command another context, for
// example a context with its own cancel function. Then the command itself watches this context.
// After the cancellation the reply is late, as after a deadline (late.go), and the use goes on.

// useContext holds the context given to the borrower of a connection.
type useContext struct {
	mu  sync.Mutex // a goroutine of the borrower may outlive the use
	ctx context.Context
}

func (u *useContext) set(ctx context.Context) {
	u.mu.Lock()
	u.ctx = ctx
	u.mu.Unlock()
}

func (u *useContext) forget() {
	u.mu.Lock()
	u.ctx = nil
	u.mu.Unlock()
}

// is reports whether ctx is the context of the use. A context of a type that cannot be compared
// counts as another context.
func (u *useContext) is(ctx context.Context) (same bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	defer func() { _ = recover() }()
	return u.ctx == ctx
}

// lasts reports whether the context of the use is not done.
func (u *useContext) lasts() bool {
	u.mu.Lock()
	ctx := u.ctx
	u.mu.Unlock()
	return ctx != nil && over(ctx) == nil
}

// heed makes the command in progress return when ctx is done. The caller calls cease after the
// command. The caller holds the turn.
func (c *Conn) heed(ctx context.Context) (cease func()) {
	if ctx.Done() == nil {
		return func() {}
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		c.socket.stop(byCommand)
	})
	return func() {
		if !stop() {
			<-stopped
			c.socket.resume(byCommand)
		}
	}
}
