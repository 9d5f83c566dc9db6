// Outage is the demo of poolstack. It runs a pool of Redis connections and a pool of MongoDB
// connections under steady load. Meanwhile the servers are slow, cut connections, are killed,
// freeze, and return. Bare clients with their default options run the same load at the same time
// and through the same proxies, so both sides meet the same faults. The command `servers` starts
// the servers, the proxies and this program:
//
//	servers -- outage [-duration 1m] [-rate 200] [-seed 1] [-metrics 127.0.0.1:9464] [-log FILE]
//		[-page outage.html] [-replica-set] [-repeat]
//
// In a terminal the program shows a live table. Elsewhere it prints a line each second. It serves
// /metrics for Prometheus during the run. If OTEL_EXPORTER_OTLP_ENDPOINT is set, it sends spans and
// metrics over OTLP.
//
// In the end the program reports the faults, the work of each layer, the results of the bare
// clients, and whether the invariants of the stack held:
//
//   - No acknowledged write was lost.
//   - No operation that is not idempotent was executed twice.
//   - Every pool recovered within two seconds after its server's return.
//   - Every operation ended by its deadline, with success or with a self-explanatory error.
//   - No goroutine and no socket remains.
//
// The program also writes a page with the report, and with charts of the lanes over time and the
// faults shaded. The page is outage.html in the working directory, unless the flag -page names
// another file.
//
// With -replica-set MongoDB is a replica set of three members, simulated by a double in front of
// the server (package replicaset). Instead of a frozen and a killed server, the primary steps down
// and the primary is killed. Each time another member is elected.
//
// With -repeat the program plays repeatedly, each time with the next seed, until a signal ends the
// program. The service in docker-compose.yml uses -repeat. Its probe is `outage -health`, which
// asks /healthz, beside /metrics, whether the load is running.
//
// The exit status is:
//
//	0      the invariants held
//	1      an invariant did not hold
//	2      the run was not possible (invalid flags, no servers)
//	130    after Ctrl-C
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// The exit statuses.
const (
	exitHeld        = 0
	exitBroken      = 1
	exitNotPlayed   = 2
	exitInterrupted = 130
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	go func() {
		<-ctx.Done()
		stop() // a second signal ends the program at once
	}()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run runs the program and returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cfg, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitHeld
	case err != nil:
		return exitNotPlayed
	}
	if cfg.health {
		if err := probe(ctx, cfg.metrics); err != nil {
			fmt.Fprintln(stderr, "outage:", err)
			return exitBroken
		}
		return exitHeld
	}
	return playOn(ctx, cfg, stdout, stderr)
}

// playOn plays once, or repeatedly with -repeat. Repeated plays end with a signal, or with a play
// that was not possible. The status is from the last play. Broken invariants of earlier plays have
// already been reported.
func playOn(ctx context.Context, cfg config, out, notes io.Writer) int {
	for {
		status, err := perform(ctx, cfg, plan(cfg.duration, cfg.seed, cfg.acts()), out, notes)
		if err != nil {
			fmt.Fprintln(notes, "outage:", err)
		}
		switch {
		case !cfg.repeat || err != nil:
			return status
		case ctx.Err() != nil:
			return exitInterrupted
		}
		cfg.seed++
	}
}

// perform plays the script and reports to out. Notes beside the report go to notes. The error says
// why the play was not possible.
func perform(ctx context.Context, cfg config, script []fault, out, notes io.Writer) (status int, err error) {
	before := countLeftovers()
	file, err := logFile(cfg.logFile)
	if err != nil {
		return exitNotPlayed, err
	}
	r, err := playAndClose(ctx, cfg, script, newLogbook(file), out, notes)
	if c, ok := file.(io.Closer); ok {
		err = errors.Join(err, c.Close())
	}
	if err != nil {
		return exitNotPlayed, err
	}
	r.before, r.after = before, awaitLeftovers(before)
	invariants := judge(r)
	report(out, r, invariants)
	if cfg.page != "" {
		if err := writePage(cfg.page, r, invariants); err != nil {
			fmt.Fprintln(notes, "outage: the page was not written:", err) // the results are still valid
		} else {
			fmt.Fprintf(out, "\nDrawn in %s\n", cfg.page)
		}
	}
	switch {
	case r.interrupted:
		return exitInterrupted, nil
	case broken(invariants):
		return exitBroken, nil
	}
	return exitHeld, nil
}

// playAndClose creates a play, performs the play, collects the result, and closes the play.
func playAndClose(ctx context.Context, cfg config, script []fault, book *logbook, out, notes io.Writer) (r result, err error) {
	p, err := newPlay(ctx, cfg, script, book)
	if err != nil {
		return r, err
	}
	defer func() {
		var unsent error
		if r.closing, unsent = p.close(ctx); unsent != nil {
			fmt.Fprintln(notes, "outage: not all spans and metrics could be sent:", unsent)
		}
	}()
	if p.metrics.note != "" {
		fmt.Fprintln(notes, "outage:", p.metrics.note)
	}
	if err := p.perform(ctx, newViewer(out, p)); err != nil {
		return r, err
	}
	return p.result(context.WithoutCancel(ctx))
}

// logFile creates the file for the stack's log. It returns nil for an empty name.
func logFile(name string) (io.Writer, error) {
	if name == "" {
		return nil, nil
	}
	return os.Create(name)
}
