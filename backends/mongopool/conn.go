package mongopool

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// Conn is the right to use the shared client, with access to its databases and collections. It stands for one of MaxSize sockets, but is
// not tied to a particular one: the driver takes a socket from its own pool for each command.
//
// A Conn belongs to the borrower until its function returns or its lease is released; so do the databases, collections, cursors and
// sessions got from it. Within that time its methods may be called concurrently, also to run several commands at once, each of which
// takes a socket of its own.
type Conn struct {
	client *client // changed only while nobody holds the Conn

	evidence *evidence     // of the present use
	heldBack time.Duration // what was left of the latest use when the driver held a command back for want of time; 0 if it did not

	collection atomic.Pointer[mongo.Collection] // the latest one asked for

	mu       sync.Mutex
	sessions []*mongo.Session
}

// Client returns the shared client. It must not be disconnected: it is the other borrowers' too.
func (c *Conn) Client() *mongo.Client { return c.client.mc }

// Database returns the database that the pool was configured with.
func (c *Conn) Database() *mongo.Database { return c.client.db }

// DatabaseNamed returns another database of the same deployment.
func (c *Conn) DatabaseNamed(name string, opts ...options.Lister[options.DatabaseOptions]) *mongo.Database {
	return c.client.mc.Database(name, opts...)
}

// Collection returns a collection of the pool's database. The handle of the latest one without options is kept, as making one costs more
// than the rest of a lease.
func (c *Conn) Collection(name string, opts ...options.Lister[options.CollectionOptions]) *mongo.Collection {
	if len(opts) > 0 {
		return c.client.db.Collection(name, opts...)
	}
	if latest := c.collection.Load(); latest != nil && latest.Name() == name && latest.Database() == c.client.db {
		return latest
	}
	made := c.client.db.Collection(name)
	c.collection.Store(made)
	return made
}

// StartSession begins a session. Commands belong to it when they are sent with the context that mongo.NewSessionContext makes of it;
// they then see one another's effects, also on secondaries, if the options do not say otherwise. The session ends with the lease, at the
// latest, and a transaction that is open then is aborted. Servers without sessions refuse the first such command, not StartSession.
// A session is for one goroutine at a time.
func (c *Conn) StartSession(opts ...options.Lister[options.SessionOptions]) (*mongo.Session, error) {
	s, err := c.client.mc.StartSession(opts...)
	if err != nil {
		return nil, fmt.Errorf("mongopool: session: %w", err)
	}
	c.mu.Lock()
	c.sessions = append(c.sessions, s)
	c.mu.Unlock()
	return s, nil
}

// WithTransaction runs fn in a transaction, in a session of its own that has ended when it returns. Commands that are to be part of the
// transaction must be sent with fn's context. It needs a replica set or a sharded cluster.
//
// The driver runs fn again, for up to two minutes and whatever RetryReads and RetryWrites say, when the transaction was aborted by a
// conflict or a change of primary. That is harmless if fn has no effects besides. It sends the commit again too, which is harmless in
// any case.
func (c *Conn) WithTransaction(
	ctx context.Context, fn func(ctx context.Context) error, opts ...options.Lister[options.TransactionOptions],
) error {
	s, err := c.client.mc.StartSession()
	if err != nil {
		return fmt.Errorf("mongopool: session: %w", err)
	}
	defer s.EndSession(ctx)
	_, err = s.WithTransaction(ctx, func(ctx context.Context) (any, error) { return nil, fn(ctx) }, opts...)
	return err
}

// inSession says whether the borrower has begun a session.
func (c *Conn) inSession() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.sessions) > 0
}

// endSessions ends what the borrower has begun. What is sent for that is the pool's own affair.
func (c *Conn) endSessions(ctx context.Context) {
	c.mu.Lock()
	sessions := c.sessions
	c.sessions = nil
	c.mu.Unlock()
	if len(sessions) > 0 {
		ctx, _ = newErrand(ctx)
	}
	for _, s := range sessions {
		s.EndSession(ctx)
	}
}
