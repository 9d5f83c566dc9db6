package redispool

import (
	"context"
	"sync"
)

// go-redis honours the deadline of a command's context, not its cancellation. The pool sees to the context of the use ([pool.Interrupter]). A
// borrower may give a command another context, such as one with a cancel of the borrower's own: the command watches that one itself. A command
// that is cut in this way leaves a late reply, as one whose deadline has passed does (late.go), and the use goes on.

// useContext is the context that the borrower of a connection got.
type useContext struct {
	mu  sync.Mutex // a goroutine that the borrower has left behind may ask late
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

// is says whether ctx is that very context. Contexts of a type that cannot be compared are others.
func (u *useContext) is(ctx context.Context) (same bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	defer func() { _ = recover() }()
	return u.ctx == ctx
}

// lasts says whether the use might go on.
func (u *useContext) lasts() bool {
	u.mu.Lock()
	ctx := u.ctx
	u.mu.Unlock()
	return ctx != nil && over(ctx) == nil
}

// heed has the command in progress return when ctx is over, until the returned function is called. Whoever calls heed has the turn.
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
