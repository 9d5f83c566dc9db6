package main

import (
	"context"
	"maps"
	"strconv"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/earnorm/poolstack/pool/pooltest"
)

// fakeServer is a driver for a server in memory. Inject and the other methods of pooltest.Fake make
// the server fail.
type fakeServer struct {
	pooltest.Fake

	mu    sync.Mutex
	carts map[string]map[string]string
}

func (s *fakeServer) Open(ctx context.Context) (*fakeConn, error) {
	c, err := s.Fake.Open(ctx)
	return &fakeConn{c, s}, err
}

func (s *fakeServer) Check(ctx context.Context, c *fakeConn) error { return s.Fake.Check(ctx, c.Conn) }
func (s *fakeServer) Close(ctx context.Context, c *fakeConn) error { return s.Fake.Close(ctx, c.Conn) }

// fakeConn is a connection to a fakeServer. Conn.Use returns the injected error of a command.
type fakeConn struct {
	*pooltest.Conn

	server *fakeServer
}

func (c *fakeConn) HGetAll(ctx context.Context, key string) *redis.MapStringStringCmd {
	if err := c.Use(ctx); err != nil {
		return redis.NewMapStringStringResult(nil, err)
	}
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	return redis.NewMapStringStringResult(maps.Clone(c.server.carts[key]), nil)
}

func (c *fakeConn) HIncrBy(ctx context.Context, key, field string, n int64) *redis.IntCmd {
	if err := c.Use(ctx); err != nil {
		return redis.NewIntResult(0, err)
	}
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	if c.server.carts == nil {
		c.server.carts = map[string]map[string]string{}
	}
	if c.server.carts[key] == nil {
		c.server.carts[key] = map[string]string{}
	}
	old, _ := strconv.ParseInt(c.server.carts[key][field], 10, 64)
	c.server.carts[key][field] = strconv.FormatInt(old+n, 10)
	return redis.NewIntResult(old+n, nil)
}
