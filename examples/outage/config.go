package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/earnorm/poolstack/examples/servers/control"
)

// The bounds of what can be asked for. A shorter run leaves no time to recover between two faults.
const (
	minDuration = 15 * time.Second
	maxDuration = time.Hour
	maxRate     = 1000
)

// metricsOff is the value of -metrics that serves none.
const metricsOff = "off"

// config is what the command line says.
type config struct {
	duration time.Duration
	rate     int    // operations a second on Redis, of each side; see rateOn
	seed     uint64 // of the script's times and of the mix of operations
	metrics  string // host:port on loopback, or metricsOff
	logFile  string // where the stack's log goes; "" for nowhere
	page     string // where the page that draws the run goes; "" for nowhere
	repeat   bool   // play again and again
	set      bool   // MongoDB is a replica set, and plays elections
	health   bool   // play nothing: ask another process, at metrics, whether it plays

	// What the invariants allow. Only tests, which share the machine with others, set more than the default.
	recovery time.Duration // from a server's return until its pool is whole again
	grace    time.Duration // that an operation may take beyond its deadline
}

// The defaults of what the invariants allow. A machine has other things to do as well.
const (
	defaultRecovery = 2 * time.Second
	defaultGrace    = 500 * time.Millisecond
)

// parse reads the command line. What is wrong with it has been printed to stderr when it returns an error.
func parse(args []string, stderr io.Writer) (config, error) {
	c := config{recovery: defaultRecovery, grace: defaultGrace}
	flags := flag.NewFlagSet("outage", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.DurationVar(&c.duration, "duration", time.Minute, "how long the load lasts; the script of faults is scaled to it")
	flags.IntVar(&c.rate, "rate", 200, "operations a second on Redis, of the stack and of the bare client each; on MongoDB an eighth of it")
	flags.Uint64Var(&c.seed, "seed", 1, "what the script's times and the mix of operations are drawn from")
	flags.StringVar(&c.metrics, "metrics", "127.0.0.1:9464", "loopback `address` of /metrics for Prometheus, or off")
	flags.StringVar(&c.logFile, "log", "", "`file` for the stack's log, in JSON; the report sums it up in any case")
	flags.StringVar(&c.page, "page", "outage.html", "`file` for the page that draws the run, written when it is over; empty for none")
	flags.BoolVar(&c.repeat, "repeat", false, "play again and again, each time with the next seed, until a signal ends it")
	flags.BoolVar(&c.set, "replica-set", false,
		"put a double of a replica set before MongoDB; its primary steps down, and is killed, where else the server freezes and is killed")
	flags.BoolVar(&c.health, "health", false, "play nothing, but ask the outage that serves -metrics whether its load runs: exit status 0 if so")
	if err := flags.Parse(args); err != nil {
		return c, err
	}
	err := c.validate()
	if flags.NArg() > 0 {
		err = errors.Join(err, fmt.Errorf("%q: there are no arguments besides flags", flags.Args()))
	}
	if err != nil {
		fmt.Fprintf(stderr, "%v\n", err)
	}
	return c, err
}

// acts are those to play.
func (c config) acts() []act {
	if c.set {
		return setActs
	}
	return acts
}

// rateOn is how many operations a second a server gets from each side. The MongoDB server is an embedded one on SQLite: with as many as
// Redis takes, what the bare client has piled up during an outage would keep it busy for longer than the outage lasted.
func (c config) rateOn(server string) int {
	if server == control.MongoDB {
		return max(1, c.rate/8)
	}
	return c.rate
}

// validate names every flag that is out of range, its value and what is allowed.
func (c config) validate() error {
	var errs []error
	if c.duration < minDuration || c.duration > maxDuration {
		errs = append(errs, fmt.Errorf("-duration is %v: must be between %v and %v", c.duration, minDuration, maxDuration))
	}
	if c.rate < 1 || c.rate > maxRate {
		errs = append(errs, fmt.Errorf("-rate is %d: must be between 1 and %d", c.rate, maxRate))
	}
	if c.metrics != metricsOff && !onLoopback(c.metrics) {
		errs = append(errs, fmt.Errorf("-metrics is %q: must be off, or a port on loopback such as 127.0.0.1:9464", c.metrics))
	}
	if c.health && c.metrics == metricsOff {
		errs = append(errs, errors.New("-metrics is off: must be an address with -health, which asks there"))
	}
	if c.page != "" && (!isDir(filepath.Dir(c.page)) || isDir(c.page)) {
		errs = append(errs, fmt.Errorf("-page is %q: must be a file in a directory that exists, or empty", c.page))
	}
	return errors.Join(errs...)
}

func isDir(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}

// onLoopback says whether address is a port that only this machine can reach.
func onLoopback(address string) bool {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if n, err := net.LookupPort("tcp", port); err != nil || n < 0 || n > math.MaxUint16 {
		return false
	}
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}
