package redispool_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/earnorm/poolstack/backends/redispool"
	"github.com/earnorm/poolstack/pool"
)

// No failure of opening, resetting or using a connection shows the password.
func TestSecrets(t *testing.T) {
	echo := func(words []string) string {
		return fmt.Sprintf("-ERR unknown command `%s`, with args beginning with: `%s`, \r\n", words[0], strings.Join(words[1:], "`, `"))
	}
	// A server that knows no command, and repeats the arguments in its refusal.
	ancient := func(words []string) (string, bool) {
		return echo(words), true
	}
	old := func(words []string) (string, bool) { // Redis 5: no HELLO, no RESET
		switch words[0] {
		case "auth", "select":
			return "+OK\r\n", true
		case "ping":
			return "+PONG\r\n", true
		case "get":
			return "-ERR operation not permitted\r\n", true
		}
		return echo(words), true
	}
	// A server that repeats the printable arguments.
	garbled := func(words []string) (string, bool) {
		return "-ERR unknown command, with args beginning with: s3cret \r\n", true
	}
	blunt := func(words []string) (string, bool) {
		return "-ERR " + strings.Join(words, " ") + " is no good\r\n", true
	}
	mute := func([]string) (string, bool) { return "", false }
	sealed := func(context.Context) (string, string, error) { return "app", secret, errors.New("the vault is sealed") }
	halved := func(context.Context) (string, string, error) { return secret, "", nil }
	provider := func(context.Context) (string, string, error) { return "app", secret, nil }

	for _, test := range []struct {
		name  string
		reply func([]string) (string, bool)
		opts  redispool.Options
		steps []lendFunc
		want  string
	}{
		{"refused HELLO and AUTH", ancient, redispool.Options{Username: "app", Password: secret}, nil, "withheld"},
		{"refused HELLO and AUTH, of a provider", ancient, redispool.Options{Credentials: provider}, nil, "withheld"},
		{"a provider that fails", nil, redispool.Options{Credentials: sealed}, nil, "CONNECT: asking Credentials: the vault is sealed"},
		{"a provider that takes one for the other", nil, redispool.Options{Credentials: halved}, nil, "without a password"},
		{"refused protocol", old, redispool.Options{Username: "app", Password: secret, Protocol: 3}, nil, "withheld"},
		{"repeated in another form", garbled, redispool.Options{Password: secret + "\x00"}, nil, "withheld"},
		{"repeated in another sentence", blunt, redispool.Options{Password: secret}, nil, "withheld"},
		{"a refused command", old, redispool.Options{Username: "app", Password: secret}, []lendFunc{do("get", "k")}, "not permitted"},
		{"hung up", mute, redispool.Options{Username: "app", Password: secret}, nil, "EOF"},
		{"no server", nil, redispool.Options{Address: "127.0.0.1:1", Password: secret}, nil, "refused"},
		{"no TLS", ancient, redispool.Options{Password: secret, TLS: &redispool.TLS{}, DialTimeout: 50 * time.Millisecond}, nil,
			"TLS handshake"},
		{"no file", nil, redispool.Options{Password: secret, TLS: &redispool.TLS{CAFile: "/no/file"}}, nil, "CAFile"},
	} {
		t.Run(test.name, func(t *testing.T) {
			opts := test.opts
			if test.reply != nil {
				opts.Address = script(t, test.reply)
			}
			p, err := redispool.New(opts, pool.Config{OpenTimeout: time.Second})
			if err == nil {
				defer func() { _ = p.Close(context.Background()) }()
				err = p.Do(t.Context(), pool.Op{}, func(ctx context.Context, c *redispool.Conn) error {
					for _, step := range test.steps {
						if err := step(ctx, c); err != nil {
							return err
						}
					}
					return nil
				})
			}
			if err == nil {
				t.Fatal("there was no error")
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
			for e := range tree(err) {
				if text := fmt.Sprintf("%v %+v %#v", e, e, e); strings.Contains(text, "s3cret") {
					t.Errorf("the password is in %T: %s", e, text)
				}
			}
		})
	}
}

// tree yields err and everything it wraps.
func tree(err error) func(func(error) bool) {
	return func(yield func(error) bool) {
		if !yield(err) {
			return
		}
		var wrapped []error
		switch e := err.(type) {
		case interface{ Unwrap() error }:
			wrapped = []error{e.Unwrap()}
		case interface{ Unwrap() []error }:
			wrapped = e.Unwrap()
		}
		for _, e := range wrapped {
			for inner := range tree(e) {
				if !yield(inner) {
					return
				}
			}
		}
	}
}

// With a server without HELLO, protocol 2 is used. With a server without RESET, a changed
// connection is replaced.
func TestOldServer(t *testing.T) {
	s := launch(t, "--rename-command", "HELLO", "", "--rename-command", "RESET", "", "--requirepass", secret)
	p := open(t, redispool.Options{Address: s.addr, Password: secret, DB: 1, ClientName: "old"}, pool.Config{MaxSize: 1})
	before := session(t, p)
	if before.resp != 2 || before.db != 1 || before.name != "old" {
		t.Errorf("the session is %+v", before)
	}
	use(t, p, do("select", 5))
	after := session(t, p)
	if after.id == before.id || after.db != 1 {
		t.Errorf("the session was %+v and is %+v", before, after)
	}
	err := opening(t, redispool.Options{Address: s.addr, Password: secret, Protocol: 3})
	var reply redis.Error
	if !errors.As(err, &reply) || !strings.HasPrefix(reply.Error(), "ERR") || strings.Contains(err.Error(), secret) {
		t.Errorf("with protocol 3: %v", err)
	}
}

// The log of go-redis, and a printed driver or connection, do not contain the password. A failure
// to open a connection is not logged at all, because the pool reports the failure.
func TestPrints(t *testing.T) {
	s := launch(t, "--requirepass", secret)
	opts := redispool.Options{Address: s.addr, Password: secret}
	before := logged.String()
	_ = opening(t, redispool.Options{Address: s.addr, Password: "wrong"})
	_ = opening(t, redispool.Options{Address: "127.0.0.1:1", Password: secret})
	if said := strings.TrimPrefix(logged.String(), before); said != "" {
		t.Errorf("go-redis says %s", said)
	}
	d := newDriver(t, opts)
	err := using(t, opts, func(ctx context.Context, c *redispool.Conn) error {
		if text := fmt.Sprintf("%v %+v %#v %v %+v %#v", d, d, d, c, c, c); strings.Contains(text, secret) {
			t.Errorf("the password is in %s", text)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if strings.Contains(logged.String(), secret) {
		t.Error("the password is in the log of go-redis")
	}
}
