package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/earnorm/poolstack/examples/servers/control"
	"github.com/earnorm/poolstack/middleware"
)

// Parts of manners.

func always(d time.Duration) func(int64) time.Duration {
	return func(int64) time.Duration { return d }
}

// eachThird delays every third reply by late and the others by d.
func eachThird(late, d time.Duration) func(int64) time.Duration {
	return func(n int64) time.Duration {
		if n%3 == 0 {
			return late
		}
		return d
	}
}

// aThird delays a random third of the replies by late and the other replies by d. In a use with
// three commands, eachThird would always delay the same command.
func aThird(late, d time.Duration) func(int64) time.Duration {
	return func(int64) time.Duration {
		if rand.IntN(3) == 0 {
			return late
		}
		return d
	}
}

// some answers a random share of the commands of uses with an error.
func some(share float64, e serverError) func(string) (serverError, bool) {
	return func(string) (serverError, bool) { return e, rand.Float64() < share }
}

// first selects the first n connections.
func first(n int64) func(int64) bool { return func(i int64) bool { return i <= n } }

func every(int64) bool { return true }

// firstForUses selects the first connection for uses. The MongoDB driver's first connection is for
// the driver's monitor.
func firstForUses(mongo bool) func(int64) bool {
	n := int64(1)
	if mongo {
		n++
	}
	return func(i int64) bool { return i == n }
}

// Functions for the mix of a scenario.

func onlyReads(int) kind { return read }

func onlySeveral(int) kind { return several }

// writesMostly returns three writes to two reads.
func writesMostly(i int) kind {
	if i%5 < 3 {
		return write
	}
	return read
}

func halfNested(i int) kind {
	if i%2 == 0 {
		return nested
	}
	return read
}

func missesAndMistakes(i int) kind { return []kind{miss, mistake, miss, mistake, read}[i%5] }

func is(want kind) func(kind) bool { return func(k kind) bool { return k == want } }

// thrice is the number of runs of a short scenario. With three runs, a short disturbance of the
// machine does not decide a gate.
const thrice = 3

// serving returns the scenarios with a working server.
func serving(mongo bool) []scenario {
	all := []scenario{
		cutInFlight(1), cutInFlight(20), cutInFlight(200),
		{
			name: "cold start, four dials fail", about: "200 callers at once; the first four dials are reset.",
			load: load{burst: 200, rate: 50, lasts: 3 * time.Second}, deadlines: []time.Duration{time.Second}, cold: true, size: 10,
			before: func(_ context.Context, s *stage) error { s.behave(manners{reset: first(4)}); return nil },
		},
		{
			name: "proxy restarts, a quarter at a time", about: "A quarter of the connections is cut every 400 ms; replies take 5 ms.",
			load: load{rate: 200, lasts: 4 * time.Second}, deadlines: []time.Duration{time.Second}, play: rolling,
		},
		deadIdle(10), deadIdle(50),
		{
			name: "one dial in a black hole", about: "Of a cold start, the first connection for uses is accepted and never served; all others at once.",
			load: load{rate: 50, lasts: 4 * time.Second}, deadlines: []time.Duration{time.Second}, cold: true, size: 10,
			before: func(_ context.Context, s *stage) error { s.behave(manners{bury: firstForUses(mongo)}); return nil },
		},
		failing(mongo, 0.3), insisting(failing(mongo, 0.6)),
		{
			name: "slow, but in time", about: "Each reply takes 400 ms.",
			load: load{rate: 20, lasts: 5 * time.Second}, deadlines: []time.Duration{time.Second},
			before: func(_ context.Context, s *stage) error {
				s.behave(manners{delay: always(400 * time.Millisecond), far: true})
				return nil
			},
		},
		lateThird("a third of the replies late", 1, mongo, false), lateThird("a third late, callers cancel", 1, mongo, true),
		lateThird("a third late, three commands a use", 3, mongo, false),
		{
			name: "another pool's outage inside of uses", about: "Half of the uses ask a second server too, which is gone. The others count.",
			load: load{rate: 100, lasts: 4 * time.Second}, deadlines: []time.Duration{time.Second}, inner: true, mix: halfNested, servable: is(read),
			before: func(_ context.Context, s *stage) error {
				s.each(func(l *lane) { l.inner.behave(manners{reset: every}); l.inner.cut(1) })
				return nil
			},
		},
		{
			name: "misses and callers' mistakes only", about: "Two in five read nothing, two in five get an error of their own making.",
			load: load{rate: 150, lasts: 3 * time.Second}, deadlines: []time.Duration{time.Second}, mix: missesAndMistakes,
		},
	}
	if mongo {
		all = append(all, noRights())
	} else {
		all = append(all, writesRefused("OOM", outOfMemory), writesRefused("MISCONF", failingSave), writesRefused("READONLY", demoted))
	}
	for i := range all {
		all[i].repeat = thrice
	}
	all = append(all, overload(1.1, 12*time.Second), overload(3, 6*time.Second))
	for i := range all {
		all[i].mongo = mongo
		served := gateServed
		if all[i].drawn {
			served = gateServedByChance
		}
		all[i].gates = append([]gate{served, gateRefused}, all[i].gates...)
	}
	return all
}

