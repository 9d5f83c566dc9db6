package redispool

import (
	"bytes"
	"errors"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// socket is the transport of a connection. go-redis reads and writes the socket like any net.Conn.
// The socket does four things unknown to go-redis:
//
//   - The socket itself answers the first HELLO of go-redis. The driver does its own handshake, in
//     a single round trip.
//   - Time may run out, or the use may be interrupted, before the first byte of a reply has
//     arrived. Then go-redis reads errors made by the socket. So go-redis keeps the connection, and
//     the caller returns at once. The socket counts the late replies (late.go).
//   - A stopped socket lets no caller wait: each deadline set by go-redis is replaced by a time in
//     the past.
//   - The socket tracks the replies, and holds back the last byte of the last reply until go-redis
//     asks for this byte. So the socket can tell whether go-redis has read the replies to their
//     end. Some readers of go-redis stop at an error or a null in an array. Without this test, the
//     next command would read the rest as its reply.
//
// The socket hides the syscall.Conn of the transport. With protocol 3, go-redis would otherwise
// make two system calls around each command to look for push messages. go-redis still reads push
// messages together with the next reply.
type socket struct {
	net.Conn
	raw net.Conn // the transport below TLS; the same as Conn without TLS

	look func() bool // made by lookInto; may be nil

	stopped atomic.Uint32 // byUse, byCommand or both; 0 if not stopped

	// The fields below are guarded by the turn (Conn.turn).
	greeting bool    // go-redis has not sent its HELLO yet
	made     []byte  // bytes made by the socket, which go-redis reads next
	expected int     // replies in progress; 0: the connection is not kept if they are late
	answers  int     // the number of errors to make in place of these replies
	sent     bool    // the commands in progress have been written, at least in part
	unsent   bool    // time ran out before the first byte was written; writes are dropped
	heard    bool    // a byte has arrived since the last write
	why      error   // why the socket has made errors; nil if it has not
	late     skipper // the late replies
	replies  skipper // the position in the replies in progress
	followed bool    // the number of the replies in progress is known
	awaited  bool    // the end of the replies in progress has not arrived
	untaken  bool    // go-redis has not asked for the last byte
	held     []byte  // the last byte, and the push messages behind it
	stray    bool    // bytes have arrived without a request
	writeBy  time.Time
	blocks   bool      // the commands in progress have a block time
	readBy   time.Time // the deadline if blocks is true; the zero Time: none
	opening  bool      // the handshake is in progress
}

func newSocket(conn, raw net.Conn) *socket {
	return &socket{Conn: conn, raw: raw, greeting: true, opening: true, look: lookInto(raw)}
}

// quiet reports whether the transport is open and no bytes have arrived. This test is right with
// TLS as well: a server sends the messages of its handshake before its first reply, so a byte that
// arrives later is unexpected.
func (s *socket) quiet() bool { return !s.stray && (s.look == nil || s.look()) }

var (
	helloReply = []byte("%0\r\n")
	lateReply  = []byte("-LATE\r\n")
	longAgo    = time.Unix(1, 0)
)

// expect prepares the socket for commands with the given number of replies. After as many errors as
// answers, go-redis treats all commands as answered. keep is true if the connection is kept when
// the replies are late. follow is true if the number of replies is exact.
func (s *socket) expect(replies, answers int, keep, follow bool) {
	s.expected, s.answers, s.why = replies, answers, nil
	if !keep {
		s.expected = 0
	}
	s.sent, s.unsent, s.heard, s.blocks = false, false, false, false
	if s.followed = follow; follow {
		s.replies.expect(replies)
		s.awaited, s.untaken = true, true
	}
}

// misread reports whether go-redis has not read the replies to their end, or bytes have arrived
// without a request.
func (s *socket) misread() bool { return s.followed && (s.untaken || s.stray) }

// Read returns the bytes made by the socket first, and then reads from the transport.
func (s *socket) Read(b []byte) (int, error) {
	if len(s.made) > 0 {
		n := copy(b, s.made)
		s.made = s.made[n:]
		return n, nil
	}
	if s.unsent && s.why == nil {
		s.makeUp(os.ErrDeadlineExceeded)
		return s.Read(b)
	}
	if len(s.held) > 0 {
		return s.takeHeld(b), nil
	}
	n, err := s.Conn.Read(b)
	switch {
	case err == nil || n > 0:
		s.heard = true
		if s.followed {
			n = s.follow(b[:n])
		}
		if n == 0 {
			n = s.takeHeld(b)
		}
		return n, err
	case errors.Is(err, os.ErrDeadlineExceeded) && s.sent && !s.heard && s.expected > 0:
		// The stream is between replies: no byte has arrived. go-redis has written everything, because it
		// reads only afterwards.
		s.late.expect(s.expected)
		s.makeUp(err)
		return s.Read(b)
	}
	return n, s.ended(err)
}

// follow looks for the end of the replies in b. It returns the number of bytes for go-redis. The
// last byte of the last reply and the bytes behind it are held back.
func (s *socket) follow(b []byte) int {
	rest, err := b, error(nil)
	end := 0
	if s.awaited {
		if rest, err = s.replies.feed(b); err == nil && !s.replies.idle() {
			return len(b)
		}
		s.awaited, end = false, len(b)-len(rest)
	}
	for len(rest) > 0 && err == nil {
		rest, err = s.replies.feedPush(rest)
	}
	if err != nil {
		s.stray = true // go-redis gets the bytes nevertheless
	}
	if end == 0 || err != nil {
		return len(b)
	}
	s.held = append(s.held, b[end-1:]...)
	return end - 1
}

// takeHeld copies the bytes held back to b.
func (s *socket) takeHeld(b []byte) int {
	n := copy(b, s.held)
	s.held, s.untaken = s.held[:copy(s.held, s.held[n:])], false
	return n
}

// makeUp makes go-redis read errors in place of replies. err is the reason.
func (s *socket) makeUp(err error) {
	s.why = err
	if s.stopped.Load() != 0 {
		s.why = errInterrupted
	}
	s.made = bytes.Repeat(lateReply, s.answers)
	s.expected = 0
	s.replies, s.followed = skipper{}, false
}

// ended returns net.ErrClosed and closes the transport if the socket was stopped inside a reply or
// a command. Such a connection cannot be used again, because its stream is not between replies.
// Otherwise ended returns err.
func (s *socket) ended(err error) error {
	if s.stopped.Load() != 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		s.abort()
		return net.ErrClosed
	}
	return err
}

