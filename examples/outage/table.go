package main

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/earnorm/poolstack/middleware/breaker"
)

// tableWidth is the maximum number of columns of the live table and the report. It leaves a column
// free in a terminal of 100 columns: clearing the rest of a full line would clear the last column.
const tableWidth = 99

// newsLines is the number of the latest news in the table.
const newsLines = 6

// A frame is the content of the live table at a moment.
type frame struct {
	elapsed, total time.Duration
	metrics        string // address of /metrics; "" for none
	stages         []stage
	rows           []row
	news           []string
}

// A stage is the position of a server in the script.
type stage struct {
	server string
	title  string // of the present fault; "" without a fault
	// passed is the elapsed time of the fault. Without a fault, it is the time until the next fault,
	// or 0 without a further fault.
	passed time.Duration
	lasts  time.Duration
}

// A row is the table's content for a lane.
type row struct {
	server      string
	side        side
	ok, failed  float64 // per second, in the last window
	p50, p99    time.Duration
	inFlight    int64
	managed     bool // the lane is the stack's, so the following fields are set
	inUse, idle int
	waiters     int
	breaker     breaker.State
	retries     int64 // since the beginning, as the next fields
	refused     int64
	timeouts    int64
}

// A paint adds colour to a text. The table's layout is made before painting.
type paint func(colour, text string) string

// Colours, as the numbers of ANSI escape sequences.
const (
	red    = "31"
	green  = "32"
	yellow = "33"
	bold   = "1"
	dim    = "2"
)

func coloured(colour, text string) string { return "\x1b[" + colour + "m" + text + "\x1b[0m" }
func plain(_, text string) string         { return text }

// render formats a frame in lines of at most tableWidth columns.
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

// header formats the progress of the play.
func header(f frame, p paint) string {
	const width = 30
	done := min(int(width*f.elapsed/f.total), width)
	bar := strings.Repeat("━", done) + p(dim, strings.Repeat("─", width-done))
	return fmt.Sprintf(" %s %s %s  %s", p(bold, "outage"), bar,
		fmt.Sprintf("%.0f of %.0f s", f.elapsed.Seconds(), f.total.Seconds()), p(dim, cut(f.metrics, 42)))
}

// line formats the progress of the script on a server.
func (s stage) line(p paint) string {
	switch {
	case s.title != "":
		return fmt.Sprintf(" %-7s %s", s.server, p(red, fmt.Sprintf("%s, for %.1f of %.1f s", s.title, s.passed.Seconds(), s.lasts.Seconds())))
	case s.passed > 0:
		return fmt.Sprintf(" %-7s well; the next fault is due in %.0f s", s.server, s.passed.Seconds())
	}
	return fmt.Sprintf(" %-7s well; no further fault", s.server)
}

// line formats the row of a lane.
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

// label returns the server's name in the stack's row, which is the server's first row.
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

// plainLine formats the line for each second without a terminal.
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

// show formats a duration with a unit and about three digits.
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
