package replicaset

import (
	"context"
	"strconv"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A transaction writes to copies of the collections, so no other client sees the changes. The
// commit executes the writes again on the collections themselves. Until then the collections are
// locked: another transaction that writes to the same collection fails with a WriteConflict. In a
// real server only a write to the same document fails.
type transaction struct {
	session string
	ended   chan struct{} // closed at the end of the transaction

	state state // guarded by the set's lock

	// The following fields belong to the session's command in progress.
	copies map[string]string // names of the copies, by namespace
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

// end ends the transaction. It returns false if the transaction has already ended. It must be
// called with the lock held.
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

// finish aborts the transaction, if still in progress, and drops its copies. If a drop fails,
// Set.Close drops the copy.
func (c *conn) finish(ctx context.Context, t *transaction) {
	c.set.mu.Lock()
	c.set.end(t, aborted)
	c.set.mu.Unlock()
	for _, name := range t.copies {
		_ = c.set.client.Database(c.set.copies).Collection(name).Drop(ctx)
	}
	t.copies, t.writes = nil, nil
}

// inTransaction executes a command of a transaction. An error ends the transaction.
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

// failed reports whether a command of a transaction has failed, completely or partly.
func failed(reply bson.Raw) bool {
	_, refused := reply.Lookup("writeErrors").ArrayOK()
	return refused || !succeeded(reply)
}

// unfit returns the reason why the transaction does not accept the command, or nil. A commit may be
// repeated.
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

// change locks and copies the collection of m, unless the transaction has already locked the
// collection.
func (c *conn) change(ctx context.Context, m message, t *transaction) (*refusal, error) {
	s, namespace := c.set, m.namespace()
	s.mu.Lock()
	holder := s.locks[namespace]
	if holder == nil && t.state == inProgress {
		s.locks[namespace] = t
		s.named++
		t.copies[namespace] = strconv.Itoa(s.named)
	}
	gone := t.state != inProgress // the primary has stepped down meanwhile
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

// redirected returns m for the copy of its collection, if there is a copy.
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

// commit executes the transaction's writes on the collections themselves. No other command runs
// meanwhile, so no client sees a part of the writes.
func (c *conn) commit(ctx context.Context, m message, t *transaction) (bson.Raw, error) {
	c.set.commits.Lock()
	defer c.set.commits.Unlock()
	c.set.mu.Lock()
	first := c.set.end(t, committed)
	gone := t.state == aborted // the primary has stepped down meanwhile
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
		t.state = aborted // so a repeated commit does not succeed
		c.set.mu.Unlock()
		if err != nil {
			return nil, err
		}
		return (&refusal{code: unknownError, text: "a write of the transaction has failed at the commit: " + reply.String()}).reply(c, m), nil
	}
	return fine, nil
}
