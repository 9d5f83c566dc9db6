package redispool

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
)

// skipper finds the end of a number of replies in a stream of bytes, and keeps nothing of the replies. The skipper knows both versions of
// the protocol (https://redis.io/docs/latest/develop/reference/protocol-spec/) but for streamed values: no server sends streamed values.
//
// The skipper counts: an aggregate makes as many values due as its header says, so nesting costs no memory. A push message and the
// attributes before a value are no replies: their contents become due, and nothing else changes.
//
// The zero skipper waits for nothing.
type skipper struct {
	due  int64  // values still to come
	bulk int64  // bytes of the present value still to come, its end of line included
	line []byte // the beginning of a header, without its end
}

const (
	longestLine = 1 << 16 // of a header, or of a reply that is a line
	longestBulk = 1 << 32 // bytes: eight times what a server lets through by default
	mostValues  = 1 << 40 // in all replies together
	longestSize = 20      // digits
)

// expect makes so many replies due.
func (s *skipper) expect(replies int) { s.due += int64(replies) }

// idle says that nothing is due.
func (s *skipper) idle() bool { return s.due == 0 && s.bulk == 0 && len(s.line) == 0 }

// feed takes the next bytes, and returns the bytes behind the replies. After an error the stream is lost.
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

// feedPush takes the bytes of push messages where no reply is due, as far as a message begins or continues there.
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

// header takes a whole line: a value, or how many bytes or values follow.
func (s *skipper) header(line []byte) error {
	if len(line) < 3 || line[len(line)-2] != '\r' {
		return fmt.Errorf("%.16q is no line of a reply", line)
	}
	switch kind := line[0]; kind {
	case '+', '-', ':', '_', ',', '#', '(': // a simple string, an error, an integer, null, a double, a boolean, a big number
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

// size reads the number in a header; -1 stands for null.
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
