package pool

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"
)

// Fault says whose failure an error is. A circuit breaker counts [FaultServer] as a failure and [FaultNone] as a success, and no other fault. An
// error budget counts [FaultServer] and [FaultLocal]. [FaultElsewhere] counts as nothing, everywhere: "not the server's fault" does not mean "the
// server is well".
type Fault uint8

// The parties an error can be laid at.
const (
	FaultNone      Fault = iota // nobody's: the server is healthy and has answered, even if with an error the caller did not like
	FaultServer                 // the server, or the way to it
	FaultCaller                 // the caller gave up: its context was cancelled or its deadline passed
	FaultLocal                  // this process refused: the pool is full or closed, a layer rejected the use
	FaultElsewhere              // no evidence: another use's failure, the function's own error, an error before anything was sent
)

// String returns the fault's name in lower case.
func (f Fault) String() string {
	switch f {
	case FaultNone:
		return "none"
	case FaultServer:
		return "server"
	case FaultCaller:
		return "caller"
	case FaultLocal:
		return "local"
	case FaultElsewhere:
		return "elsewhere"
	}
	return "unknown"
}

// Repeat says when an operation that ended with an error may be sent again.
type Repeat uint8

// The answers to whether an operation may be repeated.
const (
	RepeatNever        Repeat = iota // the answer would be the same, or nobody knows what happened
	RepeatIfIdempotent               // the server may or may not have executed it
	RepeatAlways                     // nothing was sent, or the server has refused it unexecuted
)

// String returns the answer in lower case.
func (r Repeat) String() string {
	switch r {
	case RepeatNever:
		return "never"
	case RepeatIfIdempotent:
		return "if idempotent"
	case RepeatAlways:
		return "always"
	}
	return "unknown"
}

// Class is what an error means, in answers that do not depend on one another. The zero Class is that of success: nobody's fault, nothing
// to repeat, resource intact.
type Class struct {
	Fault  Fault
	Repeat Repeat
	Broken bool // the resource is unfit for another use and is closed

	// Narrow: the server refuses this kind of work and serves other work. Examples: no memory for a write, no right for a collection, no
	// quorum for a write concern. Backends set Narrow beside FaultServer. A quick answer with Narrow opens no breaker for all work.
	Narrow bool

	// Suspect: nobody knows whether the resource is fit. The pool checks the resource before the next lending; with a negative
	// Config.CheckAfter the pool closes the resource. Without a testimony ([Witness]) the pool sets Suspect beside FaultElsewhere by itself.
	Suspect bool

	// Certain: the client knows by itself that no server is there, whatever the time of this use. Example: a use that waited for a server until
	// its deadline, while all dials failed. Such an error stays the server's when the caller's context is over. Backends set Certain
	// beside FaultServer.
	Certain bool

	Miss       bool          // the error only says that there is no such thing (redis.Nil): no error for spans and metrics
	Code       string        // the server's own status code ("WRONGTYPE", "11000"), "" when it gave none; low-cardinality
	Type       string        // error.type for telemetry: Code, or a reason such as "timeout"; low-cardinality; filled in by Call.Classify
	RetryAfter time.Duration // the least time the server asked to be left alone for; 0 when it did not say
}

// Classified is an error with a class of its own: an error of the pool, or of a layer that rejects or bounds a use. The outermost one in a chain
// decides. Class may be called concurrently.
//
// A borrower's function may use another pool, or the same pool once more, and return the error of the inner use. That error is a [UseError]: the
// enclosing use does not ask for its class. An error that ended the caller's context is the caller's.
type Classified interface {
	error
	Class() Class
}

// A Classifier is a [Driver] that knows the errors of its backend. Without a Classifier the pool uses [ClassifyCommon]. A Classifier can do the
// same: classify the answers of its server, and leave all other errors to ClassifyCommon.
//
// Classify gets the errors of the driver's methods and of the borrowers' functions: never nil, possibly wrapped, without the failures of other
// uses ([UseError]). Classify must be a pure function and may be called concurrently. An unknown error is no answer of the server: its class has
// [FaultElsewhere]. The zero Class would call a server well without evidence. The unknown error may be an error of the resource of which the
// function has kept the text only. So the pool checks the resource before the next lending ([Class].Suspect), unless a [Witness] testifies.
// An error of Open that should not be met again, such as a wrong password, needs a class with FaultServer and [RepeatNever]: an unknown one may
// be repeated, as nothing was sent.
//
// The pool corrects the class. While the caller's context is over, Repeat is [RepeatNever], and Fault is [FaultCaller] unless the class is
// Certain; likewise for a cancellation while the attempt's context is cancelled. Other cancellations are the driver's to judge: a client may
// cancel work by itself. A [Witness] corrects the class, too.
type Classifier interface {
	Classify(err error) Class
}

