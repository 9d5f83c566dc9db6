package main

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/earnorm/poolstack/middleware"
	"github.com/earnorm/poolstack/middleware/breaker"
	"github.com/earnorm/poolstack/middleware/timeout"
	"github.com/earnorm/poolstack/pool"
)

func TestChangedSettings(t *testing.T) {
	if got := changedSettings(pool.Config{Name: "redis"}, middleware.Options{}); got != "none" {
		t.Errorf("of defaults: %q", got)
	}
	got := changedSettings(pool.Config{MaxSize: 3, OpenTimeout: time.Second}, middleware.Options{
		Breaker: breaker.Config{FailureRatio: .25}, Attempt: timeout.Config{Limit: time.Minute}, Without: []string{"logging"},
	})
	if want := "MaxSize 3, OpenTimeout 1s, Breaker.FailureRatio 0.25, Attempt.Limit 1m0s, Without [logging]"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The demo changes sizes and limits only. The breaker, retry and the pool's open and check have the
// default settings.
func TestTheDemoRunsTheDefaults(t *testing.T) {
	for _, limit := range []time.Duration{redisAttempt, mongoAttempt} {
		for setting := range strings.SplitSeq(changedSettings(poolConfig("p"), layerOptions(limit)), ", ") {
			switch name, _, _ := strings.Cut(setting, " "); name {
			case "MaxSize", "MinIdle", "MaxWaiters", "Total.Limit", "Attempt.Limit":
			default:
				t.Errorf("the demo changes %s", setting)
			}
		}
	}
}

func TestFold(t *testing.T) {
	for width, want := range map[int]string{
		8: "> one|  two|  three", 9: "> one two|  three", 80: "> one two three", 1: "> one|  two|  three",
	} {
		if got := strings.Join(fold("> ", "  ", "one two three", width), "|"); got != want {
			t.Errorf("to %d columns: %q, want %q", width, got, want)
		}
	}
}

// The terminal, also a narrow terminal, and the page show the settings.
func TestSettingsAreTold(t *testing.T) {
	r := good()
	if text, _ := write(t, r); !strings.Contains(text, r.settingsText()) {
		t.Error("the page does not tell the settings")
	}
	for _, columns := range []int{40, 200} {
		var out strings.Builder
		v := &viewer{out: &out, screen: &screen{out: &out, size: func() (int, int) { return columns, 24 }}}
		v.begin(r.settingsText())
		if told := strings.Join(strings.Fields(out.String()), " "); told != r.settingsText() {
			t.Errorf("in %d columns: %q", columns, told)
		}
		for line := range strings.Lines(out.String()) {
			if n := utf8.RuneCountInString(line); n > min(columns, tableWidth+1) {
				t.Errorf("%d of %d columns: %s", n, columns, line)
			}
		}
	}
}
