package mongopool

import (
	"context"
	"crypto/tls"
	"errors"
	"reflect"
	"slices"
	"strconv"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	mongodriver "go.mongodb.org/mongo-driver/v2/x/mongo/driver"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/auth"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/description"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/topology"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
)

// Labels that servers and the driver put on errors. Source: the specifications "Retryable Writes",
// "Transactions" and "Client Backpressure" of MongoDB's drivers.
const (
	labelNetwork       = "NetworkError"
	labelOverloaded    = "SystemOverloadedError" // with labelRetryable: refused before execution
	labelRetryable     = "RetryableError"
	labelNoWrites      = "NoWritesPerformed"
	labelTransient     = "TransientTransactionError" // the transaction was aborted, without effect
	labelUnknownCommit = "UnknownTransactionCommitResult"

	// labelRetryableWrite means that the driver may send the same command again, under the same
	// transaction number.
	labelRetryableWrite = "RetryableWriteError"
)

// Classify returns the class of an error. The package's documentation lists the classes. Only an
// error that one of the driver's types wraps is attributed to MongoDB. Every other error is the
// borrower's own, even a network error or a deadline. Classify may be called concurrently.
//
// Class.Broken is true only for a client that a borrower has disconnected. A lease is the right to
// use the shared client. The sockets belong to the driver, and the driver closes failed sockets by
// itself. Closing the resource as well would repair nothing.
func (d *Driver) Classify(err error) driver.Class {
	if foundNothing(err) {
		return driver.Class{Miss: true}
	}
	class := classify(err)
	// The Repeat of a UseError includes the other commands of the use. The pool itself passes no
	// UseError to Classify.
	if left, ok := errors.AsType[*pool.UseError](err); ok {
		class.Repeat = min(class.Repeat, left.Class().Repeat)
	}
	if class == (driver.Class{Fault: driver.FaultElsewhere}) && (errors.Is(err, mongo.ErrNoDocuments) || errors.Is(err, mongo.ErrFileNotFound)) {
		// The borrower's own error beside ErrNoDocuments may be the borrower's name for a miss.
		class.Miss, class.Fault = true, driver.FaultNone
	}
	return class
}

// foundNothing reports whether err is a miss and nothing else. Misses are common: foundNothing
// saves the search for other errors in err.
func foundNothing(err error) bool {
	for ; err != nil; err = errors.Unwrap(err) { // does not look into joined errors
		if err == mongo.ErrNoDocuments || err == mongo.ErrFileNotFound { //nolint:errorlint // err itself
			return true
		}
	}
	return false
}

// classify returns the class of an error that is more than a miss.
func classify(err error) driver.Class {
	down := (*downError)(nil)
	if own := (*ownDeadlineError)(nil); errors.As(err, &own) {
		return driver.Class{Fault: driver.FaultCaller}
	}
	switch {
	case errors.Is(err, mongo.ErrClientDisconnected), errors.Is(err, topology.ErrTopologyClosed):
		return driver.Class{Fault: driver.FaultLocal, Broken: true, Type: "client_disconnected"}
	// Also for a cancelled context: the driver itself cancels handshakes when a server goes down.
	case errors.As(err, &down), inHandshake(err):
		return unconnected(err)
	case errors.Is(err, context.Canceled):
		return driver.Class{Fault: driver.FaultCaller}
	case errors.Is(err, mongodriver.ErrDeadlineWouldBeExceeded): // not sent: too little time left
		return driver.Class{Fault: driver.FaultCaller, Repeat: driver.RepeatAlways}
	}
	if reason := unsent(err); reason != "" {
		return driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatAlways, Type: reason, Certain: noneIsUp(err)}
	}
	if f, ok := commandFailure(err); ok {
		return f.class()
	}
	if class, ok := classifyWrites(err); ok {
		return class
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return classifyDeadline(err)
	}
	return driver.Class{Fault: driver.FaultElsewhere}
}

