package breaker

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/earnorm/poolstack/pool"
)

func TestValidateNamesFieldValueAndWhatIsAllowed(t *testing.T) {
	for _, test := range []struct {
		cfg  Config
		want string // "": it is valid
	}{
		{Config{}, ""},
		{Config{FailureRatio: -1, ConsecutiveFailures: -1, Jitter: -1}, ""},
		{Config{FailureRatio: 1, Buckets: 1, Window: time.Millisecond, OpenFor: time.Millisecond, OpenMax: time.Millisecond}, ""},
		{Config{OpenFor: time.Hour}, ""},
		{Config{Window: -1}, "breaker: Window is -1ns: must be 0 (default 10s) or at least 10ms, for 10 buckets"},
		{Config{Window: 50 * time.Millisecond, Buckets: 100},
			"breaker: Window is 50ms: must be 0 (default 10s) or at least 100ms, for 100 buckets"},
		{Config{Buckets: -1}, "breaker: Buckets is -1: must be between 0 (default 10) and 1000"},
		{Config{Buckets: 1001}, "breaker: Buckets is 1001: must be between 0 (default 10) and 1000"},
		{Config{FailureRatio: 50}, "breaker: FailureRatio is 50: must be negative (off), 0 (default 1) or at most 1"},
		{Config{FailureRatio: math.NaN()}, "breaker: FailureRatio is NaN: must be negative (off), 0 (default 1) or at most 1"},
		{Config{MinCalls: -3}, "breaker: MinCalls is -3: must be 0 (default 20) or more"},
		{Config{OpenFor: 1}, "breaker: OpenFor is 1ns: must be 0 (default 200ms) or at least 1ms"},
		{Config{OpenFor: -time.Second}, "breaker: OpenFor is -1s: must be 0 (default 200ms) or at least 1ms"},
		{Config{OpenMax: time.Millisecond}, "breaker: OpenMax is 1ms: must be 0 (default 800ms) or at least OpenFor, which is 200ms"},
		{Config{Jitter: 1}, "breaker: Jitter is 1: must be negative (none), 0 (default 0.75) or less than 1"},
		{Config{Probes: -1}, "breaker: Probes is -1: must be 0 (default 1) or more"},
		{Config{ProbeSuccesses: -1}, "breaker: ProbeSuccesses is -1: must be 0 (one of each operation) or more"},
		{Config{ProbeFailures: -1}, "breaker: ProbeFailures is -1: must be 0 (none) or more"},
		{Config{ProbeTimeout: -1}, "breaker: ProbeTimeout is -1ns: must be 0 (default 15s) or more"},
		{Config{Probes: -1, MinCalls: -1},
			"breaker: MinCalls is -1: must be 0 (default 20) or more\nbreaker: Probes is -1: must be 0 (default 1) or more"},
	} {
		text := func(err error) string {
			if err == nil {
				return ""
			}
			return err.Error()
		}
		if got := text(test.cfg.Validate()); got != test.want {
			t.Errorf("Validate of %+v:\n  %s, want\n  %s", test.cfg, got, test.want)
		}
		b, err := New(test.cfg)
		if got := text(err); got != test.want || (b != nil) != (err == nil) {
			t.Errorf("New with %+v: %v, %s", test.cfg, b, got)
		}
		old := must(t, Config{MinCalls: 7})
		if got := text(old.Configure(test.cfg)); got != test.want || test.want != "" && old.Config() != must(t, Config{MinCalls: 7}).Config() {
			t.Errorf("Configure with %+v: %s; the settings are now %+v", test.cfg, got, old.Config())
		}
	}
}

func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"": true, "shards": true, "cache.reads-2": true, "größe": true, "two words": false, "a\nline": false, "\x00": false, "\xff": false,
		strings.Repeat("x", 100): true, strings.Repeat("x", 101): false,
	} {
		if _, err := New(Config{Name: name}); (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "breaker: Name is \"") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestOpenPeriodStaysWithinItsBounds(t *testing.T) {
	cfg := Config{OpenFor: 3 * time.Second, OpenMax: math.MaxInt64, Jitter: 0.25}.withDefaults()
	if got := cfg.openPeriod(1000, 0); got != math.MaxInt64 {
		t.Errorf("after 1000 rounds the period is %v, want OpenMax", got)
	}
	if got, want := cfg.openPeriod(2, 1), 9*time.Second; got != want {
		t.Errorf("with the most jitter the period is %v, want %v", got, want)
	}
	if err := (Config{OpenFor: time.Millisecond, Jitter: 0.999999}).Validate(); err != nil {
		t.Error(err)
	}
}

func TestConfigureWhileClosed(t *testing.T) {
	t.Run("thresholds keep the counts, and wait for the next failure", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig(t, Config{ConsecutiveFailures: 10})
			r.uses(6, fail)
			r.apply(func(c *Config) { c.ConsecutiveFailures = 5 })
			r.wantState(StateClosed)
			if n := r.Snapshot().Counts.Consecutive; n != 6 {
				t.Errorf("%d failures in a row are left, want 6", n)
			}
			r.uses(1, nil)
			r.wantState(StateClosed)
			r.uses(5, fail)
			r.wantState(StateOpen)
		})
	})
	t.Run("another window starts empty, and uses under way are not counted", func(t *testing.T) {
		for name, change := range map[string]func(*Config){
			"Window":  func(c *Config) { c.Window = time.Minute },
			"Buckets": func(c *Config) { c.Buckets = 5 },
		} {
			bubble(t, func(t *testing.T) {
				r := newRig(t, Config{ConsecutiveFailures: 3})
				r.uses(2, fail)
				late := r.lease()
				r.apply(change)
				if got := r.Snapshot().Counts; got != (Counts{}) {
					t.Errorf("after another %s there are %v, want nothing", name, got)
				}
				late.Release(fail)
				r.uses(2, fail)
				if got, want := r.Snapshot().Counts, (Counts{Failures: 2, Consecutive: 2}); got != want {
					t.Errorf("after another %s there are %v, want %v", name, got, want)
				}
				r.uses(1, fail)
				r.wantState(StateOpen)
			})
		}
	})
}

