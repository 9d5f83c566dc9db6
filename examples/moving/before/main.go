// Before is a program with go-redis. The program after is the same program with a pool. Only the
// creation of the client is different. Both programs need a server at REDIS_URL, or by default at
// redis://127.0.0.1:6379/0.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/redis/go-redis/v9"
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
	opts, err := redis.ParseURL(cmp.Or(os.Getenv("REDIS_URL"), "redis://127.0.0.1:6379/0"))
	if err != nil {
		return err
	}
	opts.PoolSize = 8
	rdb := redis.NewClient(opts)
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
