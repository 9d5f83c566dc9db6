package retry

import (
	"context"
	"math"
	"testing"
	"time"
)

// A pause is never longer than the time the server asked for, plus the longer of MaxDelay and
// Jitter of a quarter of that time. A pause is never shorter than the time the server asked for,
// and never shorter than Jitter allows. A pause that would not end before the deadline is not
// begun.
func FuzzDelay(f *testing.F) {
	f.Add(int64(50*time.Millisecond), int64(time.Second), 2.0, 0.8, int64(0), int64(time.Second))
	// EarnORM's settings.
	f.Add(int64(time.Second), int64(5*time.Second), 2.0, 0.1, int64(time.Minute), int64(time.Second))
	f.Add(int64(1), int64(1), 1.0, 1.0, int64(0), int64(0))
	f.Add(int64(math.MaxInt64), int64(math.MaxInt64), math.MaxFloat64, 1.0, int64(0), int64(-1))
	f.Add(int64(math.MaxInt64), int64(math.MaxInt64), 1.5, -1.0, int64(math.MaxInt64), int64(math.MaxInt64))
	f.Add(int64(math.MaxInt64), int64(math.MaxInt64), 2.0, -1.0, int64(0), int64(0))
	f.Add(int64(0), int64(29), 14.4, 0.1, int64(0), int64(-105))
	f.Add(int64(0), int64(1), 1e300, 5e-324, int64(1), int64(1))
	f.Fuzz(func(t *testing.T, initial, longest int64, multiplier, jitter float64, hint, left int64) {
		cfg := Config{InitialDelay: time.Duration(initial), MaxDelay: time.Duration(longest), Multiplier: multiplier, Jitter: jitter}
		if cfg.Validate() != nil || hint < 0 {
			t.Skip("not a configuration")
		}
		cfg = cfg.withDefaults()
		ctx, cancel := context.WithDeadline(context.Background(), time.Now().Add(time.Duration(left)))
		defer cancel()
		a := newSeries()
		a.begin(newInForce(cfg))
		least := float64(cfg.InitialDelay)*(1-max(cfg.Jitter, 0))*0.999 - 3 // less what rounding loses
		for n := range 50 {
			d := a.delay(time.Duration(hint))
			if most := float64(hint) + max(float64(cfg.MaxDelay), max(cfg.Jitter, 0)*float64(hint/4)); float64(d) > most*1.001 {
				t.Fatalf("pause %d is %v, longer than %v and %v more", n, d, cfg.MaxDelay, time.Duration(hint))
			}
			if d < time.Duration(hint) || float64(d) < least {
				t.Fatalf("pause %d is %v, shorter than %v or %.0f ns", n, d, time.Duration(hint), least)
			}
			deadline, _ := ctx.Deadline()
			before := time.Now()
			if fits(ctx, d) && before.Add(d).After(deadline) && before.Add(d).After(before) {
				t.Fatalf("pause %d of %v was allowed %v before the deadline", n, d, deadline.Sub(before))
			}
		}
	})
}

// Pauses grow as told, and jitter spreads them over all of what it may.
func TestDelays(t *testing.T) {
	const ms = time.Millisecond
	nominal := []time.Duration{50 * ms, 100 * ms, 200 * ms, 400 * ms, 800 * ms, time.Second, time.Second}
	for _, jitter := range []float64{-1, 0.1, 0.8, 1} {
		shortest, longest := make([]time.Duration, len(nominal)), make([]time.Duration, len(nominal))
		s := newInForce(Config{Jitter: jitter}.withDefaults())
		a := newSeries()
		for round := range 2000 {
			a.begin(s)
			for i := range nominal {
				d := a.delay(0)
				if round == 0 {
					shortest[i], longest[i] = d, d
				}
				shortest[i], longest[i] = min(shortest[i], d), max(longest[i], d)
			}
		}
		for i, n := range nominal {
			least := time.Duration(float64(n) * (1 - max(jitter, 0)))
			slack := (n - least) / 20
			if shortest[i] < least-1 || shortest[i] > least+slack || longest[i] > n || longest[i] < n-slack-1 {
				t.Errorf("jitter %v, pause %d: from %v to %v, want from %v to %v", jitter, i+1, shortest[i], longest[i], least, n)
			}
		}
	}
}