func TestConfigureWhileOpen(t *testing.T) {
	bubble(t, func(t *testing.T) {
		cfg := quick()
		cfg.OpenFor, cfg.OpenMax, cfg.Jitter = time.Hour, time.Hour, 0.5
		r := newRig(t, cfg)
		r.opens()
		s := r.Snapshot()
		drawn := 1 - float64(s.NextProbe.Sub(s.Since))/float64(time.Hour)
		r.apply(func(c *Config) { c.OpenFor, c.OpenMax = 10*time.Second, time.Minute })
		s = r.Snapshot()
		if d := s.NextProbe.Sub(s.Since); 1-float64(d)/float64(10*time.Second)-drawn > 1e-6 {
			t.Errorf("the period is now %v: another draw than %v of jitter", d, drawn)
		}
		if d := r.refusal(StateOpen).NextProbe; !d.Equal(s.NextProbe) {
			t.Errorf("the refusal says %v, the snapshot %v", d, s.NextProbe)
		}
		r.apply(func(c *Config) { c.Window, c.FailureRatio, c.ConsecutiveFailures = time.Minute, -1, -1 })
		r.wantState(StateOpen)
		r.refused(StateOpen)
		r.due()
		r.uses(1, nil)
		r.wantState(StateClosed)
	})
}

func TestConfigureWhileHalfOpen(t *testing.T) {
	bubble(t, func(t *testing.T) {
		cfg := quick()
		cfg.Probes, cfg.ProbeSuccesses = 2, 5
		r := newRig(t, cfg)
		r.opens()
		r.due()
		leases := []pool.Lease[*conn]{r.lease(), r.lease()}
		r.apply(func(c *Config) { c.Probes = 3 })
		leases = append(leases, r.lease())
		r.apply(func(c *Config) { c.Probes = 1; c.Window = time.Minute; c.Buckets = 3 })
		leases[0].Release(nil)
		leases[1].Release(nil)
		r.refused(StateHalfOpen) // one is under way
		r.apply(func(c *Config) { c.ProbeSuccesses = 2 })
		r.wantState(StateHalfOpen) // Configure moves nothing
		r.uses(1, nil)             // passes: enough have succeeded
		r.wantMoves("closed>open consecutive_failures", "open>half-open open_period_over", "half-open>closed probes_succeeded")
		leases[2].Release(fail)
		if got, want := r.Snapshot().Counts, (Counts{Successes: 1}); got != want {
			t.Errorf("the closed breaker has %v, want %v", got, want)
		}
	})
	bubble(t, func(t *testing.T) {
		r := newRig(t, quick())
		r.opens()
		r.due()
		lost := r.lease()
		r.refused(StateHalfOpen)
		time.Sleep(time.Second)
		r.apply(func(c *Config) { c.ProbeTimeout = time.Second })
		r.refused(StateOpen)
		lost.Release(nil)
	})
}

// Configure(Config()) is no change, in any state.
func TestConfigureWithWhatIsInForce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, Config{ConsecutiveFailures: 2})
		same := func() {
			t.Helper()
			before := r.Snapshot()
			r.apply(func(*Config) {})
			if after := r.Snapshot(); after != before {
				t.Errorf("it changed\n  %+v to\n  %+v", before, after)
			}
		}
		r.uses(1, nil)
		r.uses(1, fail)
		same()
		r.uses(1, fail)
		same()
		r.due()
		r.uses(1, nil)
		same()
	})
}

func TestErrorsOfConfigureAreOneALine(t *testing.T) {
	err := Config{MinCalls: -1, Probes: -1, ProbeFailures: -1}.Validate()
	if got := strings.Count(err.Error(), "\n"); got != 2 {
		t.Errorf("three fields make %d line breaks, want 2: %v", got, err)
	}
}

func TestConfigureIsReported(t *testing.T) {
	r := newRig(t, Config{})
	if err := r.Configure(Config{Window: -1}); err == nil || r.seen.configured.Load() != 0 {
		t.Errorf("settings that are refused: %v, reported %d times", err, r.seen.configured.Load())
	}
	if err := r.Configure(Config{MinCalls: 7}); err != nil || r.seen.configured.Load() != 1 {
		t.Errorf("%v, reported %d times, want once", err, r.seen.configured.Load())
	}
}
