package replicaset

import (
	"bytes"
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/wiremessage"
)

// A wire is a connection without a driver. It can send messages that no driver would send.
type wire struct {
	t    *testing.T
	conn net.Conn
	id   int32
}

func dial(t *testing.T, member string) *wire {
	t.Helper()
	c, err := net.Dial("tcp", member)
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	deadline, _ := bounded(t).Deadline()
	must(t, c.SetDeadline(deadline))
	return &wire{t: t, conn: c}
}

func (w *wire) send(flags wiremessage.MsgFlag, command bson.D) {
	w.t.Helper()
	w.id++
	_, err := w.conn.Write(message{id: w.id, op: wiremessage.OpMsg, flags: flags, doc: marshal(command)}.text())
	must(w.t, err)
}

func (w *wire) receive() message {
	w.t.Helper()
	m, err := read(w.conn)
	must(w.t, err)
	return m
}

func (w *wire) ask(command bson.D) bson.Raw {
	w.t.Helper()
	w.send(0, command)
	m := w.receive()
	if m.answers != w.id {
		w.t.Errorf("the reply answers message %d, want %d", m.answers, w.id)
	}
	return m.doc
}

func lsid(session bson.ObjectID) bson.D {
	return bson.D{{Key: "id", Value: bson.Binary{Subtype: 4, Data: append(session[:], 0, 0, 0, 0)}}}
}

// insertion returns an insert with a transaction number of the session.
func (d *deployment) insertion(session bson.ObjectID, number int64, more ...bson.E) bson.D {
	return append(bson.D{
		{Key: "insert", Value: "c"}, {Key: "documents", Value: bson.A{bson.D{{Key: "name", Value: "one"}}}}, {Key: "$db", Value: d.database},
		{Key: "lsid", Value: lsid(session)}, {Key: "txnNumber", Value: number},
	}, more...)
}

func failPointOf(mode string, data bson.D) bson.D {
	return bson.D{
		{Key: "configureFailPoint", Value: "failCommand"}, {Key: "mode", Value: mode}, {Key: "data", Value: data}, {Key: "$db", Value: "admin"},
	}
}

func keys(t *testing.T, doc bson.Raw) (all []string) {
	t.Helper()
	elements, err := doc.Elements()
	must(t, err)
	for _, e := range elements {
		all = append(all, e.Key())
	}
	return all
}

func (d *deployment) secondary() string {
	return d.set.Members()[slices.IndexFunc(d.set.Members(), func(m string) bool { return m != d.set.Primary() })]
}

var sayHello = bson.D{{Key: "hello", Value: 1}, {Key: "$db", Value: "admin"}}

// The answer to hello has the fields of "hello" in MongoDB's manual for a member of a replica set,
// and the fields of all replies.
func TestHello(t *testing.T) {
	d := double(t)
	all := []string{
		"helloOk", "topologyVersion", "hosts", "setName", "setVersion", "isWritablePrimary", "secondary", "primary", "me", "lastWrite",
		"maxBsonObjectSize", "maxMessageSizeBytes", "maxWriteBatchSize", "localTime", "logicalSessionTimeoutMinutes", "connectionId",
		"minWireVersion", "maxWireVersion", "readOnly", "ok", "$clusterTime", "operationTime",
	}
	for member, want := range map[string][]string{d.set.Primary(): append([]string{"electionId"}, all...), d.secondary(): all} {
		hello := dial(t, member).ask(sayHello)
		got := keys(t, hello)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("hello has %v, want %v", got, want)
		}
		if me := hello.Lookup("me").StringValue(); me != member {
			t.Errorf("%s says that it is %s", member, me)
		}
		primary := member == d.set.Primary()
		if hello.Lookup("isWritablePrimary").Boolean() != primary || hello.Lookup("secondary").Boolean() == primary {
			t.Errorf("%s is %v, where %s is the primary", member, hello, d.set.Primary())
		}
	}
}

// A driver's first hello may be isMaster in an OP_QUERY.
func TestOldHello(t *testing.T) {
	d := double(t)
	w := dial(t, d.set.Primary())
	query := message{id: 7, op: opQuery, doc: marshal(bson.D{{Key: "isMaster", Value: 1}, {Key: "helloOk", Value: true}})}
	head := wiremessage.AppendQueryFlags(nil, 0)
	head = wiremessage.AppendQueryFullCollectionName(head, "admin.$cmd")
	head = wiremessage.AppendQueryNumberToSkip(head, 0)
	head = wiremessage.AppendQueryNumberToReturn(head, -1)
	text := wiremessage.AppendHeader(nil, int32(headerLength+len(head)+len(query.doc)), query.id, 0, opQuery)
	_, err := w.conn.Write(slices.Concat(text, head, query.doc))
	must(t, err)
	var size [4]byte
	_, err = io.ReadFull(w.conn, size[:])
	must(t, err)
	reply := make([]byte, int(size[0])|int(size[1])<<8)
	copy(reply, size[:])
	_, err = io.ReadFull(w.conn, reply[4:])
	must(t, err)
	_, _, answers, op, rest, _ := wiremessage.ReadHeader(reply)
	docs, _, ok := wiremessage.ReadReplyDocuments(rest[20:]) // after flags, cursor, and two numbers
	if op != wiremessage.OpReply || answers != query.id || !ok || len(docs) != 1 || !bson.Raw(docs[0]).Lookup("ismaster").Boolean() {
		t.Errorf("%v answers %d with %v", op, answers, docs)
	}
}

