package mongopool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/wiremessage"
)

// fakeServer speaks enough of MongoDB's wire protocol to be a server that is not at hand: a member
// of a replica set that steps down, overloads, loses replies or never answers. The server stores
// nothing. It speaks OP_MSG, and OP_QUERY for the first hello; see "MongoDB Wire Protocol" in the
// manual.
type fakeServer struct {
	t       testing.TB
	address string
	hello   bson.D

	mu       sync.Mutex
	listener net.Listener
	stopped  chan struct{} // closed by stop
	conns    map[net.Conn]bool
	scripts  map[string][]reply // by command: what to do next; the last one stays
	seen     []command
	wg       sync.WaitGroup
}

// command is one that has arrived.
type command struct {
	name string
	doc  bson.Raw
}

// reply is what the server does with a command.
type reply struct {
	doc   bson.D          // answer with this
	drop  bool            // close the connection instead
	after <-chan struct{} // but not before this is closed
}

var succeed = reply{doc: bson.D{{Key: "ok", Value: 1}}}

func newFake(t testing.TB) *fakeServer {
	t.Helper()
	f := &fakeServer{t: t, conns: map[net.Conn]bool{}, scripts: map[string][]reply{}}
	f.listen("127.0.0.1:0")
	f.hello = bson.D{
		{Key: "ok", Value: 1}, {Key: "isWritablePrimary", Value: true}, {Key: "helloOk", Value: true},
		{Key: "maxBsonObjectSize", Value: 16 << 20}, {Key: "maxMessageSizeBytes", Value: 48_000_000},
		{Key: "maxWriteBatchSize", Value: 100_000}, {Key: "logicalSessionTimeoutMinutes", Value: 30},
		{Key: "minWireVersion", Value: 0}, {Key: "maxWireVersion", Value: 21},
	}
	t.Cleanup(f.stop)
	return f
}

// newFakeSet returns the primary of a replica set of one.
func newFakeSet(t testing.TB) *fakeServer {
	f := newFake(t)
	f.hello = append(f.hello,
		bson.E{Key: "setName", Value: "rs0"}, bson.E{Key: "me", Value: f.address}, bson.E{Key: "primary", Value: f.address},
		bson.E{Key: "hosts", Value: bson.A{f.address}}, bson.E{Key: "setVersion", Value: 1}, bson.E{Key: "secondary", Value: false})
	return f
}

// newFakePair returns the primary and the secondary of a replica set of two members, and a URI with
// both.
func newFakePair(t testing.TB) (primary, secondary *fakeServer, uri string) {
	primary, secondary = newFakeSet(t), newFakeSet(t)
	hosts := bson.A{primary.address, secondary.address}
	for _, f := range []*fakeServer{primary, secondary} {
		for i, e := range f.hello {
			switch e.Key {
			case "hosts":
				f.hello[i].Value = hosts
			case "primary":
				f.hello[i].Value = primary.address
			case "isWritablePrimary":
				f.hello[i].Value = f == primary
			case "secondary":
				f.hello[i].Value = f == secondary
			}
		}
	}
	return primary, secondary, "mongodb://" + primary.address + "," + secondary.address + "/test?replicaSet=rs0"
}

func (f *fakeServer) uri() string { return "mongodb://" + f.address + "/test" }

// listen starts to accept connections; after stop, at the same address.
func (f *fakeServer) listen(address string) {
	f.t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		f.t.Fatal(err)
	}
	f.mu.Lock()
	f.listener, f.address, f.stopped = l, l.Addr().String(), make(chan struct{})
	f.mu.Unlock()
	f.accept(l)
}

// accept serves what comes in at l, until it is closed.
func (f *fakeServer) accept(l net.Listener) {
	f.mu.Lock()
	stopped := f.stopped
	f.mu.Unlock()
	f.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if !f.admit(c, stopped) {
				_ = c.Close()
				return
			}
			f.wg.Go(func() { f.serve(c, stopped) })
		}
	})
}

// admit notes a connection, unless the server has stopped since the connection was accepted.
// Otherwise stop would wait for the connection for ever.
func (f *fakeServer) admit(c net.Conn, stopped <-chan struct{}) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-stopped:
		return false
	default:
		f.conns[c] = true
		return true
	}
}

// stop ends the server like a crash, even with replies still to come, and waits for the end. It may
// be called again.
func (f *fakeServer) stop() {
	f.mu.Lock()
	_ = f.listener.Close()
	select {
	case <-f.stopped:
	default:
		close(f.stopped)
	}
	for c := range f.conns {
		_ = c.Close()
	}
	f.mu.Unlock()
	f.wg.Wait()
}

// script says what the server does with the next commands of a name; with all after the last, too.
func (f *fakeServer) script(name string, replies ...reply) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.scripts[name] = replies
}

