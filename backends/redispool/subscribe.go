package redispool

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/earnorm/poolstack/pool"
)

// The kinds of a [pool.Event] about connections of subscriptions, which are not connections of the
// pool. If such a connection cannot be opened, there is a [pool.EventOpenFailed] with the Layer
// "redispool".
const (
	EventSubscriptionOpened pool.EventKind = "subscription_opened" // Duration is the time of the dial
	EventSubscriptionClosed pool.EventKind = "subscription_closed" // Duration is the time since the dial
)

// Subscribe receives the messages published on the channels. The subscription has its own
// connection, which is not a connection of the pool. go-redis opens the connection again after a
// loss. Messages published meanwhile are lost. With Sentinels the connection follows the primary,
// and cannot be opened after the pool is closed. The caller closes the subscription.
func (c *Client) Subscribe(ctx context.Context, channels ...string) *redis.PubSub {
	return c.subscriber().Subscribe(ctx, channels...)
}

// PSubscribe is [Client.Subscribe] with patterns of channels.
func (c *Client) PSubscribe(ctx context.Context, patterns ...string) *redis.PubSub {
	return c.subscriber().PSubscribe(ctx, patterns...)
}

// SSubscribe is [Client.Subscribe] with shard channels.
func (c *Client) SSubscribe(ctx context.Context, channels ...string) *redis.PubSub {
	return c.subscriber().SSubscribe(ctx, channels...)
}

// subscriber returns the client for subscriptions. The client opens connections with the settings
// of the pool's connections.
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

// Levels returns a level with the number of open connections of subscriptions.
func (d *Driver) Levels() []pool.Level {
	return []pool.Level{{
		Layer: "subscription", Name: "connections", Unit: "{connection}",
		Help: "Open connections of subscriptions. These connections are not part of the pool. Reported for Redis only.",
		Read: func() (float64, bool) { return float64(d.subscriptions.Load()), true },
	}}
}

// Describe implements [pool.Describer].
func (d *Driver) Describe() pool.LayerInfo {
	events := []pool.Event{{Kind: EventSubscriptionOpened}, {Kind: EventSubscriptionClosed}}
	if d.finder != nil {
		events = append(events, pool.Event{Kind: EventPrimaryChanged, Reason: d.finder.master})
	}
	return pool.LayerInfo{Layer: layerName, Events: events}
}

// subscriber makes a client of go-redis for subscriptions. The client dials the same server with
// the same login. It emits an event for each connection.
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

// subscription is the connection of a subscription.
type subscription struct {
	net.Conn

	address string
	driver  *Driver
	emit    func(pool.Event)
	since   time.Time
	closed  atomic.Bool
}

// Close closes the connection. The first Close emits an event.
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

// leave closes the socket. go-redis notices the loss, closes the connection and opens another.
func (s *subscription) leave() { _ = s.Conn.Close() }
