package replicaset

import (
	"context"
	"strconv"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A transaction changes copies of the collections that it writes to, so that nobody else sees the changes. A commit carries its writes out in the
// collections themselves. Meanwhile the collections are locked: another transaction that writes to one meets a WriteConflict, where in a real server
// only a write to the same document does.
type transaction struct {
	session string
	ended   chan struct{} // closed when it is over

	state state // under the set's lock

	// Of the command that its session is busy with.
	copies map[string]string // the names of the copies, by the namespaces of the collections
	writes []message
}

type state int

const (
	inProgress state = iota
	committed
	aborted
)

func (s *Set) begin(session string) *transaction {
	t := &transaction{session: session, ended: make(chan struct{}), copies: map[string]string{}}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[t] = true
	return t
}

// end is called under the lock. It returns false if the transaction was over already.
func (s *Set) end(t *transaction, as state) bool {
	if t.state != inProgress {
		return false
	}
	t.state = as
	delete(s.open, t)
	for namespace, holder := range s.locks {
		if holder == t {
			delete(s.locks, namespace)
		}
	}
	close(t.ended)
	return true
}

// finish aborts a transaction, unless it is over, and drops its copies. A copy that stays goes with the set.
func (c *conn) finish(ctx context.Context, t *transaction) {
	c.set.mu.Lock()
	c.set.end(t, aborted)
	c.set.mu.Unlock()
	for _, name := range t.copies {
		_ = c.set.client.Database(c.set.copies).Collection(name).Drop(ctx)
	}
	t.copies, t.writes = nil, nil
}

// inTransaction carries out a command of a transaction. An error ends the transaction.
func (c *conn) inTransaction(ctx context.Context, m message, s *session) (bson.Raw, error) {
	if starts, _ := m.doc.Lookup("startTransaction").BooleanOK(); starts && s.transaction == nil {
		s.transaction = c.set.begin(m.session())
	}
	t := s.transaction
	if r := c.unfit(t, m.name()); r != nil {
		return r.reply(c, m), nil
	}
	switch m.name() {
	case "commitTransaction":
		return c.commit(ctx, m, t)
	case "abortTransaction":
		c.finish(ctx, t)
		return fine, nil
	}
	if m.isWrite() {
		switch r, err := c.change(ctx, m, t); {
		case err != nil:
			c.finish(ctx, t)
			return nil, err
		case r != nil:
			c.finish(ctx, t)
			return r.reply(c, m), nil
		}
		t.writes = append(t.writes, m)
	}
	reply, err := c.pass(ctx, c.redirected(m, t))
	if err == nil && failed(reply) {
		c.finish(ctx, t)
	}
	return reply, err
}

// failed says whether a command of a transaction has failed, as a whole or in part.
func failed(reply bson.Raw) bool {
	_, refused := reply.Lookup("writeErrors").ArrayOK()
	return refused || !succeeded(reply)
}

// unfit says why a transaction cannot have a command of that name; nil if it can. A commit may be sent again.
func (c *conn) unfit(t *transaction, command string) *refusal {
	gone := &refusal{code: noSuchTransaction, text: "the transaction has been aborted, or has never begun"}
	if t == nil {
		return gone
	}
	c.set.mu.Lock()
	defer c.set.mu.Unlock()
	switch {
	case t.state == aborted:
		return gone
	case t.state == committed && command != "commitTransaction":
		return &refusal{code: transactionCommitted, text: "the transaction has been committed"}
	}
	return nil
}

// change locks the collection that m is to change, and copies it, unless the transaction has done so before.
func (c *conn) change(ctx context.Context, m message, t *transaction) (*refusal, error) {
	s, namespace := c.set, m.namespace()
	s.mu.Lock()
	holder := s.locks[namespace]
	if holder == nil && t.state == inProgress {
		s.locks[namespace] = t
		s.named++
		t.copies[namespace] = strconv.Itoa(s.named)
	}
	gone := t.state != inProgress // the primary has just stepped down
	s.mu.Unlock()
	switch {
	case gone:
		return c.unfit(t, m.name()), nil
	case holder == t:
		return nil, nil
	case holder != nil:
		return &refusal{code: writeConflict, text: "another transaction has changed the collection"}, nil
	}
	s.commits.RLock()
	defer s.commits.RUnlock()
	db, _ := m.doc.Lookup("$db").StringValueOK()
	name, _ := m.doc.Index(0).Value().StringValueOK()
	found, err := s.client.Database(db).Collection(name).Find(ctx, bson.D{})
	if err != nil {
		return nil, err
	}
	var all []bson.Raw
	if err := found.All(ctx, &all); err != nil || len(all) == 0 {
		return nil, err
	}
	_, err = s.client.Database(s.copies).Collection(t.copies[namespace]).InsertMany(ctx, all)
	return nil, err
}

// redirected is m for the copy of its collection, if there is one.
func (c *conn) redirected(m message, t *transaction) message {
	name, ok := t.copies[m.namespace()]
	if !ok {
		return m
	}
	m.doc = rewrite(m.doc, func(i int, e bson.RawElement) (any, bool) {
		switch {
		case i == 0:
			return name, true
		case e.Key() == "$db":
			return c.set.copies, true
		}
		return e.Value(), true
	})
	return m
}

// commit carries the writes out in the collections themselves. Nobody sees a part of them.
func (c *conn) commit(ctx context.Context, m message, t *transaction) (bson.Raw, error) {
	c.set.commits.Lock()
	defer c.set.commits.Unlock()
	c.set.mu.Lock()
	first := c.set.end(t, committed)
	gone := t.state == aborted // the primary has just stepped down
	c.set.mu.Unlock()
	if gone {
		return c.unfit(t, m.name()).reply(c, m), nil
	}
	if !first {
		return fine, nil
	}
	defer c.finish(ctx, t)
	for _, w := range t.writes {
		reply, err := c.ask(ctx, w)
		if err == nil && !failed(reply) {
			continue
		}
		c.set.mu.Lock()
		t.state = aborted // a commit that is sent again is not told that all is well
		c.set.mu.Unlock()
		if err != nil {
			return nil, err
		}
		return (&refusal{code: unknownError, text: "a write of the transaction has failed at the commit: " + reply.String()}).reply(c, m), nil
	}
	return fine, nil
}
