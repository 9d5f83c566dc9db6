package metrics

import (
	"strings"
	"testing"

	"go.opentelemetry.io/otel"

	"github.com/earnorm/poolstack/pool"
)

// global is the global provider at the start of the program. The provider does nothing until the
// program sets another provider, and then passes everything on to the other provider.
var (
	global    = otel.GetMeterProvider()
	globalSet bool
)

// A pool made before the program has set its provider shows the same series as a pool made
// afterwards, and its counters begin with 0. Both pools have names of their own, although the two
// layers have different providers.
func TestPoolOlderThanTheGlobalProvider(t *testing.T) {
	if globalSet {
		t.Skip("a process sets its first global provider only once")
	}
	globalSet = true
	r := newReader(t)
	older := newRigOn(r, redis, Config{MeterProvider: global}, pool.Config{}, newStack(t, stackConfig{}).layers()...)
	otel.SetMeterProvider(r.provider)
	t.Cleanup(func() { otel.SetMeterProvider(global) })
	newer := newRigOn(r, redis, Config{}, pool.Config{}, newStack(t, stackConfig{}).layers()...)

	if a, b := older.pool.Identity().Name, newer.pool.Identity().Name; a != "cache" || b != "cache~2" {
		t.Errorf("the pools have the names %q and %q", a, b)
	}
	times := map[string]int{}
	for _, l := range r.lines() {
		times[l]++
	}
	for l, n := range times {
		if n != 2 {
			t.Errorf("%s: shown by %d of 2 pools", l, n)
		}
	}
	if first := strings.Join(r.lines("poolstack.failures"), "\n"); !strings.HasSuffix(first, "=server 0") {
		t.Errorf("the failures at first are\n%s", first)
	}
}
