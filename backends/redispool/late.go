package redispool

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// The deadline of a command may pass, or its use may be interrupted, while the server still works
// on the reply. The caller returns at once, and the connection stays open:
//
//   - The connection is kept if the command was written completely and no byte of the reply had
//     arrived. A connection with a blocking command (BLPOP, WAIT) is not kept, nor a session with
//     pushed messages (CLIENT TRACKING).
//   - The connection is dirty as long as replies are late. The pool does not hand out a dirty
//     connection: Reset reads and discards the late replies. The next command of the same use does
//     the same first.
//   - Reset waits for 4 times the delay of the slowest recent late reply, at least 250 ms and at
//     most 900 ms. The pool's CheckTimeout (default 1 s) also bounds the wait. If the replies do
//     not arrive in time, the connection is closed. If the bound was too short, the bound is
//     doubled for the next connection with late replies, up to 900 ms.

const (
	shortestPatience = 250 * time.Millisecond
	longestPatience  = 900 * time.Millisecond
	patienceFactor   = 4
)

// patience computes how long to wait for late replies. The zero patience has no measurement and
// gives longestPatience.
type patience struct{ lately atomic.Int64 } // the slowest recent delay, in nanoseconds

func (p *patience) bound() time.Duration {
	lately := time.Duration(p.lately.Load())
	if lately == 0 {
		return longestPatience
	}
	return min(max(lately*patienceFactor, shortestPatience), longestPatience)
}

// took notes the delay of a connection's late replies. A slow reply is forgotten step by step: each
// faster reply removes 1/8 of the difference.
func (p *patience) took(d time.Duration) {
	const forget = 8
	lately := time.Duration(p.lately.Load())
	p.lately.Store(int64(max(d, lately-(lately-d)/forget, 1)))
}

// ranOut notes that the bound was too short. The next bound is twice as long.
func (p *patience) ranOut(bound time.Duration) { p.lately.Store(int64(bound * 2 / patienceFactor)) }

// catchUp reads and discards the late replies. It returns an error if the replies do not arrive in
// time. Then the rest of the replies is still late, unless the connection is dead. The caller holds
// the turn.
func (c *Conn) catchUp(ctx context.Context) error {
	began, bound := time.Now(), c.driver.patience.bound()
	deadline := began.Add(bound)
	own := true
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline, own = d, false
	}
	s := c.socket
	if err := s.SetReadDeadline(deadline); err != nil {
		return err
	}
	buffer := make([]byte, 16<<10)
	for !s.late.idle() {
		n, err := s.Conn.Read(buffer)
		rest, lost := s.late.feed(buffer[:n])
		switch {
		case lost != nil:
			return c.lost(lost)
		case len(rest) > 0:
			return c.lost(fmt.Errorf("%d bytes follow that nobody has asked for", len(rest)))
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			if own && s.stopped.Load() == 0 {
				c.driver.patience.ranOut(bound)
			}
			return &lateError{time.Since(began)}
		default:
			return c.lost(err)
		}
	}
	c.driver.patience.took(time.Since(began))
	c.clear(late)
	return nil
}

// lost closes the connection, because the end of the late replies cannot be found.
func (c *Conn) lost(err error) error {
	c.abort()
	return fmt.Errorf("late replies: %w", err)
}

// lateError is the error if late replies have not arrived in time. It is a timeout ([net.Error]).
type lateError struct{ waited time.Duration }

func (e *lateError) Error() string {
	return fmt.Sprintf("late replies have not come within %v", e.waited.Round(time.Millisecond))
}

func (e *lateError) Timeout() bool   { return true }
func (e *lateError) Temporary() bool { return true }
func (e *lateError) Unwrap() error   { return os.ErrDeadlineExceeded }

var _ net.Error = (*lateError)(nil)
