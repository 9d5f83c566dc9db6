package local

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/FerretDB/FerretDB/ferretdb"
	"github.com/alicebob/miniredis/v2"

	"github.com/earnorm/poolstack/examples/servers/control"
)

// roleEnv names the environment variable that makes this program one of the processes that Start needs.
const roleEnv = "POOLSTACK_SERVERS_ROLE"

// roleWarden is the role of the process that cleans up; the other roles are kinds of server.
const roleWarden = "warden"

// childCalled keeps Start from executing a program again that would not notice what it is executed for.
var childCalled atomic.Bool

// Child must be the first thing that main, or TestMain, of a program that uses Start does. In the program itself it returns at once;
// in one of the processes that Start makes of the program it serves, and never returns.
func Child() {
	childCalled.Store(true)
	role := os.Getenv(roleEnv)
	if role == "" {
		return
	}
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP) // the parent decides when it is over
	if err := runChild(role, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func runChild(role string, args []string) error {
	flags := flag.NewFlagSet(role, flag.ContinueOnError)
	listen := flags.String("listen", "", "address to listen on")
	verbose := flags.Bool("verbose", false, "log to stderr")
	dir := flags.String("dir", "", "directory to remove in the end")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if role == roleWarden {
		signal.Ignore(syscall.SIGTERM)
		return keepWatch(os.Stdin, *dir)
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // the lifeline
		os.Exit(1)
	}()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	switch role {
	case control.KindFerretDB:
		return serveFerretDB(ctx, *listen, *verbose)
	case control.KindMiniredis:
		return serveMiniredis(ctx, *listen)
	default:
		return fmt.Errorf("%s is %q, which is no role", roleEnv, role)
	}
}

// serveFerretDB serves MongoDB's wire protocol until ctx ends, and its data from the current directory. FerretDB's package for
// embedding creates no telemetry reporter, so nothing is reported to anybody.
func serveFerretDB(ctx context.Context, listen string, verbose bool) error {
	logger := slog.New(slog.DiscardHandler)
	if verbose {
		logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	f, err := ferretdb.New(&ferretdb.Config{
		Listener:  ferretdb.ListenerConfig{TCP: listen},
		Logger:    logger,
		Handler:   "sqlite",
		SQLiteURL: "file:./",
	})
	if err != nil {
		return err
	}
	fmt.Println(readyLine)
	return f.Run(ctx)
}

// serveMiniredis serves Redis' protocol from memory until ctx ends. Left alone miniredis never lets a key expire, so time is moved.
func serveMiniredis(ctx context.Context, listen string) error {
	m := miniredis.NewMiniRedis()
	if err := m.StartAddr(listen); err != nil {
		return err
	}
	defer m.Close()
	fmt.Println(readyLine)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for last := time.Now(); ; {
		select {
		case now := <-tick.C:
			m.FastForward(now.Sub(last))
			last = now
		case <-ctx.Done():
			return nil
		}
	}
}
