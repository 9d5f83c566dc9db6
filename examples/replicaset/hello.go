package replicaset

import (
	"context"
	"encoding/binary"
	"io"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/wiremessage"
)

const (
	// maxWriteBatchSize is 100,000 in a real server. The value is small, so a test can exceed it.
	maxWriteBatchSize = 1000
	// maxWireVersion is the wire version of MongoDB 7.0. With 25, the wire version of 8.0, drivers
	// would send bulkWrite, which the server does not know.
	maxWireVersion = 21
)

// hello answers at once. If the client knows the present state, hello answers after the next change
// of the state, or after the client's maximum wait. If the client allows it, further answers follow
// without a request: the streaming protocol of "Server Discovery and Monitoring" in MongoDB's
// driver specifications.
func (c *conn) hello(ctx context.Context, m message) error {
	known := m.doc.Lookup("topologyVersion")
	wait, awaits := m.doc.Lookup("maxAwaitTimeMS").AsInt64OK()
	streams := awaits && m.op == wiremessage.OpMsg && m.flags&wiremessage.ExhaustAllowed != 0
	for {
		if awaits && !c.await(ctx, known, time.Duration(wait)*time.Millisecond) {
			return io.EOF
		}
		doc := c.describe(m)
		var flags wiremessage.MsgFlag
		if streams {
			flags = wiremessage.MoreToCome
		}
		id, err := c.answer(m, doc, flags)
		if err != nil || !streams {
			return err
		}
		m.id, known = id, doc.Lookup("topologyVersion") // each answer refers to the previous answer
	}
}

// await waits for a state of the member different from known, for at most limit. It returns false
// if the member has died, if the client has gone, or if the client sends a further request. A
// client of the streaming protocol sends no further request.
func (c *conn) await(ctx context.Context, known bson.RawValue, limit time.Duration) bool {
	c.set.mu.Lock()
	changed, version := c.set.changed, c.topologyVersion()
	c.set.mu.Unlock()
	if !known.Equal(bson.RawValue{Type: bson.TypeEmbeddedDocument, Value: marshal(version)}) {
		return true
	}
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-changed:
		return true
	case <-t.C:
		return true
	case <-c.requests:
		return false
	case <-ctx.Done():
		return false
	}
}

// topologyVersion must be called with the lock held.
func (m *member) topologyVersion() bson.D {
	return bson.D{{Key: "processId", Value: m.process}, {Key: "counter", Value: m.version}}
}

// describe returns the answer to hello. The fields are from "hello" in MongoDB's manual, for a
// member of a replica set.
func (c *conn) describe(m message) bson.Raw {
	s := c.set
	s.mu.Lock()
	defer s.mu.Unlock()
	writable := "isWritablePrimary"
	if !strings.EqualFold(m.name(), "hello") {
		writable = "ismaster"
	}
	now := time.Now()
	written := bson.D{{Key: "ts", Value: s.clock}, {Key: "t", Value: int64(s.election)}}
	d := bson.D{
		{Key: "helloOk", Value: true}, {Key: "topologyVersion", Value: c.topologyVersion()}, {Key: "hosts", Value: s.Members()},
		{Key: "setName", Value: setName}, {Key: "setVersion", Value: int32(1)},
		{Key: writable, Value: s.primary == c.index}, {Key: "secondary", Value: s.primary != c.index},
	}
	if s.primary != none {
		d = append(d, bson.E{Key: "primary", Value: s.members[s.primary].address})
	}
	if s.primary == c.index {
		d = append(d, bson.E{Key: "electionId", Value: electionID(s.election)})
	}
	d = append(d,
		bson.E{Key: "me", Value: c.address},
		bson.E{Key: "lastWrite", Value: bson.D{
			{Key: "opTime", Value: written}, {Key: "lastWriteDate", Value: now},
			{Key: "majorityOpTime", Value: written}, {Key: "majorityWriteDate", Value: now},
		}},
		bson.E{Key: "maxBsonObjectSize", Value: int32(16 << 20)}, bson.E{Key: "maxMessageSizeBytes", Value: int32(longestMessage)},
		bson.E{Key: "maxWriteBatchSize", Value: int32(maxWriteBatchSize)}, bson.E{Key: "localTime", Value: now},
		bson.E{Key: "logicalSessionTimeoutMinutes", Value: int32(30)}, bson.E{Key: "connectionId", Value: int32(1)},
		bson.E{Key: "minWireVersion", Value: int32(0)}, bson.E{Key: "maxWireVersion", Value: int32(maxWireVersion)},
		bson.E{Key: "readOnly", Value: false}, bson.E{Key: "ok", Value: 1.0},
	)
	return with(marshal(d), s.timesNow()...)
}

// electionID returns an id that increases with each election. If two members call themselves
// primary, drivers choose the primary with the greater id.
func electionID(election uint64) (id bson.ObjectID) {
	binary.BigEndian.PutUint64(id[4:], election)
	return id
}

// status returns the answer to replSetGetStatus.
func (s *Set) status(self int) bson.Raw {
	s.mu.Lock()
	defer s.mu.Unlock()
	var members bson.A
	for i, m := range s.members {
		state, text := int32(2), "SECONDARY"
		switch {
		case !m.alive:
			state, text = 8, "(not reachable/healthy)"
		case i == s.primary:
			state, text = 1, "PRIMARY"
		}
		members = append(members, bson.D{
			{Key: "_id", Value: int32(i)}, {Key: "name", Value: m.address}, {Key: "state", Value: state}, {Key: "stateStr", Value: text},
			{Key: "optimeDate", Value: time.Unix(int64(s.clock.T), 0)}, {Key: "self", Value: i == self},
		})
	}
	return marshal(bson.D{{Key: "set", Value: setName}, {Key: "members", Value: members}, {Key: "ok", Value: 1.0}})
}

// times returns a member's additions to a reply: the logical time of the latest write, and the
// greatest known logical time. Here both times are equal. See "Causal Consistency" in MongoDB's
// driver specifications. If tick is true, the command was a write.
func (s *Set) times(tick bool) []bson.E {
	s.mu.Lock()
	defer s.mu.Unlock()
	if tick {
		s.tick()
	}
	return s.timesNow()
}

// tick advances the logical time of a write. The logical time follows the clock and never goes
// back. tick must be called with the lock held.
func (s *Set) tick() {
	if now := uint32(time.Now().Unix()); now > s.clock.T {
		s.clock = bson.Timestamp{T: now}
	}
	s.clock.I++
}

// timesNow must be called with the lock held.
func (s *Set) timesNow() []bson.E {
	signature := bson.D{{Key: "hash", Value: bson.Binary{Data: make([]byte, 20)}}, {Key: "keyId", Value: int64(0)}}
	return []bson.E{
		{Key: "$clusterTime", Value: bson.D{{Key: "clusterTime", Value: s.clock}, {Key: "signature", Value: signature}}},
		{Key: "operationTime", Value: s.clock},
	}
}
