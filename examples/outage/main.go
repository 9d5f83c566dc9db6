// Outage is the demo of poolstack: two pools, of connections to Redis and to MongoDB, under steady load while their servers are slow,
// cut connections, are killed, freeze, and come back. The same load runs beside it through bare clients with their default options, at
// the same time and through the same proxies, so that both meet the same faults. It needs `servers`, which starts the servers, the
// proxies and this program:
//
//	servers -- outage [-duration 1m] [-rate 200] [-seed 1] [-metrics 127.0.0.1:9464] [-log FILE] [-page outage.html] [-replica-set] [-repeat]
//
// In a terminal it shows a table of what goes on; elsewhere it prints a line a second. /metrics for Prometheus is served meanwhile,
// and spans and metrics are sent by OTLP if OTEL_EXPORTER_OTLP_ENDPOINT says where to. In the end it reports what was done to the
// servers, what each layer made of it, how the bare clients fared, and whether the stack's invariants held: that no acknowledged write
// was lost, that no operation was carried out twice which must not be, that every pool was whole again two seconds after its server's
// return, that every operation ended by its deadline with success or an error that says what it is, and that nothing is left behind.
//
// The same, and what the lanes did over time with the faults shaded, it draws in a page: outage.html in the directory it is run in,
// unless -page says otherwise.
//
// With -replica-set MongoDB is a replica set of three, by a double before the server (package replicaset). Instead of a server that freezes and is
// killed, the primary steps down, and the primary is killed; each time another member is elected.
//
// With -repeat it is played again and again, each time with the next seed, until a signal ends it; that is for the service in
// docker-compose.yml, whose probe is `outage -health`: it asks /healthz, beside /metrics, whether the load runs.
//
// The exit status is 0 if they held, 1 if one did not, 2 if it could not be played (wrong flags, no servers), and 130 after Ctrl-C.
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

// run is the whole program; it returns the exit status.
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

// playOn performs as often as the configuration says. Of several plays the last one's status counts: what broke in earlier ones has been
// reported, and only a signal, or a play that was not possible, ends them.
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

// perform plays the script and reports to out; notes gets what deserves to be said besides. The error is why it could not be played.
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
			fmt.Fprintln(notes, "outage: the page was not written:", err) // what the run has shown is no less true
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

// playAndClose makes a play, performs it, collects its result, and gives everything back.
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

// logFile opens the file for the stack's log; it returns nil when there is to be none.
func logFile(name string) (io.Writer, error) {
	if name == "" {
		return nil, nil
	}
	return os.Create(name)
}
