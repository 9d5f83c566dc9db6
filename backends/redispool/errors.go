package redispool

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Error is a command that got no reply: the connection failed, or the context was over. Replies, even those that are errors, are never
// wrapped by it; they are what go-redis makes of them.
//
// It wraps Err, and the context's error if the context was over: errors.Is(err, context.Canceled) holds for a command whose connection
// was closed because its context was cancelled, and errors.Is(err, context.DeadlineExceeded) for one whose socket timed out because of
// its context's deadline.
type Error struct {
	Command string // "GET"; "PIPELINE" or "MULTI" for several; "CONNECT" for the opening of a connection
	Err     error  // what the client met; nil when the command was not sent because its context was over
	Context error  // context.Canceled or context.DeadlineExceeded; nil when the context was not over

	use  uint64 // of which connection; 0 outside of any
	kept bool   // the connection waits for the reply, and is used again
}

// Error names the command, never its arguments.
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

// Unwrap returns Context and Err, as far as there are.
func (e *Error) Unwrap() []error {
	var errs []error
	for _, err := range []error{e.Context, e.Err} {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// endedError is the error of a command that is not sent, as an earlier one of the same use has ended the connection.
type endedError struct{ first *Error }

func (e *endedError) Error() string {
	return "not sent: the connection has ended: " + strings.TrimPrefix(e.first.Error(), "redispool: ")
}
func (e *endedError) Unwrap() error { return e.first }

// errMisread is the error of commands that would get parts of an earlier command's reply.
var errMisread = errors.New("an earlier reply was not read to its end")

// over returns the error of a context that is over. A context whose deadline has passed is over even if its timer has not fired yet: the
// socket's may be the faster one.
func over(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if d, ok := ctx.Deadline(); ok && !time.Now().Before(d) {
		return context.DeadlineExceeded
	}
	return nil
}

// withheld is a reply to HELLO or AUTH whose text is not shown, because old servers repeat the arguments of a command they do not know.
type withheld string // the reply's code

func (w withheld) Error() string {
	return string(w) + " (the rest of the reply is withheld: it repeats the credentials)"
}

// RedisError makes it a reply.
func (withheld) RedisError() {}

var _ redis.Error = withheld("")

// discreet returns err, the reply to a command that carried password, in a form that does not contain it.
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
