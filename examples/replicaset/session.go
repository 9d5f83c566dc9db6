package replicaset

import (
	"context"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
)

var fine = marshal(bson.D{{Key: "ok", Value: 1.0}})

func succeeded(reply bson.Raw) bool {
	ok, _ := reply.Lookup("ok").AsFloat64OK()
	return ok == 1
}

// A session is the set's record of a logical session: the latest numbered write, or the latest
// transaction. All members share the record, as if the record were replicated.
type session struct {
	// busy holds an element while a numbered command is executed. A session executes a single numbered
	// command at a time.
	busy chan struct{}

	// The following fields belong to the goroutine that has put the element into busy.
	number      int64
	reply       bson.Raw     // to the write with the number, or nil
	transaction *transaction // with the number, or nil
}

// session returns the session with the id, and creates the session if necessary.
func (s *Set) session(id string) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions[id] == nil {
		s.sessions[id] = &session{busy: make(chan struct{}, 1)}
	}
	return s.sessions[id]
}

// endSessions executes the command endSessions.
func (s *Set) endSessions(m message) bson.Raw {
	ids, _ := m.doc.Lookup("endSessions").ArrayOK()
	values, _ := ids.Values()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range values {
		doc, _ := v.DocumentOK()
		_, id, _ := doc.Lookup("id").BinaryOK()
		delete(s.sessions, string(id))
		for t := range s.open {
			if t.session == string(id) {
				s.end(t, aborted)
			}
		}
	}
	return fine
}

// numbered executes a command with a transaction number.
func (c *conn) numbered(ctx context.Context, m message) (bson.Raw, error) {
	s := c.set.session(m.session())
	select {
	case s.busy <- struct{}{}:
		defer func() { <-s.busy }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	number, _ := m.number()
	switch {
	case number < s.number:
		return (&refusal{code: transactionTooOld, text: fmt.Sprintf("number %d is older than %d", number, s.number)}).reply(c, m), nil
	case number > s.number:
		if s.transaction != nil {
			c.finish(ctx, s.transaction)
		}
		s.number, s.reply, s.transaction = number, nil, nil
	}
	if m.inTransaction() {
		return c.inTransaction(ctx, m, s)
	}
	// The write is a retry and has already been executed. See "Retryable Writes" in MongoDB's driver
	// specifications.
	if s.reply != nil {
		return s.reply, nil
	}
	reply, err := c.pass(ctx, m)
	if err == nil && succeeded(reply) {
		s.reply = reply
	}
	return reply, err
}
