// Command bench compares poolstack with what one would pick instead, side by side in one process, and holds it to its gates.
//
//	bench [-quick] [-run regexp] [-out file]
//
// The table goes to standard output, and to the file if there is one. The exit status is 1 when a gate falls short, 2 when the program
// was called wrongly or failed.
package main

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"runtime/pprof"
	"slices"
	"time"
)

func main() { os.Exit(run()) }

// How much is measured.
type effort struct {
	rounds int
	sample time.Duration
}

var (
	full  = effort{rounds: 40, sample: 25 * time.Millisecond}
	quick = effort{rounds: 8, sample: 12 * time.Millisecond}
)

func run() int {
	briefly := flag.Bool("quick", false, "take few and short samples (half a minute)")
	match := flag.String("run", "", "only the scenarios whose names match this `regexp`")
	out := flag.String("out", "", "write the table to this `file` as well")
	profile := flag.String("cpuprofile", "", "write a CPU profile to this `file`")
	flag.Parse()
	pattern, err := regexp.Compile(*match)
	if err != nil || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "bench: called wrongly:", err, flag.Args())
		return 2
	}
	stop, err := startProfile(*profile)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 2
	}
	defer stop()

	e, before := full, load()
	if *briefly {
		e = quick
	}
	var outcomes []outcome
	for _, s := range scenarios() {
		if pattern.MatchString(s.name) {
			start := time.Now()
			outcomes = append(outcomes, s.run(e.rounds, e.sample))
			fmt.Fprintf(os.Stderr, "bench: %s: %.1f s\n", s.name, time.Since(start).Seconds())
		}
	}
	about := fmt.Sprintf("%s- %d rounds, samples of %v\n%s", machine(), e.rounds, e.sample, busy(before))
	text := report(about, outcomes)
	fmt.Print(text)
	if *out != "" {
		if err := os.WriteFile(*out, []byte(text), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			return 2
		}
	}
	return status(outcomes)
}

// status is the exit status.
func status(outcomes []outcome) int {
	for _, o := range outcomes {
		if slices.ContainsFunc(o.verdicts, verdict.fallsShort) {
			return 1
		}
	}
	return 0
}

func scenarios() []scenario {
	return slices.Concat(acquireScenarios(), growthScenarios(), resilienceScenarios())
}

// startProfile profiles into the file named, if any, until stop is called.
func startProfile(name string) (stop func(), err error) {
	if name == "" {
		return func() {}, nil
	}
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	return func() { pprof.StopCPUProfile(); _ = f.Close() }, nil
}
