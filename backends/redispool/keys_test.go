package redispool_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/earnorm/poolstack/backends/redispool"
)

// The first key of a command is at the place reported by the server.
func TestFirstKey(t *testing.T) {
	s := need(t)
	rdb := s.redis(t)
	ctx := t.Context()
	for _, words := range []string{
		"get K", "set K v", "mget K b", "del K b", "eval script 1 K arg", "evalsha 0123 2 K b", "fcall f 1 K",
		"eval_ro script 1 K", "xread count 1 streams K 0",
		"xread block 10 streams K L 0 0", "xreadgroup group g c streams K >",
		"xreadgroup group streams block count 1 block 1 streams K >", "bitop and K b c",
		"object encoding K", "memory usage K", "xinfo stream K", "xgroup create K g $", "zunion 2 K b", "zdiff 1 K", "zintercard 1 K", "sintercard 2 K b",
		"lmpop 1 K left", "blmpop 1 1 K left", "bzmpop 1 2 K b min", "zmpop 1 K min", "zunionstore K 1 b",
		"migrate host 1 K 0 10", "sort K by x", "blpop K b 1",
		"rename K b", "georadius K 1 1 1 m", "pfcount K b", "lmove K b left right", "hset K f v", "xadd K * f v", "msetnx K v b v", "smove K b m",
	} {
		var args []any
		for word := range strings.FieldsSeq(words) {
			args = append(args, word)
		}
		keys, err := rdb.Do(ctx, append([]any{"command", "getkeys"}, args...)...).StringSlice()
		if got, ok := redispool.FirstKey(args); err != nil || !ok || got != keys[0] || got != "K" {
			t.Errorf("%s: the key is %q, %t; the server says %q, %v", words, got, ok, keys, err)
		}
	}
	for _, words := range []string{"eval script 0 arg", "fcall f 0", "echo K", "keys K", "config get K",
		"ping K", "publish K m", "script load K", "memory stats x", "ft.search K q"} {
		var args []any
		for word := range strings.FieldsSeq(words) {
			args = append(args, word)
		}
		if got, ok := redispool.FirstKey(args); ok {
			t.Errorf("%s: the key is %q", words, got)
		}
	}
	all, err := rdb.Command(ctx).Result()
	if err != nil {
		t.Fatal(err)
	}
	for name, info := range all {
		movable := slices.Contains(info.Flags, "movablekeys")
		_, ok := redispool.FirstKey([]any{name, "1", "1", "1", "1"})
		if info.FirstKeyPos == 0 && !movable && len(info.Flags) > 0 && ok && !containers[name] || info.FirstKeyPos > 0 && !ok {
			t.Errorf("%s: a first key %t, the server has it at %d", name, ok, info.FirstKeyPos)
		}
	}
}

// containers are commands with keys in their subcommands only.
var containers = map[string]bool{"object": true, "xinfo": true, "xgroup": true}
