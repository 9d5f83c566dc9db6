// After is the program before, with a pool and the standard layers. Only the creation of the client
// is different.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/earnorm/poolstack/backends/redispool"
	"github.com/earnorm/poolstack/middleware"
	"github.com/earnorm/poolstack/pool"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "moving:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	stack, err := middleware.Standard(middleware.Options{})
	if err != nil {
		return err
	}
	opts, err := redispool.ParseURL(cmp.Or(os.Getenv("REDIS_URL"), "redis://127.0.0.1:6379/0"))
	if err != nil {
		return err
	}
	p, err := redispool.New(opts, pool.Config{MaxSize: 8}, stack.Layers()...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close(ctx)) }()
	rdb, err := redispool.NewClient(p, redispool.ClientConfig{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rdb.Close()) }()

	// From here on both programs are the same.
	if err := rdb.Set(ctx, "moving:greeting", "hello", time.Minute).Err(); err != nil {
		return err
	}
	greeting, err := rdb.Get(ctx, "moving:greeting").Result()
	if err != nil {
		return err
	}
	fmt.Println(greeting)
	if err := rdb.Get(ctx, "moving:missing").Err(); err == redis.Nil {
		fmt.Println("missing: no such key")
	}

	// Several commands in a single round trip.
	cmds, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.RPush(ctx, "moving:queue", "a", "b", "c")
		p.LRange(ctx, "moving:queue", 0, -1)
		p.Del(ctx, "moving:queue")
		return nil
	})
	if err != nil {
		return err
	}
	for _, cmd := range cmds {
		fmt.Println(cmd)
	}

	// A transaction. Redis executes the transaction only if the key has not changed since Watch.
	err = rdb.Watch(ctx, func(tx *redis.Tx) error {
		n, err := tx.Get(ctx, "moving:stock").Int()
		if err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
		_, err = tx.TxPipelined(ctx, func(p redis.Pipeliner) error {
			p.Set(ctx, "moving:stock", n+10, time.Minute)
			return nil
		})
		return err
	}, "moving:stock")
	if err != nil {
		return err
	}
	fmt.Println(rdb.GetDel(ctx, "moving:stock").Result())

	// A script, by hash if the server has the script.
	sum, err := redis.NewScript("return ARGV[1] + ARGV[2]").Run(ctx, rdb, nil, 3, 4).Int()
	if err != nil {
		return err
	}
	fmt.Println("3 + 4 =", sum)

	news := rdb.Subscribe(ctx, "moving:news")
	defer func() { err = errors.Join(err, news.Close()) }()
	if _, err := news.Receive(ctx); err != nil { // the subscription is active
		return err
	}
	if err := rdb.Publish(ctx, "moving:news", "moved").Err(); err != nil {
		return err
	}
	message, err := news.ReceiveMessage(ctx)
	if err != nil {
		return err
	}
	fmt.Println(message.Payload)
	return nil
}
