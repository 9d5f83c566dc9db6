package redispool

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/earnorm/poolstack/pool"
)

// replies says what the replies mean by their prefix, but for those that are simply an answer the caller did not like. A reply is narrow if
// the server says that it refuses one kind of work, and is evidence for all work else:
//
//	LOADING      all      nothing is served before the data set has been read
//	BUSY         all      a script runs, and no command but SCRIPT KILL is served; a reason to back off
//	MASTERDOWN   all      no data is served while the primary is out of reach
//	CLUSTERDOWN  all      but narrow when the text says that a slot, or a write, is what is refused
//	max clients  all      (an ERR) the server takes no more connections
//	WRONGPASS    all      this user is not let in
//	NOAUTH       all      the session is nobody's
//	DENIED       all      protected mode lets nobody in from outside
//	OOM          narrow   writes that need memory
//	MISCONF      narrow   writes: the last one could not be saved
//	READONLY     narrow   writes: the server is a replica, and serves reads
//	NOREPLICAS   narrow   writes: too few replicas are in reach
//	NOPERM       narrow   this user has no right to this command or key
//	TRYAGAIN     narrow   commands on several keys of a slot that moves
var replies = map[string]pool.Class{
	// Refused unexecuted, for a while.
	"LOADING":     {Fault: pool.FaultServer, Repeat: pool.RepeatAlways},
	"BUSY":        {Fault: pool.FaultServer, Repeat: pool.RepeatAlways},
	"MASTERDOWN":  {Fault: pool.FaultServer, Repeat: pool.RepeatAlways},
	"CLUSTERDOWN": {Fault: pool.FaultServer, Repeat: pool.RepeatAlways},
	"TRYAGAIN":    {Fault: pool.FaultServer, Repeat: pool.RepeatAlways, Narrow: true},
	"NOREPLICAS":  {Fault: pool.FaultServer, Repeat: pool.RepeatAlways, Narrow: true},
	// Refused unexecuted: the name may lead to another server by now, so the connection goes as well.
	"READONLY": {Fault: pool.FaultServer, Repeat: pool.RepeatAlways, Broken: true, Narrow: true},

	// Refused, and the answer would be the same.
	"OOM":       {Fault: pool.FaultServer, Narrow: true},
	"MISCONF":   {Fault: pool.FaultServer, Narrow: true},
	"NOPERM":    {Fault: pool.FaultServer, Narrow: true},
	"WRONGPASS": {Fault: pool.FaultServer},
	"DENIED":    {Fault: pool.FaultServer},
	// The session lost its authentication, or never had any.
	"NOAUTH": {Fault: pool.FaultServer, Broken: true},
}

// Classify says what err means, as the table in the package's documentation does.
func (d *Driver) Classify(err error) pool.Class {
	if errors.Is(err, redis.Nil) {
		return pool.Class{Miss: true}
	}
	if errors.Is(err, redis.TxFailedErr) {
		return pool.Class{Type: "tx_failed"} // a watched key has changed: the caller's loop reads it again
	}
	if own, ok := errors.AsType[*ownDeadlineError](err); ok {
		return pool.Class{Fault: pool.FaultCaller, Broken: d.Classify(own.error).Broken}
	}
	if aborted, ok := errors.AsType[*abortedError](err); ok {
		return d.Classify(aborted.cause)
	}
	if reply, ok := errors.AsType[redis.Error](err); ok {
		class := classifyReply(reply)
		if class.Code == "READONLY" && d.finder != nil && d.finder.replicas { // a write where only reads belong
			class = pool.Class{Code: class.Code, Broken: true}
		}
		return class
	}
	return classifyFailure(err)
}

