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

// bareRedis is a go-redis client with its default options.
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

// redisWire is a hook that counts the commands of a go-redis client. The client retries a command
// below the command hooks, so redisWire counts the writes to the sockets.
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

// wiredConn counts the written commands of a lane. It embeds a TCPConn, because go-redis inspects
// the socket.
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

// isLaneCommand reports whether b begins with a command of redisKeys.do in the Redis protocol, such
// as *4\r\n$4\r\nhset. All other writes are the greeting on a new connection.
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

// wiredDialer counts dials. It dials like the driver's default dialer.
type wiredDialer struct{ wire *wire }

// DialContext implements options.ContextDialer.
func (d wiredDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	d.wire.dialled()
	return (&net.Dialer{}).DialContext(ctx, network, address)
}
