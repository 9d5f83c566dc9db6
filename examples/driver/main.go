// Driver uses memcached through a pool with the standard layers. The server is at MEMCACHED, or by
// default at 127.0.0.1:11211.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/earnorm/poolstack/middleware"
	"github.com/earnorm/poolstack/pool"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	if err := run(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "driver:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) (err error) {
	stack, err := middleware.Standard(middleware.Options{})
	if err != nil {
		return err
	}
	d := Driver{Address: cmp.Or(os.Getenv("MEMCACHED"), "127.0.0.1:11211")}
	p, err := pool.New(d, pool.Config{MaxSize: 8}, stack.Layers()...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close(ctx)) }()

	set := pool.Op{Name: "set", Idempotent: true}
	if err := p.Do(ctx, set, func(ctx context.Context, c *Conn) error {
		return c.Set(ctx, "greeting", []byte("hello"), time.Minute)
	}); err != nil {
		return err
	}
	for _, key := range []string{"greeting", "missing"} {
		value, err := pool.Get(ctx, p, pool.Op{Name: "get", Idempotent: true}, func(ctx context.Context, c *Conn) ([]byte, error) {
			return c.Get(ctx, key)
		})
		if err != nil && !errors.Is(err, ErrMiss) {
			return err
		}
		fmt.Fprintf(out, "%s: %q, found: %t\n", key, value, err == nil)
	}
	fmt.Fprintln(out, "health:", p.Check(ctx).Status)
	return nil
}
