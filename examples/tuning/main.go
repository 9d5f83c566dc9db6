// Tuning shows the effect of a breaker's settings. The program puts a pool under load while its
// server fails, and changes the settings between the trials. The server is a fake in this process.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/earnorm/poolstack/middleware"
	"github.com/earnorm/poolstack/middleware/breaker"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "tuning:", err)
		os.Exit(1)
	}
}

// trial is a time under load, with a state of the server and a change of the settings.
type trial struct {
	server   string
	fault    func(*fakeServer)
	settings string
	change   func(*breaker.Config) // nil: the defaults
}

var trials = []trial{
	{"healthy", (*fakeServer).heal, "defaults", nil},
	{"refuses 2 of 5", (*fakeServer).sicken, "defaults", nil},
	{"refuses 2 of 5", (*fakeServer).sicken, "FailureRatio 0.3", func(cfg *breaker.Config) { cfg.FailureRatio = 0.3 }},
	{"down for 2s", (*fakeServer).stop, "defaults", nil},
	{"down for 2s", (*fakeServer).stop, "OpenFor 5s, no looks", slowReturn},
}

// slowReturn leaves the search for the server to the probes, every five seconds. Without jitter the
// effect is the same in each run; many instances need the jitter.
func slowReturn(cfg *breaker.Config) {
	cfg.OpenFor, cfg.OpenMax, cfg.Jitter, cfg.LookMax = 5*time.Second, 5*time.Second, -1, -1
}

func run(ctx context.Context, out io.Writer) error {
	results, err := measure(ctx)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "SERVER\tSETTINGS\tSERVED\tFAILED\tREFUSED\tCALLS\tBACK AFTER\tBREAKER")
	for i, r := range results {
		back, state := "-", r.snapshot.State.String()
		if r.snapshot.State != breaker.StateClosed {
			back, state = r.back.Round(10*time.Millisecond).String(), state+": "+r.snapshot.Trip.String()
		}
		fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%d\t%d\t%s\t%s\n",
			trials[i].server, trials[i].settings, r.served.Load(), r.failed.Load(), r.refused.Load(), r.calls, back, state)
	}
	return table.Flush()
}

// measure runs the trials one after the other, with the same pool.
func measure(ctx context.Context) (results []*result, err error) {
	server := &fakeServer{}
	stack, err := middleware.Standard(middleware.Options{
		Without: []string{middleware.KindTracing, middleware.KindMetrics, middleware.KindLogging},
	})
	if err != nil {
		return nil, err
	}
	p, err := pool.New(server, pool.Config{Name: "orders", MaxSize: 10}, stack.Layers()...)
	if err != nil {
		return nil, err
	}
	defer func() {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err = errors.Join(err, p.Close(bounded))
	}()
	defaults := stack.Breaker.Config()
	for _, t := range trials {
		cfg := defaults
		if t.change != nil {
			t.change(&cfg)
		}
		if err := stack.Breaker.Configure(cfg); err != nil { // the pool is in use meanwhile
			return nil, err
		}
		r, err := try(ctx, p, stack.Breaker, server, t.fault)
		if err != nil {
			return nil, err
		}
		results = append(results, r)
	}
	return results, nil
}

// try puts the pool under load: for two seconds with the fault, and then without the fault until
// the breaker is closed. The figures are from the two seconds.
func try(ctx context.Context, p *pool.Pool[*pooltest.Conn], b *breaker.Breaker, server *fakeServer, fault func(*fakeServer)) (*result, error) {
	r := &result{}
	fault(server)
	before := server.calls.Load()
	if err := load(ctx, p, 2*time.Second, &r.tally); err != nil {
		return nil, err
	}
	r.calls, r.snapshot = server.calls.Load()-before, b.Snapshot()
	server.heal()
	healed := time.Now()
	for b.State() != breaker.StateClosed {
		if err := load(ctx, p, 10*time.Millisecond, new(tally)); err != nil {
			return nil, err
		}
	}
	r.back = time.Since(healed)
	return r, nil
}

// result holds the figures of a trial.
type result struct {
	tally

	calls    int64            // dials and commands seen by the server
	snapshot breaker.Snapshot // at the end of the fault
	back     time.Duration    // from the end of the fault until the breaker was closed
}

// tally counts the outcomes of uses.
type tally struct{ served, failed, refused atomic.Int64 }

// load begins 200 uses a second for the time d, and waits for the end of the uses.
func load(ctx context.Context, p *pool.Pool[*pooltest.Conn], d time.Duration, outcomes *tally) error {
	const pause = 5 * time.Millisecond
	var uses sync.WaitGroup
	defer uses.Wait()
	ticks := time.NewTicker(pause)
	defer ticks.Stop()
	for range d / pause {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticks.C:
		}
		uses.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			err := p.Do(ctx, pool.Op{Name: "GET", Idempotent: true}, func(ctx context.Context, c *pooltest.Conn) error { return c.Use(ctx) })
			switch {
			case err == nil:
				outcomes.served.Add(1)
			case errors.Is(err, breaker.ErrOpen):
				outcomes.refused.Add(1)
			default:
				outcomes.failed.Add(1)
			}
		})
	}
	return nil
}

// fakeServer is a server that answers in 2 ms, and can be made to fail. Each call counts: dials and
// commands.
type fakeServer struct {
	pooltest.Fake

	calls atomic.Int64
}

func (s *fakeServer) heal() { s.answer(nil, func(int64) error { return nil }) }

// sicken makes the server refuse two of five commands. Example: an overloaded server.
func (s *fakeServer) sicken() {
	s.answer(nil, func(n int64) error {
		if n%5 < 2 {
			return pooltest.ErrRefused
		}
		return nil
	})
}

// stop makes all dials and commands fail, as after the end of the server's process.
func (s *fakeServer) stop() {
	s.answer(pooltest.ErrBroken, func(int64) error { return pooltest.ErrBroken })
}

func (s *fakeServer) answer(dial error, command func(n int64) error) {
	s.Inject(pooltest.Open, -1, func(context.Context) error {
		s.calls.Add(1)
		return dial
	})
	s.Inject(pooltest.Use, -1, func(ctx context.Context) error {
		n := s.calls.Add(1)
		if err := pooltest.Slow(2 * time.Millisecond)(ctx); err != nil {
			return err
		}
		return command(n)
	})
}
