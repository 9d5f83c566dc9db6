// Command generate writes the alert rules, the runbook and the dashboards for the given parameters:
//
//	go run github.com/earnorm/poolstack/telemetry/generate \
//		-objective 99.95 -runbooks https://wiki.example.com/poolstack -out DIR
//
// The command writes DIR/rules/*.yaml, DIR/rules/RUNBOOK.md and DIR/dashboards/*.json. It
// overwrites these files and leaves other files alone. The defaults write the files of this
// repository.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/earnorm/poolstack/telemetry/dashboards"
	"github.com/earnorm/poolstack/telemetry/rules"
)

//go:generate go run . -out ..

func main() {
	err := run(os.Args[1:], os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

// run runs the program with args. Usage and flag errors go to stderr.
func run(args []string, stderr io.Writer) error {
	cfg, out, err := parse(args, stderr)
	if err != nil {
		return err
	}
	r, err := rules.New(cfg)
	if err != nil {
		return err
	}
	d, err := dashboards.New(dashboards.Config{Objective: cfg.Objective})
	if err != nil {
		return err
	}
	return errors.Join(write(filepath.Join(out, "rules"), r.Files()), write(filepath.Join(out, "dashboards"), d.Files()))
}

func parse(args []string, stderr io.Writer) (cfg rules.Config, out string, err error) {
	flags := flag.NewFlagSet("generate", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&out, "out", ".", "write below this `directory`")
	flags.Float64Var(&cfg.Objective, "objective", rules.DefaultObjective, "how many `percent` of the uses are to be good, over 30 days")
	flags.StringVar(&cfg.Runbooks, "runbooks", rules.DefaultRunbooks, "`address` of the page with the runbook's paragraphs")
	labels := flags.String("labels", "job,instance", "tell everything apart by these `labels`, besides the pool")
	flags.DurationVar(&cfg.For, "for", 0, "how long waits, timeouts, utilisation and old leases must last (default 5m)")
	flags.DurationVar(&cfg.BreakerFor, "breaker-for", 0, "how long a breaker must be open (default 1m)")
	flags.DurationVar(&cfg.AbsentFor, "absent-for", 0, "how long nothing must have been reported (default 5m)")
	flags.DurationVar(&cfg.KeepFiring, "keep-firing", 0, "how long alerts of breakers and budgets outlast their condition (default 5m)")
	flags.DurationVar(&cfg.LeaseAge, "lease-age", 0, "how long a lease may last (default 1h)")
	flags.IntVar(&cfg.MinErrors, "min-errors", 0, "bad uses that an alert of the error budget takes (default 10)")
	if err := flags.Parse(args); err != nil {
		return cfg, "", err
	}
	if flags.NArg() > 0 {
		return cfg, "", fmt.Errorf("%q is not a flag: there are no arguments", flags.Arg(0))
	}
	if cfg.Objective == 0 { // 0 means the default in a Config, but is a mistake as a flag
		return cfg, "", errors.New("-objective is 0: must be from 94 up to, but not, 100")
	}
	cfg.Labels = []string{}
	for l := range strings.SplitSeq(*labels, ",") {
		if l = strings.TrimSpace(l); l != "" {
			cfg.Labels = append(cfg.Labels, l)
		}
	}
	return cfg, out, nil
}

// write writes the files to dir, and creates dir if necessary.
func write(dir string, files map[string][]byte) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // readable, as sources
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil { //nolint:gosec // same
			return err
		}
	}
	return nil
}
