package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/earnorm/poolstack/pool/driver"
)

// ErrMiss means that memcached has no value for the key.
var ErrMiss = errors.New("memcached: no such key")

// ErrProtocol means that the reply does not belong to the command.
var ErrProtocol = errors.New("memcached: unexpected reply")

// ReplyError is an error reply, such as "SERVER_ERROR out of memory storing object".
type ReplyError string

func (e ReplyError) Error() string { return "memcached: " + string(e) }

// Conn is a connection to memcached, with a single borrower at a time.
type Conn struct {
	net    net.Conn
	read   *bufio.Reader
	unread bool // a command has been sent, and its reply has not been read to the end
}

// Get returns the value of a key, or ErrMiss.
func (c *Conn) Get(ctx context.Context, key string) ([]byte, error) {
	name, flags, size := "", 0, 0
	line, err := c.command(ctx, "get", key, "")
	if err != nil || line == "END" {
		return nil, cmp.Or(err, ErrMiss)
	}
	if _, err := fmt.Sscanf(line, "VALUE %s %d %d", &name, &flags, &size); err != nil || name != key || size < 0 {
		return nil, ErrProtocol
	}
	value := make([]byte, size+len("\r\nEND\r\n"))
	_, err = io.ReadFull(c.read, value)
	c.unread = err != nil || string(value[size:]) != "\r\nEND\r\n"
	return value[:size], err
}

// Set stores a value for a time, which is rounded up to seconds. 0 means no limit.
func (c *Conn) Set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	line, err := c.command(ctx, "set", key, fmt.Sprintf(" 0 %d %d\r\n%s", (ttl+time.Second-1)/time.Second, len(value), value))
	if err == nil && line != "STORED" {
		return ErrProtocol
	}
	return err
}

var validKey = regexp.MustCompile(`^[!-~]{1,250}$`)

// command sends a command with a key, and returns the first line of the reply.
func (c *Conn) command(ctx context.Context, name, key, rest string) (line string, err error) {
	if !validKey.MatchString(key) {
		return "", errors.New("memcached: a key must have 1 to 250 printable characters, and no spaces")
	}
	cmd := driver.Command{Name: name}
	ctx = driver.BeginCommand(ctx, cmd) // the tracing layer makes a span of the command
	defer func() { driver.EndCommand(ctx, cmd, err) }()
	return c.send(ctx, name+" "+key+rest)
}

// send obeys the deadline of ctx. After a cancellation of ctx the pool calls Driver.Interrupt.
func (c *Conn) send(ctx context.Context, command string) (line string, err error) {
	deadline, _ := ctx.Deadline()   // the zero time means no deadline
	_ = c.net.SetDeadline(deadline) // a closed connection fails at the next line
	c.unread = true
	if _, err := io.WriteString(c.net, command+"\r\n"); err != nil {
		return "", err
	}
	line, err = c.read.ReadString('\n')
	line = strings.TrimRight(line, "\r\n")
	c.unread = err != nil || strings.HasPrefix(line, "VALUE ") // Get reads the value
	if code, _, _ := strings.Cut(line, " "); err == nil && strings.HasSuffix(code, "ERROR") {
		err = ReplyError(line)
	}
	return line, err
}

// Driver opens, checks and closes connections to the server at Address ("host:port").
type Driver struct{ Address string }

// Open connects to the server.
func (d Driver) Open(ctx context.Context) (*Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", d.Address)
	if err != nil {
		return nil, err
	}
	return &Conn{net: c, read: bufio.NewReader(c)}, nil
}

// Check sends a command that every server answers.
func (Driver) Check(ctx context.Context, c *Conn) error {
	line, err := c.send(ctx, "version")
	if err == nil && !strings.HasPrefix(line, "VERSION ") {
		return ErrProtocol
	}
	return err
}

// Close closes the connection.
func (Driver) Close(_ context.Context, c *Conn) error { return c.net.Close() }

// Interrupt makes a command in progress return at once. The pool closes the connection afterwards.
func (Driver) Interrupt(c *Conn) { _ = c.net.Close() }

// Dirty reports whether a reply is still to come: after a deadline, for example. The borrower may
// have hidden the error.
func (Driver) Dirty(c *Conn) bool { return c.unread }

// Reset fails, so the pool closes the connection: the next borrower would read the reply.
func (Driver) Reset(context.Context, *Conn) error { return ErrProtocol }

// Identity describes the server in telemetry.
func (d Driver) Identity() driver.Identity {
	host, port, _ := net.SplitHostPort(d.Address)
	number, _ := strconv.Atoi(port)
	return driver.Identity{System: "memcached", Address: host, Port: number}
}

// Classify tells the meaning of an error.
func (Driver) Classify(err error) driver.Class {
	var reply ReplyError
	switch {
	case errors.As(err, &reply) && strings.HasPrefix(string(reply), "SERVER_ERROR out of memory"):
		return driver.Class{Fault: driver.FaultServer, Narrow: true, Suspect: true, Code: "SERVER_ERROR"}
	case errors.As(err, &reply): // the server is healthy, and refuses the command
		code, _, _ := strings.Cut(string(reply), " ")
		return driver.Class{Suspect: true, Code: code}
	case errors.Is(err, ErrProtocol):
		return driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatIfIdempotent, Broken: true, Type: "protocol"}
	case errors.Is(err, ErrMiss):
		return driver.Class{Miss: true}
	}
	class, ok := driver.ClassifyCommon(err) // errors of the network and of contexts
	if !ok {
		class.Fault = driver.FaultElsewhere
	}
	return class
}
