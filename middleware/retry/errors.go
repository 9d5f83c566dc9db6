package retry

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/earnorm/poolstack/pool"
)

// ErrGaveUp says that an error allows another attempt, which was not made; test for it with errors.Is. [Error.Reason] says why.
var ErrGaveUp = errors.New("gave up")

// Why no further attempt was made: the values of [Error.Reason], and of Event.Reason of a pool.EventGaveUp but for the last.
const (
	ReasonAttempts = "attempts" // Config.MaxAttempts have been made
	ReasonBudget   = "budget"   // the retry budget is used up
	ReasonDeadline = "deadline" // the context's deadline has passed, or would have before the pause was over
	ReasonCanceled = "canceled" // the context was cancelled
	ReasonRefused  = "refused"  // a layer inside, such as an open breaker, refused the next attempt
	ReasonFinal    = "final"    // the last attempt's error allows no repetition; it was not the first
)

// Error is a use that failed although it was, or could have been, attempted again. It wraps what its attempts came to, what refused a
// further one, and the context's error and cause if the context is over. Its class is that of the last attempt's error, unless the caller
// cancelled.
type Error struct {
	Pool     string  // the pool's name
	Attempts int     // how many were made: one that a layer inside refused is none
	Reason   string  // why not more
	Err      error   // what the last attempt came to
	Earlier  []error // what the attempts before it came to, oldest first: one for each other error.type, four at most
	Refusal  error   // what refused the attempt after the last, if Reason is ReasonRefused; else nil

	context error
	class   pool.Class
}

// Error says in one line how many attempts were made, why not more, and what they came to.
func (e *Error) Error() string {
	attempts := "1 attempt"
	if e.Attempts != 1 {
		attempts = fmt.Sprintf("%d attempts", e.Attempts)
	}
	text := fmt.Sprintf("retry: %s after %s: %s", why[e.Reason], attempts, line(e.Err))
	if len(e.Earlier) > 0 {
		before := make([]string, len(e.Earlier))
		for i, err := range e.Earlier {
			before[i] = line(err)
		}
		text += fmt.Sprintf(" (before: %s)", strings.Join(before, "; "))
	}
	if e.Refusal != nil {
		text += fmt.Sprintf(" (the next was refused: %s)", line(e.Refusal))
	}
	return text
}

// line returns the text of err in one line.
func line(err error) string { return strings.ReplaceAll(fmt.Sprint(err), "\n", "; ") }

// why says the reasons in words.
var why = map[string]string{
	ReasonAttempts: "gave up",
	ReasonBudget:   "gave up, the retry budget is used up,",
	ReasonDeadline: "gave up, no time is left for another,",
	ReasonCanceled: "canceled",
	ReasonRefused:  "gave up",
	ReasonFinal:    "failed",
}

// Is makes the error ErrGaveUp, unless its last attempt's error allowed no repetition.
func (e *Error) Is(target error) bool { return target == ErrGaveUp && e.Reason != ReasonFinal }

// Unwrap returns Err, Earlier, Refusal and the context's error, those that there are.
func (e *Error) Unwrap() []error {
	all := append([]error{e.Err}, e.Earlier...)
	for _, err := range []error{e.Refusal, e.context} {
		if err != nil {
			all = append(all, err)
		}
	}
	return all
}

// Class makes the error [pool.Classified].
func (e *Error) Class() pool.Class { return e.class }

// contextError returns why ctx is over, with its cause where that says more.
func contextError(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if err == nil || errors.Is(cause, err) {
		return cause
	}
	return errors.Join(err, cause)
}
