package driver

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"

	"github.com/earnorm/poolstack/pool/internal/errtree"
)

// Fault tells on whose side an error is. A circuit breaker counts [FaultServer] as a failure,
// [FaultNone] as a success, and no other fault. An error budget counts [FaultServer] and
// [FaultLocal]. [FaultElsewhere] counts as nothing, everywhere: an error that is not the server's
// fault does not prove a healthy server.
type Fault uint8

// The values of Fault.
const (
	// FaultNone is no fault. The server is healthy and has answered, perhaps with an error unwelcome
	// to the caller.
	FaultNone Fault = iota
	// FaultServer is a fault of the server, or of the network on the way to the server.
	FaultServer
	// FaultCaller is an end by the caller: the context of the caller was cancelled, or its deadline
	// has passed.
	FaultCaller
	// FaultLocal is a refusal by this process: the pool is full or closed, or a layer rejected the
	// use.
	FaultLocal
	// FaultElsewhere is an error without evidence about the server. Examples: the failure of another
	// use, an error of the borrower's function, an error before anything was sent.
	FaultElsewhere
)

// String returns the name of the fault in lower case.
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

// MarshalText returns the name of the fault.
func (f Fault) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// Repeat tells whether an operation that ended with an error may be sent again.
type Repeat uint8

// The values of Repeat.
const (
	RepeatNever        Repeat = iota // the answer would be the same, or the outcome is unknown
	RepeatIfIdempotent               // the server may have executed the operation
	RepeatAlways                     // nothing was sent, or the server did not execute the operation
)

// String returns the value in lower case, in words.
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

// MarshalText returns the value in words.
func (r Repeat) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// Class is the meaning of an error, in fields independent of each other. The zero Class is the
// class of a success: no fault, nothing to repeat, the resource intact.
type Class struct {
	Fault  Fault
	Repeat Repeat
	Broken bool // the resource is unfit for another use, and the pool closes the resource

	// Narrow: the server refuses this kind of work and serves other work. Examples: no memory for a
	// write, no right for a collection, no quorum for a write concern. Backends set Narrow beside
	// FaultServer. A quick answer with Narrow opens no breaker for all work.
	Narrow bool

	// Suspect: it is unknown whether the resource is fit. The pool checks the resource before the next
	// lease. If Config.CheckAfter is negative, the pool closes the resource. Without a testimony
	// ([Witness]) the pool itself sets Suspect beside FaultElsewhere.
	Suspect bool

	// Certain: the client has its own evidence that no server is reachable, whatever the time limit of
	// this use. Example: a use waited for a server until its deadline, while all dials failed. Such an
	// error stays the server's fault, even if the context of the caller has ended. Backends set
	// Certain beside FaultServer.
	Certain bool

	// Miss: the error only reports a missing value (redis.Nil). Spans and metrics do not count a Miss
	// as an error.
	Miss bool
	// Code is the status code of the server, such as "WRONGTYPE" or "11000". Low-cardinality; "" if
	// the server gave no code.
	Code string
	// Type is the error.type for telemetry: Code, or a reason such as "timeout". Low-cardinality.
	// Call.Classify fills in Type.
	Type string
	// RetryAfter is the minimum pause requested by the server; 0 if the server requested none.
	RetryAfter time.Duration
}

// Classified is an error with its own class: an error of the pool, or of a layer that rejects or
// bounds a use. In a chain of errors the outermost Classified decides. Class may be called
// concurrently.
//
// Two rules limit the use of Class:
//
//   - The borrower's function may run another use inside, of the same pool or of another pool, and
//     return the error of the inner use. The pool ignores this error in the outer use, because the
//     error is marked as a pool.UseError. A Class inside the UseError is not called.
//   - A Classified error may be the cause of the end of the caller's context (context.Cause).
//     Example: the timeout layer of an outer use ends the context of an inner use. In the inner use
//     this error counts as the end of the caller's context, [FaultCaller].
type Classified interface {
	error
	Class() Class
}

// A Classifier is a [Driver] that classifies the errors of its backend. Without a Classifier the
// pool uses [ClassifyCommon]. A Classifier may call ClassifyCommon as well: the Classifier
// classifies the answers of the server, and leaves all other errors to ClassifyCommon.
//
// Classify gets the errors of the driver's methods and of the borrowers' functions. The error is
// never nil, and may be wrapped. Failures of other uses (pool.UseError) have been removed. Classify
// must be a pure function and may be called concurrently.
//
// An unknown error is no answer of the server, so its class must have [FaultElsewhere]. The zero
// Class would report a healthy server without evidence. The unknown error may come from the
// resource, if the borrower's function has kept only the text. So the pool checks the resource
// before the next lease ([Class].Suspect), unless a [Witness] testifies. An unknown error of Open
// may be repeated, because nothing was sent. An error of Open that would only occur again, such as
// a wrong password, needs a class with FaultServer and [RepeatNever].
//
// The pool corrects the returned class:
//
//   - If the context of the caller has ended, Repeat becomes [RepeatNever]. Fault becomes
//     [FaultCaller], unless the class is Certain.
//   - The same holds for a cancellation error while the context of the attempt is cancelled. The
//     driver judges all other cancellations: a client may cancel work by itself.
//   - A [Witness] corrects the class as well.
type Classifier interface {
	// Classify returns the class of err.
	Classify(err error) Class
}

// ClassifyCommon classifies the errors common to the clients of all backends. These are network
// errors, the end of a stream, failed TLS handshakes, timeouts, and errors of a context. Each of
// these errors breaks the resource. For any other error ok is false and the class is zero. For nil
// ok is true and the class is zero. ClassifyCommon is a pure function and may be called
// concurrently.
//
// The pool calls ClassifyCommon for a driver without a [Classifier]. There an unknown error may be
// an unwelcome answer or the end of the connection. So the pool gives an unknown error
// [FaultElsewhere], does not repeat the use, and checks the resource before the next lease
// ([Class].Suspect). An unknown error of Open is the server's fault, and the use may be repeated,
// because nothing was sent.
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
	case errors.As(err, &verify), errors.As(err, &header): // the next dial would fail in the same way
		return Class{Fault: FaultServer, Broken: true, Type: "tls"}, true
	case errors.As(err, &op) && op.Op == "dial", errors.As(err, &dns): // nothing was sent
		return Class{Fault: FaultServer, Repeat: RepeatAlways, Broken: true}, true
	case errors.As(err, &op), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errtree.IsTimeout(err):
		return Class{Fault: FaultServer, Repeat: RepeatIfIdempotent, Broken: true}, true
	}
	return Class{}, false
}
