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

// traceOf says what cmd leaves behind. Commands that it does not know leave nothing; those whose words it cannot read may leave anything.
// It does not allocate for those that have methods.
//
// What RESET undoes is written in https://redis.io/docs/latest/commands/reset/ ; CLIENT NO-EVICT is listed there, but survives it on
// 7.0.
func traceOf(cmd redis.Cmder) trace {
	args := cmd.Args()
	if len(args) == 0 {
		return 0
	}
	name, ok := word(args[0])
	if !ok {
		return spoiled
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
		if sub := secondWord(args); sub == "debug" || sub == unreadable {
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

// unreadable stands for a word that is not given as a text. No subcommand is called so.
const unreadable = "?"

// secondWord returns the second word in lower case, and "" if there is none.
func secondWord(args []any) string {
	if len(args) < 2 {
		return ""
	}
	text, ok := word(args[1])
	if !ok {
		return unreadable
	}
	return strings.ToLower(text)
}

// word returns the text that go-redis sends for arg. It is not ok for what go-redis puts into words in another way: what marshals itself
// need not send what it prints.
func word(arg any) (text string, ok bool) {
	switch arg := arg.(type) {
	case string:
		return arg, true
	case []byte:
		return string(arg), true
	case *string:
		if arg != nil {
			return *arg, true
		}
	}
	return "", false
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
