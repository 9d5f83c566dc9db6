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

// A session is what a set keeps of a logical session: the latest write with a number, or the latest transaction. All members know the session, as
// if what they know were replicated.
type session struct {
	busy chan struct{} // has an element while a command with a number is carried out: a session has one at a time

	// Of whoever has put the element into busy.
	number      int64
	reply       bson.Raw     // to the write with that number; nil if there is none
	transaction *transaction // with that number; nil if there is none
}

// session returns the session of that identifier.
func (s *Set) session(id string) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions[id] == nil {
		s.sessions[id] = &session{busy: make(chan struct{}, 1)}
	}
	return s.sessions[id]
}

// endSessions carries out the command of that name.
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

// numbered carries out a command that has a transaction number.
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
	if s.reply != nil { // sent again, and carried out once: "Retryable Writes" in MongoDB's driver specifications
		return s.reply, nil
	}
	reply, err := c.pass(ctx, m)
	if err == nil && succeeded(reply) {
		s.reply = reply
	}
	return reply, err
}
