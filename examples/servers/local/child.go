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

// roleEnv is the environment variable with the role of a child process started by Start.
const roleEnv = "POOLSTACK_SERVERS_ROLE"

// roleWarden is the role of the process that cleans up. The other roles are kinds of servers.
const roleWarden = "warden"

// childCalled is true after a call of Child. Start executes the program again only if the program
// calls Child.
var childCalled atomic.Bool

// Child must be the first call in main, or in TestMain, of a program that uses Start. In the
// program itself Child returns at once. In a child process started by Start, Child serves the role
// of the child and never returns.
func Child() {
	childCalled.Store(true)
	role := os.Getenv(roleEnv)
	if role == "" {
		return
	}
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP) // the parent decides when to end
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
		_, _ = io.Copy(io.Discard, os.Stdin) // the lifeline: a read ends when the parent dies
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

// serveFerretDB serves the MongoDB protocol until ctx ends, with its data in the current directory.
// FerretDB's package for embedding creates no telemetry reporter, so FerretDB reports nothing.
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

// serveMiniredis serves the Redis protocol from memory until ctx ends. The time of miniredis does
// not advance by itself, so serveMiniredis advances the time. Otherwise no key would expire.
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
