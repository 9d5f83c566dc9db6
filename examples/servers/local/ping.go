package local

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// pingPatience is the timeout of a ping.
const pingPatience = 2 * time.Second

// pingRedis sends a PING to the server at addr and expects a PONG.
func pingRedis(ctx context.Context, addr string) error {
	conn, err := dial(ctx, addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	// The command is in RESP, because miniredis has no inline commands.
	if _, err := io.WriteString(conn, "*1\r\n$4\r\nPING\r\n"); err != nil {
		return err
	}
	line, err := bufio.NewReader(io.LimitReader(conn, 512)).ReadString('\n')
	if err != nil {
		return err
	}
	if line != "+PONG\r\n" {
		return fmt.Errorf("PING was answered by %q", strings.TrimSpace(line))
	}
	return nil
}

// pingMongoDB runs the command ping on the server at addr.
func pingMongoDB(ctx context.Context, addr string) error {
	conn, err := dial(ctx, addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	request, err := mongoMessage(bson.D{{Key: "ping", Value: 1}, {Key: "$db", Value: "admin"}})
	if err != nil {
		return err
	}
	if _, err := conn.Write(request); err != nil {
		return err
	}
	return readMongoOK(conn)
}

// dial connects to addr for a single ping.
func dial(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: pingPatience}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return conn, conn.SetDeadline(time.Now().Add(pingPatience))
}

// The parts of an OP_MSG (MongoDB manual, "MongoDB Wire Protocol").
const (
	opMsg        = 2013
	headerBytes  = 16      // message length, request id, id of the request answered, opcode
	bodyKind     = 0       // a section with a single document
	maxReplySize = 1 << 20 // a reply to ping has about 30 bytes
)

// mongoMessage returns an OP_MSG with the command.
func mongoMessage(command bson.D) ([]byte, error) {
	doc, err := bson.Marshal(command)
	if err != nil {
		return nil, err
	}
	size := headerBytes + 4 + 1 + len(doc)
	msg := make([]byte, 0, size)
	for _, field := range []uint32{uint32(size), 1, 0, opMsg, 0} { // the last field is the flags
		msg = binary.LittleEndian.AppendUint32(msg, field)
	}
	return append(append(msg, bodyKind), doc...), nil
}

// readMongoOK reads the answer to a command. It returns an error unless the answer is ok.
func readMongoOK(r io.Reader) error {
	var header [headerBytes]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return err
	}
	size, opcode := binary.LittleEndian.Uint32(header[:]), binary.LittleEndian.Uint32(header[12:])
	if opcode != opMsg || size < headerBytes+5 || size > maxReplySize {
		return fmt.Errorf("ping was answered by a message of opcode %d and %d bytes", opcode, size)
	}
	body := make([]byte, size-headerBytes)
	if _, err := io.ReadFull(r, body); err != nil {
		return err
	}
	if body[4] != bodyKind {
		return fmt.Errorf("ping was answered by a section of kind %d", body[4])
	}
	doc := bson.Raw(body[5:])
	if err := doc.Validate(); err != nil {
		return err
	}
	if ok, isNumber := doc.Lookup("ok").AsFloat64OK(); !isNumber || ok != 1 {
		return errors.New("ping was answered by an error")
	}
	return nil
}
