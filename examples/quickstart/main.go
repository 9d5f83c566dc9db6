// Quickstart puts the standard layers around a pool of Redis connections, and shows the three ways
// to use the pool. It needs a server at REDIS_URL, or by default at redis://127.0.0.1:6379/0.
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
	// The OTEL_* variables select the exporters and the endpoints.
	tel, err := telemetry.Setup(ctx, telemetry.Config{ServiceName: "quickstart"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tel.Shutdown(ctx)) }()
	// The layers are tracing, metrics, logging, timeouts, retry and breaker.
	stack, err := middleware.Standard(middleware.Options{
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

	// Do passes a connection to a function. The retry layer may repeat an idempotent operation after a
	// lost answer.
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
	// Acquire and Release are Do in two steps. INCR is not idempotent: no layer repeats the command
	// after a lost answer.
	lease, err := p.Acquire(ctx, pool.Op{Name: "INCR", Target: "visits"})
	if err != nil {
		return err
	}
	conn, _ := lease.Value()
	visits, err := conn.Incr(lease.Context(), "quickstart:visits").Result()
	lease.Release(err) // err tells the layers the result, and the pool whether to keep conn
	if err != nil {
		return err
	}

	stat, health := p.Stat(), p.Check(ctx)
	fmt.Printf("%s, visitor %d\n", greeting, visits)
	fmt.Printf("pool: %d idle and %d in use of %d, %d opened, lent %d times\n", stat.Idle, stat.InUse, stat.Max, stat.Opened, stat.Acquires)
	fmt.Printf("health: %v, answered in %v %v %v\n", health.Status, health.Latency.Round(time.Microsecond), health.Details, health.Reasons)
	return nil
}
