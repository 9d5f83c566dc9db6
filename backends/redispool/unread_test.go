package redispool_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/earnorm/poolstack/backends/redispool"
	"github.com/earnorm/poolstack/pool"
)

// typed are commands with the readers of go-redis, sent as given.
var typed = map[string]func(ctx context.Context, args ...any) redis.Cmder{
	"Cmd":      func(ctx context.Context, args ...any) redis.Cmder { return redis.NewCmd(ctx, args...) },
	"Slice":    func(ctx context.Context, args ...any) redis.Cmder { return redis.NewSliceCmd(ctx, args...) },
	"Status":   func(ctx context.Context, args ...any) redis.Cmder { return redis.NewStatusCmd(ctx, args...) },
	"Int":      func(ctx context.Context, args ...any) redis.Cmder { return redis.NewIntCmd(ctx, args...) },
	"IntSlice": func(ctx context.Context, args ...any) redis.Cmder { return redis.NewIntSliceCmd(ctx, args...) },
	"Duration": func(ctx context.Context, args ...any) redis.Cmder {
		return redis.NewDurationCmd(ctx, time.Second, args...)
	},
	"Time":            func(ctx context.Context, args ...any) redis.Cmder { return redis.NewTimeCmd(ctx, args...) },
	"Bool":            func(ctx context.Context, args ...any) redis.Cmder { return redis.NewBoolCmd(ctx, args...) },
	"BoolSlice":       func(ctx context.Context, args ...any) redis.Cmder { return redis.NewBoolSliceCmd(ctx, args...) },
	"String":          func(ctx context.Context, args ...any) redis.Cmder { return redis.NewStringCmd(ctx, args...) },
	"StringSlice":     func(ctx context.Context, args ...any) redis.Cmder { return redis.NewStringSliceCmd(ctx, args...) },
	"Float":           func(ctx context.Context, args ...any) redis.Cmder { return redis.NewFloatCmd(ctx, args...) },
	"FloatSlice":      func(ctx context.Context, args ...any) redis.Cmder { return redis.NewFloatSliceCmd(ctx, args...) },
	"KeyValueSlice":   func(ctx context.Context, args ...any) redis.Cmder { return redis.NewKeyValueSliceCmd(ctx, args...) },
	"MapStringString": func(ctx context.Context, args ...any) redis.Cmder { return redis.NewMapStringStringCmd(ctx, args...) },
	"MapStringInt":    func(ctx context.Context, args ...any) redis.Cmder { return redis.NewMapStringIntCmd(ctx, args...) },
	"MapStringAny": func(ctx context.Context, args ...any) redis.Cmder {
		return redis.NewMapStringInterfaceCmd(ctx, args...)
	},
	"MapStringAnys": func(ctx context.Context, args ...any) redis.Cmder {
		return redis.NewMapStringInterfaceSliceCmd(ctx, args...)
	},
	"MapMapStringAny": func(ctx context.Context, args ...any) redis.Cmder {
		return redis.NewMapMapStringInterfaceCmd(ctx, args...)
	},
	"MapStrings": func(ctx context.Context, args ...any) redis.Cmder {
		return redis.NewMapStringStringSliceCmd(ctx, args...)
	},
	"MapStringSlice": func(ctx context.Context, args ...any) redis.Cmder {
		return redis.NewMapStringSliceInterfaceCmd(ctx, args...)
	},
	"StringStruct":     func(ctx context.Context, args ...any) redis.Cmder { return redis.NewStringStructMapCmd(ctx, args...) },
	"XMessageSlice":    func(ctx context.Context, args ...any) redis.Cmder { return redis.NewXMessageSliceCmd(ctx, args...) },
	"XStreamSlice":     func(ctx context.Context, args ...any) redis.Cmder { return redis.NewXStreamSliceCmd(ctx, args...) },
	"XPending":         func(ctx context.Context, args ...any) redis.Cmder { return redis.NewXPendingCmd(ctx, args...) },
	"XPendingExt":      func(ctx context.Context, args ...any) redis.Cmder { return redis.NewXPendingExtCmd(ctx, args...) },
	"XAutoClaim":       func(ctx context.Context, args ...any) redis.Cmder { return redis.NewXAutoClaimCmd(ctx, args...) },
	"XAutoClaimJustID": func(ctx context.Context, args ...any) redis.Cmder { return redis.NewXAutoClaimJustIDCmd(ctx, args...) },
	"XInfoConsumers":   func(ctx context.Context, _ ...any) redis.Cmder { return redis.NewXInfoConsumersCmd(ctx, "k", "g") },
	"XInfoGroups":      func(ctx context.Context, _ ...any) redis.Cmder { return redis.NewXInfoGroupsCmd(ctx, "k") },
	"XInfoStream":      func(ctx context.Context, _ ...any) redis.Cmder { return redis.NewXInfoStreamCmd(ctx, "k") },
	"ZSlice":           func(ctx context.Context, args ...any) redis.Cmder { return redis.NewZSliceCmd(ctx, args...) },
	"ZWithKey":         func(ctx context.Context, args ...any) redis.Cmder { return redis.NewZWithKeyCmd(ctx, args...) },
	"ZSliceWithKey":    func(ctx context.Context, args ...any) redis.Cmder { return redis.NewZSliceWithKeyCmd(ctx, args...) },
	"Scan":             func(ctx context.Context, args ...any) redis.Cmder { return redis.NewScanCmd(ctx, nil, args...) },
	"ClusterSlots":     func(ctx context.Context, args ...any) redis.Cmder { return redis.NewClusterSlotsCmd(ctx, args...) },
	"ClusterShards":    func(ctx context.Context, args ...any) redis.Cmder { return redis.NewClusterShardsCmd(ctx, args...) },
	"ClusterLinks":     func(ctx context.Context, args ...any) redis.Cmder { return redis.NewClusterLinksCmd(ctx, args...) },
	"GeoPos":           func(ctx context.Context, args ...any) redis.Cmder { return redis.NewGeoPosCmd(ctx, args...) },
	"CommandsInfo":     func(ctx context.Context, args ...any) redis.Cmder { return redis.NewCommandsInfoCmd(ctx, args...) },
	"SlowLog":          func(ctx context.Context, args ...any) redis.Cmder { return redis.NewSlowLogCmd(ctx, args...) },
	"Latency":          func(ctx context.Context, args ...any) redis.Cmder { return redis.NewLatencyCmd(ctx, args...) },
	"FunctionList":     func(ctx context.Context, args ...any) redis.Cmder { return redis.NewFunctionListCmd(ctx, args...) },
	"FunctionStats":    func(ctx context.Context, args ...any) redis.Cmder { return redis.NewFunctionStatsCmd(ctx, args...) },
	"LCS": func(ctx context.Context, _ ...any) redis.Cmder {
		return redis.NewLCSCmd(ctx, &redis.LCSQuery{Key1: "a", Key2: "b", Idx: true})
	},
	"KeyValues":     func(ctx context.Context, args ...any) redis.Cmder { return redis.NewKeyValuesCmd(ctx, args...) },
	"KeyFlags":      func(ctx context.Context, args ...any) redis.Cmder { return redis.NewKeyFlagsCmd(ctx, args...) },
	"ACLLog":        func(ctx context.Context, args ...any) redis.Cmder { return redis.NewACLLogCmd(ctx, args...) },
	"Info":          func(ctx context.Context, args ...any) redis.Cmder { return redis.NewInfoCmd(ctx, args...) },
	"RankWithScore": func(ctx context.Context, args ...any) redis.Cmder { return redis.NewRankWithScoreCmd(ctx, args...) },
}