func classifyReply(reply redis.Error) pool.Class {
	code := code(reply)
	class := replies[code]
	switch {
	case redis.IsReadOnlyError(reply): // also from within a script
		code = "READONLY"
		class = replies[code]
	case isMaxClients(reply): // the server hangs up after it
		class = pool.Class{Fault: pool.FaultServer, Repeat: pool.RepeatAlways, Broken: true}
	case code == "CLUSTERDOWN":
		text := reply.Error()
		class.Narrow = strings.Contains(text, "slot not served") || strings.Contains(text, "only accepts read")
	case code == "UNBLOCKED" && strings.Contains(reply.Error(), "instance state changed"): // the master became a replica
		class = replies["READONLY"]
	}
	class.Code = code
	return class
}

// isMaxClients says whether the server has too many clients. A node of a cluster says it in other words than a single server.
func isMaxClients(reply error) bool {
	return redis.IsMaxClientsError(reply) || strings.HasPrefix(reply.Error(), "ERR max number of clients")
}

// classifyFailure classifies what is no reply. The hook has made an Error of everything that a command met, so that whatever stands alone
// is the borrower's own: an io.EOF from decoding a value, another service that he could not reach, another client of go-redis that is
// closed.
func classifyFailure(err error) pool.Class {
	if unanswered, ok := errors.AsType[*Error](err); ok {
		return classifyUnanswered(unanswered)
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return pool.Class{Fault: pool.FaultCaller}
	}
	return pool.Class{Fault: pool.FaultElsewhere}
}

// classifyUnanswered looks at nothing but what the command met: an error of the borrower's may stand beside it.
func classifyUnanswered(err *Error) pool.Class {
	if ended, ok := err.Err.(*endedError); ok { //nolint:errorlint // as the hook made it
		return classifyUnanswered(ended.first)
	}
	switch {
	case err.Err == nil:
		return pool.Class{Fault: pool.FaultCaller} // not sent, for its context was over
	case errors.Is(err.Context, context.Canceled): // by the borrower's function, if the use goes on
		return pool.Class{Fault: pool.FaultCaller, Broken: !err.kept}
	case err.kept:
		return pool.Class{Fault: pool.FaultServer, Repeat: pool.RepeatIfIdempotent}
	case errors.Is(err, redis.ErrClosed):
		return pool.Class{Fault: pool.FaultLocal, Broken: true}
	case errors.Is(err, redis.ErrPoolTimeout), errors.Is(err, redis.ErrPoolExhausted):
		return pool.Class{Fault: pool.FaultLocal, Repeat: pool.RepeatAlways}
	case isDisagreement(err), errors.Is(err, errUnknownMaster):
		return pool.Class{Fault: pool.FaultServer, Broken: true}
	case isNotConnected(err):
		return pool.Class{Fault: pool.FaultServer, Repeat: pool.RepeatAlways, Broken: true}
	case isNetwork(err):
		return pool.Class{Fault: pool.FaultServer, Repeat: pool.RepeatIfIdempotent, Broken: true}
	}
	return pool.Class{Broken: true} // an argument could not be encoded, or a reply not be decoded
}

// isNotConnected says whether nothing can have been sent.
func isNotConnected(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial" || errors.Is(err, errNoSentinel) || errors.Is(err, errNoPrimary)
}

// isDisagreement says whether the two sides do not agree about TLS, which another try would not change.
func isDisagreement(err error) bool {
	var (
		op     *net.OpError
		verify *tls.CertificateVerificationError
		header tls.RecordHeaderError
	)
	return errors.As(err, &verify) || errors.As(err, &header) ||
		errors.As(err, &op) && (op.Op == "remote error" || op.Op == "local error")
}

// isNetwork says whether what a command met is about its connection: about its end, or about time.
func isNetwork(err error) bool {
	var (
		op      *net.OpError
		timeout net.Error
	)
	return errors.As(err, &op) || errors.As(err, &timeout) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// code returns the code with which the text of a reply begins, such as WRONGTYPE: a word in capitals. It is "" for what has none, and for
// what is no reply. Where EXEC itself was refused, as in "EXECABORT Transaction discarded because of: READONLY ...", it is that of the
// cause, by which an abortedError is classified as well.
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
