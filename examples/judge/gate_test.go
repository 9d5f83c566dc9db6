package main

import (
	"math"
	"testing"
	"time"
)

// pair makes a run of two sides.
func pair(stack, other figures) run { return run{stacked: stack, bare: other, bareCtx: other} }

func TestGates(t *testing.T) {
	for _, tc := range []struct {
		name  string
		g     gate
		stack figures
		bare  figures
		holds bool
	}{
		{"as many served", gateServed, figures{served: 99}, figures{served: 100}, true},
		{"fewer served", gateServed, figures{served: 98}, figures{served: 100}, false},
		{"nobody served by either", gateServed, figures{}, figures{}, true},
		{"served by the stack only", gateServed, figures{served: 1}, figures{}, true},
		{"few refused", gateRefused, figures{uses: 1000, refused: 5}, figures{}, true},
		{"many refused", gateRefused, figures{uses: 1000, refused: 6}, figures{}, false},
		{"few useless calls", gateUseless, figures{useless: 30}, figures{useless: 200}, true},
		{"many useless calls", gateUseless, figures{useless: 31}, figures{useless: 200}, false},
		{"a look every 0.75 s", gateUseless, figures{useless: 110, dead: 60}, figures{useless: 200}, true},
		{"two looks a second", gateUseless, figures{useless: 140, dead: 60}, figures{useless: 100}, false},
		{"two looks of the driver's", gateUselessOfDriver, figures{useless: 230, dead: 60}, figures{useless: 200}, true},
		{"a few useless calls are nothing", gateUseless, figures{useless: 26}, figures{}, true},
		{"a third waited", gateWaited, figures{waited: 10}, figures{waited: 30}, true},
		{"more waited", gateWaited, figures{waited: 11}, figures{waited: 30}, false},
		{"back in time", gateBack, figures{back: 1.5}, figures{}, true},
		{"back late", gateBack, figures{back: 1.6}, figures{}, false},
		{"never back", gateBack, figures{back: math.Inf(1)}, figures{}, false},
		{"no outage", gateBack, figures{back: math.NaN()}, figures{}, false},
		{"twice as many", gateTwice, figures{served: 20}, figures{served: 10}, true},
		{"not quite", gateTwice, figures{served: 19}, figures{served: 10}, false},
		{"none refused", gateNoRefusal, figures{}, figures{}, true},
		{"one refused", gateNoRefusal, figures{refused: 1}, figures{}, false},
		{"few dials", gateDials, figures{dials: 49}, figures{}, true},
		{"many dials", gateDials, figures{dials: 50}, figures{}, false},
		{"as many dials a use", gateDialsOfDriver, figures{dials: 200, served: 200}, figures{dials: 100, served: 100}, true},
		{"more dials a use", gateDialsOfDriver, figures{dials: 200, served: 100}, figures{dials: 100, served: 100}, false},
		{"few dials of the driver's", gateDialsOfDriver, figures{dials: 40, served: 1}, figures{dials: 1, served: 100}, true},
	} {
		if v := tc.g.judge([]run{pair(tc.stack, tc.bare)}); v.fallsShort() == tc.holds {
			t.Errorf("%s: falls short is %t (%v)", tc.name, v.fallsShort(), v)
		}
	}
}

