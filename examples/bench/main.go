// Command bench compares poolstack with alternative libraries side by side in the same process, and
// checks the gates of poolstack.
//
//	bench [-quick] [-only groups] [-run regexp] [-out file]
//	bench -profile dir
//
// The command writes the table to standard output, and to the file of -out. The exit status is 1 if
// a gate falls short, and 2 after invalid flags or a failure. Some groups need redis-server on
// PATH. For these groups the command starts redis-server and a FerretDB on loopback, and stops both
// in the end.
package main

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/earnorm/poolstack/examples/servers/local"
)

func main() {
	local.Child()
	os.Exit(run())
}

// effort is the amount of measurement.
type effort struct {
	rounds int
	sample time.Duration
}

var (
	full  = effort{rounds: 40, sample: 25 * time.Millisecond}
	quick = effort{rounds: 8, sample: 12 * time.Millisecond}
)

// group is a set of scenarios, selectable by name.
type group struct {
	name      string
	scenarios []scenario
	served    bool // the scenarios need the servers
	rounds    int  // maximum; 0: as many as the effort
}

// groups returns all groups. The servers must start before the first scenario of a served group.
func groups(s *servers) []group {
	return []group{
		{name: "acquire", scenarios: acquireScenarios()},
		{name: "growth", scenarios: growthScenarios()},
		{name: "resilience", scenarios: resilienceScenarios()},
		{name: "telemetry", scenarios: telemetryScenarios()},
		{name: "redis", scenarios: redisScenarios(s), served: true, rounds: 30},
		{name: "mongo", scenarios: mongoScenarios(s), served: true, rounds: 20},
		{name: "costs", scenarios: costScenarios(s), served: true},
		{name: "memory", scenarios: memoryScenarios(), rounds: 8},
	}
}

// choose returns the groups named in list, with the scenarios that match. An empty list means all
// groups.
func choose(all []group, list string, match *regexp.Regexp) ([]group, error) {
	var names, chosen []string
	for _, g := range all {
		names = append(names, g.name)
	}
	for name := range strings.FieldsFuncSeq(list, func(r rune) bool { return r == ',' }) {
		if !slices.Contains(names, name) {
			return nil, fmt.Errorf("-only names %q: must be among %s", name, strings.Join(names, ", "))
		}
		chosen = append(chosen, name)
	}
	var left []group
	for _, g := range all {
		g.scenarios = slices.DeleteFunc(g.scenarios, func(s scenario) bool { return !match.MatchString(s.name) })
		if len(g.scenarios) > 0 && (chosen == nil || slices.Contains(chosen, g.name)) {
			left = append(left, g)
		}
	}
	return left, nil
}

func run() int {
	briefly := flag.Bool("quick", false, "take few and short samples (a minute)")
	only := flag.String("only", "", "only these `groups`, separated by commas")
	match := flag.String("run", "", "only the scenarios whose names match this `regexp`")
	out := flag.String("out", "", "write the table to this `file` as well")
	cpuProfile := flag.String("cpuprofile", "", "write a CPU profile of it all to this `file`")
	profiles := flag.String("profile", "", "measure nothing, but write profiles of the GET of group redis into this `directory`")
	flag.Parse()
	s := &servers{}
	pattern, err := regexp.Compile(*match)
	if err == nil && flag.NArg() > 0 {
		err = fmt.Errorf("arguments that nothing is known of: %q", flag.Args())
	}
	var chosen []group
	if err == nil {
		chosen, err = choose(groups(s), *only, pattern)
	}
	if err != nil {
		return failed(err)
	}
	defer func() {
		if err := s.close(); err != nil {
			failed(err)
		}
	}()
	if *profiles != "" {
		if err := profileGet(s, *profiles, profiled); err != nil {
			return failed(err)
		}
		return 0
	}
	stop, err := startProfile(*cpuProfile)
	if err != nil {
		return failed(err)
	}
	defer stop()
	e := full
	if *briefly {
		e = quick
	}
	before := load()
	outcomes, err := measure(s, chosen, e)
	if err != nil {
		return failed(err)
	}
	about := fmt.Sprintf("%s%s- at most %d rounds, samples of %v; of crowds and calls to servers longer ones\n%s",
		machine(), s.about(), e.rounds, e.sample, busy(before))
	text := report(about, outcomes)
	fmt.Print(text)
	if *out != "" {
		if err := os.WriteFile(*out, []byte(text), 0o644); err != nil {
			return failed(err)
		}
	}
	return status(outcomes)
}

// profiled is the duration of each profile.
const profiled = 5 * time.Second

func failed(err error) int {
	fmt.Fprintln(os.Stderr, "bench:", err)
	return 2
}

func measure(s *servers, chosen []group, e effort) (outcomes []outcome, err error) {
	for _, g := range chosen {
		if g.served {
			if err := s.start(); err != nil {
				return nil, err
			}
		}
		rounds := e.rounds
		if g.rounds > 0 {
			rounds = min(rounds, g.rounds)
		}
		for _, s := range g.scenarios {
			start := time.Now()
			outcomes = append(outcomes, s.run(rounds, e.sample))
			fmt.Fprintf(os.Stderr, "bench: %s: %.1f s\n", s.name, time.Since(start).Seconds())
		}
	}
	return outcomes, nil
}

// status returns the exit status.
func status(outcomes []outcome) int {
	for _, o := range outcomes {
		if slices.ContainsFunc(o.verdicts, verdict.fallsShort) {
			return 1
		}
	}
	return 0
}
