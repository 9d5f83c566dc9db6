package main

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/earnorm/poolstack/backends/mongopool"
	"github.com/earnorm/poolstack/examples/servers/control"
	"github.com/earnorm/poolstack/pool"
)

func reported(r result) string {
	var b strings.Builder
	report(&b, r, judge(r))
	return b.String()
}

func TestReport(t *testing.T) {
	r := good()
	s := &r.servers[0]
	s.figures.retries = map[string]int{"timeout_attempt": 3, "open_failed": 12, "acquire_timeout": 12}
	s.figures.changes = []change{{from: "closed", to: "open"}, {from: "open", to: "half-open"}, {from: "half-open", to: "open"}}
	s.stat.Closed[pool.CloseBroken] = 7
	r.servers[1].sockets = &mongopool.Stats{SocketsOpened: 5}
	golden(t, "report.txt", reported(r))
}

func TestReportOfWhatWentWrong(t *testing.T) {
	r := good()
	r.interrupted = true
	r.servers[0].status.Durable, r.servers[0].status.Kind, r.servers[0].stack.exempt = false, control.KindMiniredis, 9
	r.servers[0].incidents[0].whole = time.Time{}
	r.servers[1].incidents[0].sign, r.servers[1].incidents[0].opened = time.Time{}, time.Time{}
	got := reported(r)
	for _, want := range []string{
		"Interrupted: not all", "miniredis keeps nothing over a kill", "9 not", "NOT IN TIME", "not needed", "none",
		"BROKEN  redis: whole again", "Not all invariants held.",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("nothing says %q", want)
		}
	}
	for line := range strings.Lines(got) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > tableWidth {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	if t.Failed() {
		t.Log(got)
	}
}

func TestTimeline(t *testing.T) {
	ok := []int64{0, 1, 4, 8, 9, 8}
	for step, want := range map[int]string{1: "·▁▄█", 2: "▁▆", 3: "▂"} {
		if got := timeline(ok, 4*time.Second+time.Millisecond, step, 8); got != want {
			t.Errorf("in steps of %d: %q, want %q", step, got, want)
		}
	}
	if got := timeline(ok[:2], time.Minute, 1, 8); got != "·▁" {
		t.Errorf("longer than what was counted: %q", got)
	}
}

func TestMarks(t *testing.T) {
	start := time.Now()
	at := func(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }
	incidents := []incident{
		{fault: fault{kind: slow}, began: at(1.5), back: at(2.5)},
		{fault: fault{kind: killed}, began: at(4), back: at(8)},
	}
	r := result{start: start, took: 7 * time.Second}
	if got, want := marks(incidents, r, 1), " ss kkk"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := marks(incidents, r, 2), "ssk"; got != want {
		t.Errorf("in steps of 2: %q, want %q", got, want)
	}
}
