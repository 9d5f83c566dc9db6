package main

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/earnorm/poolstack/examples/servers/control"
)

func TestParse(t *testing.T) {
	for args, want := range map[string]string{ // "" stands for no error
		"":                              "",
		"-duration 15s -rate 1000":      "",
		"-metrics off":                  "",
		"-repeat":                       "",
		"-replica-set":                  "",
		"-health":                       "",
		"-health -metrics off":          "-metrics is off: must be an address with -health",
		"-metrics localhost:0":          "",
		"-metrics [::1]:9464":           "",
		"-duration 14999ms":             "-duration is 14.999s: must be between 15s and 1h0m0s",
		"-duration 61m":                 "-duration is 1h1m0s",
		"-rate 0":                       "-rate is 0: must be between 1 and 1000",
		"-rate 1001":                    "-rate is 1001",
		"-metrics :9464":                `-metrics is ":9464": must be off, or a port on loopback`,
		"-metrics 0.0.0.0:9464":         `-metrics is "0.0.0.0:9464"`,
		"-metrics 127.0.0.1:99999":      `-metrics is "127.0.0.1:99999"`,
		"-metrics 127.0.0.1":            `-metrics is "127.0.0.1"`,
		"-page=":                        "",
		"-page there.html":              "",
		"-page testdata/there.html":     "",
		"-page testdata":                `-page is "testdata": must be a file in a directory that exists, or empty`,
		"-page nowhere/there.html":      `-page is "nowhere/there.html"`,
		"-seed -1":                      "invalid value",
		"-rate 0 -duration 1s nonsense": "no arguments besides flags",
		"-rate 0 -duration 1s":          "-rate is 0",
	} {
		var stderr strings.Builder
		_, err := parse(strings.Fields(args), &stderr)
		if (err == nil) != (want == "") || !strings.Contains(stderr.String(), want) {
			t.Errorf("%q: %v, and it prints %q; want %q", args, err, stderr.String(), want)
		}
	}
}

func TestDefaults(t *testing.T) {
	got, err := parse(nil, io.Discard)
	want := config{
		duration: time.Minute, rate: 200, seed: 1, metrics: "127.0.0.1:9464", page: "outage.html", recovery: 2 * time.Second, grace: 500 * time.Millisecond,
	}
	if err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	if redis, mongo := got.rateOn(control.Redis), got.rateOn(control.MongoDB); redis != 200 || mongo != 25 {
		t.Errorf("%d operations a second on Redis and %d on MongoDB", redis, mongo)
	}
	if one := (config{rate: 1}).rateOn(control.MongoDB); one != 1 {
		t.Errorf("%d operations a second on MongoDB at -rate 1", one)
	}
}
