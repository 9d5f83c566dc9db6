package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A protocol finds the messages in the byte stream of a connection.
type protocol struct {
	// request reads a message of the client and returns the name of its command in lower case.
	request func(r *bufio.Reader) (frame []byte, name string, err error)
	// reply reads a message of the server. The result more reports whether another message belongs to
	// the same reply.
	reply func(r *bufio.Reader) (frame []byte, more bool, err error)
	// refusal returns an error reply to the request.
	refusal func(request []byte, e serverError) []byte
}

// A serverError is a server's error reply.
type serverError struct {
	code int    // of MongoDB only
	text string // begins with the code in Redis
}

// greetings are the commands at the beginning of a connection. Greetings are part of the dial and
// are not counted as commands.
var greetings = map[string]bool{
	// Redis.
	"hello": true, "client": true, "auth": true, "select": true, "command": true, "config": true,
	"ismaster": true, "saslstart": true, "saslcontinue": true, // MongoDB
}

// work are the commands of uses.
var work = map[string]bool{"get": true, "set": true, "incr": true, "find": true, "update": true, "insert": true}

// largest bounds the length of a message.
const largest = 64 << 20

// redisProtocol is RESP, versions 2 and 3.
var redisProtocol = protocol{
	request: func(r *bufio.Reader) ([]byte, string, error) {
		frame, _, err := readRESP(r, nil)
		return frame, respName(frame), err
	},
	reply: func(r *bufio.Reader) ([]byte, bool, error) {
		frame, kind, err := readRESP(r, nil)
		// Pushed messages and attributes come before the reply.
		return frame, kind == '>' || kind == '|', err
	},
	refusal: func(_ []byte, e serverError) []byte { return []byte("-" + e.text + "\r\n") },
}

// readRESP appends a value to frame and returns the value's first byte.
func readRESP(r *bufio.Reader, frame []byte) (_ []byte, kind byte, err error) {
	line, err := r.ReadBytes('\n')
	if err != nil {
		return frame, 0, err
	}
	frame = append(frame, line...)
	if len(line) < 3 {
		return frame, 0, fmt.Errorf("a line of %d bytes where RESP has a value", len(line))
	}
	kind = line[0]
	values := 0
	switch kind {
	case '$', '!', '=', '*', '~', '>', '%', '|':
		if values, err = strconv.Atoi(string(bytes.TrimSpace(line[1:]))); err != nil || values > largest {
			return frame, 0, fmt.Errorf("%q where RESP has a length", line)
		}
	}
	switch kind {
	case '$', '!', '=':
		if values < 0 { // a null
			return frame, kind, nil
		}
		from := len(frame)
		frame = append(frame, make([]byte, values+2)...)
		_, err = io.ReadFull(r, frame[from:])
		return frame, kind, err
	case '%', '|':
		values *= 2
	}
	for range values {
		if frame, _, err = readRESP(r, frame); err != nil {
			return frame, kind, err
		}
	}
	return frame, kind, nil
}

// respName returns the first word of a command: *2\r\n$3\r\nget\r\n...
func respName(frame []byte) string {
	lines := bytes.SplitN(frame, []byte("\r\n"), 4)
	if len(lines) < 4 {
		return ""
	}
	return strings.ToLower(string(lines[2]))
}

// mongoProtocol is the wire protocol of MongoDB.
var mongoProtocol = protocol{
	request: func(r *bufio.Reader) ([]byte, string, error) {
		frame, err := readMongo(r)
		return frame, mongoName(frame), err
	},
	reply: func(r *bufio.Reader) ([]byte, bool, error) {
		frame, err := readMongo(r)
		return frame, err == nil && opcode(frame) == opMsg && binary.LittleEndian.Uint32(frame[16:])&moreToCome != 0, err
	},
	refusal: mongoRefusal,
}

const (
	mongoHeader = 16 // length, id, id of the request, opcode
	opMsg       = 2013
	moreToCome  = 1 << 1
)

func readMongo(r *bufio.Reader) ([]byte, error) {
	head, err := r.Peek(4)
	if err != nil {
		return nil, err
	}
	size := binary.LittleEndian.Uint32(head)
	if size < mongoHeader+5 || size > largest {
		return nil, fmt.Errorf("a message of %d bytes", size)
	}
	frame := make([]byte, size)
	_, err = io.ReadFull(r, frame)
	return frame, err
}

func opcode(frame []byte) uint32 { return binary.LittleEndian.Uint32(frame[12:]) }

// mongoName returns the name of the first element in the body of an OP_MSG. Drivers use the older
// OP_QUERY only for the greeting.
func mongoName(frame []byte) string {
	if len(frame) < mongoHeader {
		return ""
	}
	if opcode(frame) != opMsg {
		return "hello"
	}
	// The name follows the flags, the section's kind, the document's length and the element's type.
	const name = mongoHeader + 4 + 1 + 4 + 1
	if len(frame) <= name || frame[mongoHeader+4] != 0 {
		return ""
	}
	text, _, _ := bytes.Cut(frame[name:], []byte{0})
	return strings.ToLower(string(text))
}

// mongoRefusal returns an error reply to a request.
func mongoRefusal(request []byte, e serverError) []byte {
	body, err := bson.Marshal(bson.D{{Key: "ok", Value: 0.0}, {Key: "errmsg", Value: e.text}, {Key: "code", Value: e.code}})
	if err != nil {
		panic(err) // cannot happen: three plain values
	}
	frame := make([]byte, mongoHeader+4+1, mongoHeader+5+len(body))
	copy(frame[8:12], request[4:8]) // the id of the request
	binary.LittleEndian.PutUint32(frame[12:], opMsg)
	frame = append(frame, body...)
	binary.LittleEndian.PutUint32(frame, uint32(len(frame)))
	return frame
}
