package retry

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/earnorm/poolstack/pool/driver"
)

// ErrGaveUp matches the error of a use given up although the last error allowed another attempt.
// Test with errors.Is. [Error.Reason] holds the reason.
var ErrGaveUp = errors.New("gave up")

// The reasons for making no further attempt: the values of [Error.Reason]. Event.Reason of a
// [pool.EventGaveUp] has the same values except ReasonFinal.
const (
	ReasonAttempts = "attempts" // Config.MaxAttempts attempts were made
	ReasonBudget   = "budget"   // the budget is used up, or kept for other operations
	ReasonDeadline = "deadline" // the context's deadline has passed, or would pass in the pause
	ReasonCanceled = "canceled" // the context was cancelled
	ReasonRefused  = "refused"  // a layer inside, such as an open breaker, refused the next attempt
	ReasonFinal    = "final"    // a later attempt failed with an error that allows no retry
)

// Error is the error of a use whose first error allowed another attempt, whether or not another
// attempt was made. Error wraps the errors of the attempts, the refusal of a further attempt, and
// the error and cause of the context if the context is over. The class of Error is the class of the
// last attempt's error. With ReasonCanceled, the class has [driver.FaultCaller].
type Error struct {
	Pool     string // the pool's name
	Attempts int    // number of attempts, without attempts refused by a layer inside
	Reason   string // why no further attempt was made, such as ReasonAttempts
	Err      error  // error of the last attempt
	// Earlier holds errors of the attempts before, oldest first: the first error of each error.type
	// other than the type of Err, at most 4.
	Earlier []error
	Refusal error // error refusing the next attempt, if Reason is ReasonRefused; else nil

	context error
	class   driver.Class
}

// Error returns a single line with the number of attempts, the reason and the errors.
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

// line returns the text of err in a single line.
func line(err error) string { return strings.ReplaceAll(fmt.Sprint(err), "\n", "; ") }

// why holds the text of each reason.
var why = map[string]string{
	ReasonAttempts: "gave up",
	ReasonBudget:   "gave up, the retry budget is used up,",
	ReasonDeadline: "gave up, no time is left for another,",
	ReasonCanceled: "canceled",
	ReasonRefused:  "gave up",
	ReasonFinal:    "failed",
}

// Is reports whether target is ErrGaveUp and the last error allowed another attempt.
func (e *Error) Is(target error) bool { return target == ErrGaveUp && e.Reason != ReasonFinal }

// Unwrap returns Err and Earlier, and also Refusal and the context's error if not nil.
func (e *Error) Unwrap() []error {
	all := append([]error{e.Err}, e.Earlier...)
	for _, err := range []error{e.Refusal, e.context} {
		if err != nil {
			all = append(all, err)
		}
	}
	return all
}

// Class returns the class described at [Error]. Class implements [driver.Classified].
func (e *Error) Class() driver.Class { return e.class }

// contextError returns the cause of the end of ctx, joined with ctx.Err() if the cause does not
// wrap ctx.Err(). contextError returns nil while ctx is not over.
func contextError(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if err == nil || errors.Is(cause, err) {
		return cause
	}
	return errors.Join(err, cause)
}
