// Fakes keeps a shopping cart in Redis. Its tests use a fake server, so the tests can make the
// server fail. The program needs a server at REDIS_URL, or by default at redis://127.0.0.1:6379/0.
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
		fmt.Fprintln(os.Stderr, "fakes:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) (err error) {
	p, err := newRedis(cmp.Or(os.Getenv("REDIS_URL"), "redis://127.0.0.1:6379/0"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close(ctx)) }()
	carts := Carts[*redispool.Conn]{p}
	if _, err := carts.Add(ctx, "ada", "apples", 3); err != nil {
		return err
	}
	items, err := carts.Items(ctx, "ada")
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "the cart has apples:", items["apples"] != "")
	return nil
}

func newRedis(url string) (*pool.Pool[*redispool.Conn], error) {
	stack, err := middleware.Standard(middleware.Options{})
	if err != nil {
		return nil, err
	}
	server, err := redispool.ParseURL(url)
	if err != nil {
		return nil, err
	}
	return redispool.New(server, pool.Config{MaxSize: 8}, stack.Layers()...)
}
