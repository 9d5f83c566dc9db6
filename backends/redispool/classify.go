package redispool

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/earnorm/poolstack/pool/driver"
)

// replies maps the code of an error reply to a class. A code not in the map is an answer of a
// healthy server. A class is narrow if the server refuses a single kind of work and serves other
// work. Any other class is evidence about all work:
//
//	LOADING      all      the server serves no command before it has read the data set
//	BUSY         all      a script runs, only SCRIPT KILL is served; a reason to back off
//	MASTERDOWN   all      the server serves no data while the primary is not reachable
//	CLUSTERDOWN  all      but narrow if the text is about a slot or about writes
//	max clients  all      (an ERR) the server accepts no more connections
//	WRONGPASS    all      the login is refused
//	NOAUTH       all      the session is not authenticated
//	DENIED       all      protected mode refuses clients of other hosts
//	OOM          narrow   writes that need memory
//	MISCONF      narrow   writes: the server could not save its data
//	READONLY     narrow   writes: the server is a replica, and serves reads
//	NOREPLICAS   narrow   writes: too few replicas are reachable
//	NOPERM       narrow   the user has no permission for this command or key
//	TRYAGAIN     narrow   commands on several keys of a slot in migration
var replies = map[string]driver.Class{
	// The server has not executed the command. The refusal is temporary.
	"LOADING":     {Fault: driver.FaultServer, Repeat: driver.RepeatAlways},
	"BUSY":        {Fault: driver.FaultServer, Repeat: driver.RepeatAlways},
	"MASTERDOWN":  {Fault: driver.FaultServer, Repeat: driver.RepeatAlways},
	"CLUSTERDOWN": {Fault: driver.FaultServer, Repeat: driver.RepeatAlways},
	"TRYAGAIN":    {Fault: driver.FaultServer, Repeat: driver.RepeatAlways, Narrow: true},
	"NOREPLICAS":  {Fault: driver.FaultServer, Repeat: driver.RepeatAlways, Narrow: true},
	// The server has not executed the command. The connection is closed as well, because the server's
	// name may lead to another server by now.
	"READONLY": {Fault: driver.FaultServer, Repeat: driver.RepeatAlways, Broken: true, Narrow: true},

	// Another attempt would get the same answer.
	"OOM":       {Fault: driver.FaultServer, Narrow: true},
	"MISCONF":   {Fault: driver.FaultServer, Narrow: true},
	"NOPERM":    {Fault: driver.FaultServer, Narrow: true},
	"WRONGPASS": {Fault: driver.FaultServer},
	"DENIED":    {Fault: driver.FaultServer},
	// The session has lost its authentication, or never had any.
	"NOAUTH": {Fault: driver.FaultServer, Broken: true},
}

// Classify returns the class of err, by the table in the package documentation.
func (d *Driver) Classify(err error) driver.Class {
	if errors.Is(err, redis.Nil) {
		return driver.Class{Miss: true}
	}
	if errors.Is(err, redis.TxFailedErr) {
		// A watched key has changed. The caller reads the key again in a loop.
		return driver.Class{Type: "tx_failed"}
	}
	if own, ok := errors.AsType[*ownDeadlineError](err); ok {
		return driver.Class{Fault: driver.FaultCaller, Broken: d.Classify(own.error).Broken}
	}
	if aborted, ok := errors.AsType[*abortedError](err); ok {
		return d.Classify(aborted.cause)
	}
	if reply, ok := errors.AsType[redis.Error](err); ok {
		class := classifyReply(reply)
		// A write was sent to a pool for reads.
		if class.Code == "READONLY" && d.finder != nil && d.finder.replicas {
			class = driver.Class{Code: class.Code, Broken: true}
		}
		return class
	}
	return classifyFailure(err)
}

func classifyReply(reply redis.Error) driver.Class {
	code := code(reply)
	class := replies[code]
	switch {
	case redis.IsReadOnlyError(reply): // also from a script
		code = "READONLY"
		class = replies[code]
	case isMaxClients(reply): // the server hangs up afterwards
		class = driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatAlways, Broken: true}
	case code == "CLUSTERDOWN":
		text := reply.Error()
		class.Narrow = strings.Contains(text, "slot not served") || strings.Contains(text, "only accepts read")
	// The primary has become a replica.
	case code == "UNBLOCKED" && strings.Contains(reply.Error(), "instance state changed"):
		class = replies["READONLY"]
	}
	class.Code = code
	return class
}

