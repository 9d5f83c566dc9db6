package main

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/earnorm/poolstack/middleware/breaker"
)

// tableWidth is how many columns the live table and the report take at most: a terminal of 100 has one to spare, for what clears the rest
// of a line would otherwise clear the last column.
const tableWidth = 99

// newsLines is how many of the latest news the table shows.
const newsLines = 6

// A frame is what the live table shows at one moment.
type frame struct {
	elapsed, total time.Duration
	metrics        string // where /metrics is; "" for nowhere
	stages         []stage
	rows           []row
	news           []string
}

// A stage is where the script is with one server.
type stage struct {
	server string
	title  string        // of the fault that lasts; "" when there is none
	passed time.Duration // of it; without a fault: until the next, 0 when there is none
	lasts  time.Duration
}

// A row is what is shown of a lane.
type row struct {
	server      string
	side        side
	ok, failed  float64 // a second, of late
	p50, p99    time.Duration
	inFlight    int64
	managed     bool // what follows is known: it is the stack's
	inUse, idle int
	waiters     int
	breaker     breaker.State
	retries     int64 // since the beginning, as what follows
	refused     int64
	timeouts    int64
}

// A paint puts colour on a text. The table is laid out before it is painted.
type paint func(colour, text string) string

// Colours, as the numbers of ANSI's escape sequences.
const (
	red    = "31"
	green  = "32"
	yellow = "33"
	bold   = "1"
	dim    = "2"
)

func coloured(colour, text string) string { return "\x1b[" + colour + "m" + text + "\x1b[0m" }
func plain(_, text string) string         { return text }

// render lays a frame out in lines of at most tableWidth columns.
func render(f frame, p paint) []string {
	lines := []string{header(f, p)}
	for _, s := range f.stages {
		lines = append(lines, s.line(p))
	}
	lines = append(lines, "", p(dim, fmt.Sprintf(" %-7s %-5s %5s %5s %6s %6s %5s │ %3s %4s %4s  %-9s %7s %7s %8s",
		"", "", "ok/s", "err/s", "p50", "p99", "calls", "use", "idle", "wait", "breaker", "retries", "refused", "timeouts")))
	for _, r := range f.rows {
		lines = append(lines, r.line(p))
	}
	lines = append(lines, "")
	for i := range newsLines {
		text := ""
		if i < len(f.news) {
			text = cut(f.news[i], tableWidth)
		}
		lines = append(lines, text)
	}
	return lines
}

// header is the progress of the whole.
func header(f frame, p paint) string {
	const width = 30
	done := min(int(width*f.elapsed/f.total), width)
	bar := strings.Repeat("━", done) + p(dim, strings.Repeat("─", width-done))
	return fmt.Sprintf(" %s %s %s  %s", p(bold, "outage"), bar,
		fmt.Sprintf("%.0f of %.0f s", f.elapsed.Seconds(), f.total.Seconds()), p(dim, cut(f.metrics, 42)))
}

// line is the progress of the script with one server.
func (s stage) line(p paint) string {
	switch {
	case s.title != "":
		return fmt.Sprintf(" %-7s %s", s.server, p(red, fmt.Sprintf("%s, for %.1f of %.1f s", s.title, s.passed.Seconds(), s.lasts.Seconds())))
	case s.passed > 0:
		return fmt.Sprintf(" %-7s well; the next fault is due in %.0f s", s.server, s.passed.Seconds())
	}
	return fmt.Sprintf(" %-7s well; no further fault", s.server)
}

// line is the table's row.
func (r row) line(p paint) string {
	failed := fmt.Sprintf("%5.0f", r.failed)
	if r.failed > 0 {
		failed = p(red, failed)
	}
	left := fmt.Sprintf(" %-7s %-5s %5.0f %s %6s %6s %5d │", r.label(), r.side, r.ok, failed, show(r.p50), show(r.p99), r.inFlight)
	if !r.managed {
		return left
	}
	return left + fmt.Sprintf(" %3d %4d %4d  %s %7d %7d %8d", r.inUse, r.idle, r.waiters,
		p(stateColour(r.breaker), fmt.Sprintf("%-9s", r.breaker)), r.retries, r.refused, r.timeouts)
}

// label is the server's name in the first of its rows.
func (r row) label() string {
	if r.side == bare {
		return ""
	}
	return r.server
}

func stateColour(s breaker.State) string {
	switch s {
	case breaker.StateOpen:
		return red
	case breaker.StateHalfOpen:
		return yellow
	default:
		return green
	}
}

// plainLine is what is printed each second where there is no terminal.
func plainLine(f frame) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%4.0f s", f.elapsed.Seconds())
	for _, r := range f.rows {
		if !r.managed {
			fmt.Fprintf(&b, " (bare %.0f ok %.0f err p99 %s)", r.ok, r.failed, show(r.p99))
			continue
		}
		fmt.Fprintf(&b, " | %s %.0f ok %.0f err p99 %s, use %d idle %d wait %d, %s",
			r.server, r.ok, r.failed, show(r.p99), r.inUse, r.idle, r.waiters, r.breaker)
	}
	return b.String()
}

// show prints a duration with three digits and a unit.
func show(d time.Duration) string {
	switch {
	case d <= 0:
		return "-"
	case d < time.Millisecond:
		return fmt.Sprintf("%dµs", d.Microseconds())
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.2fms", float64(d)/float64(time.Millisecond))
	case d < 100*time.Millisecond:
		return fmt.Sprintf("%.1fms", float64(d)/float64(time.Millisecond))
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.2fs", d.Seconds())
	}
	return fmt.Sprintf("%.1fs", d.Seconds())
}

// cut shortens text to n columns.
func cut(text string, n int) string {
	if utf8.RuneCountInString(text) <= n {
		return text
	}
	return string([]rune(text)[:n-1]) + "…"
}