// Write writes to the transport. After an error it returns the reason given by the peer, if there
// is a reason. With TLS 1.3 a server refuses a client's certificate after the client has finished
// the handshake. So the first write may fail before the client has read the refusal.
func (s *socket) Write(b []byte) (int, error) {
	if s.greeting {
		s.greeting, s.made = false, helloReply
		return len(b), nil
	}
	if s.unsent || !s.sent && s.Conn != s.raw && s.overdue() {
		// A write that times out breaks a TLS connection.
		s.unsent = true
		return len(b), nil
	}
	n, err := s.Conn.Write(b)
	if err == nil {
		s.sent, s.heard = true, false
		return n, nil
	}
	if n == 0 && !s.sent && s.Conn == s.raw && s.overdue() {
		s.unsent = true
		return len(b), nil
	}
	if s.opening && s.Conn == s.raw && s.lastWords() {
		return len(b), nil
	}
	if s.Conn == s.raw || errors.Is(err, os.ErrDeadlineExceeded) {
		return n, s.ended(err)
	}
	_ = s.SetReadDeadline(time.Now().Add(time.Second)) // the refusal has arrived, or never will
	if _, reason := s.Conn.Read(make([]byte, 1)); isDisagreement(reason) {
		return n, reason
	}
	return n, err
}

// lastWords makes go-redis read the last words of the server before it hung up, such as the error
// "max number of clients". It reports whether there are any.
func (s *socket) lastWords() bool {
	if len(s.made) == 0 {
		_ = s.SetReadDeadline(time.Now().Add(time.Second)) // the words have arrived, or never will
		words := make([]byte, 512)
		n, _ := s.Conn.Read(words)
		s.made = words[:n]
	}
	return len(s.made) > 0
}

// overdue reports whether the time for writing has passed.
func (s *socket) overdue() bool {
	return s.stopped.Load() != 0 || !s.writeBy.IsZero() && !time.Now().Before(s.writeBy)
}

// SetDeadline sets both deadlines, unless the socket is stopped.
func (s *socket) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

// waitFor sets the deadline for the replies in progress. It overrides the deadlines set by
// go-redis.
func (s *socket) waitFor(until time.Time) { s.blocks, s.readBy = true, until }

// SetReadDeadline sets the deadline of reads, unless the socket is stopped. waitFor overrides t.
func (s *socket) SetReadDeadline(t time.Time) error {
	if s.blocks {
		t = s.readBy
	}
	err := s.Conn.SetReadDeadline(t)
	if s.stopped.Load() != 0 { // afterwards, because stop may run concurrently
		return s.Conn.SetReadDeadline(longAgo)
	}
	return err
}

// SetWriteDeadline sets the deadline of writes, unless the socket is stopped.
func (s *socket) SetWriteDeadline(t time.Time) error {
	s.writeBy = t
	err := s.Conn.SetWriteDeadline(t)
	if s.stopped.Load() != 0 {
		return s.Conn.SetWriteDeadline(longAgo)
	}
	return err
}

// The parties that may stop a socket.
const (
	byUse     uint32 = 1 << iota // the pool: the context of the use is done
	byCommand                    // the command in progress: its own context is done
)

// stop makes every call return at once until resume is called. The transport stays open.
func (s *socket) stop(by uint32) {
	s.stopped.Or(by)
	_ = s.Conn.SetDeadline(longAgo)
}

// resume undoes a stop by the same party. No stop by this party may run concurrently.
func (s *socket) resume(by uint32) {
	s.stopped.And(^by)
	_ = s.Conn.SetDeadline(time.Time{})
	if s.stopped.Load() != 0 { // afterwards, because another party may stop concurrently
		_ = s.Conn.SetDeadline(longAgo)
	}
}

// abort closes the transport, so every call in progress returns at once. abort does not wait for
// the peer. Close of a TLS connection may wait.
func (s *socket) abort() { _ = s.raw.Close() }

var (
	// errRedial is the error if go-redis dials a second socket for a connection.
	errRedial = errors.New("redispool: a connection is not dialled twice")
	// errInterrupted is the error of an interrupted command if the connection is kept.
	errInterrupted = errors.New("interrupted")
)
