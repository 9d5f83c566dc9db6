package redispool

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// words makes a command from words.
func words(line ...any) redis.Cmder { return redis.NewCmd(nil, line...) } //nolint:staticcheck // no context is needed

func TestText(t *testing.T) {
	many := make([]any, 5000)
	for i := range many {
		many[i] = "s3cret"
	}
	for _, test := range []struct {
		cmd  redis.Cmder
		want string
	}{
		{words("ping"), "PING"},
		{words("set", "user:1", "s3cret", "ex", 10), "SET ? ? ? ?"},
		{words("auth", "default", "s3cret"), "AUTH ? ?"},
		{words("hello", 3, "AUTH", "default", "s3cret"), "HELLO ? ? ? ?"},
		{words("config", "set", "requirepass", "s3cret"), "CONFIG SET ? ?"},
		{words("CONFIG", "s3cret"), "CONFIG ?"},
		{words("acl", "setuser", "bob", ">s3cret"), "ACL SETUSER ? ?"},
		{words("migrate", "host", 6379, "k", 0, 1, "AUTH", "s3cret"), "MIGRATE ? ? ? ? ? ? ?"},
		{words("eval", "return 's3cret'", 0), "EVAL ? ?"},
		{words("set", "get", "v"), "SET ? ?"}, // a key that looks like a subcommand
		{words("client", []byte("setname"), "x"), "CLIENT ? ?"},
		{words("s3cret:key", "v"), "_OTHER ?"},
		{words("s3cret"), "_OTHER"},
		{words("mget").(*redis.Cmd), "MGET"},
		{words(append([]any{"mset"}, many...)...), "MSET" + strings.Repeat(" ?", 511) + " ..."},
	} {
		if got := text(test.cmd); got != test.want {
			t.Errorf("%v is shown as %q, want %q", test.cmd.Args()[:min(5, len(test.cmd.Args()))], got, test.want)
		}
	}
}

func TestBatchText(t *testing.T) {
	get, set := words("get", "s3cret"), words("set", "k", "s3cret")
	for _, test := range []struct {
		cmds []redis.Cmder
		want string
	}{
		{nil, ""},
		{[]redis.Cmder{get, get, get}, "GET ?"},
		{slices.Repeat([]redis.Cmder{get}, 5000), "GET ?"},
		{[]redis.Cmder{get, get, set, get}, "GET ?; SET ? ?; GET ?"},
		{[]redis.Cmder{get, set}, "GET ?; SET ? ?"},
		{[]redis.Cmder{words("multi"), get, set, words("exec")}, "GET ?; SET ? ?"},
		{[]redis.Cmder{words("multi"), words("exec")}, ""},
		{slices.Repeat([]redis.Cmder{get, set}, 1000), strings.Repeat("GET ?; SET ? ?; ", 64) + "GET ?; ..."},
	} {
		if got := batchText(test.cmds); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}

var shape = regexp.MustCompile(`^[A-Z0-9._-]+( [A-Z-]+)?( \?)*( \.\.\.)?$`)

// The text has a question mark for each argument, and nothing else of the arguments.
func FuzzText(f *testing.F) {
	f.Add("set", "user:1", "s3cret", 1)
	f.Add("AUTH", "default", "s3cret", 0)
	f.Add("hello", "3", "AUTH", 2)
	f.Add("config", "SET", "requirepass", 3)
	f.Add("config\x00set", "ſet", "\xff", 3)
	f.Add("", "", "", 2000)
	f.Fuzz(func(t *testing.T, name, first, second string, more int) {
		args := []any{name, first, second}
		for range max(min(more, 3000), 0) {
			args = append(args, second)
		}
		got := text(words(args...))
		parts := shape.FindStringSubmatch(got)
		if parts == nil || len(got) > maxText+10 {
			t.Fatalf("got %q", got)
		}
		marks := len(args) - 1
		if sub := strings.TrimSpace(parts[1]); sub != "" {
			marks--
			if sub != strings.ToUpper(first) || !slices.Contains(strings.Fields(subcommands[displayName(strings.ToLower(name))]), sub) {
				t.Errorf("got %q, whose second word is no subcommand", got)
			}
		}
		if n := strings.Count(got, " ?"); n != marks && parts[3] == "" {
			t.Errorf("got %q: %d question marks, want %d", got, n, marks)
		}
	})
}
