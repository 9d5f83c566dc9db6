package breaker

import (
	"fmt"
	"testing"

	"github.com/earnorm/poolstack/pool"
)

var _ pool.Leveler = (*Breaker)(nil)

// The levels tell the state, the failure ratio and the threshold as they are.
func TestLevels(t *testing.T) {
	bubble(t, func(t *testing.T) {
		cfg := quick()
		cfg.FailureRatio, cfg.MinCalls = 0.75, 100
		r := newRig(t, cfg)
		levels := r.Levels()
		want := func(want string) {
			t.Helper()
			got := ""
			for _, l := range levels {
				value, ok := l.Read()
				switch {
				case l.Layer != kind || !ok:
					got += fmt.Sprintf("no %s of %s ", l.Name, l.Layer)
				case l.States != nil:
					got += l.Name + " " + l.States[int(value)] + " "
				default:
					got += fmt.Sprint(l.Name, " ", value, " ")
				}
			}
			if got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		want("state closed failure_ratio 0 no slow_ratio of breaker admitted 1 threshold 0.75 ")
		r.uses(3, nil)
		r.uses(1, fail)
		want("state closed failure_ratio 0.25 no slow_ratio of breaker admitted 1 threshold 0.75 ")
		r.uses(1, fail)
		want("state open failure_ratio 0.4 no slow_ratio of breaker admitted 0 threshold 0.75 ")
		r.due()
		probe := r.lease()
		want("state half-open failure_ratio 0.4 no slow_ratio of breaker no admitted of breaker threshold 0.75 ")
		probe.Release(nil)
		r.apply(func(c *Config) { c.FailureRatio = -1 })
		want("state closed failure_ratio 0 no slow_ratio of breaker admitted 1 no threshold of breaker ")
	})
}