// cutInFlight cuts all connections once, with n uses in flight.
func cutInFlight(n int) scenario {
	takes, wait := 200*time.Millisecond, time.Second
	if n > 100 { // so that the load stays light
		takes, wait = time.Second, 3*time.Second
	}
	return scenario{
		name:  fmt.Sprintf("all connections cut, %d in flight", n),
		about: fmt.Sprintf("Replies take %v; all connections are cut once, in mid-load.", takes),
		load:  load{rate: float64(n) / takes.Seconds(), lasts: 2*time.Second + takes}, deadlines: []time.Duration{wait},
		size:   max(n+n/2, sizeDefault),
		before: func(_ context.Context, s *stage) error { s.behave(manners{delay: always(takes)}); return nil },
		play: func(_ context.Context, s *stage) error {
			s.until(takes + time.Second)
			s.each(func(l *lane) { l.proxy.cut(1) })
			return nil
		},
	}
}

func rolling(_ context.Context, s *stage) error {
	s.behave(manners{delay: always(5 * time.Millisecond)})
	for at := 400 * time.Millisecond; at < s.load.lasts; at += 400 * time.Millisecond {
		s.until(at)
		s.each(func(l *lane) { l.proxy.cut(0.25) })
	}
	return nil
}

// deadIdle makes all idle connections silently dead, as a NAT does.
func deadIdle(n int) scenario {
	return scenario{
		name:  fmt.Sprintf("%d idle connections silently dead", n),
		about: "All idle connections are silent from now on; new ones are served at once.",
		load:  load{rate: 50, lasts: 4 * time.Second}, deadlines: []time.Duration{time.Second}, size: n,
		before: func(_ context.Context, s *stage) error {
			time.Sleep(1200 * time.Millisecond) // longer than pools trust an idle connection
			s.each(func(l *lane) { l.proxy.bury() })
			return nil
		},
	}
}

// failing answers a share of the commands with an error at once.
func failing(mongo bool, share float64) scenario {
	e, rate := serverError{text: "LOADING Redis is loading the dataset in memory"}, 400.0
	if mongo {
		// An embedded FerretDB needs more processor time.
		rate = 200
		// HostUnreachable, as from a mongos.
		e = serverError{code: 6, text: "no connection to the shard"}
	}
	return scenario{
		name:  fmt.Sprintf("%.0f %% of commands fail quickly", 100*share),
		about: fmt.Sprintf("Drawn at random, with %q.", e.text),
		load:  load{rate: rate, lasts: 5 * time.Second}, deadlines: []time.Duration{time.Second}, drawn: true,
		before: func(_ context.Context, s *stage) error { s.behave(manners{refuse: some(share, e)}); return nil },
	}
}

// insisting runs the scenario with middleware.Queue, the preset for work that must succeed.
// Frequent failures need more retries than the default budget allows.
func insisting(s scenario) scenario {
	s.name += ", middleware.Queue"
	s.about += " The stack has the preset middleware.Queue, whose retries are not budgeted."
	s.preset = middleware.Queue()
	return s
}

// lateThird makes every third reply later than the callers' deadlines, including greetings. A use
// of several commands has a proportionally longer deadline, and late replies take proportionally
// longer. Each caller has two connections. The reason: a late reply occupies a connection for
// longer than the caller waits. With a single connection per caller, the next caller would wait for
// the previous caller's reply.
func lateThird(name string, commands int, mongo, cancels bool) scenario {
	wait := time.Duration(commands) * 40 * time.Millisecond
	size, mix, delay, which := 16, onlyReads, eachThird, "every third reply takes"
	if commands > 1 {
		size, mix, delay, which = 32, onlySeveral, aThird, "a third of the replies, drawn at random, take"
	}
	late, usual, how := wait*3/2, 10*time.Millisecond, "set a deadline"
	if cancels {
		how = "cancel"
	}
	gates := []gate{gateNoRefusal, gateDials}
	if mongo {
		gates = []gate{gateNoRefusal, gateDialsOfDriver}
	} else if !cancels { // go-redis ignores a cancellation
		gates = append(gates, gateTwice)
	}
	return scenario{
		name: name,
		about: fmt.Sprintf("16 callers %s of %v; %s %v, the others %v. Reads in a use: %d, connections: %d.",
			how, wait, which, late, usual, commands, size),
		load: load{callers: 16, lasts: 5 * time.Second, cancels: cancels}, deadlines: []time.Duration{wait},
		size: size, mix: mix, heedful: true, drawn: commands > 1,
		before: func(_ context.Context, s *stage) error {
			s.behave(manners{delay: delay(late, usual), far: true})
			return nil
		},
		gates: gates,
	}
}

