package redispool

import "github.com/redis/go-redis/v9"

// Repeatable reports whether layers repeat a command of a Client.
func Repeatable(cmd redis.Cmder) bool { return repeatable(builtinCommands.of(cmd), cmd) }

// FirstKey returns the first key of a command of a Client.
func FirstKey(args []any) (string, bool) { return firstKey(args) }
