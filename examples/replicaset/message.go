package replicaset

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/wiremessage"
)

// Messages are OP_MSG. The first hello of a connection may be OP_QUERY, with OP_REPLY as the
// answer. See "MongoDB Wire Protocol" in MongoDB's manual.

const (
	opQuery = wiremessage.OpCode(2004)

	headerLength   = 16
	checksumLength = 4
	longestMessage = 48_000_000 // maxMessageSizeBytes
)

// A message is a parsed message.
type message struct {
	id, answers int32 // its own number, and the number of the message answered
	op          wiremessage.OpCode
	flags       wiremessage.MsgFlag
	doc         bson.Raw
	sequences   []byte // sections after the document: the documents of a write
}

// read reads a message.
func read(r io.Reader) (m message, err error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return m, err
	}
	n := binary.LittleEndian.Uint32(size[:])
	if n < headerLength || n > longestMessage {
		return m, fmt.Errorf("a message of %d bytes", n)
	}
	text := make([]byte, n)
	copy(text, size[:])
	if _, err := io.ReadFull(r, text[len(size):]); err != nil {
		return m, err
	}
	return parse(text)
}

var errMessage = errors.New("not a message that this package knows")

func parse(text []byte) (m message, err error) {
	_, id, answers, op, rest, ok := wiremessage.ReadHeader(text)
	m.id, m.answers, m.op = id, answers, op
	switch {
	case !ok:
	case op == opQuery:
		m.doc, ok = queryDocument(rest)
	case op == wiremessage.OpMsg:
		m, ok = m.withSections(rest)
	default:
		ok = false
	}
	if !ok {
		return m, errMessage
	}
	if _, err := m.doc.IndexErr(0); err != nil {
		return m, err
	}
	return m, m.doc.Validate()
}

// queryDocument returns the document of an OP_QUERY. The document follows the flags, a
// NUL-terminated name, and two numbers.
func queryDocument(rest []byte) (bson.Raw, bool) {
	const flags, numbers = 4, 8
	if len(rest) < flags {
		return nil, false
	}
	_, rest, ok := bytes.Cut(rest[flags:], []byte{0})
	if !ok || len(rest) < numbers {
		return nil, false
	}
	doc, _, ok := bsoncore.ReadDocument(rest[numbers:])
	return bson.Raw(doc), ok
}

// withSections returns m with the flags and sections of an OP_MSG.
func (m message) withSections(rest []byte) (_ message, ok bool) {
	if m.flags, rest, ok = wiremessage.ReadMsgFlags(rest); !ok {
		return m, false
	}
	if m.flags&wiremessage.ChecksumPresent != 0 {
		if len(rest) < checksumLength {
			return m, false
		}
		rest = rest[:len(rest)-checksumLength]
	}
	for len(rest) > 0 {
		section := rest
		kind, after, ok := wiremessage.ReadMsgSectionType(rest)
		switch {
		case !ok:
		case kind == wiremessage.SingleDocument:
			var doc bsoncore.Document
			doc, rest, ok = wiremessage.ReadMsgSectionSingleDocument(after)
			m.doc = bson.Raw(doc)
		default:
			_, _, rest, ok = wiremessage.ReadMsgSectionRawDocumentSequence(after)
			if ok {
				m.sequences = append(m.sequences, section[:len(section)-len(rest)]...)
			}
		}
		if !ok {
			return m, false
		}
	}
	return m, m.doc != nil
}

// text returns the bytes of a message. The opcode is OP_REPLY for an answer to OP_QUERY, and
// otherwise OP_MSG.
func (m message) text() []byte {
	var b []byte
	var start int32
	if m.op == opQuery {
		start, b = wiremessage.AppendHeaderStart(nil, m.id, m.answers, wiremessage.OpReply)
		b = wiremessage.AppendReplyFlags(b, 0)
		b = wiremessage.AppendReplyCursorID(b, 0)
		b = wiremessage.AppendReplyStartingFrom(b, 0)
		b = wiremessage.AppendReplyNumberReturned(b, 1)
	} else {
		start, b = wiremessage.AppendHeaderStart(nil, m.id, m.answers, wiremessage.OpMsg)
		b = wiremessage.AppendMsgFlags(b, m.flags)
		b = wiremessage.AppendMsgSectionType(b, wiremessage.SingleDocument)
	}
	b = append(append(b, m.doc...), m.sequences...)
	return bsoncore.UpdateLength(b, start, int32(len(b)))
}

// name returns the name of the command.
func (m message) name() string { return m.doc.Index(0).Key() }

func isHello(command string) bool {
	return strings.EqualFold(command, "hello") || strings.EqualFold(command, "isMaster")
}

// namespace returns the command's database and collection.
func (m message) namespace() string {
	db, _ := m.doc.Lookup("$db").StringValueOK()
	collection, _ := m.doc.Index(0).Value().StringValueOK()
	return db + "." + collection
}

// session returns the id of the command's logical session, or "" without a session.
func (m message) session() string {
	_, id, _ := m.doc.Lookup("lsid", "id").BinaryOK()
	return string(id)
}

// number returns the command's transaction number. Retryable writes also have a transaction number.
func (m message) number() (n int64, ok bool) { return m.doc.Lookup("txnNumber").Int64OK() }

// inTransaction reports whether the command belongs to a multi-command transaction. See
// "Transactions" in MongoDB's driver specifications.
func (m message) inTransaction() bool {
	auto, ok := m.doc.Lookup("autocommit").BooleanOK()
	return ok && !auto
}

// writes are the commands executed only by a primary.
var writes = []string{
	"insert", "update", "delete", "findAndModify", "create", "drop", "dropDatabase", "createIndexes", "dropIndexes", "collMod", "renameCollection",
}

func (m message) isWrite() bool { return slices.Contains(writes, m.name()) }

// reads are the commands which a secondary also executes if the read preference allows.
var reads = []string{"find", "aggregate", "count", "distinct", "listCollections", "listIndexes"}

func (m message) isRead() bool { return slices.Contains(reads, m.name()) }

// marshal returns the document as bytes. It panics on an error, because all values of this package
// can be marshalled.
func marshal(d bson.D) bson.Raw {
	raw, err := bson.Marshal(d)
	if err != nil {
		panic(err)
	}
	return raw
}

// with returns doc with further elements.
func with(doc bson.Raw, more ...bson.E) bson.Raw {
	b := slices.Concat(doc[:len(doc)-1], marshal(append(bson.D{}, more...))[4:])
	binary.LittleEndian.PutUint32(b, uint32(len(b)))
	return b
}

// rewrite returns doc with the values returned by f, without the elements for which f returns
// false.
func rewrite(doc bson.Raw, f func(i int, e bson.RawElement) (any, bool)) bson.Raw {
	elements, err := doc.Elements()
	if err != nil {
		panic(err) // cannot happen: read has validated the document
	}
	var d bson.D
	for i, e := range elements {
		if value, ok := f(i, e); ok {
			d = append(d, bson.E{Key: e.Key(), Value: value})
		}
	}
	return marshal(d)
}
