package redispool

import "github.com/redis/go-redis/v9"

// Repeatable reports whether layers repeat a command of a Client.
func Repeatable(cmd redis.Cmder) bool { return repeatable(builtinCommands.of(cmd), cmd) }

// DisplayName returns the name of a command as shown to layers.
func DisplayName(name string) string { return displayName(name) }

// FirstKey returns the first key of a command of a Client.
func FirstKey(args []any) (string, bool) { return firstKey(args) }
