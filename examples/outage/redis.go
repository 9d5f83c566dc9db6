package main

import (
	"context"
	"errors"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// redisKeys are the keys of a lane's writes in Redis: a hash for the puts and a list for the adds.
type redisKeys struct{ puts, adds string }

func newRedisKeys(run string, s side) redisKeys {
	prefix := "outage:" + run + ":" + string(s)
	return redisKeys{puts: prefix + ":puts", adds: prefix + ":adds"}
}

// do executes op with any go-redis client.
func (k redisKeys) do(ctx context.Context, c redis.Cmdable, op operation) (string, error) {
	switch op.kind {
	case put:
		return "", c.HSet(ctx, k.puts, strconv.Itoa(op.id), op.text()).Err()
	case add:
		return "", c.RPush(ctx, k.adds, op.id).Err()
	default:
		text, err := c.HGet(ctx, k.puts, strconv.Itoa(op.id)).Result()
		if errors.Is(err, redis.Nil) {
			return "", nil
		}
		return text, err
	}
}

// A redisStore reads the lanes' writes.
type redisStore struct {
	client *redis.Client
	run    string
}

func newRedisStore(url, run string) (*redisStore, error) {
	opts, err := redis.ParseURL(url)
	if err != nil {
		return nil, err
	}
	return &redisStore{client: redis.NewClient(opts), run: run}, nil
}

func (s *redisStore) prepare(ctx context.Context) error { return s.client.Ping(ctx).Err() }

func (s *redisStore) holding(ctx context.Context, of side) (holding, error) {
	return newRedisKeys(s.run, of).holding(ctx, s.client)
}

func (s *redisStore) remove(ctx context.Context) error {
	return errors.Join(newRedisKeys(s.run, stacked).remove(ctx, s.client), newRedisKeys(s.run, bare).remove(ctx, s.client))
}

func (s *redisStore) close(context.Context) error { return s.client.Close() }

// holding reads the lane's data from the server.
func (k redisKeys) holding(ctx context.Context, c redis.Cmdable) (holding, error) {
	h := holding{puts: map[int]string{}, adds: map[int]int{}}
	puts, err := c.HGetAll(ctx, k.puts).Result()
	if err != nil {
		return h, err
	}
	for field, text := range puts {
		id, err := strconv.Atoi(field)
		if err != nil {
			return h, err
		}
		h.puts[id] = text
	}
	adds, err := c.LRange(ctx, k.adds, 0, -1).Result()
	if err != nil {
		return h, err
	}
	for _, element := range adds {
		id, err := strconv.Atoi(element)
		if err != nil {
			return h, err
		}
		h.adds[id]++
	}
	return h, nil
}

// remove deletes the lane's writes.
func (k redisKeys) remove(ctx context.Context, c redis.Cmdable) error {
	return c.Del(ctx, k.puts, k.adds).Err()
}
