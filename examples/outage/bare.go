package main

import (
	"bytes"
	"context"
	"net"

	"github.com/redis/go-redis/v9"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// bareRedis is a client of go-redis with its default options.
type bareRedis struct {
	client *redis.Client
	keys   redisKeys
}

func newBareRedis(url string, keys redisKeys, w *wire) (*bareRedis, error) {
	opts, err := redis.ParseURL(url)
	if err != nil {
		return nil, err
	}
	b := &bareRedis{client: redis.NewClient(opts), keys: keys}
	b.client.AddHook(redisWire{w})
	return b, nil
}

func (b *bareRedis) do(ctx context.Context, op operation) (string, error) {
	return b.keys.do(ctx, b.client, op)
}

func (b *bareRedis) close(context.Context) error { return b.client.Close() }

// redisWire is a hook that counts what a client of go-redis sends. The client's own retries are beneath the hooks for commands, so it
// looks at what is written to the sockets.
type redisWire struct{ *wire }

// DialHook implements redis.Hook.
func (w redisWire) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		w.dialled()
		conn, err := next(ctx, network, addr)
		if tcp, ok := conn.(*net.TCPConn); ok && err == nil {
			return wiredConn{tcp, w.wire}, nil
		}
		return conn, err
	}
}

// ProcessHook implements redis.Hook.
func (redisWire) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

// ProcessPipelineHook implements redis.Hook.
func (redisWire) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// wiredConn counts the commands of a lane that are written. It stays a TCPConn in all else: go-redis looks at the socket beneath.
type wiredConn struct {
	*net.TCPConn
	wire *wire
}

// Write implements net.Conn.
func (c wiredConn) Write(b []byte) (int, error) {
	if isLaneCommand(b) {
		c.wire.sent()
	}
	return c.TCPConn.Write(b)
}

// isLaneCommand says whether b begins with one of the three commands of redisKeys.do, in Redis' protocol: *4\r\n$4\r\nhset... What else
// is written is the greeting on a new connection.
func isLaneCommand(b []byte) bool {
	words := bytes.SplitN(b, []byte("\r\n"), 4)
	if len(words) < 3 {
		return false
	}
	switch string(words[2]) {
	case "hset", "rpush", "hget":
		return true
	}
	return false
}

// bareMongo is a client of the MongoDB driver with its default options.
type bareMongo struct {
	client *mongo.Client
	names  mongoNames
}

func newBareMongo(uri string, names mongoNames, w *wire) (*bareMongo, error) {
	opts := options.Client().ApplyURI(uri).SetDialer(wiredDialer{w}).SetMonitor(&event.CommandMonitor{
		Started: func(context.Context, *event.CommandStartedEvent) { w.sent() },
	})
	client, err := mongo.Connect(opts)
	if err != nil {
		return nil, err
	}
	return &bareMongo{client: client, names: names}, nil
}

func (b *bareMongo) do(ctx context.Context, op operation) (string, error) {
	return b.names.do(ctx, b.client.Database(mongoDatabase), op)
}

func (b *bareMongo) close(ctx context.Context) error { return b.client.Disconnect(ctx) }

// wiredDialer counts dials; it is the driver's own dialer in all else.
type wiredDialer struct{ wire *wire }

// DialContext implements options.ContextDialer.
func (d wiredDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	d.wire.dialled()
	return (&net.Dialer{}).DialContext(ctx, network, address)
}
