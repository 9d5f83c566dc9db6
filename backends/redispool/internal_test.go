package redispool

import (
	"context"
	"errors"
	"io"
	"net"
	"reflect"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/earnorm/poolstack/pool"
)

// A guarded call fails if its context ends at the last moment, because the socket is closed.
func TestGuarded(t *testing.T) {
	ours, theirs := net.Pipe()
	defer func() { _ = theirs.Close() }()
	c := &Conn{socket: &socket{Conn: ours, raw: ours}}
	ctx, cancel := context.WithCancel(t.Context())
	if err := c.guarded(ctx, func() error { cancel(); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

// unfired is a context whose timer has not fired yet.
type unfired struct{ context.Context }

func (unfired) Deadline() (time.Time, bool) { return time.Unix(1, 0), true }

func TestOver(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, test := range []struct {
		ctx  context.Context
		want error
	}{
		{t.Context(), nil},
		{cancelled, context.Canceled},
		{unfired{t.Context()}, context.DeadlineExceeded},
	} {
		if got := over(test.ctx); got != test.want {
			t.Errorf("got %v, want %v", got, test.want)
		}
	}
}

func TestDisplayName(t *testing.T) {
	for name, want := range map[string]string{
		"get": "GET", "ft._list": "FT._LIST", "restore-asking": "RESTORE-ASKING", "eval_ro": "EVAL_RO", "json.set": "JSON.SET",
		"ft.search": "FT.SEARCH", "cl.throttle": "CL.THROTTLE",
		"user:1": "_OTHER", "": "_OTHER", "s3cret": "_OTHER", "json.s3cret": "_OTHER", "GET": "_OTHER",
	} {
		if got := displayName(name); got != want {
			t.Errorf("%q is shown as %q, want %q", name, got, want)
		}
	}
}

// uncomparable is a context of a type that panics when it is compared.
type uncomparable struct {
	context.Context

	_ []int
}

// The context of the use is recognized. A context derived from it is another context.
func TestUseContext(t *testing.T) {
	var u useContext
	lazy, d := pool.WithDeadline(t.Context(), time.Now().Add(time.Minute), nil)
	defer d.Cancel()
	for _, own := range []context.Context{t.Context(), lazy, context.Background()} {
		u.set(own)
		if !u.is(own) || u.is(context.WithoutCancel(own)) || u.is(uncomparable{Context: own}) {
			t.Errorf("%v is not told from others", own)
		}
	}
	u.set(uncomparable{Context: lazy})
	if u.is(uncomparable{Context: lazy}) || u.is(lazy) {
		t.Error("what cannot be compared is taken for the use's")
	}
	u.forget()
	if u.is(lazy) {
		t.Error("a use that is over has a context")
	}
}

// The last words of a server that hangs up are read even if the first write fails.
func TestLastWords(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	for range 20 {
		ours, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		const words = "-ERR max number of clients + cluster connections reached\r\n"
		_, err = io.WriteString(theirs, words)
		reset, ok := theirs.(*net.TCPConn)
		if err != nil || !ok || reset.SetLinger(0) != nil || theirs.Close() != nil {
			t.Fatal("the connection is not reset:", err)
		}
		s := newSocket(ours, ours)
		s.greeting = false
		for range 3 { // the reset may not be here yet, and a write that finds it clears it
			if _, err := s.Write([]byte("PING\r\n")); err != nil {
				t.Fatal(err)
			}
		}
		got, _ := io.ReadAll(s)
		if string(got) != words {
			t.Fatalf("read %q", got)
		}
		s.abort()
	}
}

// Conn has the methods of a redis.Conn. It leaves out the methods named in its doc comment, and the
// methods that only panic or fail in go-redis.
func TestMethods(t *testing.T) {
	absent := map[string]string{
		"Close": "the pool's", "AddHook": "stays", "RegisterPushNotificationHandler": "stays", "Monitor": "spoils",
		"Sync": "panics", "FTExplainCli": "always an error", "String": "of the client", "Pool": "exported by accident",
	}
	theirs, ours := reflect.TypeFor[*redis.Conn](), reflect.TypeFor[*Conn]()
	for m := range theirs.Methods() {
		_, has := ours.MethodByName(m.Name)
		if has == (absent[m.Name] != "") {
			t.Errorf("%s: there is one: %t", m.Name, has)
		}
	}
}