// isMaxClients reports whether the server has too many clients. A node of a cluster uses another
// text than a single server.
func isMaxClients(reply error) bool {
	return redis.IsMaxClientsError(reply) || strings.HasPrefix(reply.Error(), "ERR max number of clients")
}

// classifyFailure classifies an error other than a reply. The hook makes an Error of every failure
// of a command. So an error without an Error is the borrower's own. Examples are an io.EOF from
// decoding a value, a failure to reach another service, and another client of go-redis that is
// closed.
func classifyFailure(err error) driver.Class {
	if unanswered, ok := errors.AsType[*Error](err); ok {
		return classifyUnanswered(unanswered)
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return driver.Class{Fault: driver.FaultCaller}
	}
	return driver.Class{Fault: driver.FaultElsewhere}
}

// classifyUnanswered classifies the failure of a command. It looks only at err, because err may be
// joined with an error of the borrower's own.
func classifyUnanswered(err *Error) driver.Class {
	if ended, ok := err.Err.(*endedError); ok { //nolint:errorlint // made by the hook
		return classifyUnanswered(ended.first)
	}
	switch {
	case err.Err == nil:
		return driver.Class{Fault: driver.FaultCaller} // not sent: the context was done
	// If the use goes on, the borrower's function has cancelled the context.
	case errors.Is(err.Context, context.Canceled):
		return driver.Class{Fault: driver.FaultCaller, Broken: !err.kept}
	case err.kept:
		return driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatIfIdempotent}
	case errors.Is(err, redis.ErrClosed):
		return driver.Class{Fault: driver.FaultLocal, Broken: true}
	case errors.Is(err, redis.ErrPoolTimeout), errors.Is(err, redis.ErrPoolExhausted):
		return driver.Class{Fault: driver.FaultLocal, Repeat: driver.RepeatAlways}
	case isDisagreement(err), errors.Is(err, errUnknownMaster):
		return driver.Class{Fault: driver.FaultServer, Broken: true}
	case isNotConnected(err):
		return driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatAlways, Broken: true}
	case isNetwork(err):
		return driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatIfIdempotent, Broken: true}
	}
	return driver.Class{Broken: true} // an argument was not encoded, or a reply not decoded
}

// isNotConnected reports whether there was no connection, so that nothing can have been sent.
func isNotConnected(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial" || errors.Is(err, errNoSentinel) || errors.Is(err, errNoPrimary)
}

// isDisagreement reports whether client and server do not agree about TLS. Another attempt would
// fail as well.
func isDisagreement(err error) bool {
	var (
		op     *net.OpError
		verify *tls.CertificateVerificationError
		header tls.RecordHeaderError
	)
	return errors.As(err, &verify) || errors.As(err, &header) ||
		errors.As(err, &op) && (op.Op == "remote error" || op.Op == "local error")
}

// isNetwork reports whether err is about a connection that ended or about a timeout.
func isNetwork(err error) bool {
	var (
		op      *net.OpError
		timeout net.Error
	)
	return errors.As(err, &op) || errors.As(err, &timeout) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// code returns the code of an error reply: the first word of the text, in capitals, such as
// WRONGTYPE. It returns "" for a reply without a code and for any other error. If EXEC itself was
// refused, as in "EXECABORT Transaction discarded because of: READONLY ...", code returns the code
// of the cause. An abortedError is also classified by the cause.
func code(err error) string {
	const longest = 32
	reply, ok := errors.AsType[redis.Error](err)
	if !ok {
		return ""
	}
	text := reply.Error()
	if _, cause, found := strings.Cut(text, " because of: "); found && strings.HasPrefix(text, "EXECABORT ") {
		text = cause
	}
	word, _, _ := strings.Cut(text, " ")
	if word == "" || len(word) > longest || strings.Trim(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") != "" {
		return ""
	}
	return word
}
