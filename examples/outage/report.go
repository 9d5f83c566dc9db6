package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/earnorm/poolstack/pool"
)

// report writes the result of a play.
func report(out io.Writer, r result, invariants []invariant) {
	b := &strings.Builder{}
	reportLoad(b, r)
	reportFaults(b, r)
	reportLayers(b, r)
	reportSides(b, r)
	reportTimeline(b, r)
	reportBottomLine(b, r)
	reportInvariants(b, invariants)
	for line := range strings.Lines(b.String()) {
		_, _ = io.WriteString(out, strings.TrimRight(line, " \n")+"\n")
	}
}

func reportLoad(b *strings.Builder, r result) {
	b.WriteByte('\n')
	for _, text := range loadTexts(r) {
		paragraph(b, "", "", text)
	}
}

// loadTexts returns the description of the load and the limits of the findings.
func loadTexts(r result) []string {
	var kinds []string
	for _, s := range r.servers {
		kinds = append(kinds, fmt.Sprintf("%d operations a second on %s (%s)", s.rate, s.status.Name, s.status.Kind))
	}
	texts := []string{fmt.Sprintf("For %.0f s, %s: half of them reads, a quarter writes that are idempotent, a quarter writes that are not. "+
		"All that through the stack and, beside it, through bare clients with their default options, at the same time and through the same "+
		"proxies, so that both met the same faults. Seed %d.", r.took.Seconds(), strings.Join(kinds, " and "), r.cfg.seed)}
	texts = append(texts, r.settingsText())
	for _, s := range r.servers {
		if !s.status.Durable {
			texts = append(texts, fmt.Sprintf("%s keeps nothing over a kill: writes before its last start are not judged. With redis-server on "+
				"the PATH they are.", s.status.Kind))
		}
	}
	if r.interrupted {
		texts = append(texts, "Interrupted: not all of the script was played.")
	}
	return texts
}

// paragraph writes text in lines of at most tableWidth columns. The prefix of the first line is
// first, and the prefix of the other lines is rest.
func paragraph(b *strings.Builder, first, rest, text string) {
	for _, line := range fold(first, rest, text, tableWidth) {
		b.WriteString(line + "\n")
	}
}

// fold breaks text into lines of at most width columns. A longer word exceeds the width. The prefix
// of the first line is first, and the prefix of the other lines is rest.
func fold(first, rest, text string, width int) (lines []string) {
	line, empty := first, true
	for word := range strings.FieldsSeq(text) {
		if !empty && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			lines = append(lines, line)
			line, empty = rest, true
		}
		if !empty {
			line += " "
		}
		line, empty = line+word, false
	}
	return append(lines, line)
}

// reportFaults writes the injected faults, the stack's reactions, and the results for the callers
// of both sides.
func reportFaults(b *strings.Builder, r result) {
	b.WriteByte('\n')
	paragraph(b, "", "", "The faults, and how the stack took them: time from the fault to its first sign and to the opening of the breaker, "+
		"and from the server's return until the breaker was closed and the connections that are kept ready were open")
	b.WriteByte('\n')
	fmt.Fprintf(b, "  %-7s  %-20s %8s %8s %11s %13s %12s\n", "", "", "began", "lasted", "first sign", "breaker open", "whole again")
	for _, s := range r.servers {
		for _, i := range s.incidents {
			fmt.Fprintf(b, "  %-7s  %-20s %8s %8s %11s %13s %12s\n", s.status.Name, i.fault.kind.title(),
				fmt.Sprintf("%.1f s", i.sinceStart(r).Seconds()), between(i.began, i.back, ""),
				between(i.began, i.sign, "none"), between(i.began, i.opened, "not needed"), between(i.back, i.whole, i.neverWhole()))
		}
	}
	fmt.Fprintf(b, "\nThe operations begun from each fault to the next\n\n")
	fmt.Fprintf(b, "  %-7s  %-20s %15s %17s %15s %17s\n", "", "", "errors", "slowest", "hung over 1 s", "most in flight")
	fmt.Fprintf(b, "  %-7s  %-20s%s\n", "", "", strings.Repeat("   stack    bare", 4))
	for _, s := range r.servers {
		for _, i := range s.incidents {
			x, y := i.meters[stacked].tallied(), i.meters[bare].tallied()
			fmt.Fprintf(b, "  %-7s  %-20s%8d%8d%8s%8s%8d%8d%8d%8d\n", s.status.Name, i.fault.kind.title(),
				x.failed, y.failed, show(x.slowest), show(y.slowest), x.hung, y.hung, x.crowd, y.crowd)
		}
	}
}

func (i incident) neverWhole() string {
	if i.cut {
		return "interrupted"
	}
	return "NOT IN TIME"
}

// sinceStart returns the time from the beginning of the load to the incident.
func (i incident) sinceStart(r result) time.Duration { return i.began.Sub(r.start) }

