package redislive

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/go-redis/cache/v9"
	"github.com/go-redis/redis_rate/v10"
	"github.com/go-redsync/redsync/v4"
	"github.com/go-redsync/redsync/v4/redis/goredis/v9"

	"github.com/earnorm/poolstack/backends/redispool"
)

// Libraries written for go-redis work with a pool's client: a lock, a cache and a limiter.

// newClient returns a client of a pool with the standard stack, for an empty database of this test.
func newClient(t *testing.T) *redispool.Client {
	t.Helper()
	p, _ := newPool(t, redispool.Options{DB: 9})
	rdb, err := redispool.NewClient(p, redispool.ClientConfig{})
	if err == nil {
		err = rdb.FlushDB(t.Context()).Err()
	}
	if err != nil {
		t.Fatal(err)
	}
	return rdb
}

func TestRedsync(t *testing.T) {
	rdb := newClient(t)
	locks := redsync.New(goredis.NewPool(rdb))
	ctx := t.Context()
	inside, entered := 0, 0
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 5 {
				m := locks.NewMutex("lock", redsync.WithTries(200), redsync.WithRetryDelay(5*time.Millisecond))
				if err := m.LockContext(ctx); err != nil {
					t.Error(err)
					return
				}
				if inside++; inside != 1 {
					t.Error("two hold the lock")
				}
				entered++
				inside--
				if ok, err := m.UnlockContext(ctx); !ok || err != nil {
					t.Errorf("unlocking: %t, %v", ok, err)
				}
			}
		})
	}
	all.Wait()
	if entered != 20 {
		t.Errorf("the lock was held %d times", entered)
	}
	held := locks.NewMutex("held")
	if err := held.LockContext(ctx); err != nil {
		t.Fatal(err)
	}
	var taken *redsync.ErrTaken
	if err := locks.NewMutex("held", redsync.WithTries(1)).LockContext(ctx); !errors.As(err, &taken) {
		t.Errorf("a lock that is held gives %v", err)
	}
	if ok, err := held.ExtendContext(ctx); !ok || err != nil {
		t.Errorf("extending: %t, %v", ok, err)
	}
}

func TestCache(t *testing.T) {
	rdb := newClient(t)
	type object struct{ Name string }
	c := cache.New(&cache.Options{Redis: rdb})
	ctx := t.Context()
	made := 0
	for range 3 {
		var got object
		err := c.Once(&cache.Item{Ctx: ctx, Key: "object", Value: &got, TTL: time.Minute, Do: func(*cache.Item) (any, error) {
			made++
			return &object{"thing"}, nil
		}})
		if err != nil || got.Name != "thing" {
			t.Errorf("got %+v, %v", got, err)
		}
	}
	if made != 1 {
		t.Errorf("the object was made %d times", made)
	}
	if err := c.Delete(ctx, "object"); err != nil {
		t.Error(err)
	}
	if err := c.Get(ctx, "object", &object{}); !errors.Is(err, cache.ErrCacheMiss) {
		t.Errorf("a miss is %v", err)
	}
}

func TestRate(t *testing.T) {
	rdb := newClient(t)
	limiter := redis_rate.NewLimiter(rdb)
	allowed := 0
	for range 20 {
		r, err := limiter.Allow(t.Context(), "user", redis_rate.PerHour(7))
		if err != nil {
			t.Fatal(err)
		}
		allowed += r.Allowed
	}
	if allowed != 7 {
		t.Errorf("%d of 20 were allowed, at a rate of 7 an hour", allowed)
	}
}
