//go:build !race

package breaker

import (
	"context"
	"testing"
	"time"
)

// A success allocates nothing. A rejection allocates nothing, because its error is made when the
// breaker opens. The test does not run under the race detector, which makes a sync.Pool drop
// entries at random.
func TestAllocations(t *testing.T) {
	ctx := context.Background()
	for _, test := range []struct {
		name  string
		state State
		fn    func(context.Context, *conn) error
	}{
		{"success", StateClosed, nothing},
		{"refusal while open", StateOpen, nothing},
		{"refusal while half-open", StateHalfOpen, nothing},
	} {
		b := must(t, Config{ConsecutiveFailures: 1, OpenFor: time.Hour})
		p := plain(t, b)
		if test.state != StateClosed {
			_ = p.Do(ctx, get, failing)
		}
		if test.state == StateHalfOpen {
			if err := b.Configure(Config{OpenFor: time.Millisecond, OpenMax: time.Millisecond, ProbeTimeout: time.Hour}); err != nil {
				t.Fatal(err)
			}
			probe, err := p.Acquire(ctx, get)
			for deadline := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(deadline); {
				probe, err = p.Acquire(ctx, get)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer probe.Release(nil)
		}
		if got := testing.AllocsPerRun(1000, func() { _ = p.Do(ctx, get, test.fn) }); got != 0 {
			t.Errorf("%s in Do: %v allocations, want 0", test.name, got)
		}
		got := testing.AllocsPerRun(1000, func() {
			if l, err := p.Acquire(ctx, get); err == nil {
				l.Release(nil)
			}
		})
		if got != 0 {
			t.Errorf("%s in Acquire: %v allocations, want 0", test.name, got)
		}
		if got := b.State(); got != test.state {
			t.Errorf("%s: the breaker ended %v, want %v", test.name, got, test.state)
		}
	}
}

// A failure costs the mark with which it leaves the use.
func TestFailureAllocatesTheMark(t *testing.T) {
	p := plain(t, must(t, Config{ConsecutiveFailures: -1, FailureRatio: -1}))
	if n := testing.AllocsPerRun(1000, func() { _ = p.Do(context.Background(), get, failing) }); n > 1 {
		t.Errorf("%v allocations, want 1", n)
	}
}

func TestLevelsAllocateNothing(t *testing.T) {
	for _, l := range must(t, Config{}).Levels() {
		if n := testing.AllocsPerRun(100, func() { l.Read() }); n > 0 {
			t.Errorf("reading %s makes %v allocations, want 0", l.Name, n)
		}
	}
}