// No command gets the rest of a reply that go-redis has not read to its end, neither a command of
// the next borrower nor a later command of the same borrower.
func TestRestOfAReplyIsNobodys(t *testing.T) {
	s := need(t)
	for _, protocol := range []int{2, 3} {
		for name, command := range typed {
			for _, script := range []string{
				"return {'a', redis.error_reply('ERR boom'), 'secret'}",
				"return {'a', 'b', redis.error_reply('ERR boom'), 'secret', 'secret', 'secret'}",
				"return {false, 'secret', 'secret'}",
				"return {'a', false, {'secret', false}, 'secret'}",
				"return {1, {2, {redis.error_reply('ERR boom')}, 3}, 'secret'}",
				"return {redis.error_reply('ERR boom')}",
				"return {{'a', 'b'}, {false, 'b'}, {'secret', 'secret'}}",
			} {
				t.Run(fmt.Sprint(protocol, " ", name, " ", script), func(t *testing.T) {
					p := open(t, redispool.Options{Address: s.addr, Protocol: protocol, ReadTimeout: 200 * time.Millisecond}, pool.Config{MaxSize: 1})
					eval := func(ctx context.Context) redis.Cmder { return command(ctx, "eval", script, 0) }
					own := func(ctx context.Context) *redis.StringCmd { return redis.NewStringCmd(ctx, "echo", "own") }
					echoes(t, p)
					_ = p.Do(t.Context(), pool.Op{}, func(ctx context.Context, c *redispool.Conn) error { return c.Process(ctx, eval(ctx)) })
					echoes(t, p)
					_ = p.Do(t.Context(), pool.Op{}, func(ctx context.Context, c *redispool.Conn) error {
						_ = c.Process(ctx, eval(ctx))
						if got, err := c.Echo(ctx, "own").Result(); err == nil && got != "own" {
							t.Errorf("a later command got %q", got)
						}
						return nil
					})
					for kind, send := range map[string]func(*redispool.Conn, context.Context, func(redis.Pipeliner) error) ([]redis.Cmder, error){
						"PIPELINE": (*redispool.Conn).Pipelined, "MULTI": (*redispool.Conn).TxPipelined,
					} {
						var before, after *redis.StringCmd
						_ = p.Do(t.Context(), pool.Op{}, func(ctx context.Context, c *redispool.Conn) error {
							_, err := send(c, ctx, func(p redis.Pipeliner) error {
								before, after = own(ctx), own(ctx)
								return errors.Join(p.Process(ctx, before), p.Process(ctx, eval(ctx)), p.Process(ctx, after))
							})
							return err
						})
						if got, err := before.Result(); got != "own" && err == nil {
							t.Errorf("%s: the command before got %q", kind, got)
						}
						if got, err := after.Result(); got != "own" && err == nil {
							t.Errorf("%s: the command after got %q", kind, got)
						}
						echoes(t, p)
					}
				})
			}
		}
	}
}

