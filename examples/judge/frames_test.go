package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Every kind of value is read to its end, however values are nested.
func TestRESPFrames(t *testing.T) {
	frames := []string{
		"+OK\r\n", "-ERR no\r\n", ":12\r\n", "$5\r\nhe\r\no\r\n", "$0\r\n\r\n", "$-1\r\n", "*-1\r\n", "*0\r\n", "_\r\n", "#t\r\n",
		"*2\r\n$3\r\nget\r\n*1\r\n:1\r\n", "%1\r\n+a\r\n*2\r\n:1\r\n:2\r\n", "~1\r\n=5\r\ntxt:x\r\n", "!3\r\nERR\r\n",
	}
	r := bufio.NewReader(strings.NewReader(strings.Join(frames, "")))
	for _, want := range frames {
		frame, _, err := readRESP(r, nil)
		if err != nil || string(frame) != want {
			t.Errorf("read %q, %v; want %q", frame, err, want)
		}
	}
	for _, bad := range []string{"\r\n", "$x\r\n", "*9999999999\r\n", "$5\r\nab"} {
		if frame, _, err := readRESP(bufio.NewReader(strings.NewReader(bad)), nil); err == nil {
			t.Errorf("%q is read as %q", bad, frame)
		}
	}
}

// What the server pushes comes before the reply and is forwarded with the reply.
func TestRESPReply(t *testing.T) {
	r := bufio.NewReader(strings.NewReader(">2\r\n+invalidate\r\n+x\r\n+OK\r\n"))
	for _, want := range []bool{true, false} {
		if _, more, err := redisProtocol.reply(r); err != nil || more != want {
			t.Errorf("more is %t, %v; want %t", more, err, want)
		}
	}
}

func TestRESPRequest(t *testing.T) {
	r := bufio.NewReader(strings.NewReader("*2\r\n$3\r\nGET\r\n$1\r\na\r\n*1\r\n$4\r\nping\r\n"))
	for _, want := range []string{"get", "ping"} {
		if _, name, err := redisProtocol.request(r); err != nil || name != want {
			t.Errorf("a command called %q, %v; want %q", name, err, want)
		}
	}
	if _, _, err := redisProtocol.request(r); err == nil {
		t.Error("the end of the connection is no error")
	}
	if got := string(redisProtocol.refusal(nil, serverError{text: "LOADING wait"})); got != "-LOADING wait\r\n" {
		t.Errorf("refused by %q", got)
	}
}

// message makes an OP_MSG.
func message(t *testing.T, id, flags uint32, document bson.D) []byte {
	t.Helper()
	body, err := bson.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	frame := make([]byte, mongoHeader+5, mongoHeader+5+len(body))
	binary.LittleEndian.PutUint32(frame[4:], id)
	binary.LittleEndian.PutUint32(frame[12:], opMsg)
	binary.LittleEndian.PutUint32(frame[mongoHeader:], flags)
	frame = append(frame, body...)
	binary.LittleEndian.PutUint32(frame, uint32(len(frame)))
	return frame
}

func TestMongoFrames(t *testing.T) {
	find := message(t, 7, 0, bson.D{{Key: "find", Value: "values"}})
	frame, name, err := mongoProtocol.request(bufio.NewReader(bytes.NewReader(find)))
	if err != nil || name != "find" || !bytes.Equal(frame, find) {
		t.Errorf("read %q, %v", name, err)
	}
	query := bytes.Clone(find)
	binary.LittleEndian.PutUint32(query[12:], 2004) // OP_QUERY
	if _, name, err = mongoProtocol.request(bufio.NewReader(bytes.NewReader(query))); err != nil || name != "hello" || !greetings[name] {
		t.Errorf("an OP_QUERY is called %q, %v", name, err)
	}
	for _, flags := range []uint32{0, moreToCome} {
		reply := message(t, 8, flags, bson.D{{Key: "ok", Value: 1}})
		if _, more, err := mongoProtocol.reply(bufio.NewReader(bytes.NewReader(reply))); err != nil || more != (flags != 0) {
			t.Errorf("flags %d: more is %t, %v", flags, more, err)
		}
	}
	if _, err := readMongo(bufio.NewReader(bytes.NewReader(make([]byte, 40)))); err == nil {
		t.Error("a message of no length is read")
	}
}

func TestMongoRefusal(t *testing.T) {
	request := message(t, 7, 0, bson.D{{Key: "find", Value: "values"}})
	frame, more, err := mongoProtocol.reply(bufio.NewReader(bytes.NewReader(mongoRefusal(request, serverError{6, "no host"}))))
	if err != nil || more {
		t.Fatal(more, err)
	}
	if id := binary.LittleEndian.Uint32(frame[8:]); id != 7 {
		t.Errorf("the refusal answers request %d", id)
	}
	var body struct {
		OK     float64 `bson:"ok"`
		Errmsg string  `bson:"errmsg"`
		Code   int     `bson:"code"`
	}
	if err := bson.Unmarshal(frame[mongoHeader+5:], &body); err != nil || body.OK != 0 || body.Code != 6 || body.Errmsg != "no host" {
		t.Errorf("the refusal says %+v, %v", body, err)
	}
}
