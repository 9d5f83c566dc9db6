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

// Conn is the right to use the shared client, with access to its databases and collections. A Conn
// stands for 1 of MaxSize sockets, but is not tied to a socket. The driver takes a socket from its
// own pool for each command.
//
// A Conn is valid until the borrower's function returns, or until its lease is released. Databases,
// collections, cursors and sessions from the Conn are valid for the same time. The methods may be
// called concurrently during this time. The borrower may also run several commands at once; each
// command takes a socket of its own.
type Conn struct {
	client *client // changed only while the Conn is not in use

	evidence *evidence // of the current use
	// heldBack is the time left in the latest use when the driver held back a command. 0: none was
	// held back.
	heldBack time.Duration

	collection atomic.Pointer[mongo.Collection] // the latest handle without options

	mu       sync.Mutex
	sessions []*mongo.Session // begun by StartSession
	open     []*mongo.Session // other sessions with a transaction left open by the latest use
	aborts   sync.WaitGroup   // running aborts of transactions
}

// Client returns the shared client. Do not disconnect the client: other borrowers use the client as
// well. A session begun by the client outlives the lease. But the end of the lease aborts an open
// transaction of such a session, if a command of the transaction was sent in the use's context.
func (c *Conn) Client() *mongo.Client { return c.client.mc }

// Database returns the database in the pool's Options.
func (c *Conn) Database() *mongo.Database { return c.client.db }

// DatabaseNamed returns another database of the same deployment.
func (c *Conn) DatabaseNamed(name string, opts ...options.Lister[options.DatabaseOptions]) *mongo.Database {
	return c.client.mc.Database(name, opts...)
}

// Collection returns a collection of the pool's database. Collection keeps the latest handle made
// without options, because making a handle costs more than the rest of a lease.
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

// StartSession begins a session. A command belongs to the session if its context is made by
// mongo.NewSessionContext from the session. Commands of a session see the effects of earlier
// commands, also on secondaries, unless the options say otherwise. The session ends with the lease
// at the latest, and a transaction still open is aborted. A server without sessions refuses the
// first such command; StartSession does not detect such a server. A session is for a single
// goroutine at a time.
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

// inSession reports whether the borrower has begun a session, or has left a transaction open in
// another session.
func (c *Conn) inSession() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.sessions)+len(c.open) > 0
}

// claim takes over the open cursors and transactions of a use that ends. The transactions are in
// sessions begun by the client (c.Client().StartSession). Without an abort their locks would last
// until the server ends the transactions.
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
			continue // Reset ends s; an abort of WithTransaction may be using s now
		}
		if s.TransactionRunning() {
			c.open = append(c.open, s)
		}
	}
}

// endSessions ends the sessions that the borrower has begun, and aborts the transactions left open
// in other sessions. The commands for this are the pool's own.
func (c *Conn) endSessions(ctx context.Context) {
	c.mu.Lock()
	sessions, open := c.sessions, c.open
	c.sessions, c.open = nil, nil
	c.mu.Unlock()
	c.aborts.Wait() // abortTime at most
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
