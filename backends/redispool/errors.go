package redispool

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Error is the error of a command without a reply: the connection failed, or the context was done.
// An Error never wraps a reply. Error replies keep the form of go-redis.
//
// An Error wraps Err. It also wraps the context's error if the context was done. So
// errors.Is(err, context.Canceled) is true if the connection was closed because the command's
// context was cancelled. errors.Is(err, context.DeadlineExceeded) is true if the socket timed out
// because of the deadline of the command's context.
type Error struct {
	// Command is the name: "GET"; "PIPELINE" or "MULTI" for several commands; "_OTHER" for an unknown
	// command; "CONNECT" if the connection could not be opened.
	Command string
	// Err is the error of the client. Err is nil if the command was not sent because its context was
	// done.
	Err error
	// Context is context.Canceled or context.DeadlineExceeded. Context is nil if the context was not
	// done.
	Context error

	use  uint64 // the use of a connection (see evidence); 0 outside a use
	kept bool   // the connection is kept, and waits for the late reply
}

// Error returns a text with the name of the command, and never with the arguments.
func (e *Error) Error() string {
	text := "redispool: " + e.Command
	if e.Context != nil {
		text += ": " + e.Context.Error()
	}
	switch {
	case e.Err == nil:
		return text + ": not sent"
	case e.Context != nil:
		return text + ": " + strings.TrimPrefix(e.Err.Error(), "redis: ")
	}
	return text + ": " + e.Err.Error()
}

// Unwrap returns Context and Err, without nil errors.
func (e *Error) Unwrap() []error {
	var errs []error
	for _, err := range []error{e.Context, e.Err} {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// endedError is the error of a command that was not sent, because an earlier command of the same
// use has ended the connection. first is the error of the earlier command.
type endedError struct{ first *Error }

func (e *endedError) Error() string {
	return "not sent: the connection has ended: " + strings.TrimPrefix(e.first.Error(), "redispool: ")
}
func (e *endedError) Unwrap() error { return e.first }

// errMisread is the error of a command that would read a part of an earlier command's reply.
var errMisread = errors.New("an earlier reply was not read to its end")

// over returns the error of ctx if ctx is done, else nil. A context with a passed deadline counts
// as done even if its timer has not fired yet. The timer of the socket may fire earlier than the
// timer of the context.
func over(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if d, ok := ctx.Deadline(); ok && !time.Now().Before(d) {
		return context.DeadlineExceeded
	}
	return nil
}

// withheld is an error reply to HELLO or AUTH with a hidden text. Old servers repeat the arguments
// of a command they do not know, and the arguments hold the password.
type withheld string // the reply's code

func (w withheld) Error() string {
	return string(w) + " (the rest of the reply is withheld: it repeats the credentials)"
}

// RedisError marks withheld as a reply ([redis.Error]).
func (withheld) RedisError() {}

var _ redis.Error = withheld("")

// discreet returns err in a form without password. err is the reply to a command with the password.
func discreet(err error, password string) error {
	if err == nil || password == "" {
		return err
	}
	text := err.Error()
	if strings.Contains(text, password) || strings.Contains(text, "args beginning with") {
		return withheld(code(err))
	}
	return err
}
