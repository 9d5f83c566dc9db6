package redispool

import (
	"errors"

	"github.com/redis/go-redis/v9"
)

// trace is what commands leave behind in a session.
type trace uint32

const (
	changed     trace = 1 << iota // something that RESET undoes
	watching                      // WATCH: EXEC, DISCARD and UNWATCH undo it
	queueing                      // MULTI: EXEC and DISCARD undo it
	pushing                       // the server may send what nobody has asked for
	spoiled                       // something that nothing undoes, or replies that nobody will read
	late                          // replies that nobody waits for: Reset reads them
	interrupted                   // the use is over: Reset has the connection used again
	dead                          // go-redis has given the connection up
	aborted                       // we have closed the socket

	beyondReset = spoiled | dead | aborted
)

// endsTransaction says whether a command of kind k, answered with err, has ended a transaction and all watches.
func endsTransaction(k kind, err error) bool {
	switch {
	case k&executes != 0:
		return err == nil || isNil(err) || errors.Is(err, redis.TxFailedErr) || redis.IsExecAbortError(err)
	case k&ends != 0:
		return err == nil
	}
	return false
}