// classifyDeadline returns the class of a deadline without a type of the driver. The driver returns
// such an error if the context is over before the driver sends a command. The driver also returns
// such an error, and aborts the transaction, if the context is over before the commit. In both
// cases no server was late.
//
// A wait in vain for a server, a socket or a reply has a type of the driver. So any other deadline
// is the borrower's own. An example is the deadline of another service's client, for which
// MongoDB's breaker must not open. The opening of a resource has no borrower: a deadline there is a
// failure to connect.
func classifyDeadline(err error) driver.Class {
	if opening := (*openError)(nil); errors.As(err, &opening) {
		return unconnected(err)
	}
	return driver.Class{Fault: driver.FaultCaller}
}

// openError wraps an error of the opening of a resource.
type openError struct{ error }

func (e *openError) Unwrap() error { return e.error }

// inHandshake reports whether err is about a socket that could not be made. The borrower's command
// was not sent then. If the borrower's command has failed, the command's error is around the
// ConnectionError. If a handshake has failed, no command's error is around the ConnectionError, or
// the error of the handshake's command is inside. A handshake's error may also have the label of an
// overload, because the driver takes the failure for an overload of the server.
func inHandshake(err error) bool {
	var conn topology.ConnectionError
	if !errors.As(err, &conn) {
		return false
	}
	var outer, inner mongodriver.Error
	return !errors.As(err, &outer) || outer.HasErrorLabel(labelOverloaded) || errors.As(conn.Wrapped, &inner)
}

// waitQueue is the reason when a command has waited in vain for a socket.
const waitQueue = "wait_queue"

// poolCleared is the reason when the driver has closed all sockets to a server, because a socket
// has failed.
const poolCleared = "pool_cleared"

// unsent returns the driver's reason for sending nothing: no server or no socket was available. It
// returns "" for any other error.
func unsent(err error) string {
	if err == nil {
		return ""
	}
	var noServer topology.ServerSelectionError
	var noSocket topology.WaitQueueTimeoutError
	switch {
	case errors.As(err, &noServer):
		return "server_selection"
	case errors.As(err, &noSocket):
		// There is a socket for every lease. So the command has waited for a socket that is being opened,
		// or for a socket with a late reply.
		return waitQueue
	case wasCleared(err), errors.Is(err, topology.ErrPoolClosed), errors.Is(err, topology.ErrServerClosed):
		return poolCleared
	}
	return ""
}

// noneIsUp reports whether the driver knew that no server was up: every known server has failed. A
// server that has not been asked yet has not failed. A set without a primary during an election has
// not failed either.
func noneIsUp(err error) bool {
	var noServer topology.ServerSelectionError
	return errors.As(err, &noServer) && len(noServer.Desc.Servers) > 0 &&
		!slices.ContainsFunc(noServer.Desc.Servers, func(s description.Server) bool { return s.LastError == nil })
}

// wasCleared reports whether the driver has closed all sockets to a server.
func wasCleared(err error) bool {
	var cleared mongodriver.RetryablePoolError
	return errors.As(err, &cleared) && isCleared(cleared)
}

// isCleared reports whether err itself is the driver's error for closed sockets. The driver does
// not export the type of the error. The interface RetryablePoolError also fits errors of other
// packages, so isCleared compares the package of the type as well.
func isCleared(err any) bool {
	_, ok := err.(mongodriver.RetryablePoolError)
	return ok && reflect.TypeOf(err).PkgPath() == topologyPath
}

var topologyPath = reflect.TypeFor[topology.ServerSelectionError]().PkgPath()

// unconnected returns the class of a failure to make a socket. Refused credentials, or a refused
// certificate, would be refused again.
func unconnected(err error) driver.Class {
	class := driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatAlways, Type: "connect"}
	if code := codeOf(err); code != 0 {
		class.Code, class.Type = strconv.Itoa(code), ""
		if refusesLogin(err) {
			class.Repeat = driver.RepeatNever
		}
	}
	if cert := (*tls.CertificateVerificationError)(nil); errors.As(err, &cert) {
		class.Repeat, class.Type = driver.RepeatNever, "certificate"
	}
	return class
}

// failure is the failure of a whole command, taken from any of the driver's error types.
type failure struct {
	code    int
	labels  []string
	backoff time.Duration // the pause that the server asks for
	late    bool          // a deadline passed before the reply
}

// authenticationFailed is the server's code for refused credentials.
const authenticationFailed = 18

