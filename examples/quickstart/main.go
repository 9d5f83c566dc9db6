// Quickstart puts the standard layers around a pool of Redis connections and uses it in the three ways there are. It needs a server at
// REDIS_URL, or else at redis://127.0.0.1:6379/0.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/earnorm/poolstack/backends/redispool"
	"github.com/earnorm/poolstack/middleware"
	"github.com/earnorm/poolstack/middleware/metrics"
	"github.com/earnorm/poolstack/middleware/tracing"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/telemetry"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

func run() (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	tel, err := telemetry.Setup(ctx, telemetry.Config{ServiceName: "quickstart"}) // where to: the OTEL_* variables say
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tel.Shutdown(ctx)) }()
	stack, err := middleware.Standard(middleware.Options{ // tracing, metrics, logging, timeouts, retry, breaker
		Tracing: tracing.Config{TracerProvider: tel.TracerProvider()},
		Metrics: metrics.Config{MeterProvider: tel.MeterProvider()},
	})
	if err != nil {
		return err
	}
	server, err := redispool.ParseURL(cmp.Or(os.Getenv("REDIS_URL"), "redis://127.0.0.1:6379/0"))
	if err != nil {
		return err
	}
	p, err := redispool.New(server, pool.Config{MaxSize: 8}, stack.Layers()...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close(ctx)) }()

	// Do lends a connection to a function. An idempotent operation may be sent again when its answer was lost.
	set := pool.Op{Name: "SET", Target: "greeting", Idempotent: true}
	if err := p.Do(ctx, set, func(ctx context.Context, c *redispool.Conn) error {
		return c.Set(ctx, "quickstart:greeting", "hello", time.Minute).Err()
	}); err != nil {
		return err
	}
	// Get is Do for a function with a result.
	get := pool.Op{Name: "GET", Target: "greeting", Idempotent: true}
	greeting, err := pool.Get(ctx, p, get, func(ctx context.Context, c *redispool.Conn) (string, error) {
		return c.Get(ctx, "quickstart:greeting").Result()
	})
	if err != nil {
		return err
	}
	// Acquire is Do in two steps. INCR is not idempotent: nobody sends it again when its answer was lost.
	lease, err := p.Acquire(ctx, pool.Op{Name: "INCR", Target: "visits"})
	if err != nil {
		return err
	}
	conn, _ := lease.Value()
	visits, err := conn.Incr(lease.Context(), "quickstart:visits").Result()
	lease.Release(err) // tells the layers how it went, and the pool whether the connection is still good
	if err != nil {
		return err
	}

	stat, health := p.Stat(), p.Check(ctx)
	fmt.Printf("%s, visitor %d\n", greeting, visits)
	fmt.Printf("pool: %d idle and %d in use of %d, %d opened, lent %d times\n", stat.Idle, stat.InUse, stat.Max, stat.Opened, stat.Acquires)
	fmt.Printf("health: %v, answered in %v %v %v\n", health.Status, health.Latency.Round(time.Microsecond), health.Details, health.Reasons)
	return nil
}
