package replicaset

import (
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// The codes of the errors that a set answers by itself; see "Error Codes" in MongoDB's manual.
const (
	unknownError            = 8
	failedToParse           = 9
	maxTimeMSExpired        = 50
	writeConflict           = 112
	transactionTooOld       = 225
	noSuchTransaction       = 251
	transactionCommitted    = 256
	notWritablePrimary      = 10107
	notPrimaryNoSecondaryOk = 13435
)

// codeNames has further codes, which a failpoint may answer with.
var codeNames = map[int]string{
	6: "HostUnreachable", 7: "HostNotFound", unknownError: "UnknownError", failedToParse: "FailedToParse", 13: "Unauthorized",
	maxTimeMSExpired: "MaxTimeMSExpired", 89: "NetworkTimeout", 91: "ShutdownInProgress", writeConflict: "WriteConflict", 189: "PrimarySteppedDown",
	transactionTooOld: "TransactionTooOld", noSuchTransaction: "NoSuchTransaction", transactionCommitted: "TransactionCommitted",
	262: "ExceededTimeLimit", 462: "IngressRequestRateLimitExceeded", 9001: "SocketException", notWritablePrimary: "NotWritablePrimary",
	11600: "InterruptedAtShutdown", 11602: "InterruptedDueToReplStateChange", notPrimaryNoSecondaryOk: "NotPrimaryNoSecondaryOk",
	13436: "NotPrimaryOrSecondary",
}

// The codes that drivers treat alike: "Retryable Writes" and "Server Discovery and Monitoring" in MongoDB's driver specifications list them.
var (
	retryable   = []int{6, 7, 89, 91, 134, 189, 262, 9001, notWritablePrimary, 11600, 11602, notPrimaryNoSecondaryOk, 13436}
	stateChange = []int{91, 189, notWritablePrimary, 11600, 11602, notPrimaryNoSecondaryOk, 13436}
)

// A refusal is an error that a member answers.
type refusal struct {
	code   int
	text   string
	labels []string // nil for those that a server puts on the error
}

func (r *refusal) Error() string { return r.text }

// reply is the answer to m.
func (r *refusal) reply(c *conn, m message) bson.Raw {
	name := codeNames[r.code]
	if name == "" {
		name = codeNames[unknownError]
	}
	return with(marshal(bson.D{
		{Key: "ok", Value: 0.0}, {Key: "errmsg", Value: r.text}, {Key: "code", Value: int32(r.code)}, {Key: "codeName", Value: name},
	}), r.details(c, m)...)
}

// details are the labels of the error and, if the member's state is the reason, the member's topologyVersion: by it a driver tells news from a reply
// that comes late.
func (r *refusal) details(c *conn, m message) (d []bson.E) {
	labels := r.labels
	if labels == nil {
		labels = serverLabels(m, r.code)
	}
	if len(labels) > 0 {
		d = append(d, bson.E{Key: "errorLabels", Value: labels})
	}
	if slices.Contains(stateChange, r.code) {
		c.set.mu.Lock()
		defer c.set.mu.Unlock()
		d = append(d, bson.E{Key: "topologyVersion", Value: c.topologyVersion()})
	}
	return d
}

// serverLabels are those that a server puts on an error; drivers add others, of network errors and of commits. See "Transactions" (error labels)
// and "Retryable Writes" in MongoDB's driver specifications.
func serverLabels(m message, code int) []string {
	_, numbered := m.number()
	ending := m.name() == "commitTransaction" || m.name() == "abortTransaction"
	again := slices.Contains(retryable, code)
	switch {
	case m.inTransaction() && code == noSuchTransaction, m.inTransaction() && !ending && (again || code == writeConflict):
		return []string{"TransientTransactionError"}
	case numbered && again && (ending || !m.inTransaction()):
		return []string{"RetryableWriteError"}
	}
	return nil
}