// refusesLogin reports whether a server has refused the credentials. Servers have many codes for a
// refusal, such as 18, 11, 334, and 8000 of Atlas. So any error code in reply to an authentication
// is a refusal, except a code about the server's own state.
func refusesLogin(err error) bool {
	code := codeOf(err)
	if code == authenticationFailed {
		return true
	}
	login := (*auth.Error)(nil)
	return code != 0 && errors.As(err, &login) && codeClass(code).Repeat == driver.RepeatNever
}

// codeOf returns the server's code in the error of a whole command, or 0 if there is none.
func codeOf(err error) int {
	f, _ := commandFailure(err)
	return f.code
}

func commandFailure(err error) (failure, bool) {
	var inner mongodriver.Error // the type in command monitors and in a CommandError
	seen := errors.As(err, &inner)
	f := failure{int(inner.Code), inner.Labels, inner.BaseBackoff, errors.Is(err, context.DeadlineExceeded)}
	if cmd, ok := errors.AsType[mongo.CommandError](err); ok {
		f.code, f.labels, seen = int(cmd.Code), cmd.Labels, true
	}
	return f, seen
}

func (f failure) has(label string) bool { return slices.Contains(f.labels, label) }

func (f failure) class() driver.Class {
	class := codeClass(f.code)
	switch {
	case f.has(labelOverloaded):
		class.Fault, class.Narrow, class.Repeat, class.RetryAfter = driver.FaultServer, false, driver.RepeatNever, f.backoff
		if f.has(labelRetryable) {
			class.Repeat = driver.RepeatAlways
		}
	case f.has(labelNetwork):
		class.Fault, class.Narrow, class.Repeat = driver.FaultServer, false, driver.RepeatIfIdempotent
		if !f.late {
			class.Type = "network"
		}
	case f.has(labelUnknownCommit):
		class.Repeat = driver.RepeatIfIdempotent
	case f.has(labelNoWrites), f.has(labelTransient):
		class.Repeat = driver.RepeatAlways
	}
	return class
}

// classifyWrites returns the class of an error of writes. The server has carried out the writes in
// part, or without the confirmation that was asked for. ok is false if err is no such error.
func classifyWrites(err error) (driver.Class, bool) {
	codes, unconfirmed := writeCodes(err)
	if codes == nil && unconfirmed == nil {
		return driver.Class{}, false
	}
	return worstOf(codes, unconfirmed), true
}

// writeCodes returns the codes of the failed writes, and the errors of the unconfirmed writes. Both
// are nil if err is no error of writes. codes is empty, but not nil, if err is an error of writes
// without codes.
func writeCodes(err error) (codes []int, unconfirmed []mongo.WriteConcernError) {
	var one mongo.WriteException
	var many mongo.BulkWriteException
	var client mongo.ClientBulkWriteException
	switch {
	case errors.As(err, &one):
		codes = make([]int, 0, len(one.WriteErrors))
		for _, e := range one.WriteErrors {
			codes = append(codes, e.Code)
		}
		unconfirmed = pointee(one.WriteConcernError)
	case errors.As(err, &many):
		codes = make([]int, 0, len(many.WriteErrors))
		for _, e := range many.WriteErrors {
			codes = append(codes, e.Code)
		}
		unconfirmed = pointee(many.WriteConcernError)
	case errors.As(err, &client):
		codes = make([]int, 0, 1+len(client.WriteErrors))
		if client.WriteError != nil {
			codes = append(codes, client.WriteError.Code)
		}
		for _, e := range client.WriteErrors {
			codes = append(codes, e.Code)
		}
		unconfirmed = client.WriteConcernErrors
	}
	return codes, unconfirmed
}

func pointee(e *mongo.WriteConcernError) []mongo.WriteConcernError {
	if e == nil {
		return nil
	}
	return []mongo.WriteConcernError{*e}
}

// worstOf returns a single class for the errors of several writes. A failure of the server weighs
// more than a mistake of the borrower. A failure that concerns all work weighs most. Some writes
// may have been carried out, so a repetition is never safe by itself.
func worstOf(codes []int, unconfirmed []mongo.WriteConcernError) driver.Class {
	var worst driver.Class
	for i, code := range codes {
		if class := codeClass(code); i == 0 || weight(class) > weight(worst) {
			worst = class
		}
	}
	for _, e := range unconfirmed {
		if class := unconfirmedClass(e.Code); weight(class) > weight(worst) {
			worst = class
		}
	}
	worst.Repeat = min(worst.Repeat, driver.RepeatIfIdempotent)
	return worst
}

