package main

import (
	"os"
	"strings"
	"testing"
	"time"
)

func rowsOf(dies bool, gates ...gate) []row {
	r := pair(figures{uses: 10, served: 9, useless: 3}, figures{uses: 10, served: 10, useless: 500})
	sc := scenario{name: "something", about: "What happens.", gates: gates, dies: dies}
	return []row{newRow(sc, time.Second, []run{r})}
}

func TestReport(t *testing.T) {
	text := report(append(rowsOf(false, gateServed), rowsOf(true, gateUseless)...))
	for _, want := range []string{
		"| redis: something | 1s | 10 | 9 | 10 | 10 |", // served, by three sides
		"**fall short**: served in time, stack / bare: 0.9, must be at least 0.99 |",
		"| redis: something | 1s | 10 | 9 | 10 | 3 | 500 |", // useless calls
		"| hold |",
		"- something: What happens.\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
	if n := strings.Count(text, "What happens."); n != 1 {
		t.Errorf("the scenario is explained %d times", n)
	}
}

// The README has the headlines only.
func TestHeadlines(t *testing.T) {
	for _, test := range []struct {
		name     string
		deadline time.Duration
		dies     bool
		want     bool
	}{
		{"cold start, four dials fail", time.Second, false, true},
		{"slow, but in time", time.Second, false, false},
		{"killed for 12s", time.Second, true, true},
		{"killed for 12s", 3 * time.Second, true, false},
		{"killed for 2s", time.Second, true, false},
	} {
		r := rowsOf(test.dies, gateServed)[0]
		r.name, r.deadline = test.name, test.deadline
		if got := strings.Contains(summary([]row{r}), test.name); got != test.want {
			t.Errorf("%s, %v: in the README %t, want %t", test.name, test.deadline, got, test.want)
		}
	}
}

// All lines of a table have as many cells.
func TestTables(t *testing.T) {
	serves, dies := rowsOf(false, gateServed), rowsOf(true, gateUseless)
	serves[0].name, dies[0].name = headlines[0], "killed for 12s"
	for _, text := range []string{report(serves), summary(serves), report(dies), summary(dies)} {
		cells := 0
		for line := range strings.Lines(text) {
			n := strings.Count(line, " | ")
			if strings.HasPrefix(line, "| ") && cells > 0 && n != cells {
				t.Errorf("%d cells, and above %d: %s", n, cells, line)
			}
			cells = n
			if !strings.HasPrefix(line, "| ") {
				cells = 0
			}
		}
	}
}

func TestBetween(t *testing.T) {
	page := "above\n" + beginMarker + "old\n" + endMarker + "below\n"
	got, err := between([]byte(page), "new")
	if want := "above\n" + beginMarker + "\nnew\n" + endMarker + "below\n"; err != nil || string(got) != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	for _, bad := range []string{"", beginMarker, endMarker + beginMarker} {
		if _, err := between([]byte(bad), "new"); err == nil {
			t.Errorf("%q has markers", bad)
		}
	}
}

// The README has the markers.
func TestReadme(t *testing.T) {
	page, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := between(page, ""); err != nil {
		t.Error(err)
	}
}
