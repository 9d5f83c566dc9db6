package redispool

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
)

// skipper finds the end of a given number of replies in a stream of bytes, and stores nothing of
// the replies. The skipper supports both versions of the protocol
// (https://redis.io/docs/latest/develop/reference/protocol-spec/), with the exception of streamed
// values. No server sends streamed values.
//
// The skipper counts values. The header of an aggregate adds the number of its values to the values
// due, so nesting needs no memory. A push message, and the attributes before a value, are not
// replies: only their contents are added.
//
// The zero skipper waits for nothing.
type skipper struct {
	due  int64  // the number of values to come
	bulk int64  // the bytes to come of the present value, with the end of line
	line []byte // the beginning of an incomplete header
}

const (
	longestLine = 1 << 16 // bytes in a header, or in a reply of a single line
	longestBulk = 1 << 32 // bytes: 8 times the default limit of a server
	mostValues  = 1 << 40 // values in all replies together
	longestSize = 20      // digits
)

// expect adds replies to the values due.
func (s *skipper) expect(replies int) { s.due += int64(replies) }

// idle reports whether nothing is due.
func (s *skipper) idle() bool { return s.due == 0 && s.bulk == 0 && len(s.line) == 0 }

// feed reads b, and returns the bytes behind the replies. After an error the position in the stream
// is unknown.
func (s *skipper) feed(b []byte) (rest []byte, err error) {
	for len(b) > 0 && !s.idle() {
		if s.bulk > 0 {
			n := min(s.bulk, int64(len(b)))
			s.bulk -= n
			b = b[n:]
			continue
		}
		end := bytes.IndexByte(b, '\n')
		if len(s.line)+max(end, 0) > longestLine || end < 0 && len(s.line)+len(b) > longestLine {
			return nil, errors.New("a line of a reply is too long")
		}
		if end < 0 {
			s.line = append(s.line, b...)
			return nil, nil
		}
		line := b[:end+1]
		if len(s.line) > 0 {
			s.line = append(s.line, line...)
			line = s.line
		}
		b = b[end+1:]
		if err := s.header(line); err != nil {
			return nil, err
		}
		s.line = s.line[:0]
	}
	return b, nil
}

// feedPush reads push messages while no reply is due, and returns the bytes behind the messages. b
// may begin inside a message.
func (s *skipper) feedPush(b []byte) (rest []byte, err error) {
	if s.idle() {
		if b[0] != '>' {
			return b, errors.New("nobody has asked for what has arrived")
		}
		s.line = append(s.line, '>')
		b = b[1:]
	}
	return s.feed(b)
}

// header reads a whole line: a value, or the number of bytes or values that follow.
func (s *skipper) header(line []byte) error {
	if len(line) < 3 || line[len(line)-2] != '\r' {
		return fmt.Errorf("%.16q is no line of a reply", line)
	}
	switch kind := line[0]; kind {
	// A simple string, an error, an integer, null, a double, a boolean, a big number.
	case '+', '-', ':', '_', ',', '#', '(':
		s.due--
	case '$', '=', '!': // a string, a verbatim string, an error
		n, err := size(line)
		if err != nil || n > longestBulk {
			return fmt.Errorf("%.16q is no size of a string", line)
		}
		s.due--
		if n >= 0 {
			s.bulk = n + int64(len("\r\n"))
		}
	case '*', '~', '%', '>', '|': // an array, a set, a map, a push, an attribute
		n, err := size(line)
		if err != nil || n > mostValues {
			return fmt.Errorf("%.16q is no size of an aggregate", line)
		}
		n = max(n, 0)
		if kind == '%' || kind == '|' {
			n *= 2
		}
		if kind != '>' && kind != '|' {
			s.due--
		}
		if s.due += n; s.due > mostValues {
			return errors.New("the replies hold too many values")
		}
	default:
		return fmt.Errorf("%.16q is no line of a reply", line)
	}
	return nil
}

// size parses the number in a header. -1 means null.
func size(line []byte) (int64, error) {
	digits := line[1 : len(line)-2]
	if len(digits) > longestSize {
		return 0, strconv.ErrRange
	}
	n, err := strconv.ParseInt(string(digits), 10, 64)
	if err == nil && (n < -1 || n > math.MaxInt64/4) {
		err = strconv.ErrRange
	}
	return n, err
}