// A gate looks at the median of the runs' figures: one bad run of three decides nothing.
func TestGateTakesTheMedian(t *testing.T) {
	runs := []run{
		pair(figures{served: 100}, figures{served: 100}), pair(figures{served: 10}, figures{served: 100}), pair(figures{served: 99}, figures{served: 100}),
	}
	if v := gateServed.judge(runs); v.median != 0.99 || v.fallsShort() {
		t.Errorf("got %v", v)
	}
	if v := gateServed.judge(nil); !v.fallsShort() {
		t.Error("a gate holds without a run")
	}
	if got, want := gateServed.judge(runs).String(), "served in time, stack / bare: 0.99, must be at least 0.99"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNumber(t *testing.T) {
	for want, x := range map[string]float64{
		"0": 0, "12": 12, "1234": 1234, "0.333": 1.0 / 3, "1.5": 1.5, "12.3": 12.34, "123": 123.4, "1": 1.001, "infinite": math.Inf(1), "-": math.NaN(),
	} {
		if got := number(x); got != want {
			t.Errorf("%v is shown as %q, want %q", x, got, want)
		}
	}
}

// at returns a record of a use with an immediate answer.
func at(begin time.Duration, o outcome) record {
	return record{begin: begin, end: begin, outcome: o}
}

// every50 makes records of uses 50 ms apart; outcomes change at the times given.
func every50(until time.Duration, of func(time.Duration) outcome) (records []record) {
	for begin := time.Duration(0); begin < until; begin += 50 * time.Millisecond {
		records = append(records, at(begin, of(begin)))
	}
	return records
}

func TestBack(t *testing.T) {
	failsUntil := func(end time.Duration) func(time.Duration) outcome {
		return func(d time.Duration) outcome {
			if d < end {
				return failed
			}
			return answered
		}
	}
	returned := 2 * time.Second
	for _, tc := range []struct {
		name string
		of   func(time.Duration) outcome
		want float64
	}{
		{"at once", failsUntil(returned), 0},
		{"after 700 ms", failsUntil(returned + 700*time.Millisecond), 0.7},
		{"in the middle of a window", failsUntil(returned + 150*time.Millisecond), 0.2},
		{"never", failsUntil(time.Hour), math.Inf(1)},
		{"served once in between", func(d time.Duration) outcome {
			if d >= returned+200*time.Millisecond && d < returned+400*time.Millisecond {
				return answered
			}
			return failsUntil(returned + time.Second)(d)
		}, 1},
		{"too late to tell", failsUntil(returned + 2500*time.Millisecond), math.Inf(1)},
	} {
		if got := back(every50(5*time.Second, tc.of), returned); got != tc.want {
			t.Errorf("%s: back after %v s, want %v", tc.name, got, tc.want)
		}
	}
}

// An add executed twice is not served. Uses which the server could not serve count only for the
// wait.
func TestFigure(t *testing.T) {
	o := outage{from: time.Second, to: 2 * time.Second}
	wait := func(r record, end time.Duration) record { r.end = end; return r }
	records := []record{
		at(0, answered),
		{use: use{add, 7}},
		{use: use{add, 8}},
		{use: use{read, 9}, late: true},
		{use: use{write, 10}, outcome: turnedAway},
		at(500*time.Millisecond, turnedAway),
		wait(at(900*time.Millisecond, failed), 1900*time.Millisecond),
		at(1500*time.Millisecond, turnedAway), // with reason
		at(3400*time.Millisecond, turnedAway), // still settling
		at(3600*time.Millisecond, turnedAway),
	}
	f := figure(records, o, func(k kind) bool { return k != write }, map[int]bool{7: true})
	want := figures{uses: 9, served: 2, twice: 1, refused: 2, waited: 1, back: math.Inf(1)}
	if f != want {
		t.Errorf("got %+v, want %+v", f, want)
	}
	if f := figure(records, outage{}, nil, nil); !math.IsNaN(f.back) || f.waited != 0 || f.refused != 5 || f.uses != 10 {
		t.Errorf("without an outage: %+v", f)
	}
}

func TestExitStatus(t *testing.T) {
	good, bad := pair(figures{served: 1}, figures{served: 1}), pair(figures{}, figures{served: 1})
	sc := scenario{gates: []gate{gateServed}}
	if got := status([]row{newRow(sc, time.Second, []run{good})}); got != 0 {
		t.Errorf("status %d though all gates hold", got)
	}
	if got := status([]row{newRow(sc, time.Second, []run{good}), newRow(sc, time.Second, []run{bad})}); got != 1 {
		t.Errorf("status %d though a gate falls short", got)
	}
}