var tokens atomic.Int64

// echoes checks that the next borrower gets the reply to its own command.
func echoes(t *testing.T, p *pool.Pool[*redispool.Conn]) {
	t.Helper()
	token := fmt.Sprint("own", tokens.Add(1))
	use(t, p, func(ctx context.Context, c *redispool.Conn) error {
		got, err := c.Echo(ctx, token).Result()
		if got != token {
			t.Errorf("the next borrower got %q, %v", got, err)
		}
		return err
	})
}

// In CLUSTER SLOTS the host is null if the server does not know its own host. go-redis stops
// reading there.
func TestClusterSlotsOfUnknownHosts(t *testing.T) {
	s := launch(t, "--cluster-enabled", "yes", "--cluster-preferred-endpoint-type", "unknown-endpoint")
	p := open(t, redispool.Options{Address: s.addr}, pool.Config{MaxSize: 1})
	use(t, p, func(ctx context.Context, c *redispool.Conn) error { return c.ClusterAddSlotsRange(ctx, 0, 16383).Err() })
	for range 3 {
		_ = p.Do(t.Context(), pool.Op{}, func(ctx context.Context, c *redispool.Conn) error { return c.ClusterSlots(ctx).Err() })
		echoes(t, p)
	}
}

// A connection released with a command in progress, sent by a goroutine of the borrower, is not
// handed out: the next borrower would have to wait for the command. The command returns at once.
func TestBusyConnectionIsNotLent(t *testing.T) {
	s := need(t)
	p := open(t, redispool.Options{Address: s.addr}, pool.Config{MaxSize: 2})
	var returned <-chan error
	use(t, p, func(ctx context.Context, c *redispool.Conn) error {
		returned = block(context.WithoutCancel(ctx), t, s, c)
		return nil
	})
	select {
	case err := <-returned:
		if err == nil || errors.Is(err, redis.Nil) {
			t.Errorf("the command that was left got %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the command that was left has not returned")
	}
	for range 4 {
		echoes(t, p)
	}
}

// Idle connections closed by the server are not handed out, even if they were used shortly before.
func TestClosedWhileIdle(t *testing.T) {
	s := launch(t)
	p := open(t, redispool.Options{Address: s.addr}, pool.Config{MaxSize: 8})
	if err := p.Warm(t.Context(), 8); err != nil {
		t.Fatal(err)
	}
	admin := redis.NewClient(&redis.Options{Addr: s.addr})
	defer admin.Close()
	for range 20 {
		if err := admin.ClientKillByFilter(t.Context(), "type", "normal", "skipme", "yes").Err(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Millisecond) // the end has arrived
		for range 8 {
			use(t, p, func(ctx context.Context, c *redispool.Conn) error { return c.Incr(ctx, "n").Err() })
		}
	}
	if n := p.Stat().Closed[pool.CloseBroken]; n != 0 {
		t.Errorf("%d connections broke in use", n)
	}
}

// stray is a server that sends its own bytes in answer to each command, and can send more.
func strayServer(t testing.TB, answer func(command []string) []byte, conns chan<- net.Conn) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if conns != nil {
				conns <- conn
			}
			go func() {
				defer conn.Close()
				serveWords(conn, answer)
			}()
		}
	}()
	return l.Addr().String()
}

