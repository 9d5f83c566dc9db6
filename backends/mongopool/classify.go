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
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/auth"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/description"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/topology"

	"github.com/earnorm/poolstack/pool"
)

// Labels that servers and the driver put on errors; see the specifications "Retryable Writes", "Transactions" and "Client Backpressure"
// of MongoDB's drivers.
const (
	labelNetwork       = "NetworkError"
	labelOverloaded    = "SystemOverloadedError" // with labelRetryable: refused before anything was done
	labelRetryable     = "RetryableError"
	labelNoWrites      = "NoWritesPerformed"
	labelTransient     = "TransientTransactionError" // the transaction is aborted: it has had no effect
	labelUnknownCommit = "UnknownTransactionCommitResult"

	labelRetryableWrite = "RetryableWriteError" // the same command may be sent again, under its transaction number
)

// Classify says what an error of the driver means; see the package's documentation for the rules. Only what the driver's own types wrap is
// laid at MongoDB: all else is the borrower's own, a network error or a deadline as well. It may be called concurrently.
//
// Class.Broken is true only for a client that somebody has disconnected: a lease is a right to use the shared client, and the sockets
// belong to the driver, which closes those that fail by itself. To close the lease's resource as well would heal nothing.
func (d *Driver) Classify(err error) pool.Class {
	if foundNothing(err) {
		return pool.Class{Miss: true}
	}
	class := classify(err)
	if left, ok := errors.AsType[*pool.UseError](err); ok { // it knows what else was done in its use; a pool shows none of these
		class.Repeat = min(class.Repeat, left.Class().Repeat)
	}
	if class == (pool.Class{Fault: pool.FaultElsewhere}) && (errors.Is(err, mongo.ErrNoDocuments) || errors.Is(err, mongo.ErrFileNotFound)) {
		class.Miss, class.Fault = true, pool.FaultNone // beside an error of the borrower's own, which may be its name for a miss
	}
	return class
}

// foundNothing says whether err tells of a miss and of nothing else. A miss is common: it spares looking for what else there may be.
func foundNothing(err error) bool {
	for ; err != nil; err = errors.Unwrap(err) { // not into errors that are joined
		if err == mongo.ErrNoDocuments || err == mongo.ErrFileNotFound { //nolint:errorlint // about this very error
			return true
		}
	}
	return false
}

// classify is Classify for what is more than a miss.
func classify(err error) pool.Class {
	down := (*downError)(nil)
	if own := (*ownDeadlineError)(nil); errors.As(err, &own) {
		return pool.Class{Fault: pool.FaultCaller}
	}
	switch {
	case errors.Is(err, mongo.ErrClientDisconnected), errors.Is(err, topology.ErrTopologyClosed):
		return pool.Class{Fault: pool.FaultLocal, Broken: true, Type: "client_disconnected"}
	case errors.As(err, &down), inHandshake(err): // even if cancelled: the driver does that by itself when a server goes down
		return unconnected(err)
	case errors.Is(err, context.Canceled):
		return pool.Class{Fault: pool.FaultCaller}
	case errors.Is(err, driver.ErrDeadlineWouldBeExceeded): // too little time left to send anything
		return pool.Class{Fault: pool.FaultCaller, Repeat: pool.RepeatAlways}
	}
	if reason := unsent(err); reason != "" {
		return pool.Class{Fault: pool.FaultServer, Repeat: pool.RepeatAlways, Type: reason, Certain: noneIsUp(err)}
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
	return pool.Class{Fault: pool.FaultElsewhere}
}

// classifyDeadline is for a deadline that none of the driver's types wraps. The driver returns one when the context is over before it has
// begun to send a command, or before it commits a transaction, which it aborts then: in either case no server was asked and late. A
// server, a socket or a reply that was waited for in vain has a type. What is left is of the borrower's own: of another service's client,
// say, for which MongoDB's breaker must not open. In opening there is no borrower.
func classifyDeadline(err error) pool.Class {
	if opening := (*openError)(nil); errors.As(err, &opening) {
		return unconnected(err)
	}
	return pool.Class{Fault: pool.FaultCaller}
}

// openError is what opening a resource has met.
type openError struct{ error }

func (e *openError) Unwrap() error { return e.error }

// inHandshake says whether err is about a socket that could not be made: then the borrower's command was not sent. An error of the
// borrower's command has a ConnectionError in it; one of the handshake stands in a ConnectionError, outside of any command, or is
// labelled as an overload of the server, which the driver takes it for.
func inHandshake(err error) bool {
	var conn topology.ConnectionError
	if !errors.As(err, &conn) {
		return false
	}
	var outer, inner driver.Error
	return !errors.As(err, &outer) || outer.HasErrorLabel(labelOverloaded) || errors.As(conn.Wrapped, &inner)
}

// waitQueue is the reason when a command has waited for a socket in vain.
const waitQueue = "wait_queue"

// poolCleared is the reason when the driver has given up its sockets to a server, because one of them has failed.
const poolCleared = "pool_cleared"

// unsent names the reason why nothing was sent, if it is one of the driver's own: no server to be had, no socket to be had.
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
		// There is a socket for every lease, so this is a wait for one that is being made, or for one whose answer is late.
		return waitQueue
	case wasCleared(err), errors.Is(err, topology.ErrPoolClosed), errors.Is(err, topology.ErrServerClosed):
		return poolCleared
	}
	return ""
}

