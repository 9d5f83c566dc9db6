package redispool_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/earnorm/poolstack/backends/redispool"
	"github.com/earnorm/poolstack/pool"
)

// Opening takes a single round trip: the server of this test answers only after it has read all
// commands.
func TestOpenTakesOneRoundTrip(t *testing.T) {
	replies := map[string]string{"hello": "%0\r\n", "select": "+OK\r\n", "client": "+OK\r\n", "ping": "+PONG\r\n", "command": "*0\r\n"}
	for name, test := range map[string]struct {
		hello string
		opts  redispool.Options
	}{
		"HELLO 3":                  {"%0\r\n", redispool.Options{Password: "pw", DB: 1, ClientName: "web"}},
		"HELLO 2":                  {"*0\r\n", redispool.Options{Password: "pw", DB: 1, Protocol: 2}},
		"no HELLO, no password":    {"-ERR unknown command 'HELLO'\r\n", redispool.Options{DB: 1}},
		"no such protocol":         {"-NOPROTO unsupported protocol version\r\n", redispool.Options{}},
		"no HELLO, and NOAUTH too": {"-NOAUTH HELLO must be called with the client already authenticated\r\n", redispool.Options{}},
	} {
		t.Run(name, func(t *testing.T) {
			held := ""
			test.opts.Address = script(t, func(words []string) (string, bool) {
				reply := replies[words[0]]
				if words[0] == "hello" {
					reply = test.hello
				}
				if held += reply; words[0] != "command" {
					return "", true
				}
				return held, true
			})
			err := opening(t, test.opts)
			if refused := strings.HasPrefix(test.hello, "-NOAUTH"); refused != (err != nil) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A server without HELLO and with a password gets a second round trip, with AUTH.
func TestOpenWithoutHello(t *testing.T) {
	var mu sync.Mutex
	var sent []string
	in := false
	addr := script(t, func(words []string) (string, bool) {
		mu.Lock()
		defer mu.Unlock()
		sent = append(sent, strings.Join(words, " "))
		switch {
		case words[0] == "hello":
			return "-ERR unknown command 'HELLO'\r\n", true
		case words[0] == "auth":
			in = true
			return "+OK\r\n", true
		case !in:
			return "-NOAUTH Authentication required.\r\n", true
		case words[0] == "ping":
			return "+PONG\r\n", true
		}
		return "+OK\r\n", true
	})
	if err := opening(t, redispool.Options{Address: addr, Username: "app", Password: "pw", DB: 7}); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if got, want := strings.Join(sent, ", "), "hello 3 auth app pw, select 7, ping, command, auth app pw, select 7, ping"; got != want {
		t.Errorf("sent %s,\nwant %s", got, want)
	}
}

// A server may not know PING, or other commands of the handshake. Its refusal proves the connection
// as a PONG does.
func TestServerWithoutPing(t *testing.T) {
	s := launch(t, "--rename-command", "PING", "", "--rename-command", "HELLO", "", "--rename-command", "COMMAND", "")
	p := open(t, redispool.Options{Address: s.addr, DB: 3, ClientName: "app"}, pool.Config{MaxSize: 1, CheckAfter: 1})
	for range 3 {
		use(t, p, do("set", "k", "v"))
	}
	if h := p.Check(t.Context()); h.Status != pool.StatusOK {
		t.Errorf("health is %v: %v", h.Status, h.Reasons)
	}
	if err := p.Look(t.Context()); err != nil {
		t.Error(err)
	}
	if st := p.Stat(); st.Opened != 1 || st.CheckFailures != 0 {
		t.Errorf("%+v", st)
	}
}

// Refusals of PING by servers and proxies, and whether the connection is fit for use.
func TestRefusalsOfPing(t *testing.T) {
	for refusal, fit := range map[string]bool{
		"ERR unknown command 'PING', with args beginning with: ": true,
		"ERR unknown command `PING`":                             true,
		"unsupported command 'ping'":                             true,
		"ERR command is disabled":                                true,
		"ERR PING is not allowed":                                true,
		"NOPERM this user has no permissions":                    true,
		"ERR Can't execute 'ping': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context": false,
		"ERR max number of clients reached":                      false,
		"ERR Protocol error: unauthenticated multibulk length":   false,
		"LOADING Redis is loading the dataset in memory":         false,
		"NOAUTH Authentication required.":                        false,
		"CLUSTERDOWN the command is unknown command's neighbour": false,
	} {
		for _, hangsUp := range []bool{false, true} { // on COMMAND
			addr := script(t, func(words []string) (string, bool) {
				switch words[0] {
				case "hello":
					return "%0\r\n", true
				case "ping":
					return "-" + refusal + "\r\n", true
				case "command":
					return "*0\r\n", !hangsUp
				}
				return "+OK\r\n", true
			})
			if err := opening(t, redispool.Options{Address: addr}); (err == nil) != fit {
				t.Errorf("%s: %v, want it fit for use: %t", refusal, err, fit)
			}
		}
	}
}

// A server that refuses COMMAND, or hangs up on COMMAND, is used all the same, and does not get
// COMMAND again.
func TestCommandIsNotAnswered(t *testing.T) {
	for name, refusal := range map[string]string{"hangs up": "", "refuses": "-NOPERM this user has no permissions\r\n", "other words": "*1\r\n:1\r\n"} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			asked := 0
			addr := script(t, func(words []string) (string, bool) {
				switch words[0] {
				case "hello":
					return "%0\r\n", true
				case "command":
					mu.Lock()
					asked++
					mu.Unlock()
					return refusal, refusal != ""
				}
				return "+PONG\r\n", true
			})
			p := open(t, redispool.Options{Address: addr}, pool.Config{MaxSize: 3})
			if err := p.Warm(t.Context(), 3); err != nil {
				t.Fatal(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if asked != 1 || p.Stat().OpenFailures != 0 {
				t.Errorf("asked %d times; %+v", asked, p.Stat())
			}
		})
	}
}

// A server that cannot write to its disk refuses PING as well as writes. Its reads work, also by
// new connections.
func TestDiskFull(t *testing.T) {
	s := fullDisk(t)
	p := open(t, redispool.Options{Address: s.addr}, pool.Config{MaxSize: 2, CheckAfter: 1})
	for range 10 {
		if err := p.Do(t.Context(), pool.Op{}, do("exists", "k")); err != nil {
			t.Fatal(err)
		}
	}
	if st := p.Stat(); st.Closed.Total() != 0 || st.CheckFailures != 0 {
		t.Errorf("%+v", st)
	}
}

// Proxies and old servers refuse HELLO with their own texts. With a login, the driver then logs in
// by AUTH.
func TestRefusalsOfHello(t *testing.T) {
	for _, test := range []struct {
		refusal string
		with    string // the password
		fit     bool
	}{
		{"ERR unknown command 'HELLO'", "pw", true},
		{"unsupported command 'hello'", "pw", true},
		{"unsupported command 'hello'", "", true},
		{"invalid request", "pw", true},
		{"ERR Protocol version not supported", "pw", true},
		{"NOPROTO unsupported protocol version", "pw", true},
		{"NOAUTH Authentication required.", "pw", true},
		{"NOAUTH Authentication required.", "", false},
		{"NOPERM this user has no permissions to run the 'hello' command", "pw", true},
		{"WRONGPASS invalid username-password pair or user is disabled.", "pw", false},
		{"LOADING Redis is loading the dataset in memory", "pw", false},
		{"DENIED Redis is running in protected mode", "pw", false},
		{"ERR max number of clients reached", "pw", false},
		{"ERR max number of clients + cluster connections reached", "pw", false},
	} {
		var auths atomic.Int64
		var in atomic.Bool
		in.Store(test.with == "")
		opts := redispool.Options{Password: test.with, DB: 2, Address: script(t, func(words []string) (string, bool) {
			switch {
			case words[0] == "hello":
				return "-" + test.refusal + "\r\n", true
			case words[0] == "auth":
				auths.Add(1)
				in.Store(true)
				return "+OK\r\n", true
			case !in.Load():
				return "-NOAUTH Authentication required.\r\n", true
			case words[0] == "ping" && test.fit:
				return "+PONG\r\n", true
			case words[0] == "ping":
				return "-" + test.refusal + "\r\n", true
			}
			return "+OK\r\n", true
		})}
		err := opening(t, opts)
		if (err == nil) != test.fit || err != nil && !strings.Contains(err.Error(), test.refusal) {
			t.Errorf("%s: %v, want it fit for use: %t", test.refusal, err, test.fit)
		}
		if want := int64(len(test.with) / 2); test.fit && auths.Load() != want || !test.fit && auths.Load() != 0 {
			t.Errorf("%s: AUTH was sent %d times", test.refusal, auths.Load())
		}
		exact := redispool.Options{Address: opts.Address, Password: opts.Password, Protocol: 3}
		if opening(t, exact) == nil {
			t.Errorf("%s: a plain protocol 3 is another one", test.refusal)
		}
	}
}

// A user who may not send HELLO, and a user without a password, on a real server.
func TestUsersOfAServer(t *testing.T) {
	s := launch(t, "--user", "default", "off", "--user", "shy", "on", ">pw", "~*", "&*", "+@all", "-hello",
		"--user", "open", "on", "nopass", "~*", "&*", "+@all")
	for _, opts := range []redispool.Options{{Username: "shy", Password: "pw"}, {Username: "open"}, {Username: "open", Protocol: 2}} {
		opts.Address = s.addr
		p := open(t, opts, pool.Config{MaxSize: 1})
		use(t, p, func(ctx context.Context, c *redispool.Conn) error {
			if who := c.ACLWhoAmI(ctx).Val(); who != opts.Username {
				t.Errorf("%s is %q", opts.Username, who)
			}
			return c.Set(ctx, "k", "v", 0).Err()
		})
	}
	p := open(t, redispool.Options{Address: s.addr, Username: "default"}, pool.Config{MaxSize: 1})
	if err := p.Do(t.Context(), pool.Op{}, do("get", "k")); !redis.IsAuthError(err) && !strings.Contains(fmt.Sprint(err), "NOAUTH") {
		t.Errorf("the default user, who is off: %v", err)
	}
	everybody := open(t, redispool.Options{Address: need(t).addr, Username: "default"}, pool.Config{MaxSize: 1})
	use(t, everybody, do("get", "k"))
}