// serveWords reads commands, which are arrays of strings, and answers them.
func serveWords(conn net.Conn, answer func(command []string) []byte) {
	var pending []byte
	buffer := make([]byte, 4096)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return
		}
		pending = append(pending, buffer[:n]...)
		var answers []byte
		for {
			words, rest, ok := parseCommand(pending)
			if !ok {
				break
			}
			pending = rest
			answers = append(answers, answer(words)...)
		}
		if _, err := conn.Write(answers); err != nil {
			return
		}
	}
}

func parseCommand(b []byte) (words []string, rest []byte, ok bool) {
	line := func() (string, bool) {
		i := bytes.Index(b, []byte("\r\n"))
		if i < 0 {
			return "", false
		}
		s := string(b[:i])
		b = b[i+2:]
		return s, true
	}
	head, ok := line()
	if !ok {
		return nil, nil, false
	}
	var n, size int
	_, _ = fmt.Sscanf(head, "*%d", &n)
	for range n {
		if head, ok = line(); !ok {
			return nil, nil, false
		}
		_, _ = fmt.Sscanf(head, "$%d", &size)
		if len(b) < size+2 {
			return nil, nil, false
		}
		words = append(words, string(b[:size]))
		b = b[size+2:]
	}
	return words, b, true
}

// ordinary returns the answer of a server with protocol 3 to the driver's commands, and to ECHO.
func ordinary(words []string) []byte {
	switch strings.ToLower(words[0]) {
	case "hello":
		return []byte("%1\r\n$5\r\nproto\r\n:3\r\n")
	case "ping":
		return []byte("+PONG\r\n")
	case "command":
		return []byte("*0\r\n")
	case "echo":
		return fmt.Appendf(nil, "$%d\r\n%s\r\n", len(words[1]), words[1])
	}
	return []byte("+OK\r\n")
}

