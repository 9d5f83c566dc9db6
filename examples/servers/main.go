// Servers runs a program with a real Redis and a real MongoDB server, each behind a proxy that can make the network misbehave:
//
//	servers [-redis auto|redis-server|miniredis | -remote] [-v] [--] CMD ARGS...
//
// CMD finds them by REDIS_URL, MONGODB_URI and TOXIPROXY_URL; SERVERS_URL is for package control, with which it can stop, kill, freeze
// and revive them. When CMD ends, so do the servers, and its exit status becomes that of servers: 128 plus the number if a signal ended
// it, as a shell says it. Without CMD, servers prints the variables as export lines and runs until SIGINT or SIGTERM.
//
// With -remote it starts no servers but stands before those that REDIS_URL and MONGODB_URI lead to: CMD finds the proxies in their place,
// and a server is cut off rather than killed, and kept from hearing anything rather than frozen; see local.Remote.
//
// SIGINT, SIGTERM, SIGHUP and the end of the parent process are passed on to CMD, which then has ten seconds to end before it is killed.
//
// Exit statuses of its own: 2 for wrong flags, 125 when the servers did not start, 126 when CMD cannot be run, 127 when there is no CMD
// of that name.
//
// # Why the servers are what they are
//
// MongoDB is FerretDB on SQLite, linked into this program; Redis is redis-server from PATH, else miniredis, linked in too. So the
// program needs nothing installed. With redis-server the Redis side is the real thing and keeps its data over a kill.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/earnorm/poolstack/examples/servers/control"
	"github.com/earnorm/poolstack/examples/servers/local"
)

// Exit statuses besides CMD's own; the last three as env(1) and timeout(1) use them.
const (
	exitUsage      = 2
	exitNoServers  = 125
	exitCannotRun  = 126
	exitNoSuchFile = 127
	exitSignal     = 128 // plus the signal's number
)

func main() {
	local.Child()
	signals := make(chan os.Signal, 1) // the first one counts
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go watchParent(signals)
	os.Exit(run(os.Args[1:], signals))
}

// run is the whole program; it returns the exit status.
func run(args []string, signals <-chan os.Signal) int {
	launch, command, err := parse(args, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return exitUsage
	}
	var cmd *exec.Cmd
	if len(command) > 0 {
		cmd = exec.Command(command[0], command[1:]...)
		if cmd.Err != nil { // known before anything is started
			return complain(cmd.Err, notRunnable(cmd.Err))
		}
	}

	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	go func() { cancel(stopped{<-signals}) }()

	servers, err := launch(ctx)
	if err != nil {
		if by, ok := errors.AsType[stopped](context.Cause(ctx)); ok {
			return by.status()
		}
		return complain(err, exitNoServers)
	}
	status := serve(ctx, servers, cmd)
	if err := servers.Close(); err != nil {
		complain(err, status)
	}
	return status
}

// A backing is what CMD runs on: local.Servers or local.Remote.
type backing interface {
	Env() []string
	Guard(pid int) (forget func())
	Close() error
}

// A launcher starts it. The context bounds the start only.
type launcher func(ctx context.Context) (backing, error)

// serve runs cmd, or waits for a signal when there is none.
func serve(ctx context.Context, servers backing, cmd *exec.Cmd) int {
	if cmd == nil {
		for _, variable := range servers.Env() {
			fmt.Println("export", variable)
		}
		<-ctx.Done()
		return 0
	}
	cmd.Env = append(os.Environ(), servers.Env()...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	status, err := runCommand(ctx, cmd, servers.Guard)
	if err != nil {
		return complain(err, notRunnable(err))
	}
	return status
}

// stopped is the cause of a context that a signal ended.
type stopped struct{ by os.Signal }

func (s stopped) Error() string { return "stopped by " + s.by.String() }

func (s stopped) status() int { return exitSignal + int(s.by.(syscall.Signal)) }

// parse reads the command line. It reports what is wrong with it to out itself.
func parse(args []string, out io.Writer) (launcher, []string, error) {
	var opts local.Options
	flags := flag.NewFlagSet("servers", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.Usage = func() {
		fmt.Fprintln(out, "usage: servers [flags] [--] CMD ARGS...\n"+
			"Runs CMD with REDIS_URL, MONGODB_URI, TOXIPROXY_URL and SERVERS_URL set; without CMD prints them and waits for a signal.")
		flags.PrintDefaults()
	}
	flags.StringVar(&opts.Redis, "redis", "",
		"which Redis: redis-server (from PATH), miniredis (in memory, loses its data when killed) or auto (redis-server if there is one)"+
			" (default auto)")
	remote := flags.Bool("remote", false, "start no servers, but stand before those at REDIS_URL and MONGODB_URI")
	verbose := flags.Bool("v", false, "print the servers' logs to stderr")
	if err := flags.Parse(args); err != nil {
		return nil, nil, err
	}
	if err := opts.Validate(); err != nil {
		complain(fmt.Errorf("-redis: %w", err), exitUsage)
		return nil, nil, err
	}
	if *remote && opts.Redis != "" {
		err := fmt.Errorf("-redis is %q: must not be set with -remote, which starts no Redis", opts.Redis)
		complain(err, exitUsage)
		return nil, nil, err
	}
	if *verbose {
		opts.Log = os.Stderr
	}
	if *remote {
		return standBefore(opts.Log), flags.Args(), nil
	}
	return func(ctx context.Context) (backing, error) { return local.Start(ctx, opts) }, flags.Args(), nil
}

// standBefore launches proxies to the servers that the environment names.
func standBefore(log io.Writer) launcher {
	return func(context.Context) (backing, error) {
		return local.StartRemote(os.Getenv(control.EnvRedis), os.Getenv(control.EnvMongoDB), log)
	}
}

// notRunnable is the exit status for a command that could not be started.
func notRunnable(err error) int {
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		return exitNoSuchFile
	}
	return exitCannotRun
}

func complain(err error, status int) int {
	fmt.Fprintln(os.Stderr, "servers:", err)
	return status
}

// watchParent reports the end of the parent process as a SIGTERM. It looks at the parent's id, which changes when somebody else adopts
// this process. (Linux could send a signal instead, but does so already when the parent's thread ends that started this process.)
func watchParent(signals chan<- os.Signal) {
	const often = 200 * time.Millisecond
	for parent := os.Getppid(); ; time.Sleep(often) {
		if os.Getppid() != parent {
			signals <- syscall.SIGTERM
			return
		}
	}
}