// noneIsUp says whether the driver knew that no server was up: all that it knows have failed. That an election is on, or that a server has not
// been asked yet, is no such knowledge.
func noneIsUp(err error) bool {
	var noServer topology.ServerSelectionError
	return errors.As(err, &noServer) && len(noServer.Desc.Servers) > 0 &&
		!slices.ContainsFunc(noServer.Desc.Servers, func(s description.Server) bool { return s.LastError == nil })
}

// wasCleared says whether the driver has given up its sockets to a server.
func wasCleared(err error) bool {
	var cleared driver.RetryablePoolError
	return errors.As(err, &cleared) && isCleared(cleared)
}

// isCleared says so of this very error. The driver's type is not exported, and the interface by which it is known fits errors of other
// packages.
func isCleared(err any) bool {
	_, ok := err.(driver.RetryablePoolError)
	return ok && reflect.TypeOf(err).PkgPath() == topologyPath
}

var topologyPath = reflect.TypeFor[topology.ServerSelectionError]().PkgPath()

// unconnected is the class of a failure to make a socket. Credentials or a certificate that are not accepted will not be accepted next
// time.
func unconnected(err error) pool.Class {
	class := pool.Class{Fault: pool.FaultServer, Repeat: pool.RepeatAlways, Type: "connect"}
	if code := codeOf(err); code != 0 {
		class.Code, class.Type = strconv.Itoa(code), ""
		if refusesLogin(err) {
			class.Repeat = pool.RepeatNever
		}
	}
	if cert := (*tls.CertificateVerificationError)(nil); errors.As(err, &cert) {
		class.Repeat, class.Type = pool.RepeatNever, "certificate"
	}
	return class
}

// failure is a command that failed as a whole, whichever of the driver's types says so.
type failure struct {
	code    int
	labels  []string
	backoff time.Duration // that the server asks for
	late    bool          // its reply was
}

// authenticationFailed is the code of credentials that the server does not take.
const authenticationFailed = 18

// refusesLogin says whether a server has refused the credentials: by the code of that or, as servers have many (8000 of Atlas, 11, 334), by any
// reply to an authentication but one that speaks of the server's own state.
func refusesLogin(err error) bool {
	code := codeOf(err)
	if code == authenticationFailed {
		return true
	}
	login := (*auth.Error)(nil)
	return code != 0 && errors.As(err, &login) && codeClass(code).Repeat == pool.RepeatNever
}

// codeOf returns the server's code in an error of a whole command, 0 if there is none.
func codeOf(err error) int {
	f, _ := commandFailure(err)
	return f.code
}

func commandFailure(err error) (failure, bool) {
	var inner driver.Error // what command monitors see, and what a CommandError wraps
	seen := errors.As(err, &inner)
	f := failure{int(inner.Code), inner.Labels, inner.BaseBackoff, errors.Is(err, context.DeadlineExceeded)}
	if cmd, ok := errors.AsType[mongo.CommandError](err); ok {
		f.code, f.labels, seen = int(cmd.Code), cmd.Labels, true
	}
	return f, seen
}

func (f failure) has(label string) bool { return slices.Contains(f.labels, label) }

func (f failure) class() pool.Class {
	class := codeClass(f.code)
	switch {
	case f.has(labelOverloaded):
		class.Fault, class.Narrow, class.Repeat, class.RetryAfter = pool.FaultServer, false, pool.RepeatNever, f.backoff
		if f.has(labelRetryable) {
			class.Repeat = pool.RepeatAlways
		}
	case f.has(labelNetwork):
		class.Fault, class.Narrow, class.Repeat = pool.FaultServer, false, pool.RepeatIfIdempotent
		if !f.late {
			class.Type = "network"
		}
	case f.has(labelUnknownCommit):
		class.Repeat = pool.RepeatIfIdempotent
	case f.has(labelNoWrites), f.has(labelTransient):
		class.Repeat = pool.RepeatAlways
	}
	return class
}

// classifyWrites is for writes that the server has carried out in part, or without the confirmation that was asked for.
func classifyWrites(err error) (pool.Class, bool) {
	codes, unconfirmed := writeCodes(err)
	if codes == nil && unconfirmed == nil {
		return pool.Class{}, false
	}
	return worstOf(codes, unconfirmed), true
}

