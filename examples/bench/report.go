package main

import (
	"fmt"
	"math"
	"strings"
)

// report formats the outcomes in Markdown: first the gates, then the figures of every scenario.
func report(about string, outcomes []outcome) string {
	var b strings.Builder
	b.WriteString("# Side-by-side benchmarks\n\n")
	b.WriteString(about)
	b.WriteString("\n## Gates\n\n")
	b.WriteString("A figure is the median over the rounds, each of which measured all those compared, in an order drawn anew. The interval\n" +
		"is that of the median, by bootstrap, at 95 %. A gate falls short when the whole interval lies beyond it.\n\n")
	b.WriteString("| scenario | figure | median | 95 % interval | gate | verdict |\n|---|---|---|---|---|---|\n")
	for _, o := range outcomes {
		for _, v := range o.verdicts {
			if v.bounds() {
				fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", o.name, v.what, number(v.median), v.interval(), v.bound(), v)
			}
		}
	}
	for _, o := range outcomes {
		b.WriteString(o.section())
	}
	return b.String()
}

func (e estimate) interval() string { return number(e.low) + " - " + number(e.high) }

// columns are the possible columns of a scenario's table. A column without any value is left out,
// unless its column within has values. So a subject with a cost but without allocations shows 0
// allocations.
var columns = []struct {
	title  string
	figure func(figures) float64
	within func(figures) float64 // nil: the column depends on no other column
}{
	{"ns", costOf, nil},
	{"95 % interval", costOf, nil},
	{"allocs", func(f figures) float64 { return f.allocs }, costOf},
	{"op/s", throughputOf, nil},
	{"CPU ns", func(f figures) float64 { return f.cpu }, nil},
	{"p50 µs", func(f figures) float64 { return f.p50 / 1e3 }, nil},
	{"p99 µs", func(f figures) float64 { return f.p99 / 1e3 }, nil},
	{"p99.9 µs", func(f figures) float64 { return f.p999 / 1e3 }, nil},
	{"max/min acquires", func(f figures) float64 { return f.unfairness }, nil},
	{"heap bytes", func(f figures) float64 { return f.heap }, nil},
	{"goroutines", func(f figures) float64 { return f.goroutines }, func(f figures) float64 { return f.heap }},
}

func costOf(f figures) float64 { return f.cost }

// throughputOf returns the operations per second for calls to servers, and 0 for other subjects.
func throughputOf(f figures) float64 {
	if f.cpu == 0 {
		return 0
	}
	return 1e9 / f.cost
}

// section formats a scenario.
func (o outcome) section() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n## %s\n\n%s Rounds: %d.\n\n", o.name, o.about, len(o.rounds))
	table := make([][]string, len(o.names)+1)
	table[0] = []string{""}
	for i, name := range o.names {
		table[i+1] = []string{name}
	}
	for _, c := range columns {
		if within := c.within; !o.has(c.figure) && (within == nil || !o.has(within)) {
			continue
		}
		table[0] = append(table[0], c.title)
		for i, name := range o.names {
			e := estimateOf(o.column(name, c.figure))
			cell := number(e.median)
			if c.title == "95 % interval" {
				cell = e.interval()
			}
			table[i+1] = append(table[i+1], cell)
		}
	}
	for i, cells := range table {
		row(&b, cells)
		if i == 0 {
			b.WriteString("|" + strings.Repeat("---|", len(cells)) + "\n")
		}
	}
	b.WriteString("\n")
	for _, v := range o.verdicts {
		fmt.Fprintf(&b, "- %s: %s (%s)", v.what, number(v.median), v.interval())
		if v.bounds() {
			fmt.Fprintf(&b, ", %s: %s", v.bound(), v)
		}
		b.WriteString("\n")
	}
	return b.String()
}

func row(b *strings.Builder, cells []string) { fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | ")) }

// has reports whether any sample has the figure.
func (o outcome) has(figure func(figures) float64) bool {
	for _, r := range o.rounds {
		for _, f := range r {
			if figure(f) != 0 {
				return true
			}
		}
	}
	return false
}

// number formats x with three digits, or without a fraction from 100 on.
func number(x float64) string {
	switch size := math.Abs(x); {
	case math.IsInf(x, 0) || math.IsNaN(x):
		return fmt.Sprint(x)
	case size >= 100:
		return fmt.Sprintf("%.0f", x)
	case size >= 10:
		return fmt.Sprintf("%.1f", x)
	case size < 0.005:
		return "0"
	}
	return fmt.Sprintf("%.2f", x)
}
