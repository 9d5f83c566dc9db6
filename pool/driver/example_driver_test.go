package driver_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
)

// lineConn is a connection to a server that answers every line with a line.
type lineConn struct {
	net.Conn
	answers *bufio.Reader
	unread  bool // a command has been sent, and its answer has not been read to the end
}

// lineError is an answer that begins with "ERR". The server is healthy, but has not carried out the
// command.
type lineError string

func (e lineError) Error() string { return "server: " + string(e) }

// Call sends a line and returns the answer. Call observes the deadline of ctx. For a cancellation,
// the pool calls Interrupt.
func (c *lineConn) Call(ctx context.Context, line string) (string, error) {
	deadline, _ := ctx.Deadline() // the zero time means no deadline
	if err := c.SetDeadline(deadline); err != nil {
		return "", err
	}
	c.unread = true
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		return "", err
	}
	answer, err := c.answers.ReadString('\n')
	if err != nil {
		return "", err
	}
	c.unread = false
	answer = strings.TrimSuffix(answer, "\n")
	if text, failed := strings.CutPrefix(answer, "ERR "); failed {
		return "", lineError(text)
	}
	return answer, nil
}

// lineDriver opens, checks and closes connections. A pool needs no more. Interrupt and Classify are
// optional. Dirty and Reset keep a late answer from the next borrower.
type lineDriver struct{ addr string }

func (d lineDriver) Open(ctx context.Context) (*lineConn, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", d.addr)
	if err != nil {
		return nil, err
	}
	return &lineConn{Conn: c, answers: bufio.NewReader(c)}, nil
}

func (lineDriver) Check(ctx context.Context, c *lineConn) error {
	answer, err := c.Call(ctx, "PING")
	if err == nil && answer != "PONG" {
		err = fmt.Errorf("answer to PING: %q", answer)
	}
	return err
}

func (lineDriver) Close(_ context.Context, c *lineConn) error { return c.Close() }

// Interrupt makes a waiting Call return.
func (lineDriver) Interrupt(c *lineConn) { _ = c.Close() }

// Dirty reports whether an answer is still to come: after a deadline, for example.
func (lineDriver) Dirty(c *lineConn) bool { return c.unread }

// Reset fails, so the pool closes the connection: the answer would be the next borrower's.
func (lineDriver) Reset(context.Context, *lineConn) error {
	return errors.New("an answer has not been read")
}

// Classify knows the answers of the server, and leaves errors of the network to the pool. Any other
// error gives no information about the server. The pool checks the connection before the next
// lease, because the function of the borrower may have hidden an error of the connection.
func (lineDriver) Classify(err error) driver.Class {
	if _, ok := errors.AsType[lineError](err); ok {
		return driver.Class{Code: "ERR"}
	}
	if class, ok := driver.ClassifyCommon(err); ok {
		return class
	}
	return driver.Class{Fault: driver.FaultElsewhere}
}

// A driver for a line protocol over TCP, and a pool with this driver.
func ExampleDriver() {
	addr, stop := serveLines() // a server in this process
	defer stop()
	ctx := context.Background()
	p, err := pool.New(lineDriver{addr}, pool.Config{Name: "lines", MaxSize: 4})
	if err != nil {
		fmt.Println(err)
		return
	}
	answer, err := pool.Get(ctx, p, pool.Op{Name: "ECHO"}, func(ctx context.Context, c *lineConn) (string, error) {
		return c.Call(ctx, "ECHO hello")
	})
	fmt.Println(answer, err)

	if lease, err := p.Acquire(ctx, pool.Op{Name: "DANCE"}); err == nil { // the same as a two-step use
		c, _ := lease.Value()
		_, err = c.Call(lease.Context(), "DANCE")
		lease.Release(err) // the pool judges the connection by the outcome
		fmt.Println(err)
	}
	fmt.Println("health:", p.Check(ctx).Status)
	fmt.Println("opened:", p.Stat().Opened)
	fmt.Println("closed:", p.Close(ctx))
	// Output:
	// hello <nil>
	// server: unknown command
	// health: ok
	// opened: 1
	// closed: <nil>
}
