// Layer puts a new layer among the standard layers of a pool. The program needs a server at
// REDIS_URL, or by default at redis://127.0.0.1:6379/0.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/earnorm/poolstack/backends/redispool"
	"github.com/earnorm/poolstack/middleware"
	"github.com/earnorm/poolstack/pool"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	if err := run(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "layer:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) (err error) {
	p, err := newPool(cmp.Or(os.Getenv("REDIS_URL"), "redis://127.0.0.1:6379/0"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close(ctx)) }()

	// Two reports take all the places of their operation.
	report := pool.Op{Name: "REPORT", Idempotent: true}
	for range 2 {
		lease, err := p.Acquire(ctx, report)
		if err != nil {
			return err
		}
		defer lease.Release(nil)
	}
	// The third report is refused at once. Two connections remain for everything else.
	ping := func(ctx context.Context, c *redispool.Conn) error { return c.Ping(ctx).Err() }
	err = p.Do(ctx, report, ping)
	if _, ok := errors.AsType[FullError](err); !ok {
		return fmt.Errorf("the third report ended with %v, want a FullError", err)
	}
	fmt.Fprintln(out, "refused:", err)
	if err := p.Do(ctx, pool.Op{Name: "PING", Idempotent: true}, ping); err != nil {
		return err
	}
	fmt.Fprintln(out, "served: PING")
	return nil
}

// newPool returns a pool with the standard layers, and PerOperation outside of the retry layer. So
// a use holds its place during all its attempts, and the layers further outside (tracing, metrics,
// logging) report the refusals.
func newPool(url string) (*pool.Pool[*redispool.Conn], error) {
	stack, err := middleware.Standard(middleware.Options{})
	if err != nil {
		return nil, err
	}
	limit, err := NewPerOperation(2)
	if err != nil {
		return nil, err
	}
	server, err := redispool.ParseURL(url)
	if err != nil {
		return nil, err
	}
	if err := stack.Insert(middleware.KindRetry, pool.Bracket(limit)); err != nil {
		return nil, err
	}
	return redispool.New(server, pool.Config{MaxSize: 4}, stack.Layers()...)
}
