package redispool

import (
	"errors"

	"github.com/redis/go-redis/v9"
)

// trace is a set of changes left in a session by commands.
type trace uint32

const (
	changed     trace = 1 << iota // a change that RESET undoes
	watching                      // WATCH: EXEC, DISCARD and UNWATCH undo it
	queueing                      // MULTI: EXEC and DISCARD undo it
	pushing                       // the server may send messages without a request
	spoiled                       // a change beyond RESET, or replies that cannot be read
	late                          // late replies: Reset reads and discards the replies
	interrupted                   // the use was interrupted: Reset makes the connection usable
	dead                          // go-redis has given up the connection
	aborted                       // this package has closed the socket

	beyondReset = spoiled | dead | aborted
)

// endsTransaction reports whether a command of kind k, answered with err, has ended a transaction
// and all watches.
func endsTransaction(k kind, err error) bool {
	switch {
	case k&executes != 0:
		return err == nil || isNil(err) || errors.Is(err, redis.TxFailedErr) || redis.IsExecAbortError(err)
	case k&ends != 0:
		return err == nil
	}
	return false
}
