package main

import (
	"math"
	"testing"
)

// rounds returns rounds with the given costs of ours and a cost of 100 of the peer.
func rounds(costs ...float64) []round {
	rs := make([]round, len(costs))
	for i, c := range costs {
		rs[i] = round{our: {cost: c, allocs: 1.2}, pud: {cost: 100}}
	}
	return rs
}

func TestGate(t *testing.T) {
	for _, tc := range []struct {
		name   string
		g      gate
		rounds []round
		want   string
	}{
		{"below", ratio(our, pud, 0.25), rounds(20, 21, 22, 20, 21, 22), "holds"},
		{"at the limit", ratio(our, pud, 0.25), rounds(25, 25, 25), "holds"},
		{"above, but not surely", ratio(our, pud, 0.25), rounds(20, 30, 31, 24, 32, 20), "holds"},
		{"above", ratio(our, pud, 0.25), rounds(30, 31, 32, 30, 31, 32), "falls short"},
		{"only reported", ratio(our, pud, unbound), rounds(500), ""},
		{"not a number", ratio(our, pud, 0.25), []round{{our: {}, pud: {}}}, "falls short"},
		{"allocations", allocs(our, 1), rounds(1, 1), "holds"},
		{"no allocations", noAllocs(our), rounds(1, 1), "falls short"},
		{"no allocations, and has none", noAllocs(pud), rounds(1, 1), "holds"},
		{"throughput reached", throughput(our, pud, 0.88), rounds(110, 112, 113), "holds"},
		{"throughput missed, but not surely", throughput(our, pud, 0.88), rounds(110, 120, 121, 111, 122, 110), "holds"},
		{"throughput missed", throughput(our, pud, 0.88), rounds(115, 116, 117, 115, 116, 117), "falls short"},
		{"throughput without calls", throughput(our, pud, 0.88), []round{{our: {}, pud: {}}}, "falls short"},
		{"throughput, only reported", throughput(our, pud, unbound), rounds(500), ""},
		{"CPU", cpu(our, pud, 1.25), []round{{our: {crowd: crowd{cpu: 13}}, pud: {crowd: crowd{cpu: 10}}}}, "falls short"},
		{"latency", latency(our, pud, 1), []round{{our: {crowd: crowd{p50: 9}}, pud: {crowd: crowd{p50: 10}}}}, "holds"},
		{"more latency", latency(our, pud, 1), []round{{our: {crowd: crowd{p50: 11}}, pud: {crowd: crowd{p50: 10}}}}, "falls short"},
	} {
		if got := tc.g.judge(tc.rounds).String(); got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, got, tc.want)
		}
	}
}

// The figure compares pairs within a round, not medians. So drift common to both subjects has no
// effect.
func TestGateTakesPairs(t *testing.T) {
	var drifting []round
	for _, drift := range []float64{1, 5, 2, 9, 3} {
		drifting = append(drifting, round{our: {cost: 20 * drift}, pud: {cost: 100 * drift}})
	}
	v := ratio(our, pud, 0.25).judge(drifting)
	if math.Abs(v.low-0.2) > 1e-9 || math.Abs(v.high-0.2) > 1e-9 {
		t.Errorf("got %+v, want 0.2 throughout", v.estimate)
	}
}

func TestStatus(t *testing.T) {
	good, bad := ratio(our, pud, 0.25).judge(rounds(20)), ratio(our, pud, 0.25).judge(rounds(30))
	for _, tc := range []struct {
		verdicts []verdict
		want     int
	}{{nil, 0}, {[]verdict{good}, 0}, {[]verdict{good, bad}, 1}} {
		if got := status([]outcome{{}, {verdicts: tc.verdicts}}); got != tc.want {
			t.Errorf("%v: status %d, want %d", tc.verdicts, got, tc.want)
		}
	}
}

// A gate names the side of its limit.
func TestBound(t *testing.T) {
	for want, g := range map[string]gate{"at most 0.25": ratio(our, pud, 0.25), "at least 0.88": throughput(our, pud, 0.88)} {
		if got := g.bound(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// The added latency is the subject's median minus the bare client's median in the same round.
func TestAdded(t *testing.T) {
	r := round{our: {crowd: crowd{p50: 60_000}}, goRedis: {crowd: crowd{p50: 45_000}}}
	if got := added(our).figure(r); got != 15 {
		t.Errorf("got %v µs, want 15", got)
	}
}
