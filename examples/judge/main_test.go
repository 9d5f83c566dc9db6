package main

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/earnorm/poolstack/examples/servers/local"
	"github.com/earnorm/poolstack/pool/pooltest"
)

func TestMain(m *testing.M) {
	local.Child()
	redis.SetLogger(quiet{})
	os.Exit(pooltest.Main(m))
}

func TestChoose(t *testing.T) {
	all := func() []group {
		return []group{
			{name: "a", scenarios: []scenario{{name: "one"}, {name: "two", mongo: true}}},
			{name: "b", scenarios: []scenario{{name: "three"}}},
		}
	}
	for _, tc := range []struct{ only, match, want string }{
		{"", "", "one two three"},
		{"b", "", "three"},
		{"", "^redis", "one three"},
		{"a", "mongodb: t", "two"},
		{"b", "one", ""},
	} {
		chosen, err := choose(all(), tc.only, regexp.MustCompile(tc.match))
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, g := range chosen {
			for _, s := range g.scenarios {
				names = append(names, s.name)
			}
		}
		if got := strings.Join(names, " "); got != tc.want {
			t.Errorf("-only %q -run %q chooses %q, want %q", tc.only, tc.match, got, tc.want)
		}
	}
	if _, err := choose(all(), "a,c", regexp.MustCompile("")); err == nil || !strings.Contains(err.Error(), `"c": must be among a, b`) {
		t.Errorf("a group that does not exist: %v", err)
	}
}

// Every scenario has a title of its own, an explanation and gates. Scenarios that run together have
// servers of their own.
func TestScenarioTable(t *testing.T) {
	titles := map[string]bool{}
	for _, g := range groups() {
		hosts := map[string]bool{}
		for _, s := range g.scenarios {
			host := strings.Join([]string{s.title()[:5], text(s.host)}, " ")
			switch {
			case titles[s.title()]:
				t.Errorf("two scenarios are called %q", s.title())
			case s.about == "" || len(s.gates) < 2 || len(s.deadlines) == 0:
				t.Errorf("%q lacks an explanation, gates or deadlines", s.title())
			case g.together && hosts[host]:
				t.Errorf("%q shares its servers with another", s.title())
			}
			titles[s.title()], hosts[host] = true, true
		}
	}
}

// The cheap scenarios of the table, on real servers. Their gates hold.
func TestGatesOnRealServers(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes half a minute")
	}
	if _, err := exec.LookPath("redis-server"); err != nil && os.Getenv("CI") == "" {
		t.Skip("no redis-server on PATH")
	}
	h := &hosts{}
	defer func() {
		if err := h.close(); err != nil {
			t.Error(err)
		}
	}()
	cheap := []string{
		"redis: all connections cut, 20 in flight", "redis: 10 idle connections silently dead", "redis: misses and callers' mistakes only",
		"redis: killed for 2s", "mongodb: all connections cut, 20 in flight",
	}
	ran := 0
	for _, g := range groups() {
		for _, s := range g.scenarios {
			if !slices.Contains(cheap, s.title()) {
				continue
			}
			ran++
			t.Run(s.title(), func(t *testing.T) { holds(t, s, h) })
		}
	}
	if ran != len(cheap) {
		t.Errorf("%d scenarios ran of %d", ran, len(cheap))
	}
}

// holds runs the scenario once, and once more if a gate falls short: the machine may be busy with
// other tests.
func holds(t *testing.T, s scenario, h *hosts) {
	t.Helper()
	s.repeat = 1
	for try := range 2 {
		rows, err := s.measure(t.Context(), h)
		if err != nil {
			t.Fatal(err)
		}
		var short []string
		for _, r := range rows {
			for _, v := range r.short() {
				short = append(short, r.deadline.String()+": "+v.String())
			}
		}
		if len(short) == 0 {
			return
		}
		if try == 1 {
			t.Errorf("falls short: %s", strings.Join(short, "\n"))
		}
	}
}
