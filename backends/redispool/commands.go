package redispool

import (
	"maps"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

// kind describes a command: the traces left in a session, and the flags below. An unknown command
// has the zero kind: the command may change anything, and leaves no trace.
type kind uint32

const (
	traces kind = 1<<16 - 1 // the bits of type trace

	harmless   kind = 1 << (iota + 15) // changes nothing visible to other sessions
	unkept                             // meant to block: the connection is not kept for a late reply
	uncounted                          // more than 1 reply: go-redis sends a command before this
	mayBlock                           // unkept if the word BLOCK is among the arguments
	scripts                            // may have changed something before an error
	container                          // the second word is the name of a subcommand
	zeroIsNone                         // a reply of 0 means that nothing has changed
	nilIsNone                          // a reply of nil means that nothing has changed
	executes                           // EXEC
	ends                               // EXEC, DISCARD, UNWATCH: ends a transaction and all watches
	again                              // a write that leaves the same state if carried out twice
)

// longestCommand is the length of the longest name in a table, in bytes.
const longestCommand = 32

// commands maps the name of a command to the command's kind. The name of a subcommand is
// "command|subcommand". All names are in lower case.
type commands map[string]kind

// The reads of Redis 7.0, for servers without COMMAND. Any other server reports its reads itself.
const builtinReads = `bitcount bitfield_ro bitpos dbsize dump eval_ro evalsha_ro exists expiretime fcall_ro geodist geohash geopos georadius_ro
	georadiusbymember_ro geosearch get getbit getrange hexists hget hgetall hkeys hlen hmget hrandfield hscan hstrlen hvals keys lcs lindex
	llen lolwut lpos lrange mget object|encoding object|freq object|idletime object|refcount memory|usage pexpiretime pfcount pttl randomkey
	scan scard sdiff sinter sintercard sismember smembers smismember sort_ro srandmember sscan strlen substr sunion touch ttl type
	xinfo|consumers xinfo|groups xinfo|stream xlen xpending xrange xread xrevrange zcard zcount zdiff zinter zintercard zlexcount zmscore
	zrandmember zrange zrangebylex zrangebyscore zrank zrevrange zrevrangebylex zrevrangebyscore zrevrank zscan zscore zunion`

// baseCommands has facts about commands beyond the flags in the reply to COMMAND. The source for
// the effects of RESET is https://redis.io/docs/latest/commands/reset/ . The list there contains
// CLIENT NO-EVICT, but on 7.0 NO-EVICT survives RESET.
var baseCommands = func() commands {
	c := commands{}
	c.add(harmless, `ping echo time info role lastsave command dbsize lolwut client|id client|info client|list client|getname client|getredir
		client|trackinginfo client|help acl|cat acl|dryrun acl|genpass acl|getuser acl|list acl|log acl|users acl|whoami config|get module|list
		slowlog|get slowlog|len latency|latest latency|history latency|doctor latency|graph latency|histogram memory|stats memory|doctor
		memory|malloc-stats pubsub|channels pubsub|numpat pubsub|numsub pubsub|shardchannels pubsub|shardnumsub script|exists script|load
		function|list function|dump function|stats cluster|info cluster|nodes cluster|slots cluster|shards cluster|links cluster|keyslot
		cluster|myid cluster|replicas cluster|countkeysinslot cluster|getkeysinslot`)
	c.add(container, "acl client config module slowlog latency memory pubsub script function cluster object xinfo")
	c.add(harmless|unkept, "wait waitaof")
	c.add(unkept, "blpop brpop brpoplpush blmove blmpop bzpopmin bzpopmax bzmpop")
	c.add(mayBlock, "xread xreadgroup")
	c.add(scripts, "eval evalsha fcall")
	c.add(zeroIsNone, `del unlink setnx hsetnx msetnx renamenx move copy sadd srem smove hdel zrem zremrangebyscore zremrangebyrank
		zremrangebylex lrem lpushx rpushx expire pexpire expireat pexpireat persist pfadd xdel xack publish spublish`)
	c.add(nilIsNone, `lpop rpop lmpop spop getdel getex lmove rpoplpush zmpop blpop brpop blmove brpoplpush blmpop bzpopmin bzpopmax bzmpop
		set xadd`)

	// These writes set a named value or remove a named value. The list leaves out commands that add or
	// remove at each execution (INCR, LPUSH, SPOP). It leaves out commands on places that move (LTRIM,
	// ZREMRANGEBYRANK). It also leaves out commands whose reply depends on the order of callers
	// (SETNX, GETSET, GETDEL).
	c.add(again, `set setex psetex mset setrange setbit lset del unlink expire pexpire expireat pexpireat persist hset hmset hdel sadd srem smove
		zadd zrem zremrangebyscore zremrangebylex geoadd pfadd pfmerge xack xdel`)

	c.add(kind(queueing)|harmless, "multi")
	c.add(kind(watching)|harmless, "watch")
	c.add(ends|executes|harmless, "exec")
	c.add(ends|harmless, "discard unwatch")
	c.add(kind(changed)|harmless, "select auth hello reset readonly readwrite asking client|setname")
	c.add(kind(changed|pushing)|harmless, "client|tracking client|caching")
	c.add(kind(changed)|unkept|uncounted, "himport")
	c.add(kind(spoiled)|harmless, `subscribe psubscribe ssubscribe unsubscribe punsubscribe sunsubscribe monitor quit`)
	c.add(kind(spoiled), "sync psync replconf script|debug")
	c.add(0, "client|kill client|pause client|unpause client|unblock")
	return c
}()

// builtinCommands is the table used before a server has answered COMMAND.
var builtinCommands = func() commands {
	c := maps.Clone(baseCommands)
	c.add(harmless, builtinReads)
	return c
}()

// add adds flags to the kinds of the named commands.
func (c commands) add(flags kind, names string) {
	for name := range strings.FieldsSeq(names) {
		c[name] |= flags
	}
}

// learn makes a table from a server's reply to COMMAND. It returns nil if the reply has another
// form.
//
// Each entry has the name, the arity, the flags, and more. Since Redis 7 the last element has the
// subcommands, in the same form. Source: https://redis.io/docs/latest/commands/command/ .
func learn(reply any) commands {
	entries, ok := reply.([]any)
	if !ok || len(entries) == 0 {
		return nil
	}
	return maps.Clone(baseCommands).learn(entries)
}

func (c commands) learn(entries []any) commands {
	const name, flags, subcommands = 0, 2, 9
	for _, e := range entries {
		entry, _ := e.([]any)
		if len(entry) <= flags {
			return nil
		}
		word, _ := entry[name].(string)
		list, _ := entry[flags].([]any)
		if word == "" || list == nil {
			return nil
		}
		word = strings.ToLower(word)
		k := c[word]
		if slices.Contains(list, any("readonly")) {
			k |= harmless
		}
		if slices.Contains(list, any("blocking")) && k&mayBlock == 0 {
			k |= unkept
		}
		if slices.Contains(list, any("write")) {
			k &^= harmless
		}
		if len(entry) > subcommands {
			if inner, _ := entry[subcommands].([]any); len(inner) > 0 {
				k |= container
				if c.learn(inner) == nil {
					return nil
				}
			}
		}
		c[word] = k
	}
	return c
}

// of returns the kind of cmd. of allocates only for subcommands and for commands without a method.
// A command with an unreadable name may leave any trace, and has the kind spoiled.
func (c commands) of(cmd redis.Cmder) kind {
	args := cmd.Args()
	if len(args) == 0 {
		return 0
	}
	name, ok := word(args[0])
	if !ok {
		return kind(spoiled)
	}
	var buffer [longestCommand]byte
	if len(name) > len(buffer) {
		return 0
	}
	for i := range len(name) {
		b := name[i]
		if 'A' <= b && b <= 'Z' {
			b += 'a' - 'A'
		}
		buffer[i] = b
	}
	lower := buffer[:len(name)]
	k := c[string(lower)] // the compiler avoids an allocation here
	switch {
	case k&container != 0:
		return c.ofContainer(string(lower), k, args)
	case k&mayBlock != 0:
		if block, _ := streamWords(args); block > 0 {
			k |= unkept
		}
	}
	return k
}

// ofContainer returns the kind of a subcommand. An unknown subcommand of CLIENT has the kind
// spoiled, so the connection is closed at its release.
func (c commands) ofContainer(name string, k kind, args []any) kind {
	sub := secondWord(args)
	if sub == unreadable && (name == "client" || name == "script") {
		return kind(spoiled)
	}
	inner, known := c[name+"|"+sub]
	_, ours := baseCommands[name+"|"+sub]
	switch {
	case name == "client" && !ours && sub != "":
		return kind(spoiled)
	case !known:
		return k & harmless // Redis 6 reports flags for the container only
	}
	return inner
}

// repeatable reports whether layers may repeat cmd, of kind k: a second execution leaves the same
// state.
func repeatable(k kind, cmd redis.Cmder) bool {
	args := cmd.Args()
	switch {
	case cmd.NoRetry():
		return false
	case k&harmless != 0:
		return true
	case k&again == 0:
		return false
	case strings.EqualFold(cmd.Name(), "set"):
		return len(args) < 3 || !slices.ContainsFunc(args[3:], decides)
	case strings.EqualFold(cmd.Name(), "zadd") || strings.EqualFold(cmd.Name(), "geoadd"):
		return len(args) < 2 || !slices.ContainsFunc(args[2:], isIncr)
	}
	return true
}

// decides reports whether arg, an option of SET, may make a second SET different from the first.
// With NX, GET and IFEQ the reply depends on the earlier value.
func decides(arg any) bool {
	if _, ok := number(arg); ok {
		return false
	}
	text, ok := word(arg)
	if !ok {
		return true
	}
	switch strings.ToLower(text) {
	case "ex", "px", "exat", "pxat", "keepttl", "xx":
		return false
	}
	return true
}

func isIncr(arg any) bool {
	text, ok := word(arg)
	return ok && strings.EqualFold(text, "incr")
}

// unreadable stands for a word that is not text. No subcommand has this name.
const unreadable = "?"

// secondWord returns the second word in lower case, or "" if there is no second word.
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

// word returns the text of arg in the form sent by go-redis. ok is false for any other type,
// because a type with its own encoding may send other words than it prints.
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

// changedNothing reports whether the reply shows that a command of kind k has changed nothing. err
// is nil or redis.Nil.
func changedNothing(k kind, cmd redis.Cmder, err error) bool {
	if k&nilIsNone != 0 && isNil(err) {
		return !slices.ContainsFunc(cmd.Args()[1:], isGet) // SET with GET: nil is the old value
	}
	if k&(zeroIsNone|nilIsNone) == 0 {
		return false
	}
	switch cmd := cmd.(type) {
	case *redis.IntCmd:
		return k&zeroIsNone != 0 && cmd.Val() == 0
	case *redis.BoolCmd:
		return !cmd.Val() // SET with NX returns nil
	case *redis.Cmd:
		return k&zeroIsNone != 0 && cmd.Val() == any(int64(0))
	}
	return false
}

func isGet(arg any) bool {
	text, ok := word(arg)
	return ok && strings.EqualFold(text, "get")
}