// Bytes that arrive while a connection is idle, or behind a reply, are not read as a reply.
func TestStrayBytes(t *testing.T) {
	conns := make(chan net.Conn, 10)
	addr := strayServer(t, func(words []string) []byte {
		answer := ordinary(words)
		if words[0] == "get" {
			answer = []byte("$1\r\nv\r\n$5\r\nstray\r\n")
		}
		return answer
	}, conns)
	p := open(t, redispool.Options{Address: addr, Protocol: 3}, pool.Config{MaxSize: 1})
	echoes(t, p)
	conn := <-conns
	if _, err := conn.Write([]byte("$5\r\nstray\r\n")); err != nil {
		t.Fatal(err)
	}
	time.Sleep(10 * time.Millisecond) // it has arrived
	echoes(t, p)
	use(t, p, func(ctx context.Context, c *redispool.Conn) error { return c.Get(ctx, "k").Err() })
	echoes(t, p)
	if s := p.Stat(); s.Closed.Total() != 2 || s.Closed[pool.CloseBroken] > 1 {
		t.Errorf("%+v", s.Closed)
	}
}

// With any answer of a server, the next borrower gets its own reply, or an error.
func FuzzNextBorrower(f *testing.F) {
	names := make([]string, 0, len(typed))
	for name := range typed {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, seed := range []string{
		"*3\r\n$1\r\na\r\n-ERR boom\r\n$6\r\nsecret\r\n", "*2\r\n_\r\n$6\r\nsecret\r\n", "%1\r\n+a\r\n*2\r\n$-1\r\n:1\r\n", "$-1\r\n", "+OK\r\n",
		"+OK\r\n>2\r\n+x\r\n+y\r\n", ">2\r\n+x\r\n+y\r\n+OK\r\n", "|1\r\n+a\r\n+b\r\n+OK\r\n", "*1\r\n*1\r\n-ERR\r\n", "~2\r\n,1.5\r\n#t\r\n", "*-1\r\n",
		"*2\r\n$1\r\na\r\n*3\r\n:1\r\n!3\r\nERR\r\n+x\r\n", "-ERR no\r\n+extra\r\n", ":1\r\n:2\r\n:3\r\n",
	} {
		for which := range names {
			f.Add(uint8(which), []byte(seed), which%2 == 0)
		}
	}
	reply := make(chan []byte, 1)
	addr := strayServer(f, func(words []string) []byte {
		select {
		case b := <-reply:
			return b
		default:
			return ordinary(words)
		}
	}, nil)
	f.Fuzz(func(t *testing.T, which uint8, answer []byte, piped bool) {
		if len(answer) == 0 {
			return
		}
		p := open(t, redispool.Options{Address: addr, Protocol: 3, ReadTimeout: 30 * time.Millisecond}, pool.Config{MaxSize: 1})
		command := typed[names[int(which)%len(names)]]
		var own *redis.StringCmd
		_ = p.Do(t.Context(), pool.Op{}, func(ctx context.Context, c *redispool.Conn) error {
			reply <- answer
			if !piped {
				return c.Process(ctx, command(ctx, "get", "k"))
			}
			_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
				own = redis.NewStringCmd(ctx, "echo", "own")
				return errors.Join(p.Process(ctx, command(ctx, "get", "k")), p.Process(ctx, own))
			})
			return err
		})
		if piped {
			if got, err := own.Result(); err == nil && got != "own" {
				t.Errorf("the command after got %q", got)
			}
		}
		var next string
		err := p.Do(t.Context(), pool.Op{}, func(ctx context.Context, c *redispool.Conn) (err error) {
			next, err = c.Echo(ctx, "next").Result()
			return err
		})
		if err == nil && next != "next" {
			t.Errorf("the next borrower got %q", next)
		}
	})
}