// Streamed hellos arrive after each change and name the primary. The electionId increases.
func TestHellosAreStreamed(t *testing.T) {
	d := double(t)
	w := dial(t, d.secondary())
	known := w.ask(sayHello)
	w.send(wiremessage.ExhaustAllowed, append(slices.Clone(sayHello),
		bson.E{Key: "topologyVersion", Value: known.Lookup("topologyVersion")}, bson.E{Key: "maxAwaitTimeMS", Value: patience.Milliseconds()}))
	before := d.set.Primary()
	first := dial(t, before).ask(sayHello)
	d.set.StepDown()
	without := w.receive()
	must(t, d.set.Elect())
	with := w.receive()
	if without.answers != w.id || with.answers != without.id || without.flags&with.flags&wiremessage.MoreToCome == 0 {
		t.Errorf("message %d is answered by %d (to %d) and %d (to %d)", w.id, without.id, without.answers, with.id, with.answers)
	}
	if slices.Contains(keys(t, without.doc), "primary") {
		t.Errorf("while there is no primary: %v", without.doc)
	}
	if now := with.doc.Lookup("primary").StringValue(); now != d.set.Primary() || now == before {
		t.Errorf("the primary is said to be %s", now)
	}
	second := dial(t, d.set.Primary()).ask(sayHello)
	a, b := first.Lookup("electionId").ObjectID(), second.Lookup("electionId").ObjectID()
	if bytes.Compare(a[:], b[:]) >= 0 {
		t.Errorf("election %v comes before %v", a, b)
	}
}

// The refusals of a secondary, of a conflict, and of an outdated number.
func TestRefusals(t *testing.T) {
	d := double(t)
	session := bson.NewObjectID()
	find := bson.D{{Key: "find", Value: "c"}, {Key: "$db", Value: d.database}}
	starts := []bson.E{{Key: "startTransaction", Value: true}, {Key: "autocommit", Value: false}}
	primary := dial(t, d.set.Primary())
	if !succeeded(primary.ask(d.insertion(session, 7, starts...))) {
		t.Error("a transaction does not begin")
	}
	for name, tc := range map[string]struct {
		member  string
		command bson.D
		code    int32
		name    string
		label   string
		version bool
	}{
		"write":          {d.secondary(), d.insertion(session, 8), 10107, "NotWritablePrimary", "RetryableWriteError", true},
		"transaction":    {d.secondary(), d.insertion(session, 8, starts...), 10107, "NotWritablePrimary", "TransientTransactionError", true},
		"read":           {d.secondary(), find, 13435, "NotPrimaryNoSecondaryOk", "", true},
		"old number":     {d.set.Primary(), d.insertion(session, 6), 225, "TransactionTooOld", "", false},
		"conflict":       {d.set.Primary(), d.insertion(bson.NewObjectID(), 1, starts...), 112, "WriteConflict", "TransientTransactionError", false},
		"unknown":        {d.set.Primary(), d.insertion(bson.NewObjectID(), 1, starts[1]), 251, "NoSuchTransaction", "TransientTransactionError", false},
		"failpoint":      {d.set.Primary(), failPointOf("alwaysOn", bson.D{{Key: "another", Value: 1}}), 9, "FailedToParse", "", false},
		"failpoint mode": {d.set.Primary(), failPointOf("sometimes", bson.D{}), 9, "FailedToParse", "", false},
		"failing hello": {d.set.Primary(), failPointOf("alwaysOn", bson.D{{Key: "failCommands", Value: bson.A{"hello"}}}),
			9, "FailedToParse", "", false},
	} {
		reply := dial(t, tc.member).ask(tc.command)
		labels, _ := reply.Lookup("errorLabels").ArrayOK()
		version := slices.Contains(keys(t, reply), "topologyVersion")
		if reply.Lookup("ok").Double() != 0 || reply.Lookup("code").Int32() != tc.code || reply.Lookup("codeName").StringValue() != tc.name ||
			!strings.Contains(labels.String(), tc.label) || (tc.label == "") != (labels == nil) || version != tc.version {
			t.Errorf("%s: %v", name, reply)
		}
	}
	drop := bson.D{{Key: "drop", Value: "c"}, {Key: "$db", Value: d.database}}
	if reply := primary.ask(append(drop, bson.E{Key: "maxTimeMS", Value: 50})); reply.Lookup("code").AsInt64() != maxTimeMSExpired {
		t.Errorf("a write that waits for the transaction: %v", reply)
	}
	primary.ask(bson.D{{Key: "endSessions", Value: bson.A{lsid(session)}}, {Key: "$db", Value: "admin"}})
	primary.ask(drop) // succeeds: the lock has been released
	if held := d.held(t, "c"); len(held) > 0 {
		t.Errorf("of a transaction whose session has ended %v are held", held)
	}
}