func weight(class driver.Class) int {
	switch {
	case class.Fault != driver.FaultServer:
		return 0
	case class.Narrow:
		return 1
	}
	return 2
}

// unconfirmedClass returns the class of a write that was carried out, but was not confirmed as
// asked. The class concerns only writes with the same write concern (narrow). If code is a failure
// of the server, the class of the code is used.
func unconfirmedClass(code int) driver.Class {
	class := codeClass(code)
	if class.Fault == driver.FaultServer {
		return class
	}
	return driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatIfIdempotent, Narrow: true, Code: strconv.Itoa(code)}
}

// codeClass returns the class of a server's error code. Source: src/mongo/base/error_codes.yml of
// the server, with its categories. A code that is not listed here is the server's judgement of the
// request: a duplicate key, a bad value, an unknown command. Such an error is nobody's fault, and
// would be the same next time. A failure of the server is narrow if the server answers at once, and
// if the failure concerns a single kind of work.
func codeClass(code int) driver.Class {
	class := driver.Class{}
	if code != 0 {
		class.Code = strconv.Itoa(code)
	}
	switch code {
	case 11001, 12582: // other codes of a duplicate key: on update, in a capped collection
		class.Code = "11000"
	case 43, // CursorNotFound
		237,         // CursorKilled
		112, 46, 24, // WriteConflict, LockBusy, LockTimeout
		175,                 // QueryPlanKilled: an index or the collection was dropped midway
		13388, 63, 150, 249, // StaleConfig and similar: shard and mongos disagree, perhaps midway
		251: // NoSuchTransaction
		class.Repeat = driver.RepeatIfIdempotent
	case 246: // SnapshotUnavailable: not executed, as the collection has changed
		class.Repeat = driver.RepeatAlways

	// A single kind of work, refused before execution.
	// NotWritablePrimary and its old code refuse writes; reads may be served. NotPrimaryNoSecondaryOk
	// and FailedToSatisfyReadPreference refuse reads with this preference.
	case 10107, 10058,
		13435, 133:
		class.Fault, class.Narrow, class.Repeat = driver.FaultServer, true, driver.RepeatAlways
	// A single kind of work, perhaps executed in part.
	// PrimarySteppedDown and InterruptedDueToReplStateChange interrupt running commands; the next
	// attempt finds out the new state.
	case 189, 11602,
		50,  // MaxTimeMSExpired: the command took longer than its limit
		64,  // WriteConcernTimeout
		134: // ReadConcernMajorityNotAvailableYet
		class.Fault, class.Narrow, class.Repeat = driver.FaultServer, true, driver.RepeatIfIdempotent
	// A single kind of work, with the same answer next time.
	case 13, // Unauthorized: no right for this command or collection
		14031, 264, 371, 8000, // OutOfDiskSpace, TooManyFilesOpen, UserWritesBlocked, AtlasError (quota)
		79, 100, // UnknownReplWriteConcern, UnsatisfiableWriteConcern: not this set
		301,  // DataCorruptionDetected
		1, 8: // InternalError, UnknownError: the server has answered this command
		class.Fault, class.Narrow = driver.FaultServer, true

	// All work, refused before execution. The codes 433, 449 and 462 mean an overload.
	case 13436, // NotPrimaryOrSecondary: starting up, recovering
		391,           // ReauthenticationRequired
		433, 449, 462: // AdmissionQueueOverflow, RateLimitExceeded, IngressRequestRateLimitExceeded
		class.Fault, class.Repeat = driver.FaultServer, driver.RepeatAlways
	// All work, perhaps executed in part.
	case 6, 7, 89, 9001, 202, 384, 407, // mongos has not reached a shard, or has lost a shard
		262,      // ExceededTimeLimit
		365, 402, // TemporarilyUnavailable, ResourceExhausted: overloaded
		91, 11600, // ShutdownInProgress, InterruptedAtShutdown
		355: // InterruptedDueToStorageChange
		class.Fault, class.Repeat = driver.FaultServer, driver.RepeatIfIdempotent
	case authenticationFailed:
		class.Fault = driver.FaultServer
	}
	return class
}
