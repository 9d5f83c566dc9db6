package replicaset

import (
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// The error codes used by a set. See "Error Codes" in MongoDB's manual.
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

// codeNames also contains codes for fail points.
var codeNames = map[int]string{
	6: "HostUnreachable", 7: "HostNotFound", unknownError: "UnknownError", failedToParse: "FailedToParse", 13: "Unauthorized",
	maxTimeMSExpired: "MaxTimeMSExpired", 89: "NetworkTimeout", 91: "ShutdownInProgress", writeConflict: "WriteConflict", 189: "PrimarySteppedDown",
	transactionTooOld: "TransactionTooOld", noSuchTransaction: "NoSuchTransaction", transactionCommitted: "TransactionCommitted",
	262: "ExceededTimeLimit", 462: "IngressRequestRateLimitExceeded", 9001: "SocketException", notWritablePrimary: "NotWritablePrimary",
	11600: "InterruptedAtShutdown", 11602: "InterruptedDueToReplStateChange", notPrimaryNoSecondaryOk: "NotPrimaryNoSecondaryOk",
	13436: "NotPrimaryOrSecondary",
}

// The classes of codes for drivers. The lists are from "Retryable Writes" and "Server Discovery and
// Monitoring" in MongoDB's driver specifications.
var (
	retryable   = []int{6, 7, 89, 91, 134, 189, 262, 9001, notWritablePrimary, 11600, 11602, notPrimaryNoSecondaryOk, 13436}
	stateChange = []int{91, 189, notWritablePrimary, 11600, 11602, notPrimaryNoSecondaryOk, 13436}
)

// A refusal is a member's error reply.
type refusal struct {
	code   int
	text   string
	labels []string // nil: the labels of a real server
}

func (r *refusal) Error() string { return r.text }

// reply returns the answer to m.
func (r *refusal) reply(c *conn, m message) bson.Raw {
	name := codeNames[r.code]
	if name == "" {
		name = codeNames[unknownError]
	}
	return with(marshal(bson.D{
		{Key: "ok", Value: 0.0}, {Key: "errmsg", Value: r.text}, {Key: "code", Value: int32(r.code)}, {Key: "codeName", Value: name},
	}), r.details(c, m)...)
}

// details returns the labels of the error. If the member's state is the reason, details also
// returns the member's topologyVersion. With the topologyVersion a driver recognizes a late reply
// with an old state.
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

// serverLabels returns the error labels set by a server. Drivers add further labels to network
// errors and commits. See "Transactions" (error labels) and "Retryable Writes" in MongoDB's driver
// specifications.
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
