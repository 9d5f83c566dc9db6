package redispool

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/earnorm/poolstack/pool"
)

// Kinds of [pool.Event] that tell of the connections of subscriptions, which are not among the pool's. One that cannot be opened is a
// [pool.EventOpenFailed] of the layer redispool.
const (
	EventSubscriptionOpened pool.Kind = "subscription_opened" // Duration is how long it took
	EventSubscriptionClosed pool.Kind = "subscription_closed" // Duration is how long it was open
)

// Subscribe receives what is published on the channels. The subscription has a connection of its own, which is not among the pool's, and which
// go-redis opens again when it is lost. With Sentinels the connection follows the primary, and cannot be opened after the pool is closed. What is
// published while the connection is away is lost. The caller closes the subscription.
func (c *Client) Subscribe(ctx context.Context, channels ...string) *redis.PubSub {
	return c.subscriber().Subscribe(ctx, channels...)
}

// PSubscribe is [Client.Subscribe] with patterns.
func (c *Client) PSubscribe(ctx context.Context, patterns ...string) *redis.PubSub {
	return c.subscriber().PSubscribe(ctx, patterns...)
}

// SSubscribe is [Client.Subscribe] with shard channels.
func (c *Client) SSubscribe(ctx context.Context, channels ...string) *redis.PubSub {
	return c.subscriber().SSubscribe(ctx, channels...)
}

// subscriber returns the client of subscriptions. Its connections are opened as the pool's are.
func (c *Client) subscriber() *redis.Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pubsub == nil {
		c.pubsub = c.driver.subscriber(c.pool.Emit)
		if c.closed.Load() {
			_ = c.pubsub.Close()
		}
	}
	return c.pubsub
}

// Levels tells the number of connections that subscriptions have.
func (d *Driver) Levels() []pool.Level {
	return []pool.Level{{
		Layer: "subscription", Name: "connections",
		Read: func() (float64, bool) { return float64(d.subscriptions.Load()), true },
	}}
}

// subscriber makes a client of go-redis for subscriptions. It opens connections by itself, to the same server with the same login, and tells of
// them.
func (d *Driver) subscriber(emit func(pool.Event)) *redis.Client {
	opts := d.base
	opts.DB, opts.ClientName = d.db, d.clientName
	opts.CredentialsProviderContext = d.credentials.forClient
	opts.Dialer = func(ctx context.Context, _, _ string) (net.Conn, error) {
		began := time.Now()
		s, address, err := d.connect(ctx)
		took := time.Since(began)
		if err != nil {
			emit(pool.Event{Kind: pool.EventOpenFailed, Layer: layerName, Duration: took, Err: d.connectError(err, over(ctx))})
			return nil, err
		}
		d.subscriptions.Add(1)
		emit(pool.Event{Kind: EventSubscriptionOpened, Layer: layerName, Duration: took})
		c := &subscription{Conn: s.Conn, address: address, emit: emit, since: time.Now(), driver: d}
		if d.finder != nil {
			d.finder.add(c)
		}
		return c, nil
	}
	return redis.NewClient(&opts)
}

// subscription is the connection of one.
type subscription struct {
	net.Conn

	address string
	driver  *Driver
	emit    func(pool.Event)
	since   time.Time
	closed  atomic.Bool
}

// Close closes the connection, and tells so once.
func (s *subscription) Close() error {
	if !s.closed.Swap(true) {
		if s.driver.finder != nil {
			s.driver.finder.remove(s)
		}
		s.driver.subscriptions.Add(-1)
		s.emit(pool.Event{Kind: EventSubscriptionClosed, Layer: layerName, Duration: time.Since(s.since)})
	}
	return s.Conn.Close()
}

func (s *subscription) at() string { return s.address }

// leave ends the connection. go-redis notices, closes it, and opens another.
func (s *subscription) leave() { _ = s.Conn.Close() }
