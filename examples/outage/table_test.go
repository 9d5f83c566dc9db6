package main

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/earnorm/poolstack/middleware/breaker"
)

// With -update the test rewrites the golden files.
var update = flag.Bool("update", false, "write the golden files anew")

// golden compares got with a file in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
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
		t.Errorf("got:\n%s\nwant (%s, go test -update writes it anew):\n%s", got, file, want)
	}
}

// busy returns a frame with a value in every column.
func busy() frame {
	return frame{
		elapsed: 34700 * time.Millisecond, total: time.Minute, metrics: "http://127.0.0.1:9464/metrics",
		stages: []stage{
			{server: "redis", title: killed.title(), passed: 2600 * time.Millisecond, lasts: 6 * time.Second},
			{server: "mongodb", passed: 12 * time.Second},
		},
		rows: []row{
			{
				server: "redis", side: stacked, ok: 12, failed: 188.4, p50: 812 * time.Microsecond, p99: 64500 * time.Microsecond, inFlight: 3,
				managed: true, inUse: 1, idle: 15, waiters: 2, breaker: breaker.StateHalfOpen, retries: 115, refused: 2073, timeouts: 80,
			},
			{server: "redis", side: bare, failed: 20, inFlight: 1496},
			{
				server: "mongodb", side: stacked, ok: 25, p50: 3 * time.Millisecond, p99: 12 * time.Second,
				managed: true, idle: 16, breaker: breaker.StateClosed,
			},
			{server: "mongodb", side: bare, ok: 24.6, p50: 4 * time.Millisecond, p99: 450 * time.Millisecond, inFlight: 1},
		},
		news: []string{"  32.1 s  redis    server killed", "  32.2 s  redis    breaker open: consecutive_failures", strings.Repeat("long ", 30)},
	}
}

func TestTable(t *testing.T) {
	golden(t, "table.txt", strings.Join(render(busy(), plain), "\n")+"\n")
	golden(t, "line.txt", plainLine(busy())+"\n")
}

func TestPaintChangesNothingElse(t *testing.T) {
	painted := strings.Join(render(busy(), coloured), "\n")
	bare := regexp.MustCompile("\x1b\\[[0-9]*m").ReplaceAllString(painted, "")
	if want := strings.Join(render(busy(), plain), "\n"); bare != want || painted == want {
		t.Errorf("without colours:\n%s\nwant:\n%s", bare, want)
	}
}

func TestTheTableFits(t *testing.T) {
	wide := busy()
	wide.elapsed, wide.total = 59*time.Minute, time.Hour
	wide.metrics = strings.Repeat("x", 200)
	for i := range wide.rows {
		r := &wide.rows[i]
		r.ok, r.failed, r.p50, r.p99, r.inFlight = 1000, 1000, 999*time.Millisecond, 9990*time.Millisecond, 99999
		r.breaker, r.retries, r.refused, r.timeouts = breaker.StateHalfOpen, 9999999, 9999999, 99999999
	}
	for _, f := range []frame{{total: time.Minute}, busy(), wide} {
		for _, line := range render(f, plain) {
			if n := utf8.RuneCountInString(line); n > tableWidth {
				t.Errorf("%d columns: %s", n, line)
			}
		}
	}
	// A frame has more lines with stages and rows, but not with news.
	if now, later := len(render(frame{total: 1}, plain)), len(render(busy(), plain)); later-now != 6 {
		t.Errorf("%d lines become %d", now, later)
	}
}

func TestShow(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "-", -time.Second: "-", 999 * time.Nanosecond: "0µs", 840 * time.Microsecond: "840µs", 1234 * time.Microsecond: "1.23ms",
		64540 * time.Microsecond: "64.5ms", 340 * time.Millisecond: "340ms", 2346 * time.Millisecond: "2.35s", 75 * time.Second: "75.0s",
	} {
		if got := show(d); got != want {
			t.Errorf("%d ns is %q, want %q", d, got, want)
		}
	}
}