// ask has the driver classify err. After a panic the common classifier serves.
func (h *hub) ask(class *Class, err error) {
	asked := false
	defer func() {
		if !asked && recover() != nil {
			*class = defaultClassifier{}.Classify(err)
		}
	}()
	*class = h.classifier.Classify(err)
	asked = true
}

// classifyOpening gives the class of what opening a resource has met, whoever made it.
func (h *hub) classifyOpening(err error) (class Class) {
	plain := isPlain(err)
	if own, ok := find(err, anyClassified); ok && !plain {
		class = own.Class()
	} else {
		h.ask(&class, err)
	}
	class.name(err, plain)
	return class
}

// isPlain says that there is nothing to find in err. One look at its type spares most errors of servers the walks along the chain.
func isPlain(err error) bool {
	switch err.(type) { //nolint:errorlint // about this very error
	case Classified, timeouter, interface{ Is(target error) bool }, interface{ Unwrap() error }, interface{ Unwrap() []error }:
		return false
	}
	return err != context.Canceled //nolint:errorlint // as before
}

// name fills in Type: the server's code, else a reason of the driver's or a layer's, else what can be told from the error, else _OTHER, which
// OpenTelemetry's conventions keep for what has no name.
func (c *Class) name(err error, plain bool) {
	switch {
	case c.Miss || c.Type != "":
	case c.Code != "":
		c.Type = c.Code
	case !plain && errors.Is(err, context.Canceled):
		c.Type = "canceled"
	case !plain && isTimeout(err):
		c.Type = "timeout"
	case c.Broken && c.Fault == FaultServer:
		c.Type = breakage(err)
	default:
		c.Type = "_OTHER"
	}
}

// find returns the outermost error in err's tree that is E and suits. It is errors.As without reflection and allocation, for it runs on
// every failed use, several times.
func find[E any](err error, suits func(E) bool) (found E, ok bool) {
	for err != nil {
		if e, ok := err.(E); ok && suits(e) {
			return e, true
		}
		switch w := err.(type) { //nolint:errorlint // this is the walk along the chain
		case interface{ Unwrap() error }:
			err = w.Unwrap()
		case interface{ Unwrap() []error }:
			for _, branch := range w.Unwrap() {
				if e, ok := find(branch, suits); ok {
					return e, true
				}
			}
			return found, false
		default:
			return found, false
		}
	}
	return found, false
}

func anyClassified(Classified) bool { return true }

type timeouter interface{ Timeout() bool }

// isTimeout says whether err is about time that ran out: a context's, a socket's, or any error that says so itself.
func isTimeout(err error) bool {
	_, ok := find(err, timeouter.Timeout)
	return ok
}

// defaultClassifier is the Classifier of a driver without one.
type defaultClassifier struct{}

func (defaultClassifier) Classify(err error) Class {
	if class, ok := ClassifyCommon(err); ok {
		return class
	}
	return Class{Fault: FaultElsewhere, Suspect: true}
}

// ClassifyCommon classifies the errors of any backend's client: an error of the network, the end of a stream, a failed TLS handshake, a timeout, an
// error of a context. All of them break the resource. For any other error ok is false and the class is zero. For nil ok is true. ClassifyCommon is
// a pure function and may be called concurrently.
//
// For a driver without a [Classifier] the pool calls ClassifyCommon. There an unknown error may be an unwelcome answer as well as the end of the
// connection. So the error is nobody's fault ([FaultElsewhere]) and is not repeated, and the pool checks the resource before the next lending
// ([Class].Suspect). If opening a resource met the error, nothing was sent: the error is the server's, and the use may be repeated.
func ClassifyCommon(err error) (class Class, ok bool) {
	var (
		op     *net.OpError
		dns    *net.DNSError
		verify *tls.CertificateVerificationError
		header tls.RecordHeaderError
	)
	switch {
	case err == nil:
		return Class{}, true
	case errors.Is(err, context.Canceled):
		return Class{Fault: FaultCaller, Broken: true}, true
	case errors.As(err, &verify), errors.As(err, &header): // the same next time
		return Class{Fault: FaultServer, Broken: true, Type: "tls"}, true
	case errors.As(err, &op) && op.Op == "dial", errors.As(err, &dns): // nothing was sent
		return Class{Fault: FaultServer, Repeat: RepeatAlways, Broken: true}, true
	case errors.As(err, &op), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), isTimeout(err):
		return Class{Fault: FaultServer, Repeat: RepeatIfIdempotent, Broken: true}, true
	}
	return Class{}, false
}
