package main

import (
	"slices"
	"testing"
	"time"

	"github.com/earnorm/poolstack/examples/servers/control"
)

func TestTheScriptFitsTheDuration(t *testing.T) {
	for _, duration := range []time.Duration{minDuration, 20 * time.Second, time.Minute, 5 * time.Minute, maxDuration} {
		for seed := range uint64(50) {
			for _, acts := range [][]act{acts, setActs} {
				script := plan(duration, seed, acts)
				if len(script) != 2*len(acts) {
					t.Fatalf("%d faults", len(script))
				}
				for _, server := range []string{control.Redis, control.MongoDB} {
					checkPart(t, duration, of(server, script))
				}
				if t.Failed() {
					t.Fatalf("in %v with seed %d: %v", duration, seed, script)
				}
			}
		}
	}
}

// checkPart checks the faults of a server.
func checkPart(t *testing.T, duration time.Duration, faults []fault) {
	t.Helper()
	var kinds []trouble
	over := time.Duration(0)
	for i, f := range faults {
		kinds = append(kinds, f.kind)
		if f.lasts < time.Second || f.lasts > maxLasts {
			t.Errorf("%v lasts %v", f.kind, f.lasts)
		}
		if pause := f.at - over; i > 0 && pause < minRecovery || i == 0 && pause < time.Second {
			t.Errorf("%v of calm before %v", pause, f.kind)
		}
		over = f.at + f.lasts
	}
	if left := duration - over; left < minRecovery {
		t.Errorf("only %v are left after the last fault", left)
	}
	slices.Sort(kinds)
	if len(slices.Compact(slices.Clone(kinds))) != 4 || !slices.Contains(kinds, resets) || !slices.Contains(kinds, slow) {
		t.Errorf("the faults are %v, want four different ones", kinds)
	}
}

func TestTheSeedDecides(t *testing.T) {
	one := plan(time.Minute, 1, acts)
	if again := plan(time.Minute, 1, acts); !slices.Equal(one, again) {
		t.Errorf("the same seed gives %v and %v", one, again)
	}
	if other := plan(time.Minute, 2, acts); slices.Equal(one, other) {
		t.Errorf("another seed gives the same %v", one)
	}
}

// The report and the page distinguish the kinds of faults.
func TestKindsAreToldApart(t *testing.T) {
	kinds, seen := map[trouble]bool{}, map[any]bool{}
	for _, a := range slices.Concat(acts, setActs) {
		kinds[a.redis], kinds[a.mongodb] = true, true
	}
	for kind := range kinds {
		for _, sign := range []any{kind.title(), kind.letter(), kind.tint()} {
			if seen[sign] {
				t.Errorf("%v of %s is another kind's, too", sign, kind)
			}
			seen[sign] = true
		}
	}
}

func TestServersMeetDifferentFaultsInAnAct(t *testing.T) {
	for _, a := range slices.Concat(acts, setActs) {
		if a.redis == a.mongodb {
			t.Errorf("both are %v", a.redis)
		}
	}
}