// A retried write with the same number is executed once, also by the next primary.
func TestRetryableWrites(t *testing.T) {
	d := double(t)
	session := bson.NewObjectID()
	once := func() {
		t.Helper()
		if reply := dial(t, d.set.Primary()).ask(d.insertion(session, 1)); reply.Lookup("n").AsInt64() != 1 {
			t.Errorf("got %v", reply)
		}
		if held := d.held(t, "c"); held["one"] != 1 {
			t.Errorf("%v are held", held)
		}
	}
	once()
	once()
	must(t, d.set.Elect())
	once()
	dial(t, d.set.Primary()).ask(d.insertion(session, 2))
	if held := d.held(t, "c"); held["one"] != 2 {
		t.Errorf("another number: %v are held", held)
	}
}

// A write without a reply gets no reply. The next reply belongs to the next command.
func TestWritesWithoutReply(t *testing.T) {
	d := double(t)
	w := dial(t, d.set.Primary())
	for range 3 {
		w.send(wiremessage.MoreToCome, bson.D{{Key: "insert", Value: "c"}, {Key: "documents", Value: bson.A{bson.D{}}}, {Key: "$db", Value: d.database},
			{Key: "writeConcern", Value: bson.D{{Key: "w", Value: 0}}}})
	}
	count := bson.D{{Key: "count", Value: "c"}, {Key: "$db", Value: d.database}}
	if n := w.ask(count).Lookup("n").AsInt64(); n != 3 {
		t.Errorf("%d documents are held, want 3", n)
	}
}

// A dead member has no connections and accepts none. After its revival the member is a secondary
// and a new process. A primary needs a majority.
func TestMembersDie(t *testing.T) {
	d := double(t)
	dead := d.set.Primary()
	w := dial(t, dead)
	before := w.ask(sayHello)
	must(t, d.set.KillPrimary())
	if _, err := read(w.conn); err == nil {
		t.Error("the dead member answers")
	}
	if c, err := net.Dial("tcp", dead); err == nil {
		_ = c.Close()
		t.Error("the dead member accepts a connection")
	}
	if now := d.set.Primary(); now != "" {
		t.Errorf("%s is the primary without an election", now)
	}
	must(t, d.set.Elect())
	must(t, d.set.KillPrimary())
	if err := d.set.Elect(); err == nil {
		t.Error("one member of three is a majority")
	}
	if err := d.set.KillPrimary(); err == nil {
		t.Error("no primary was killed")
	}
	must(t, d.set.Revive())
	must(t, d.set.Elect())
	after := dial(t, dead).ask(sayHello)
	if p := "processId"; after.Lookup("topologyVersion", p).ObjectID() == before.Lookup("topologyVersion", p).ObjectID() {
		t.Error("the process is the same")
	}
}

// Close returns and leaves nothing behind, even if the server does not answer. TestMain checks for
// leaks.
func TestCloseBeforeAServerThatHangs(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	set, err := Start("mongodb://"+l.Addr().String()+"/", Options{})
	must(t, err)
	waiting := dial(t, set.Primary())
	waiting.send(0, bson.D{{Key: "ping", Value: 1}, {Key: "$db", Value: "admin"}})
	hung, err := l.Accept() // the connection of the ping
	must(t, err)
	defer hung.Close()
	must(t, set.Close())
	if _, err := read(waiting.conn); err == nil {
		t.Error("the ping is answered")
	}
}

func TestStartRefuses(t *testing.T) {
	for _, uri := range []string{
		"", "redis://127.0.0.1", "mongodb://a,b/", "mongodb://a/?replicaSet=rs0", "mongodb://u:p@a/", "mongodb://a/?tls=true",
	} {
		if set, err := Start(uri, Options{}); err == nil {
			_ = set.Close()
			t.Errorf("%q is accepted", uri)
		}
	}
	set, err := Start("mongodb://127.0.0.1:1/", Options{Announce: func(member string) (string, error) { return "", net.UnknownNetworkError(member) }})
	if err == nil {
		_ = set.Close()
		t.Error("a member that nobody can be told of is accepted")
	}
}

// An invalid message ends its connection, and nothing else.
func TestGarbage(t *testing.T) {
	d := double(t)
	good := message{id: 1, op: wiremessage.OpMsg, doc: marshal(sayHello)}.text()
	for _, text := range [][]byte{
		[]byte("GET / HTTP/1.1\r\n\r\n"), {0, 0, 0, 0}, {255, 255, 255, 255}, good[:20],
		slices.Concat([]byte{17, 0, 0, 0}, good[4:17]),
		message{id: 1, op: wiremessage.OpMsg, doc: marshal(bson.D{})}.text(),
	} {
		w := dial(t, d.set.Primary())
		_, err := w.conn.Write(text)
		must(t, err)
		must(t, w.conn.(*net.TCPConn).CloseWrite())
		if m, err := read(w.conn); err == nil {
			t.Errorf("%q is answered with %v", text, m.doc)
		}
	}
	if !succeeded(dial(t, d.set.Primary()).ask(sayHello)) {
		t.Error("the member has died")
	}
}
