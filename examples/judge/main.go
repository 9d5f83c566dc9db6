// Command judge runs poolstack's default stack beside the bare clients, against a real Redis and a
// real MongoDB server. Meanwhile faults of the servers and of the network occur. The command checks
// the gates of the stack.
//
//	judge [-only groups] [-run regexp] [-out file] [-readme file]
//
// The command writes the tables to standard output, to the file of -out, and to the file of -readme
// between the markers. The exit status is 1 if a gate falls short, and 2 after invalid flags or a
// failure. redis-server must be on PATH. All servers and proxies listen on loopback only, and the
// command stops them in the end.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/earnorm/poolstack/examples/servers/local"
)

func main() {
	local.Child()
	redis.SetLogger(quiet{})
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	status := execute(ctx)
	stop()
	os.Exit(status)
}

// A group is a set of scenarios, selectable by name.
type group struct {
	name      string
	scenarios []scenario
	together  bool // run concurrently, each on its own servers: the scenarios mostly wait
}

func groups() []group {
	return []group{
		{name: "redis", scenarios: serving(false)},
		{name: "mongodb", scenarios: serving(true)},
		{name: "redis-outages", scenarios: outages(false), together: true},
		{name: "mongodb-outages", scenarios: outages(true), together: true},
		{name: "short-outages", scenarios: shortOutages(), together: true},
		{name: "long-outages", scenarios: longOutages(), together: true},
	}
}

// choose returns the groups named in list, with the scenarios whose titles match. An empty list
// means all groups.
func choose(all []group, list string, match *regexp.Regexp) ([]group, error) {
	var names []string
	for _, g := range all {
		names = append(names, g.name)
	}
	wanted := strings.FieldsFunc(list, func(r rune) bool { return r == ',' })
	for _, name := range wanted {
		if !slices.Contains(names, name) {
			return nil, fmt.Errorf("-only names %q: must be among %s", name, strings.Join(names, ", "))
		}
	}
	var left []group
	for _, g := range all {
		g.scenarios = slices.DeleteFunc(g.scenarios, func(s scenario) bool { return !match.MatchString(s.title()) })
		if len(g.scenarios) > 0 && (len(wanted) == 0 || slices.Contains(wanted, g.name)) {
			left = append(left, g)
		}
	}
	return left, nil
}

func execute(ctx context.Context) int {
	only := flag.String("only", "", "only these `groups`, separated by commas")
	match := flag.String("run", "", "only the scenarios whose titles match this `regexp`, such as \"redis: killed\"")
	out := flag.String("out", "", "write the tables to this `file` as well")
	readme := flag.String("readme", "", "write the tables between the markers of this `file` as well")
	flag.BoolVar(&explain, "errors", false, "print the errors that uses ended with")
	repeat := flag.Int("repeat", 0, "run each scenario this `often`; 0: as often as it says")
	flag.Parse()
	pattern, err := regexp.Compile(*match)
	if err == nil && flag.NArg() > 0 {
		err = fmt.Errorf("arguments that nothing is known of: %q", flag.Args())
	}
	var chosen []group
	if err == nil {
		chosen, err = choose(groups(), *only, pattern)
	}
	if err != nil {
		return complain(err)
	}
	start := time.Now()
	rows, err := measure(ctx, chosen, *repeat)
	if err != nil {
		return complain(err)
	}
	fmt.Fprintf(os.Stderr, "judge: all of it: %.0f s\n", time.Since(start).Seconds())
	return publish(rows, *out, *readme)
}

func complain(err error) int {
	fmt.Fprintln(os.Stderr, "judge:", err)
	return 2
}

// measure runs all scenarios.
func measure(ctx context.Context, chosen []group, repeat int) (_ []row, err error) {
	h := &hosts{}
	defer func() { err = errors.Join(err, h.close()) }()
	var all []row
	for _, g := range chosen {
		rows := make([][]row, len(g.scenarios))
		errs := make([]error, len(g.scenarios))
		var work sync.WaitGroup
		for i, s := range g.scenarios {
			if repeat > 0 {
				s.repeat = repeat
			}
			run := func() {
				start := time.Now()
				rows[i], errs[i] = s.measure(ctx, h)
				short := 0
				for _, r := range rows[i] {
					short += len(r.short())
				}
				fmt.Fprintf(os.Stderr, "judge: %s: %.1f s, gates that fall short: %d\n", s.title(), time.Since(start).Seconds(), short)
			}
			if g.together {
				work.Go(run)
			} else {
				run()
			}
		}
		work.Wait()
		if err := errors.Join(errs...); err != nil {
			return nil, err
		}
		all = append(all, slices.Concat(rows...)...)
	}
	return all, nil
}

// title returns the names of the server and the scenario.
func (sc scenario) title() string {
	if sc.mongo {
		return "mongodb: " + sc.name
	}
	return "redis: " + sc.name
}

// measure runs the scenario the configured number of times.
func (sc scenario) measure(ctx context.Context, h *hosts) ([]row, error) {
	runs := map[time.Duration][]run{}
	for range max(1, sc.repeat) {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		r, err := sc.run(ctx, h)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", sc.title(), err)
		}
		for deadline, figures := range r {
			runs[deadline] = append(runs[deadline], figures)
		}
	}
	var rows []row
	for _, deadline := range sc.deadlines {
		rows = append(rows, newRow(sc, deadline, runs[deadline]))
	}
	return rows, nil
}

// publish writes the tables and returns the exit status.
func publish(rows []row, out, readme string) int {
	text := report(rows)
	fmt.Print(text)
	if out != "" {
		if err := os.WriteFile(out, []byte(text), 0o644); err != nil {
			return complain(err)
		}
	}
	if readme != "" {
		page, err := os.ReadFile(readme)
		if err == nil {
			page, err = between(page, summary(rows))
		}
		if err == nil {
			err = os.WriteFile(readme, page, 0o644)
		}
		if err != nil {
			return complain(err)
		}
	}
	return status(rows)
}

// status prints the gates that fall short and returns the exit status.
func status(rows []row) (status int) {
	for _, r := range rows {
		for _, v := range r.short() {
			fmt.Fprintf(os.Stderr, "judge: %s, callers of %v: falls short: %v\n", r.title(), r.deadline, v)
			status = 1
		}
	}
	return status
}
