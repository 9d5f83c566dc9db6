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
}

// lineError is an answer that begins with "ERR": the server is well, but did not do what it was
// told.
type lineError string

func (e lineError) Error() string { return "server: " + string(e) }

// Call sends a line and returns the answer. It heeds the deadline of ctx; cancellation is left to
// the pool, which interrupts.
func (c *lineConn) Call(ctx context.Context, line string) (string, error) {
	deadline, _ := ctx.Deadline() // the zero time stands for none
	if err := c.SetDeadline(deadline); err != nil {
		return "", err
	}
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		return "", err
	}
	answer, err := c.answers.ReadString('\n')
	if err != nil {
		return "", err
	}
	answer = strings.TrimSuffix(answer, "\n")
	if text, failed := strings.CutPrefix(answer, "ERR "); failed {
		return "", lineError(text)
	}
	return answer, nil
}

// lineDriver opens, checks and closes such connections: that is all a pool needs. Interrupt and
// Classify are optional.
type lineDriver struct{ addr string }

func (d lineDriver) Open(ctx context.Context) (*lineConn, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", d.addr)
	if err != nil {
		return nil, err
	}
	return &lineConn{c, bufio.NewReader(c)}, nil
}

func (lineDriver) Check(ctx context.Context, c *lineConn) error {
	answer, err := c.Call(ctx, "PING")
	if err == nil && answer != "PONG" {
		err = fmt.Errorf("answer to PING: %q", answer)
	}
	return err
}

func (lineDriver) Close(_ context.Context, c *lineConn) error { return c.Close() }

// Interrupt makes a Call that waits for its answer return.
func (lineDriver) Interrupt(c *lineConn) { _ = c.Close() }

// Classify knows the answers of its server, and leaves the network's errors to the pool. Any other
// error says nothing about the server. The pool checks the connection before the next lending, as
// nobody knows what the borrower's function has made of an error of the connection.
func (lineDriver) Classify(err error) driver.Class {
	if _, ok := errors.AsType[lineError](err); ok {
		return driver.Class{Code: "ERR"}
	}
	if class, ok := driver.ClassifyCommon(err); ok {
		return class
	}
	return driver.Class{Fault: driver.FaultElsewhere}
}

// A driver for a line protocol over TCP, and what one does with a pool over it.
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

	if lease, err := p.Acquire(ctx, pool.Op{Name: "DANCE"}); err == nil { // the same in two steps
		c, _ := lease.Value()
		_, err = c.Call(lease.Context(), "DANCE")
		lease.Release(err) // the outcome decides whether the connection is lent again
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