// between formats the time between two moments. It returns never if the second moment is zero.
func between(from, to time.Time, never string) string {
	switch {
	case to.IsZero():
		return never
	case to.Before(from): // observed before the call that caused the fault returned
		return "at once"
	}
	return show(to.Sub(from))
}

// reportLayers writes the activity of each layer.
func reportLayers(b *strings.Builder, r result) {
	fmt.Fprintf(b, "\nWhat each layer did\n")
	for _, s := range r.servers {
		fmt.Fprintf(b, "\n  %s\n", s.status.Name)
		for _, l := range s.layers() {
			reportLayer(b, l)
		}
	}
	fmt.Fprintf(b, "\n  both\n")
	reportLayer(b, layerText{"logging", strings.Join(r.log, ", ")})
}

// A layerText describes the activity of a layer.
type layerText struct{ Name, Text string }

func (s *serverResult) layers() (all []layerText) {
	f, st := s.figures, s.stat
	layerf := func(name, format string, args ...any) {
		all = append(all, layerText{name, fmt.Sprintf(format, args...)})
	}
	layerf("retry", "%s further attempts%s; %s not made%s", sum(f.retries), list(f.retries), sum(f.giveUps), list(f.giveUps))
	layerf("breaker", "opened %d times, %d of them after a probe had failed; refused %d attempts",
		s.breaker.Opened, reopened(f), s.breaker.Refused)
	layerf("timeouts", "%s%s", sum(f.timeouts), list(f.timeouts))
	layerf("pool", "%d connections opened, %d failed to open, %d closed%s; lent %d times, %d of them after a wait",
		st.Opened, st.OpenFailures, st.Closed.Total(), list(closings(st)), st.Acquires, st.Waited)
	if d := s.sockets; d != nil {
		layerf("driver", "%d sockets opened, %d closed, all given up %d times; the server was seen to come or go %d times",
			d.SocketsOpened, d.SocketsClosed, d.Cleared, d.ServerChanges)
	}
	layerf("errors", "%s%s", sum(f.errors), list(f.errors))
	return all
}

// reportLayer writes the activity of a layer.
func reportLayer(b *strings.Builder, l layerText) {
	paragraph(b, fmt.Sprintf("    %-9s ", l.Name), strings.Repeat(" ", 14), l.Text)
}

func closings(s pool.Stat) map[string]int {
	m := map[string]int{}
	for _, reason := range pool.CloseReasons() {
		if n := s.Closed[reason]; n > 0 {
			m[reason.String()] = int(n)
		}
	}
	return m
}

// reopened counts the openings of the breaker after a failed probe.
func reopened(f figures) (n int) {
	for _, c := range f.changes {
		if c.from == "half-open" && c.to == "open" {
			n++
		}
	}
	return n
}

// sum formats the total of all kinds.
func sum(m map[string]int) string {
	n := 0
	for _, k := range m {
		n += k
	}
	return fmt.Sprint(n)
}

