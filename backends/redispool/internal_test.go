package redispool

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"
)

// A guarded call whose context ends at the last moment has failed, for the socket is closed.
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
		"user:1": "OTHER", "": "OTHER", "a key with spaces": "OTHER", "a-name-that-is-longer-than-any-command": "OTHER",
	} {
		if got := displayName(name); got != want {
			t.Errorf("%q is shown as %q, want %q", name, got, want)
		}
	}
}
