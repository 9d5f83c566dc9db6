//go:build !race

package logging

import (
	"context"
	"log/slog"
	"testing"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

func success(context.Context, *pooltest.Conn) error { return nil }
func reply(context.Context, *pooltest.Conn) error   { return pooltest.ErrReply }

// What is not written costs nothing.
func TestAllocations(t *testing.T) {
	for _, c := range []struct {
		name  string
		level slog.Level
		fn    func(context.Context, *pooltest.Conn) error
	}{
		{"success", slog.LevelDebug, success},
		{"below the level", slog.LevelInfo, reply},
		{"left out", slog.LevelDebug, reply},
		{"all off", slog.LevelError + 1, reply},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, c.level, Config{Every: 1e9}, pool.Config{})
			if n := testing.AllocsPerRun(500, func() { _ = r.pool.Do(context.Background(), get, c.fn) }); n > 0 {
				t.Errorf("%v allocations a use, want 0", n)
			}
		})
	}
}
