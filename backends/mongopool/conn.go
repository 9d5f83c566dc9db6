package mongopool

import (
	"context"
	"fmt"
	"slices"
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
	sessions []*mongo.Session // that StartSession has begun
	open     []*mongo.Session // others, with a transaction that the latest use has left open
	aborts   sync.WaitGroup   // of transactions, in progress
}

// Client returns the shared client. It must not be disconnected: it is the other borrowers' too. A session that is begun by it outlives the
// lease, but a transaction that the session has open then is aborted, if a command of the transaction was sent in the use's context.
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

// inSession says whether the borrower has begun a session, or has left a transaction open in another one.
func (c *Conn) inSession() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.sessions)+len(c.open) > 0
}

// claim takes over what the use has left open: transactions in sessions of the client's own (c.Client().StartSession), whose locks would last until
// the server gives the transactions up, and cursors.
func (d *Driver) claim(c *Conn) {
	e := c.evidence
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.cursors) > 0 {
		d.leave(c.client, e.cursors)
		e.cursors = nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range e.sessions {
		if slices.Contains(c.sessions, s) || slices.Contains(c.open, s) {
			continue // Reset ends it, and an abort of WithTransaction may be using it now
		}
		if s.TransactionRunning() {
			c.open = append(c.open, s)
		}
	}
}

// endSessions ends what the borrower has begun. What is sent for that is the pool's own affair.
func (c *Conn) endSessions(ctx context.Context) {
	c.mu.Lock()
	sessions, open := c.sessions, c.open
	c.sessions, c.open = nil, nil
	c.mu.Unlock()
	c.aborts.Wait() // a second at most
	if len(sessions)+len(open) > 0 {
		ctx, _ = newErrand(ctx)
	}
	for _, s := range sessions {
		s.EndSession(ctx)
	}
	for _, s := range open {
		_ = s.AbortTransaction(ctx)
	}
}
