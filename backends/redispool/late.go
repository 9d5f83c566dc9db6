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

// A command's time can run out, or its use be interrupted, while the server still works on the reply. The caller returns at once, and the
// connection lives on:
//
//   - The connection is kept if all of the command had been written and nothing of the reply had arrived. A connection with a blocking
//     command (BLPOP, WAIT) is not kept, nor a session with pushed messages (CLIENT TRACKING).
//   - The connection is dirty as long as replies are late. The pool does not lend a dirty connection: Reset reads the late replies and
//     throws the replies away. The next command of the same use does the same first.
//   - Reset waits four times as long as the slowest late reply lately took, at least 250 ms and at most 900 ms, and never longer than
//     the pool's CheckTimeout, which is a second. Then the connection is closed, and the next connection with late replies is given twice as long.

const (
	shortestPatience = 250 * time.Millisecond
	longestPatience  = 900 * time.Millisecond
	patienceFactor   = 4
)

// patience is how long late replies are waited for. The zero patience knows nothing, and waits for longestPatience.
type patience struct{ lately atomic.Int64 } // how late the slowest one lately was

func (p *patience) bound() time.Duration {
	lately := time.Duration(p.lately.Load())
	if lately == 0 {
		return longestPatience
	}
	return min(max(lately*patienceFactor, shortestPatience), longestPatience)
}

// took notes how late the replies of a connection were. The slowest is forgotten by and by.
func (p *patience) took(d time.Duration) {
	const forget = 8
	lately := time.Duration(p.lately.Load())
	p.lately.Store(int64(max(d, lately-(lately-d)/forget, 1)))
}

// ranOut notes that the bound was too short.
func (p *patience) ranOut(bound time.Duration) { p.lately.Store(int64(bound * 2 / patienceFactor)) }

// catchUp reads the late replies. catchUp fails when the replies do not come in time. The rest of the replies is still late then, unless
// the connection is dead. The caller has the turn.
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

// lost gives the connection up: the end of the late replies cannot be found.
func (c *Conn) lost(err error) error {
	c.abort()
	return fmt.Errorf("late replies: %w", err)
}

// lateError says that replies have not come within the time given. A lateError is a timeout.
type lateError struct{ waited time.Duration }

func (e *lateError) Error() string {
	return fmt.Sprintf("late replies have not come within %v", e.waited.Round(time.Millisecond))
}

func (e *lateError) Timeout() bool   { return true }
func (e *lateError) Temporary() bool { return true }
func (e *lateError) Unwrap() error   { return os.ErrDeadlineExceeded }

var _ net.Error = (*lateError)(nil)
