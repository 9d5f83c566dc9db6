package redispool_test

import (
	"context"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/earnorm/poolstack/backends/redispool"
)

// Every write that layers repeat leaves the same state if it is carried out twice. Replies may
// differ.
func TestRepeatedWrites(t *testing.T) {
	s := launch(t)
	rdb := s.redis(t)
	ctx := t.Context()
	past := time.Now().Add(time.Hour).Unix()
	for _, words := range [][]any{
		{"set", "string", "new"}, {"set", "string", "new", "ex", 100, "xx"}, {"setex", "string", 100, "new"}, {"psetex", "string", 100_000, "new"},
		{"mset", "string", "new", "other", "new"}, {"setrange", "string", 2, "xyz"}, {"setbit", "string", 7, 1}, {"lset", "list", 1, "new"},
		{"del", "string", "none"}, {"unlink", "list", "none"}, {"expire", "string", 100}, {"pexpire", "string", 100_000},
		{"expireat", "string", past}, {"pexpireat", "string", past * 1000}, {"persist", "expiring"}, {"hset", "hash", "f", "new", "g", "new"},
		{"hmset", "hash", "f", "new"}, {"hdel", "hash", "f"}, {"sadd", "set", "a", "new"}, {"srem", "set", "a"}, {"smove", "set", "set 2", "a"},
		{"zadd", "zset", 9, "a", 3, "new"}, {"zadd", "zset", "gt", "ch", 9, "a"}, {"zrem", "zset", "a"}, {"zremrangebyscore", "zset", 1, 2},
		{"zremrangebylex", "zset", "[a", "[b"}, {"geoadd", "geo", 13.3, 38.1, "Palermo"}, {"pfadd", "hll", "a", "b"}, {"pfmerge", "hll", "hll 2"},
		{"xack", "stream", "group", "1-1"}, {"xdel", "stream", "1-1"},
	} {
		cmd := redis.NewCmd(ctx, words...)
		if !redispool.Repeatable(cmd) {
			t.Errorf("%v is not repeated", words)
		}
		fill(ctx, t, rdb)
		if err := rdb.Do(ctx, words...).Err(); err != nil {
			t.Fatalf("%v: %v", words, err)
		}
		once := contents(ctx, t, rdb)
		if err := rdb.Do(ctx, words...).Err(); err != nil {
			t.Errorf("%v, again: %v", words, err)
		}
		if twice := contents(ctx, t, rdb); !reflect.DeepEqual(once, twice) {
			t.Errorf("%v: once %q,\ntwice %q", words, once, twice)
		}
	}
	for _, words := range [][]any{
		{"incr", "n"}, {"append", "string", "x"}, {"lpush", "list", "x"}, {"rpush", "list", "x"}, {"lpop", "list"},
		{"spop", "set"}, {"hincrby", "hash", "n", 1},
		{"zincrby", "zset", 1, "a"}, {"zadd", "zset", "incr", 1, "a"}, {"zpopmin", "zset"}, {"ltrim", "list", 1, -1},
		{"zremrangebyrank", "zset", 0, 0},
		{"setnx", "k", "v"}, {"set", "k", "v", "nx"}, {"set", "string", "v", "get"}, {"getset", "string", "v"},
		{"getdel", "string"}, {"hsetnx", "hash", "z", 1},
		{"msetnx", "k", "v"}, {"lmove", "list", "list 2", "left", "left"}, {"xadd", "stream", "*", "f", "v"},
		{"publish", "c", "m"}, {"eval", "return 1", 0},
		{"rename", "string", "string 2"}, {"flushall"}, {"zunionstore", "zset", 2, "zset", "zset 2"},
	} {
		if redispool.Repeatable(redis.NewCmd(ctx, words...)) {
			t.Errorf("%v is repeated", words)
		}
	}
}

// fill makes the initial state for the writes.
func fill(ctx context.Context, t *testing.T, c *redis.Client) {
	t.Helper()
	for _, words := range [][]any{
		{"flushall"}, {"set", "string", "old"}, {"set", "expiring", "old", "ex", 1000}, {"rpush", "list", "a", "b", "c"},
		{"hset", "hash", "f", "old", "h", 1},
		{"sadd", "set", "a", "b"}, {"zadd", "zset", 1, "a", 2, "b"}, {"pfadd", "hll", "z"}, {"pfadd", "hll 2", "y"},
		{"xadd", "stream", "1-1", "f", "v"},
		{"xadd", "stream", "1-2", "f", "v"}, {"xgroup", "create", "stream", "group", 0},
		{"xreadgroup", "group", "group", "me", "streams", "stream", ">"},
	} {
		if err := c.Do(ctx, words...).Err(); err != nil {
			t.Fatal(words, err)
		}
	}
}

// contents returns all keys with their values, and whether they expire.
func contents(ctx context.Context, t *testing.T, c *redis.Client) map[string]string {
	t.Helper()
	keys, err := c.Keys(ctx, "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, key := range keys {
		all[key] = fmt.Sprint(c.Dump(ctx, key).Val(), c.TTL(ctx, key).Val() > 0)
	}
	return all
}
