package redispool

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func TestKinds(t *testing.T) {
	known := learn([]any{
		[]any{"get", int64(2), []any{"readonly", "fast"}},
		[]any{"set", int64(-3), []any{"write", "denyoom"}},
		[]any{"Mod.Read", int64(2), []any{"readonly"}},
		[]any{"blpop", int64(-3), []any{"write", "blocking"}},
		[]any{"xread", int64(-4), []any{"readonly", "blocking"}},
		[]any{"object", int64(-2), []any{}, 0, 0, 0, nil, nil, nil, []any{
			[]any{"object|encoding", int64(3), []any{"readonly"}},
			[]any{"object|move", int64(3), []any{"write"}},
		}},
		[]any{"config", int64(-2), []any{}, 0, 0, 0, nil, nil, nil, []any{[]any{"config|set", int64(-4), []any{"admin"}}}},
	})
	if known == nil {
		t.Fatal("nothing was learnt")
	}
	for _, test := range []struct {
		words []any
		want  kind
	}{
		{[]any{"get", "k"}, harmless},
		{[]any{"GET", "k"}, harmless},
		{[]any{[]byte("Get"), "k"}, harmless},
		{[]any{"mod.read", "k"}, harmless},
		{[]any{"set", "k", "v"}, nilIsNone | again},
		{[]any{"mget", "k"}, 0}, // this server does not say that it reads
		{[]any{"nonsense"}, 0},
		{[]any{}, 0},
		{[]any{"a-name-that-is-longer-than-any-command"}, 0},
		{[]any{1}, kind(spoiled)},
		{[]any{"xread", "count", 1, "streams", "s", 0}, harmless | mayBlock},
		{[]any{"xread", "Block", 1, "streams", "s", 0}, harmless | mayBlock | unkept},
		{[]any{"blpop", "k", 0}, unkept | nilIsNone},
		{[]any{"object", "encoding", "k"}, harmless},
		{[]any{"object", "Encoding", "k"}, harmless},
		{[]any{"object", "move", "k"}, 0},
		{[]any{"config", "get", "*"}, harmless},
		{[]any{"config", "set", "a", "b"}, 0},
		{[]any{"client", "id"}, harmless},
		{[]any{"client", "kill", "id", 1}, 0},
		{[]any{"client", "tracking", "on"}, harmless | kind(changed|pushing)},
		{[]any{"client", "no-evict", "on"}, kind(spoiled)},
		{[]any{"client", "new-word"}, kind(spoiled)},
		{[]any{"script", "load", "return 1"}, harmless},
		{[]any{"script", "debug", "yes"}, kind(spoiled)},
		{[]any{"exec"}, harmless | executes | ends},
		{[]any{"select", 1}, harmless | kind(changed)},
		{[]any{"wait", 1, 0}, harmless | unkept},
	} {
		if got := known.of(redis.NewCmd(context.Background(), test.words...)); got != test.want {
			t.Errorf("%v is %b, want %b", test.words, got, test.want)
		}
	}
	for _, reply := range []any{nil, "OK", []any{}, []any{1}, []any{[]any{"get", 2}}, []any{[]any{2, 2, []any{}}}, []any{[]any{"a", 2, "b"}}} {
		if learn(reply) != nil {
			t.Errorf("%v has been learnt from", reply)
		}
	}
}

// The built-in table has the reads of a real server, with both protocols.
func TestBuiltinReads(t *testing.T) {
	url := os.Getenv("REDIS_URL")
	if url == "" {
		t.Skip("there is no redis-server in PATH")
	}
	for _, protocol := range []int{2, 3} {
		opts, err := ParseURL(url)
		if err != nil {
			t.Fatal(err)
		}
		opts.Protocol = protocol
		d, err := NewDriver(opts)
		if err != nil {
			t.Fatal(err)
		}
		c, err := d.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = d.Close(context.Background(), c) }()
		told := *d.commands.Load()
		if len(told) <= len(builtinCommands) {
			t.Fatalf("the server knows %d commands", len(told))
		}
		for name, k := range told {
			if ours := builtinCommands[name]; k&(harmless|unkept) != ours&(harmless|unkept) {
				t.Logf("%s is %b, and built in as %b", name, k, ours)
				if ours&^k&harmless != 0 || k&^ours&unkept != 0 {
					t.Error("the server knows better")
				}
			}
		}
	}
}

// witnessGet does the work of the witness for a successful GET.
func witnessGet(known commands, e *evidence, cmd redis.Cmder) {
	e.begin()
	k := known.of(cmd)
	e.add(asked)
	e.note(k, cmd, nil, false)
}

