package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
	"github.com/earnorm/poolstack/pool/settings"
)

func TestConformanceOfSlowUses(t *testing.T) {
	pooltest.RunMiddleware(t, func(t testing.TB) pool.Middleware { return pool.Bracket(newSlowUses(t)) })
}

// A limit from outside holds from the next use on.
func TestSlowUses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		layer := newSlowUses(t)
		p, err := pool.New(&pooltest.Fake{}, pool.Config{MaxSize: 1}, pool.Bracket(layer))
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close(t.Context())
		counted := func() float64 {
			t.Helper()
			if err := p.Do(t.Context(), pool.Op{}, func(context.Context, *pooltest.Conn) error { time.Sleep(50 * time.Millisecond); return nil }); err != nil {
				t.Fatal(err)
			}
			n, _ := p.Levels()[0].Read()
			return n
		}
		if n := counted(); n != 0 {
			t.Errorf("%v slow uses with the default, want 0", n)
		}
		tuning := p.Tunings()[1]
		_, err = tuning.Apply(settings.Request{
			Source: settings.Fleet, Values: map[string]string{"over": "20ms"}, Revision: tuning.Read().Revision, Actor: "ann", Reason: "a test",
		})
		if n := counted(); n != 1 || err != nil {
			t.Errorf("%v slow uses over 20 ms, want 1; %v", n, err)
		}
	})
}

func newSlowUses(t testing.TB) *SlowUses {
	t.Helper()
	l, err := NewSlowUses(SlowConfig{})
	if err != nil {
		t.Fatal(err)
	}
	return l
}
