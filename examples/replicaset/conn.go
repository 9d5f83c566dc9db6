package replicaset

import (
	"context"
	"io"
	"net"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/wiremessage"
)

// A conn is a client's connection to a member. Each conn has its own connection to the server.
type conn struct {
	*member
	client  net.Conn
	server  net.Conn // nil before the first command to the server
	release func()   // closes server

	application string // the client's name, from its first hello

	requests chan message  // from the client; closed after the client has gone
	done     chan struct{} // closed when serve returns
}

// serve answers the client until the client has gone or the member is dead. The member's death ends
// ctx.
func (c *conn) serve(ctx context.Context) {
	defer closeAfter(ctx, c.client)()
	c.requests, c.done = make(chan message), make(chan struct{})
	defer close(c.done)
	c.set.wg.Go(c.read)
	defer func() {
		if c.release != nil {
			c.release()
		}
	}()
	for m := range c.requests {
		if c.handle(ctx, m) != nil {
			return
		}
	}
}

// read reads the client's messages in a separate goroutine. So the conn notices a client that goes
// while the client waits for a reply.
func (c *conn) read() {
	defer close(c.requests)
	for {
		m, err := read(c.client)
		if err != nil {
			return
		}
		select {
		case c.requests <- m:
		case <-c.done:
			return
		}
	}
}

// handle answers a message. An error ends the connection.
func (c *conn) handle(ctx context.Context, m message) error {
	if isHello(m.name()) {
		if name, ok := m.doc.Lookup("client", "application", "name").StringValueOK(); ok {
			c.application = name
		}
		return c.hello(ctx, m)
	}
	reply, err := c.reply(ctx, m)
	if err != nil {
		return err
	}
	if m.flags&wiremessage.MoreToCome != 0 { // the client expects no reply
		return nil
	}
	_, err = c.answer(m, with(reply, c.set.times(m.isWrite() || m.name() == "commitTransaction")...), 0)
	return err
}

// answer sends a document, and returns the message's number.
func (c *conn) answer(to message, doc bson.Raw, flags wiremessage.MsgFlag) (int32, error) {
	m := message{id: wiremessage.NextRequestID(), answers: to.id, op: to.op, flags: flags, doc: doc}
	_, err := c.client.Write(m.text())
	return m.id, err
}

// reply executes or refuses a command.
func (c *conn) reply(ctx context.Context, m message) (bson.Raw, error) {
	fail := c.failing(m.name())
	if fail != nil {
		if reply, err := fail.instead(ctx, c, m); reply != nil || err != nil {
			return reply, err
		}
	}
	reply, err := c.carryOut(ctx, m)
	if err == nil && fail != nil && fail.WriteConcernError != nil {
		reply = with(reply, bson.E{Key: "writeConcernError", Value: fail.WriteConcernError})
		reply = with(reply, fail.unconfirmed().details(c, m)...)
	}
	return reply, err
}

// carryOut executes the commands of replication, sessions and transactions. It passes all other
// commands on to the server.
func (c *conn) carryOut(ctx context.Context, m message) (bson.Raw, error) {
	switch m.name() {
	case "configureFailPoint":
		return c.configureFailPoint(m), nil
	case "replSetGetStatus":
		return c.set.status(c.index), nil
	case "endSessions":
		return c.set.endSessions(m), nil
	}
	if r := c.unable(m); r != nil {
		return r.reply(c, m), nil
	}
	if _, ok := m.number(); ok {
		return c.numbered(ctx, m)
	}
	return c.pass(ctx, m)
}

// unable returns the reason why this member must not execute the command, or nil.
func (c *conn) unable(m message) *refusal {
	c.set.mu.Lock()
	primary := c.set.primary == c.index
	c.set.mu.Unlock()
	preference, _ := m.doc.Lookup("$readPreference", "mode").StringValueOK()
	switch {
	case primary:
	case m.isWrite(), m.inTransaction():
		return &refusal{code: notWritablePrimary, text: "not primary"}
	case m.isRead() && (preference == "" || preference == "primary"):
		return &refusal{code: notPrimaryNoSecondaryOk, text: "not primary and secondaryOk=false"}
	}
	return nil
}

// unlocked waits while an open transaction holds the lock of the collection. The waiting command is
// a write without a transaction.
func (c *conn) unlocked(ctx context.Context, m message) (*refusal, error) {
	var late <-chan time.Time
	if ms, ok := m.doc.Lookup("maxTimeMS").AsInt64OK(); ok && ms > 0 {
		t := time.NewTimer(time.Duration(ms) * time.Millisecond)
		defer t.Stop()
		late = t.C
	}
	for {
		c.set.mu.Lock()
		lock := c.set.locks[m.namespace()]
		c.set.mu.Unlock()
		if lock == nil {
			return c.unable(m), nil // a step-down also ends transactions
		}
		select {
		case <-lock.ended:
		case <-c.requests: // the client has gone
			return nil, io.EOF
		case <-late:
			return &refusal{code: maxTimeMSExpired, text: "operation exceeded time limit"}, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// foreign are elements of commands which the server does not accept. The server does not know the
// element, or accepts the element only in a replica set.
var foreign = map[string]bool{
	"lsid": true, "txnNumber": true, "autocommit": true, "startTransaction": true, "$clusterTime": true, "$readPreference": true,
	"readConcern": true, "writeConcern": true, "recoveryToken": true,
}

// pass executes a command on the server.
func (c *conn) pass(ctx context.Context, m message) (bson.Raw, error) {
	if m.isWrite() && !m.inTransaction() {
		switch r, err := c.unlocked(ctx, m); {
		case err != nil:
			return nil, err
		case r != nil:
			return r.reply(c, m), nil
		}
	}
	c.set.commits.RLock()
	defer c.set.commits.RUnlock()
	return c.ask(ctx, m)
}

// ask sends a command to the server and returns the reply. After sending it ignores ctx. The server
// executes the command of a killed member nevertheless, and the set's record of retryable writes
// must be complete.
func (c *conn) ask(ctx context.Context, m message) (bson.Raw, error) {
	if c.server == nil {
		server, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.set.server)
		if err != nil {
			return nil, err
		}
		c.server, c.release = server, closeAfter(c.set.ctx, server)
	}
	// Without the flag MoreToCome the server always replies.
	sent := message{id: wiremessage.NextRequestID(), op: wiremessage.OpMsg, sequences: m.sequences}
	sent.doc = rewrite(m.doc, func(_ int, e bson.RawElement) (any, bool) { return e.Value(), !foreign[e.Key()] })
	if _, err := c.server.Write(sent.text()); err != nil {
		return nil, err
	}
	reply, err := read(c.server)
	if err == nil && reply.answers != sent.id {
		err = io.ErrUnexpectedEOF
	}
	return reply.doc, err
}