func TestWitnessAllocatesNothing(t *testing.T) {
	var e evidence
	for _, words := range [][]any{{"get", "k"}, {"GET", "k"}, {"set", "k", "v"}, {"xread", "streams", "s", "0"}} {
		cmd := redis.NewCmd(context.Background(), words...)
		if n := testing.AllocsPerRun(100, func() { witnessGet(builtinCommands, &e, cmd) }); n != 0 {
			t.Errorf("%v: %.0f allocations", words, n)
		}
	}
}

func BenchmarkWitness(b *testing.B) {
	var e evidence
	cmd := redis.NewCmd(context.Background(), "get", "k")
	b.ReportAllocs()
	for b.Loop() {
		witnessGet(builtinCommands, &e, cmd)
	}
}

// The block times in commands.
func TestBlockTime(t *testing.T) {
	text, count := "0.5", 2
	for _, test := range []struct {
		args []any
		want time.Duration
		ok   bool
	}{
		{[]any{"blpop", "a", "b", 3}, 3 * time.Second, true},
		{[]any{"BRPOP", []byte("a"), []byte("0.25")}, 250 * time.Millisecond, true},
		{[]any{"blmove", "a", "b", "left", "right", &text}, 500 * time.Millisecond, true},
		{[]any{"brpoplpush", "a", "b", uint8(1)}, time.Second, true},
		{[]any{"bzpopmin", "a", float32(2)}, 2 * time.Second, true},
		{[]any{"bzpopmax", "a", 0}, forever, true},
		{[]any{"bzpopmax", "a", "inf"}, forever, true},
		{[]any{"blmpop", &count, 1, "a", "left"}, 2 * time.Second, true},
		{[]any{"bzmpop", "1e300", 1, "a", "min"}, forever, true},
		{[]any{"wait", 1, 20}, 20 * time.Millisecond, true},
		{[]any{"waitAOF", 1, 0, int64(30)}, 30 * time.Millisecond, true},
		{[]any{"xread", "count", 1, "Block", 40, "streams", "s", "$"}, 40 * time.Millisecond, true},
		{[]any{"xreadgroup", "group", "g", "c", "block", 0, "streams", "s", ">"}, forever, true},
		{[]any{"xread", "streams", "s", "$"}, 0, false},
		{[]any{"xread", "streams", "s", "block"}, 0, false},
		{[]any{"xread", "streams", "block", "0"}, 0, false},
		{[]any{"xreadgroup", "GROUP", "g", "BLOCK", "BLOCK", 600, "STREAMS", "block", ">"}, 600 * time.Millisecond, true},
		{[]any{"blpop", "a", true}, time.Second, true},
		{[]any{"blpop", "a", "soon"}, 0, false},
		{[]any{"blpop", "a", "nan"}, 0, false},
		{[]any{"blpop", "a", -1}, 0, false},
		{[]any{"blpop", "a", nil}, 0, false},
		{[]any{"blmpop"}, 0, false},
		{[]any{}, 0, false},
	} {
		if got, ok := blockTime(test.args); got != test.want || ok != test.ok {
			t.Errorf("%v: %v, %t; want %v, %t", test.args, got, ok, test.want, test.ok)
		}
	}
}

// The block times of several commands are added. A command that blocks for ever leaves only the
// context's deadline.
func TestReplyDeadline(t *testing.T) {
	cmd := func(args ...any) redis.Cmder { return redis.NewCmd(t.Context(), args...) }
	limited, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	hour, _ := limited.Deadline()
	second, ever, get := cmd("blpop", "k", 1), cmd("blpop", "k", 0), cmd("get", "k")
	for name, test := range map[string]struct {
		ctx  context.Context
		cmds []redis.Cmder
		want time.Duration // from now; 0: for ever, negative: the context's
	}{
		"two":               {t.Context(), []redis.Cmder{second, get, second}, 12 * time.Second},
		"ever":              {t.Context(), []redis.Cmder{second, ever, second}, 0},
		"ever, limited":     {limited, []redis.Cmder{ever}, -1},
		"very long":         {t.Context(), []redis.Cmder{cmd("blpop", "k", 9.2e9), cmd("blpop", "k", 9.2e9)}, 0},
		"longer than limit": {limited, []redis.Cmder{cmd("blpop", "k", 86400)}, -1},
	} {
		before := time.Now()
		got, ok := replyDeadline(test.ctx, test.cmds)
		switch {
		case !ok:
			t.Errorf("%s: none", name)
		case test.want == 0 && !got.IsZero(), test.want < 0 && !got.Equal(hour):
			t.Errorf("%s: %v", name, got)
		case test.want > 0 && (got.Before(before.Add(test.want)) || got.After(time.Now().Add(test.want))):
			t.Errorf("%s: %v, want %v", name, got.Sub(before), test.want)
		}
	}
	if _, ok := replyDeadline(limited, []redis.Cmder{get}); ok {
		t.Error("GET does not block")
	}
}
