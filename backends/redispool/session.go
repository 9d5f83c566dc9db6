package redispool

import (
	"errors"
	"strings"

	"github.com/redis/go-redis/v9"
)

// trace is what commands leave behind in a session.
type trace uint32

const (
	changed  trace = 1 << iota // something that RESET undoes
	watching                   // WATCH: EXEC, DISCARD and UNWATCH undo it
	queueing                   // MULTI: EXEC and DISCARD undo it
	spoiled                    // something that nothing undoes, or replies that nobody will read
	dead                       // go-redis has given the connection up
	aborted                    // we have closed the socket
)

// longestTraced is the length of the longest name that traceOf knows.
const longestTraced = len("punsubscribe")

// traceOf says what cmd leaves behind. Commands that it does not know leave nothing. It does not allocate for those that have methods.
//
// What RESET undoes is written in https://redis.io/docs/latest/commands/reset/ ; CLIENT NO-EVICT is listed there, but survives it on
// 7.0.
func traceOf(cmd redis.Cmder) trace {
	args := cmd.Args()
	if len(args) == 0 {
		return 0
	}
	name, ok := args[0].(string)
	if !ok {
		name = cmd.Name()
	}
	var lower [longestTraced]byte
	if len(name) > len(lower) {
		return 0
	}
	for i := range len(name) {
		b := name[i]
		if 'A' <= b && b <= 'Z' {
			b += 'a' - 'A'
		}
		lower[i] = b
	}
	switch string(lower[:len(name)]) { // no allocation: the compiler knows this form
	case "multi":
		return queueing
	case "watch":
		return watching
	case "select", "auth", "hello", "reset", "readonly", "readwrite", "asking", "himport":
		return changed
	case "client":
		return traceOfClient(secondWord(args))
	case "script":
		if secondWord(args) == "debug" {
			return spoiled
		}
	case "subscribe", "psubscribe", "ssubscribe", "unsubscribe", "punsubscribe", "sunsubscribe", "monitor", "quit",
		"sync", "psync", "replconf":
		return spoiled
	}
	return 0
}

// traceOfClient knows the subcommands that leave nothing, so that a new one costs a connection rather than a surprise.
func traceOfClient(sub string) trace {
	switch sub {
	case "id", "info", "list", "kill", "getname", "getredir", "trackinginfo", "pause", "unpause", "unblock", "help", "":
		return 0
	case "setname", "tracking", "caching":
		return changed
	}
	return spoiled
}

func secondWord(args []any) string {
	if len(args) < 2 {
		return ""
	}
	word, _ := args[1].(string)
	return strings.ToLower(word)
}

// endsTransaction says whether the command called name, answered with err, has ended a transaction and all watches.
func endsTransaction(name string, err error) bool {
	switch name {
	case "exec":
		return err == nil || isNil(err) || errors.Is(err, redis.TxFailedErr) || redis.IsExecAbortError(err)
	case "discard", "unwatch":
		return err == nil
	}
	return false
}