// writeCodes returns the codes of the writes that came to nothing, and what was said of those that were not confirmed. Both are nil if err is
// no such error; codes is empty for one that has neither.
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

// worstOf folds the errors of several writes into one class: the server's failures weigh more than what the borrower did wrong, and most those
// that concern all its work. Some writes may have been carried out, so that a repetition is never safe by itself.
func worstOf(codes []int, unconfirmed []mongo.WriteConcernError) pool.Class {
	var worst pool.Class
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
	worst.Repeat = min(worst.Repeat, pool.RepeatIfIdempotent)
	return worst
}

func weight(class pool.Class) int {
	switch {
	case class.Fault != pool.FaultServer:
		return 0
	case class.Narrow:
		return 1
	}
	return 2
}

// unconfirmedClass is of a write that was carried out but not confirmed as it was asked for. That is said of writes of this concern; a code
// that concerns all work says more.
func unconfirmedClass(code int) pool.Class {
	class := codeClass(code)
	if class.Fault == pool.FaultServer {
		return class
	}
	return pool.Class{Fault: pool.FaultServer, Repeat: pool.RepeatIfIdempotent, Narrow: true, Code: strconv.Itoa(code)}
}

// codeClass goes by the server's error codes (src/mongo/base/error_codes.yml of the server, and its categories). A code that is not listed is
// the server's verdict on what the borrower asked for (a duplicate key, a bad value, an unknown command): nobody's fault, and the same next
// time. Of the server's failures those are narrow that it answers at once and that concern one kind of work.
func codeClass(code int) pool.Class {
	class := pool.Class{}
	if code != 0 {
		class.Code = strconv.Itoa(code)
	}
	switch code {
	case 11001, 12582: // a duplicate key's other codes: on update, in a capped collection
		class.Code = "11000"
	case 43, // CursorNotFound
		237,         // CursorKilled
		112, 46, 24, // WriteConflict, LockBusy, LockTimeout
		175,                 // QueryPlanKilled: an index or the collection went away in the midst of it
		13388, 63, 150, 249, // StaleConfig and its kin: a shard and mongos disagree about where the data is, perhaps in the midst of it
		251: // NoSuchTransaction
		class.Repeat = pool.RepeatIfIdempotent
	case 246: // SnapshotUnavailable: a read of a snapshot, refused on entry as the collection has changed
		class.Repeat = pool.RepeatAlways

	// One kind of work, refused on entry.
	case 10107, 10058, // NotWritablePrimary, its old code: writes, while reads may be served
		13435, 133: // NotPrimaryNoSecondaryOk, FailedToSatisfyReadPreference: reads of this preference
		class.Fault, class.Narrow, class.Repeat = pool.FaultServer, true, pool.RepeatAlways
	// One kind of work, perhaps done in part.
	case 189, 11602, // PrimarySteppedDown, InterruptedDueToReplStateChange: what was under way then; the next attempt finds out what remains
		50,  // MaxTimeMSExpired: a command that takes longer than its limit
		64,  // WriteConcernTimeout
		134: // ReadConcernMajorityNotAvailableYet
		class.Fault, class.Narrow, class.Repeat = pool.FaultServer, true, pool.RepeatIfIdempotent
	// One kind of work, and the same next time.
	case 13, // Unauthorized: a right is missing, for this command or collection
		14031, 264, 371, 8000, // OutOfDiskSpace, TooManyFilesOpen, UserWritesBlocked, AtlasError (a quota)
		79, 100, // UnknownReplWriteConcern, UnsatisfiableWriteConcern: the set is not like that
		301,  // DataCorruptionDetected
		1, 8: // InternalError, UnknownError: an answer all the same, to this command
		class.Fault, class.Narrow = pool.FaultServer, true

	// All work, refused on entry.
	case 13436, // NotPrimaryOrSecondary: starting up, recovering
		391,           // ReauthenticationRequired
		433, 449, 462: // AdmissionQueueOverflow, RateLimitExceeded, IngressRequestRateLimitExceeded: overloaded
		class.Fault, class.Repeat = pool.FaultServer, pool.RepeatAlways
	// All work, perhaps done in part.
	case 6, 7, 89, 9001, 202, 384, 407, // mongos could not reach a shard, or lost it: not answered
		262,      // ExceededTimeLimit
		365, 402, // TemporarilyUnavailable, ResourceExhausted: overloaded
		91, 11600, // ShutdownInProgress, InterruptedAtShutdown
		355: // InterruptedDueToStorageChange
		class.Fault, class.Repeat = pool.FaultServer, pool.RepeatIfIdempotent
	case authenticationFailed:
		class.Fault = pool.FaultServer
	}
	return class
}
