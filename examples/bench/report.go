package main

import (
	"fmt"
	"math"
	"strings"
)

// report renders the outcomes in Markdown: first the gates, then every scenario's figures.
func report(about string, outcomes []outcome) string {
	var b strings.Builder
	b.WriteString("# Side-by-side benchmarks\n\n")
	b.WriteString(about)
	b.WriteString("\n## Gates\n\n")
	b.WriteString("A figure is the median over the rounds, each of which measured all those compared one after the other. The interval is that of\n" +
		"the median, by bootstrap, at 95 %. A gate falls short when the lower end of the interval exceeds it.\n\n")
	b.WriteString("| scenario | figure | median | 95 % interval | at most | verdict |\n|---|---|---|---|---|---|\n")
	for _, o := range outcomes {
		for _, v := range o.verdicts {
			if v.bounds() {
				fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", o.name, v.what, number(v.median), v.interval(), number(v.limit), v)
			}
		}
	}
	for _, o := range outcomes {
		b.WriteString(o.section())
	}
	return b.String()
}

func (e estimate) interval() string { return number(e.low) + " - " + number(e.high) }

// section shows one scenario.
func (o outcome) section() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n## %s\n\n%s\n\n", o.name, o.about)
	waits := o.has(func(f figures) float64 { return f.p50 })
	fairness := o.has(func(f figures) float64 { return f.unfairness })
	columns := []string{"", "ns", "95 % interval", "allocs"}
	if waits {
		columns = append(columns, "wait p50 µs", "p99 µs", "p99.9 µs")
	}
	if fairness {
		columns = append(columns, "max/min acquires")
	}
	row(&b, columns)
	b.WriteString("|" + strings.Repeat("---|", len(columns)) + "\n")
	for _, name := range o.names {
		cost := estimateOf(o.column(name, func(f figures) float64 { return f.cost }))
		middle := func(figure func(figures) float64) string { return number(median(o.column(name, figure))) }
		cells := []string{name, number(cost.median), cost.interval(), middle(func(f figures) float64 { return f.allocs })}
		if waits {
			cells = append(cells, middle(func(f figures) float64 { return f.p50 / 1e3 }),
				middle(func(f figures) float64 { return f.p99 / 1e3 }), middle(func(f figures) float64 { return f.p999 / 1e3 }))
		}
		if fairness {
			cells = append(cells, middle(func(f figures) float64 { return f.unfairness }))
		}
		row(&b, cells)
	}
	b.WriteString("\n")
	for _, v := range o.verdicts {
		fmt.Fprintf(&b, "- %s: %s (%s)", v.what, number(v.median), v.interval())
		if v.bounds() {
			fmt.Fprintf(&b, ", at most %s: %s", number(v.limit), v)
		}
		b.WriteString("\n")
	}
	return b.String()
}

func row(b *strings.Builder, cells []string) { fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | ")) }

// has says whether any sample has the figure.
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

// number shows three digits, and of large numbers what is before the point.
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