// overload brings more uses than the server can serve. The capacity is ten connections with ten
// replies per second each.
func overload(times float64, lasts time.Duration) scenario {
	const takes, size = 100 * time.Millisecond, 10
	capacity := size / takes.Seconds()
	return scenario{
		name:  fmt.Sprintf("load of %.0f %% of capacity", 100*times),
		about: "Ten connections, and each reply takes 100 ms. Refusals are needless as far as capacity was left.",
		load:  load{rate: times * capacity, lasts: lasts}, deadlines: []time.Duration{500 * time.Millisecond}, size: size, capacity: capacity,
		before: func(_ context.Context, s *stage) error { s.behave(manners{delay: always(takes)}); return nil },
	}
}

// writesRefused makes the server refuse writes and serve reads. Three writes come to two reads, and
// only reads count.
func writesRefused(code string, fault func(ctx context.Context, s *stage, admin *redis.Client) (undo func() error, err error)) scenario {
	var undo func() error
	return scenario{
		name: "writes answered " + code, about: "Three in five uses are writes. Reads count.",
		load: load{rate: 150, lasts: 4 * time.Second}, deadlines: []time.Duration{time.Second}, mix: writesMostly, servable: is(read),
		before: func(ctx context.Context, s *stage) (err error) {
			admin := redis.NewClient(&redis.Options{Addr: s.direct})
			defer admin.Close()
			undo, err = fault(ctx, s, admin)
			return err
		},
		play: func(_ context.Context, s *stage) error {
			s.until(s.load.lasts + s.deadlines[0])
			return undo()
		},
		gates: []gate{gateNoRefusal},
	}
}

// setting changes settings of the server, and returns a function that undoes the change.
func setting(ctx context.Context, s *stage, admin *redis.Client, undo string, changes ...string) (func() error, error) {
	var errs []error
	for _, change := range changes {
		name, value, _ := strings.Cut(change, "=")
		errs = append(errs, admin.ConfigSet(ctx, name, value).Err())
	}
	return func() error {
		c := redis.NewClient(&redis.Options{Addr: s.direct})
		defer c.Close()
		name, value, _ := strings.Cut(undo, "=")
		return c.ConfigSet(ctx, name, value).Err()
	}, errors.Join(errs...)
}

func outOfMemory(ctx context.Context, s *stage, admin *redis.Client) (func() error, error) {
	return setting(ctx, s, admin, "maxmemory=0", "maxmemory-policy=noeviction", "maxmemory=1")
}

// failingSave puts a directory in the place of the server's save file.
func failingSave(ctx context.Context, s *stage, admin *redis.Client) (func() error, error) {
	config, err := admin.ConfigGet(ctx, "d*").Result()
	if err != nil {
		return nil, err
	}
	obstacle := filepath.Join(config["dir"], config["dbfilename"])
	if err := os.RemoveAll(obstacle); err != nil {
		return nil, err
	}
	if err := os.Mkdir(obstacle, 0o700); err != nil {
		return nil, err
	}
	undo, err := setting(ctx, s, admin, "save=", "save=3600 1000000", "stop-writes-on-bgsave-error=yes")
	if err == nil {
		err = admin.BgSave(ctx).Err()
	}
	if err == nil {
		err = info(ctx, admin, "rdb_last_bgsave_status:err")
	}
	return func() error { return errors.Join(undo(), os.RemoveAll(obstacle)) }, err
}

// demoted makes the server a replica of a live primary.
func demoted(ctx context.Context, s *stage, admin *redis.Client) (func() error, error) {
	addr, err := s.second(ctx)
	if err != nil {
		return nil, err
	}
	host, port, _ := strings.Cut(addr, ":")
	primary := redis.NewClient(&redis.Options{Addr: addr})
	defer primary.Close()
	if err := primary.ConfigSet(ctx, "repl-diskless-sync-delay", "0").Err(); err != nil {
		return nil, err
	}
	if err := admin.Do(ctx, "REPLICAOF", host, port).Err(); err != nil {
		return nil, err
	}
	return func() error {
		c := redis.NewClient(&redis.Options{Addr: s.direct})
		defer c.Close()
		return c.Do(ctx, "REPLICAOF", "NO", "ONE").Err()
	}, info(ctx, admin, "master_link_status:up")
}

// info waits until the server's INFO contains line.
func info(ctx context.Context, admin *redis.Client, line string) error {
	for range 100 {
		text, err := admin.Info(ctx, "everything").Result()
		if err == nil && strings.Contains(text, line) {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("%s never said %s", control.Redis, line)
}

// noRights refuses updates, as a server does for a user without write permission.
func noRights() scenario {
	e := serverError{code: 13, text: "not authorized on judge to execute command"}
	return scenario{
		name: "one collection without rights", about: "Three in five uses update a collection and are answered \"not authorized\". Reads count.",
		load: load{rate: 150, lasts: 4 * time.Second}, deadlines: []time.Duration{time.Second}, mix: writesMostly, servable: is(read),
		before: func(_ context.Context, s *stage) error {
			s.behave(manners{refuse: func(name string) (serverError, bool) { return e, name == "update" }})
			return nil
		},
		gates: []gate{gateNoRefusal},
	}
}
