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

// The bounds of the flags. A shorter run leaves no time for recovery between two faults.
const (
	minDuration = 15 * time.Second
	maxDuration = time.Hour
	maxRate     = 1000
)

// metricsOff is the value of -metrics for no metrics server.
const metricsOff = "off"

// config holds the values of the flags.
type config struct {
	duration time.Duration
	rate     int    // operations a second on Redis, for each side; see rateOn
	seed     uint64 // for the times of the script and for the mix of operations
	metrics  string // host:port on loopback, or metricsOff
	logFile  string // file for the stack's log; "" for none
	page     string // file for the page with the charts; "" for none
	repeat   bool   // play repeatedly
	set      bool   // MongoDB is a replica set, and the script has elections
	health   bool   // play nothing: ask the process at metrics whether it plays

	// The bounds of the invariants. Only tests set more than the default, because tests share the
	// machine with other tests.
	recovery time.Duration // from a server's return until its pool has recovered
	grace    time.Duration // allowed time of an operation after its deadline
}

// The default bounds of the invariants. They leave time for other work of the machine.
const (
	defaultRecovery = 2 * time.Second
	defaultGrace    = 500 * time.Millisecond
)

// parse parses the command line. If parse returns an error, it has already printed the error to
// stderr.
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

// acts returns the acts of the script.
func (c config) acts() []act {
	if c.set {
		return setActs
	}
	return acts
}

// rateOn returns the operations per second on a server, for each side. MongoDB gets fewer
// operations than Redis, because the server is an embedded FerretDB on SQLite. At the rate of
// Redis, the bare client's backlog from an outage would keep the server busy for longer than the
// outage.
func (c config) rateOn(server string) int {
	if server == control.MongoDB {
		return max(1, c.rate/8)
	}
	return c.rate
}

// validate returns nil, or an error with every invalid flag, its value and the allowed values.
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

// onLoopback reports whether address is a port on a loopback address.
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