// commands returns those of a name that have arrived.
func (f *fakeServer) commands(name string) (found []command) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.seen {
		if c.name == name {
			found = append(found, c)
		}
	}
	return found
}

// open counts all connections.
func (f *fakeServer) open() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.conns)
}

func (f *fakeServer) serve(c net.Conn, stopped <-chan struct{}) {
	defer func() {
		f.mu.Lock()
		delete(f.conns, c)
		f.mu.Unlock()
		_ = c.Close()
	}()
	for {
		message, err := readMessage(c)
		if err != nil {
			return
		}
		op, id, cmd, moreToCome, err := decode(message)
		if err != nil {
			f.t.Errorf("fake server: %v", err)
			return
		}
		answer := f.answer(cmd)
		if answer.after != nil {
			select {
			case <-answer.after:
			case <-stopped:
				return
			}
		}
		if answer.drop {
			return
		}
		if moreToCome {
			continue
		}
		if _, err := c.Write(encode(op, id, answer.doc)); err != nil {
			return
		}
	}
}

// answer notes the command and looks up what to do.
func (f *fakeServer) answer(cmd command) reply {
	f.mu.Lock()
	defer f.mu.Unlock()
	if isHello := strings.EqualFold(cmd.name, "hello") || strings.EqualFold(cmd.name, "isMaster"); isHello {
		if script := f.scripts["hello"]; len(script) > 0 {
			return f.next("hello")
		}
		return reply{doc: f.hello}
	}
	f.seen = append(f.seen, cmd)
	if len(f.scripts[cmd.name]) > 0 {
		return f.next(cmd.name)
	}
	return succeed
}

func (f *fakeServer) next(name string) reply {
	script := f.scripts[name]
	if len(script) > 1 {
		f.scripts[name] = script[1:]
	}
	return script[0]
}

func readMessage(r io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	message := make([]byte, binary.LittleEndian.Uint32(size[:]))
	copy(message, size[:])
	_, err := io.ReadFull(r, message[4:])
	return message, err
}

// opQuery is the operation by which the first hello still comes; it is answered by OP_REPLY.
const opQuery wiremessage.OpCode = 2004

func decode(message []byte) (op wiremessage.OpCode, id int32, cmd command, moreToCome bool, err error) {
	_, id, _, op, rest, valid := wiremessage.ReadHeader(message)
	switch {
	case !valid:
	case op == opQuery: // flags, a collection's name that ends with a NUL, two numbers, the document
		_, rest, _ = bytes.Cut(rest[4:], []byte{0})
		var doc bsoncore.Document
		doc, _, valid = bsoncore.ReadDocument(rest[8:])
		cmd.doc = bson.Raw(doc)
	case op == wiremessage.OpMsg:
		moreToCome = wiremessage.IsMsgMoreToCome(message)
		_, rest, _ = wiremessage.ReadMsgFlags(rest)
		_, rest, _ = wiremessage.ReadMsgSectionType(rest)
		var doc bsoncore.Document
		doc, _, valid = wiremessage.ReadMsgSectionSingleDocument(rest)
		cmd.doc = bson.Raw(doc)
	default:
		valid = false
	}
	if !valid {
		return op, id, cmd, false, errors.New("not a message that it knows")
	}
	first, err := cmd.doc.IndexErr(0)
	if err != nil {
		return op, id, cmd, false, err
	}
	cmd.name = first.Key()
	cmd.doc = slices.Clone(cmd.doc)
	return op, id, cmd, moreToCome, nil
}

func encode(op wiremessage.OpCode, to int32, doc bson.D) []byte {
	raw, err := bson.Marshal(doc)
	if err != nil {
		panic(err)
	}
	var b []byte
	var start int32
	if op == opQuery {
		start, b = wiremessage.AppendHeaderStart(nil, wiremessage.NextRequestID(), to, wiremessage.OpReply)
		b = wiremessage.AppendReplyFlags(b, 0)
		b = wiremessage.AppendReplyCursorID(b, 0)
		b = wiremessage.AppendReplyStartingFrom(b, 0)
		b = wiremessage.AppendReplyNumberReturned(b, 1)
	} else {
		start, b = wiremessage.AppendHeaderStart(nil, wiremessage.NextRequestID(), to, wiremessage.OpMsg)
		b = wiremessage.AppendMsgFlags(b, 0)
		b = wiremessage.AppendMsgSectionType(b, wiremessage.SingleDocument)
	}
	b = append(b, raw...)
	return bsoncore.UpdateLength(b, start, int32(len(b)))
}

// eventually polls until cond holds, and fails the test when it does not within five seconds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.NewTimer(5 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within 5 s: %s", what)
		}
	}
}