// list formats the count of each kind, in descending order of the counts.
func list(m map[string]int) string {
	if len(m) == 0 {
		return ""
	}
	keys := slices.SortedFunc(maps.Keys(m), func(x, y string) int {
		if m[x] != m[y] {
			return m[y] - m[x]
		}
		return strings.Compare(x, y)
	})
	parts := make([]string, len(keys))
	for i, k := range keys {
		parts[i] = fmt.Sprintf("%s %d", k, m[k])
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

// sideLines are the figures for the comparison of the stack with the bare clients.
var sideLines = []struct {
	title string
	of    func(l laneResult) string
}{
	{"operations that succeeded", func(l laneResult) string { return fmt.Sprint(l.ok) }},
	{"  of them within " + hanging.String(), func(l laneResult) string { return fmt.Sprint(l.inTime) }},
	{"that failed", func(l laneResult) string { return fmt.Sprint(l.failed) }},
	{"  of them within " + prompt.String(), func(l laneResult) string { return fmt.Sprint(l.prompt) }},
	{"half of those that succeeded took at most", func(l laneResult) string { return show(l.p50) }},
	{"99 % of them", func(l laneResult) string { return show(l.p99) }},
	{"the slowest, successful or not", func(l laneResult) string { return show(l.slowest) }},
	{"hung for more than " + hanging.String(), func(l laneResult) string { return fmt.Sprint(l.hung) }},
	{"most in flight at once", func(l laneResult) string { return fmt.Sprint(l.crowd) }},
	{"acknowledged writes lost", func(l laneResult) string { return fmt.Sprint(l.lost) }},
	{"writes carried out more than once", func(l laneResult) string { return fmt.Sprint(l.repeated) }},
	{"  how many times too often, in all", func(l laneResult) string { return fmt.Sprint(l.surplus) }},
	{"commands sent", func(l laneResult) string { return fmt.Sprint(l.commands) }},
	{"  of them to a server killed or frozen", func(l laneResult) string { return fmt.Sprint(l.sentOff) }},
	{"connections dialled", func(l laneResult) string { return fmt.Sprint(l.dials) }},
	{"  of them to a server killed or frozen", func(l laneResult) string { return fmt.Sprint(l.dialsAway) }},
}

// reportSides writes the comparison of the stack with the bare clients.
func reportSides(b *strings.Builder, r result) {
	fmt.Fprintf(b, "\nThe whole run\n\n  %-44s", "")
	var lanes []laneResult
	for _, s := range r.servers {
		fmt.Fprintf(b, "%12s%12s", s.status.Name+":", "")
		lanes = append(lanes, s.stack, s.bare)
	}
	fmt.Fprintf(b, "\n  %-44s%s\n", "", strings.Repeat(fmt.Sprintf("%12s%12s", stacked, bare), len(r.servers)))
	for _, line := range sideLines {
		fmt.Fprintf(b, "  %-44s", line.title)
		for _, l := range lanes {
			fmt.Fprintf(b, "%12s", line.of(l))
		}
		b.WriteByte('\n')
	}
}

// timelineWidth is the maximum number of columns of a timeline.
const timelineWidth = 84

// reportTimeline writes the successful operations over time.
func reportTimeline(b *strings.Builder, r result) {
	step := 1 + (int(r.took/time.Second)-1)/timelineWidth
	fmt.Fprintf(b, "\nOperations that succeeded, over time (a column is %d s)\n\n", step)
	for _, s := range r.servers {
		fmt.Fprintf(b, "  %-7s stack %s\n", s.status.Name, timeline(s.stack.okInSecond, r.took, step, s.rate))
		fmt.Fprintf(b, "  %-7s bare  %s\n", "", timeline(s.bare.okInSecond, r.took, step, s.rate))
		fmt.Fprintf(b, "  %-7s       %s\n", "", marks(s.incidents, r, step))
	}
	legend := "s: slow, r: connections reset, k: killed, f: frozen"
	if r.cfg.set {
		legend += ", d: primary steps down, p: primary killed"
	}
	fmt.Fprintf(b, "  %-7s       %s\n", "", legend)
}

// timeline returns a column for each step seconds of the load. Full height is the rate.
func timeline(okInSecond []int64, took time.Duration, step, rate int) string {
	levels := []rune("·▁▂▃▄▅▆▇█")
	var b strings.Builder
	okInSecond = okInSecond[:min(int(took/time.Second), len(okInSecond))]
	for i := 0; i+step <= len(okInSecond); i += step {
		var ok int64
		for _, n := range okInSecond[i : i+step] {
			ok += n
		}
		level := (int(ok)*(len(levels)-1) + rate*step - 1) / (rate * step)
		b.WriteRune(levels[min(level, len(levels)-1)])
	}
	return b.String()
}

// marks returns the line of letters below the timelines. A letter marks the columns of a fault.
func marks(incidents []incident, r result, step int) string {
	line := []byte(strings.Repeat(" ", int(r.took/time.Second)/step))
	for _, i := range incidents {
		first := int(i.sinceStart(r)/time.Second) / step
		last := int(i.back.Sub(r.start)/time.Second) / step
		for k := first; k <= last && k < len(line); k++ {
			line[k] = i.fault.kind.letter()
		}
	}
	return strings.TrimRight(string(line), " ")
}

// reportInvariants writes the verdict.
func reportInvariants(b *strings.Builder, all []invariant) {
	fmt.Fprintf(b, "\nThe invariants of the stack\n\n")
	for _, i := range all {
		verdict := "held  "
		if !i.held {
			verdict = "BROKEN"
		}
		paragraph(b, "  "+verdict+"  ", strings.Repeat(" ", 12), fmt.Sprintf("%s (%s)", i.what, i.detail))
	}
	if broken(all) {
		fmt.Fprintf(b, "\nNot all invariants held.\n")
		return
	}
	fmt.Fprintf(b, "\nAll invariants held.\n")
}

// reportBottomLine writes a summary for each server in a few sentences.
func reportBottomLine(b *strings.Builder, r result) {
	b.WriteByte('\n')
	for _, s := range r.servers {
		paragraph(b, "", "  ", fmt.Sprintf("%s: %s", s.status.Name, s.bottomLine()))
	}
}

func (s *serverResult) bottomLine() string {
	x, y := s.stack, s.bare
	return fmt.Sprintf("nobody waited for the stack for longer than %s, and %s of those it could not serve knew "+
		"within %s. Callers of the bare client waited for up to %s, up to %d of them at once; it dialled a server that was not there "+
		"%d times (the stack %d), and carried out %d writes more than once (the stack %d).", show(x.slowest),
		percent(x.prompt, x.failed), prompt, show(y.slowest), y.crowd, y.dialsAway, x.dialsAway, y.repeated, x.repeated)
}

func percent(part, whole int64) string {
	return fmt.Sprintf("%.0f %%", 100*float64(part)/float64(max(whole, 1)))
}
