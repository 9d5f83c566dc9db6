package main

import (
	"math"
	"os"
	"os/exec"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/earnorm/poolstack/examples/servers/local"
	"github.com/earnorm/poolstack/pool/pooltest"
)

func TestMain(m *testing.M) {
	local.Child()
	os.Exit(pooltest.Main(m))
}

// startOrSkip skips the test without redis-server. On CI it fails the test.
func startOrSkip(t *testing.T, s *servers) {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil && os.Getenv("CI") == "" {
		t.Skip("no redis-server on PATH")
	}
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
}

// Every scenario has a unique name.
func TestNames(t *testing.T) {
	names := map[string]bool{}
	for _, g := range groups(&servers{}) {
		for _, s := range g.scenarios {
			if names[s.name] {
				t.Errorf("two scenarios are called %q", s.name)
			}
			names[s.name] = true
		}
	}
}

// Every scenario runs, and its gates find their subjects. The test does not check any figure.
func TestScenarios(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	s := &servers{}
	defer func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}()
	for _, g := range groups(s) {
		t.Run(g.name, func(t *testing.T) {
			if g.served {
				startOrSkip(t, s)
			}
			for _, s := range g.scenarios {
				runs(t, s)
			}
		})
	}
}

func runs(t *testing.T, s scenario) {
	t.Helper()
	o := s.run(1, time.Millisecond)
	if len(o.names) < 2 || len(o.rounds) != 1 || len(o.rounds[0]) != len(o.names) {
		t.Errorf("%s: %d names, %d rounds", s.name, len(o.names), len(o.rounds))
	}
	for name, f := range o.rounds[0] {
		if f.cost < 0 || f.cost == 0 && f.remains == (remains{}) {
			t.Errorf("%s: %s costs %v", s.name, name, f.cost)
		}
	}
	even := round{}
	for _, name := range o.names {
		even[name] = figures{cost: 1, crowd: crowd{p50: 1, p99: 1, p999: 1, unfairness: 1, cpu: 1}, remains: remains{heap: 1, goroutines: 1}}
	}
	for _, g := range s.gates {
		if x := g.figure(even); math.IsNaN(x) || math.IsInf(x, 0) {
			t.Errorf("%s: %s is %v: it is about somebody who does not take part", s.name, g.what, x)
		}
	}
}

// spread executes all the work, on the given number of goroutines.
func TestSpread(t *testing.T) {
	for _, workers := range []int{1, 2, 3} {
		var done, calls atomic.Int64
		spread(workers, func(n int) { done.Add(int64(n)); calls.Add(1) })(10)
		if calls.Load() != int64(workers) || done.Load() < 10 || done.Load() >= 10+int64(workers) {
			t.Errorf("%d workers did %d in %d calls", workers, done.Load(), calls.Load())
		}
	}
}

// The operation fails on the first call, and then on every other call.
func TestEverySecond(t *testing.T) {
	op := everySecond()
	for i := range 4 {
		if err := op(t.Context()); (err != nil) != (i%2 == 0) {
			t.Errorf("call %d: %v", i, err)
		}
	}
}

// Each round measures each subject once. Over many rounds each subject follows every other subject,
// so no subject always meets the garbage of the same predecessor.
func TestOrder(t *testing.T) {
	const rounds = 100 // a missing pair is practically impossible
	names := []string{"a", "b", "c"}
	var order []string
	var members []subject
	for _, name := range names {
		members = append(members, subject{name, func(time.Duration) figures { order = append(order, name); return figures{cost: 1} }})
	}
	s := scenario{open: func() ([]subject, func()) { return members, func() {} }}
	s.run(rounds, time.Millisecond)
	if len(order) != (rounds+1)*len(names) {
		t.Fatalf("%d samples", len(order))
	}
	after := map[string]int{}
	for round := range slices.Chunk(order, len(names)) {
		if sorted := slices.Sorted(slices.Values(round)); !slices.Equal(sorted, names) {
			t.Errorf("a round measured %v", round)
		}
		for i := range len(round) - 1 {
			after[round[i]+round[i+1]]++
		}
	}
	if want := len(names) * (len(names) - 1); len(after) != want {
		t.Errorf("%d pairs came one after the other, want %d: %v", len(after), want, after)
	}
}
