package redispool_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/earnorm/poolstack/backends/redispool"
	"github.com/earnorm/poolstack/pool"
)

// Strings: set, get, delete.
func ExampleNew() {
	ctx := context.Background()
	opts, err := redispool.ParseURL(os.Getenv("REDIS_URL")) // redis://localhost:6379
	if err != nil {
		log.Fatal(err)
	}
	p, err := redispool.New(opts, pool.Config{MaxSize: 20, MinIdle: 5})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = p.Close(ctx) }()

	err = p.Do(ctx, pool.Op{Name: "SET", Idempotent: true}, func(ctx context.Context, c *redispool.Conn) error {
		return c.Set(ctx, "key", "value", time.Minute).Err()
	})
	if err != nil {
		log.Fatal(err)
	}
	value, err := pool.Get(ctx, p, pool.Op{Name: "GET", Idempotent: true}, func(ctx context.Context, c *redispool.Conn) (string, error) {
		return c.Get(ctx, "key").Result()
	})
	fmt.Println(value, err)

	_, err = pool.Get(ctx, p, pool.Op{Name: "GET", Idempotent: true}, func(ctx context.Context, c *redispool.Conn) (string, error) {
		if err := c.Del(ctx, "key").Err(); err != nil {
			return "", err
		}
		return c.Get(ctx, "key").Result()
	})
	fmt.Println(errors.Is(err, redis.Nil)) // a miss, which no layer takes for a failure
	// Output:
	// value <nil>
	// true
}

// A client of go-redis that sends its commands through the pool and its layers. Code with a
// redis.UniversalClient needs no change.
func ExampleNewClient() {
	ctx := context.Background()
	p := mustOpen()
	defer func() { _ = p.Close(ctx) }()
	rdb, err := redispool.NewClient(p, redispool.ClientConfig{})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = rdb.Close() }()

	fmt.Println(rdb.Set(ctx, "visits", 41, time.Minute).Err())
	// A Watch is a single lease. The transaction is carried out only if no other client has changed
	// the key meanwhile.
	err = rdb.Watch(ctx, func(tx *redis.Tx) error {
		n, err := tx.Get(ctx, "visits").Int()
		if err != nil {
			return err
		}
		_, err = tx.TxPipelined(ctx, func(p redis.Pipeliner) error {
			p.Set(ctx, "visits", n+1, redis.KeepTTL)
			return nil
		})
		return err
	}, "visits")
	fmt.Println(err)
	fmt.Println(rdb.Get(ctx, "visits").Result())
	fmt.Println(rdb.Get(ctx, "missing").Err() == redis.Nil)
	// Output:
	// <nil>
	// <nil>
	// 42 <nil>
	// true
}

// Hashes: several fields under one key.
func ExampleConn_hash() {
	ctx := context.Background()
	p := mustOpen()
	defer func() { _ = p.Close(ctx) }()

	err := p.Do(ctx, pool.Op{Name: "HSET"}, func(ctx context.Context, c *redispool.Conn) error {
		if err := c.HSet(ctx, "hash", "field", "value", "other", "1").Err(); err != nil {
			return err
		}
		value, err := c.HGet(ctx, "hash", "field").Result()
		if err != nil {
			return err
		}
		all, err := c.HGetAll(ctx, "hash").Result()
		fmt.Println(value, all)
		return errors.Join(err, c.Del(ctx, "hash").Err())
	})
	fmt.Println(err)
	// Output:
	// value map[field:value other:1]
	// <nil>
}

// Lists: a queue, pushed on the left and popped from the right.
func ExampleConn_list() {
	ctx := context.Background()
	p := mustOpen()
	defer func() { _ = p.Close(ctx) }()

	err := p.Do(ctx, pool.Op{Name: "LPUSH"}, func(ctx context.Context, c *redispool.Conn) error {
		return c.LPush(ctx, "list", "first", "second").Err()
	})
	fmt.Println(err)
	for range 3 {
		value, err := pool.Get(ctx, p, pool.Op{Name: "RPOP"}, func(ctx context.Context, c *redispool.Conn) (string, error) {
			return c.RPop(ctx, "list").Result()
		})
		fmt.Println(value, err)
	}
	// Output:
	// <nil>
	// first <nil>
	// second <nil>
	//  redis: nil
}

// A lease keeps a single connection over several calls. Here the lease is used for a pipeline,
// which takes a single round trip.
func ExampleConn_lease() {
	ctx := context.Background()
	p := mustOpen()
	defer func() { _ = p.Close(ctx) }()

	lease, err := p.Acquire(ctx, pool.Op{Name: "PIPELINE INCR"})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { lease.Release(err) }()
	c, _ := lease.Value()
	replies, err := c.Pipelined(lease.Context(), func(p redis.Pipeliner) error {
		p.Incr(ctx, "counter")
		p.Incr(ctx, "counter")
		p.Del(ctx, "counter")
		return nil
	})
	for _, reply := range replies {
		fmt.Println(reply.(*redis.IntCmd).Val())
	}
	// Output:
	// 1
	// 2
	// 1
}

// Watch makes an update conditional: the values read before must not have changed.
func ExampleConn_Watch() {
	ctx := context.Background()
	p := mustOpen()
	defer func() { _ = p.Close(ctx) }()

	double := func(ctx context.Context, c *redispool.Conn) error {
		return c.Watch(ctx, func(tx redis.Cmdable) error {
			n, err := tx.Get(ctx, "watched").Int()
			if err != nil {
				return err
			}
			_, err = tx.TxPipelined(ctx, func(p redis.Pipeliner) error {
				p.Set(ctx, "watched", 2*n, 0)
				return nil
			})
			return err // redis.TxFailedErr when somebody else was faster: try again
		}, "watched")
	}
	err := p.Do(ctx, pool.Op{Name: "WATCH"}, func(ctx context.Context, c *redispool.Conn) error {
		if err := c.Set(ctx, "watched", 21, 0).Err(); err != nil {
			return err
		}
		if err := double(ctx, c); err != nil {
			return err
		}
		fmt.Println(c.GetDel(ctx, "watched").Val())
		return nil
	})
	fmt.Println(err)
	// Output:
	// 42
	// <nil>
}

// Options never show their password.
func ExampleParseURL() {
	opts, err := redispool.ParseURL("rediss://app:s3cret%21@cache.internal/2?read_timeout=500ms&client_name=web")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(opts)
	_, err = redispool.ParseURL("redis://app:s3cret%21@cache.internal/2?ssl=true")
	fmt.Println(err)
	// Output:
	// rediss://app:xxxxx@cache.internal:6379/2?client_name=web&read_timeout=500ms
	// redispool: option "ssl": unknown: use the scheme rediss
}

// Sentinels name the server. The host and the user of the URL belong to a Sentinel. The options
// username and password are for the servers.
func ExampleSentinel() {
	opts, err := redispool.ParseURL("redis://one:26379/0?master_name=mymaster&addr=two:26379&username=app&password=s3cret%21")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(opts.Sentinel.MasterName, opts.Sentinel.Addresses)
	p, err := redispool.New(opts, pool.Config{}) // connects to nothing yet
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(p.Identity().Name)
	fmt.Println(p.Close(context.Background()))
	// Output:
	// mymaster [one:26379 two:26379]
	// redis mymaster/0
	// <nil>
}

func mustOpen() *pool.Pool[*redispool.Conn] {
	opts, err := redispool.ParseURL(os.Getenv("REDIS_URL"))
	if err != nil {
		log.Fatal(err)
	}
	p, err := redispool.New(opts, pool.Config{})
	if err != nil {
		log.Fatal(err)
	}
	return p
}
