package main

import (
	"flag"
	"os"
	"testing"
)

var update = flag.Bool("update", false, "write the golden file anew")

func TestReport(t *testing.T) {
	rs := []round{
		{our: {cost: 20, crowd: crowd{p50: 1500, p99: 9000, p999: 12345678, unfairness: 1.01}}, pud: {cost: 100, allocs: 2}},
		{our: {cost: 30, crowd: crowd{p50: 1500, p99: 9000, p999: 12345678, unfairness: 1.01}}, pud: {cost: 100, allocs: 2}},
	}
	plain := []round{{our: {cost: 0.123}, pud: {cost: 1234.5}}}
	gates := []gate{ratio(our, pud, 0.10), noAllocs(our), ratio(pud, our, unbound)}
	first := outcome{scenario: scenario{name: "a crowd", about: "What it is."}, names: []string{our, pud}, rounds: rs}
	second := outcome{scenario: scenario{name: "alone", about: "What that is."}, names: []string{our, pud}, rounds: plain}
	for _, g := range gates {
		first.verdicts = append(first.verdicts, g.judge(rs))
	}
	calls := outcome{
		scenario: scenario{name: "calls", about: "What they are."}, names: []string{our, pud},
		rounds: []round{{our: {cost: 20_000, crowd: crowd{p50: 1500, cpu: 7000}}, pud: {cost: 10_000, crowd: crowd{p50: 800, cpu: 6000}}}},
	}
	calls.verdicts = []verdict{throughput(our, pud, 0.88).judge(calls.rounds)}
	memory := outcome{
		scenario: scenario{name: "memory", about: "What is left."}, names: []string{our, pud},
		rounds: []round{{our: {remains: remains{heap: 5482, goroutines: 1}}, pud: {remains: remains{heap: 1368}}}},
	}
	got := report("- the machine\n", []outcome{first, second, calls, memory})
	const file = "testdata/report.md"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestNumber(t *testing.T) {
	for _, tc := range []struct {
		x    float64
		want string
	}{{0, "0"}, {0.004, "0"}, {0.126, "0.13"}, {9.999, "10.00"}, {12.34, "12.3"}, {1234.5, "1234"}, {unbound, "+Inf"}} {
		if got := number(tc.x); got != tc.want {
			t.Errorf("number(%v) is %q, want %q", tc.x, got, tc.want)
		}
	}
}
