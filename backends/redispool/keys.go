package redispool

import "strings"

// Where the keys of a command are. Most have the first one behind the name; the test compares what is here with the answers of a server to
// COMMAND and COMMAND GETKEYS.

// keyless are the commands without keys. The commands of modules that are about an index (FT.SEARCH) or all keys (TS.MGET) have none either.
var keyless = func() map[string]bool {
	m := map[string]bool{}
	for name := range strings.FieldsSeq(`acl asking auth bgrewriteaof bgsave client cluster command config dbsize debug discard echo exec failover
		flushall flushdb function hello info keys lastsave latency lolwut module monitor multi ping psubscribe psync publish pubsub punsubscribe quit
		randomkey readonly readwrite replconf replicaof reset role save scan script select shutdown slaveof slowlog subscribe swapdb sync time unsubscribe
		unwatch wait waitaof pfselftest ts.mget ts.mrange ts.mrevrange ts.queryindex`) {
		m[name] = true
	}
	return m
}()

// firstKey returns the first key of a command. ok is false for a command without keys, and for a key that is no text.
func firstKey(args []any) (key string, ok bool) {
	at := firstKeyAt(args)
	if at <= 0 || at >= len(args) {
		return "", false
	}
	return word(args[at])
}

func firstKeyAt(args []any) int {
	if len(args) < 2 {
		return 0
	}
	text, _ := word(args[0])
	name := strings.ToLower(text)
	switch name {
	case "bitop", "object", "xinfo", "xgroup":
		return 2
	case "memory", "debug":
		if sub := secondWord(args); sub == "usage" || sub == "object" {
			return 2
		}
		return 0
	case "migrate":
		return 3
	case "eval", "evalsha", "eval_ro", "evalsha_ro", "fcall", "fcall_ro", "blmpop", "bzmpop":
		return counted(args, 2)
	case "zunion", "zinter", "zdiff", "zintercard", "sintercard", "lmpop", "zmpop":
		return counted(args, 1)
	case "xread", "xreadgroup":
		_, key := streamWords(args)
		return key
	}
	if keyless[name] || strings.HasPrefix(name, "ft.") {
		return 0
	}
	return 1
}

// counted returns the place behind the number of keys, 0 if that says none.
func counted(args []any, at int) int {
	if at >= len(args) {
		return 0
	}
	if n, ok := number(args[at]); !ok || n < 1 {
		return 0
	}
	return at + 1
}
