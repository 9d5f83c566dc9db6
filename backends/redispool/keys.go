package redispool

import "strings"

// The places of the keys in a command. In most commands the first key follows the name. A test
// compares this file with a server's replies to COMMAND and COMMAND GETKEYS.

// keyless has the commands without keys. It also has commands of modules about all keys (TS.MGET).
// Commands about an index (FT.SEARCH) have no keys either; see firstKeyAt.
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

// firstKey returns the first key of a command. ok is false for a command without keys, and for a
// key that is not text.
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

// counted returns the index behind the number of keys at index at, or 0 if there are no keys.
func counted(args []any, at int) int {
	if at >= len(args) {
		return 0
	}
	if n, ok := number(args[at]); !ok || n < 1 {
		return 0
	}
	return at + 1
}
