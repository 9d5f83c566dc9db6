package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestChoose(t *testing.T) {
	all := func() []group {
		return []group{
			{name: "a", scenarios: []scenario{{name: "one"}, {name: "two"}}},
			{name: "b", scenarios: []scenario{{name: "three"}}},
		}
	}
	for _, tc := range []struct{ only, match, want string }{
		{"", "", "one two three"},
		{"b", "", "three"},
		{"b,a", "", "one two three"},
		{"", "^t", "two three"},
		{"a", "^t", "two"},
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
	_, err := choose(all(), "a,c", regexp.MustCompile(""))
	if err == nil || !strings.Contains(err.Error(), `"c": must be among a, b`) {
		t.Errorf("a group that does not exist: %v", err)
	}
}

// A group's own number of rounds is a maximum. A group without served scenarios does not start the
// servers.
func TestMeasure(t *testing.T) {
	member := subject{our, func(time.Duration) figures { return figures{cost: 1} }}
	only := scenario{name: "only", open: func() ([]subject, func()) { return []subject{member}, func() {} }}
	var s servers
	outcomes, err := measure(&s, []group{{scenarios: []scenario{only}, rounds: 3}, {scenarios: []scenario{only}}}, effort{rounds: 5})
	if err != nil || s.running != nil {
		t.Fatal(err, s.running)
	}
	var rounds []int
	for _, o := range outcomes {
		rounds = append(rounds, len(o.rounds))
	}
	if !slices.Equal(rounds, []int{3, 5}) {
		t.Errorf("got %v rounds, want 3 and 5", rounds)
	}
}

// The profiles exist, and the profiles of the stack contain functions of the stack.
func TestProfileGet(t *testing.T) {
	s := &servers{}
	startOrSkip(t, s)
	defer func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}()
	dir := filepath.Join(t.TempDir(), "new")
	if err := profileGet(s, dir, 100*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"bare.cpu", "get.cpu", "get.allocs"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}
