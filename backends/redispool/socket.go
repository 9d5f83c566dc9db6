package redispool

import (
	"bytes"
	"errors"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// socket is the transport of a connection. go-redis reads and writes the socket like any net.Conn. The socket does three things without
// the knowledge of go-redis:
//
//   - The socket answers the first HELLO of go-redis. The driver has a handshake of its own, in a single round trip.
//   - Time may run out, or the use be interrupted, before the first byte of a reply has arrived. Then go-redis reads errors made by the
//     socket. So go-redis keeps the connection, and the caller returns at once. The socket knows how many replies are late (late.go).
//   - A stopped socket lets nobody wait: each deadline set by go-redis is in the past.
//   - The socket follows the replies, and holds back the last byte of the last reply until go-redis asks for the byte. So the socket knows
//     whether go-redis has read the replies to their end: an error or a null inside of an array makes some of go-redis' readers stop there,
//     and the next command would get the rest for an answer.
//
// The socket hides the transport's syscall.Conn. With protocol 3 go-redis would otherwise make two system calls around each command, to
// look for push messages. Push messages are read with the next reply all the same.
type socket struct {
	net.Conn
	raw net.Conn // the transport below TLS, or the same

	look func() bool // whether raw is open and nothing has arrived; nil if the transport cannot tell

	stopped atomic.Uint32 // by whom

	// The fields below belong to whoever has the turn.
	greeting bool    // go-redis has not sent its HELLO yet
	made     []byte  // what go-redis reads next, made here
	expected int     // replies to the commands in progress; 0: the connection is not kept when they are late
	answers  int     // made-up errors that go-redis reads for all of them
	sent     bool    // the commands in progress have been written, at least in part
	unsent   bool    // their time was up before the first byte was written; what go-redis writes is dropped
	heard    bool    // something has arrived since
	why      error   // why the socket has made up replies; nil if it has not
	late     skipper // the replies that nobody waits for
	replies  skipper // where in the replies to the commands in progress the socket is
	followed bool    // the number of these replies is known
	awaited  bool    // the end of these replies has not arrived
	untaken  bool    // nor has go-redis asked for the last byte
	held     []byte  // that byte, and the push messages behind it
	stray    bool    // something has arrived that nobody asked for
	writeBy  time.Time
	blocks   bool      // the commands in progress say how long they block
	readBy   time.Time // until when their replies are waited for; the zero Time: for ever
	opening  bool      // the handshake is in progress
}

func newSocket(conn, raw net.Conn) *socket {
	return &socket{Conn: conn, raw: raw, greeting: true, opening: true, look: lookInto(raw)}
}

// quiet says whether the transport is open and nothing has arrived. With TLS, bytes that have arrived and are not read are no reply either:
// a server sends what belongs to its handshake before its first reply.
func (s *socket) quiet() bool { return !s.stray && (s.look == nil || s.look()) }

var (
	helloReply = []byte("%0\r\n")
	lateReply  = []byte("-LATE\r\n")
	longAgo    = time.Unix(1, 0)
)

// expect prepares the socket for commands with so many replies. answers is how many errors go-redis reads before go-redis takes all the
// commands for answered. keep says whether the connection is kept when the replies are late; follow, whether the number of replies is right.
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

// misread says that go-redis has not read the replies to their end, or that something has arrived that nobody asked for.
func (s *socket) misread() bool { return s.followed && (s.untaken || s.stray) }

// Read reads the replies made here, else from the transport.
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
		// The stream is at a boundary: go-redis has written all, for go-redis reads only then, and nothing has arrived.
		s.late.expect(s.expected)
		s.makeUp(err)
		return s.Read(b)
	}
	return n, s.ended(err)
}

// follow finds the end of the replies in what has arrived, and returns how many of the bytes go-redis gets now: all but the last byte of the
// last reply and what follows.
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
		s.stray = true // go-redis gets all the same what it can read
	}
	if end == 0 || err != nil {
		return len(b)
	}
	s.held = append(s.held, b[end-1:]...)
	return end - 1
}

// takeHeld gives go-redis what was held back.
func (s *socket) takeHeld(b []byte) int {
	n := copy(b, s.held)
	s.held, s.untaken = s.held[:copy(s.held, s.held[n:])], false
	return n
}

// makeUp has go-redis read errors in place of replies. err is the reason.
func (s *socket) makeUp(err error) {
	s.why = err
	if s.stopped.Load() != 0 {
		s.why = errInterrupted
	}
	s.made = bytes.Repeat(lateReply, s.answers)
	s.expected = 0
	s.replies, s.followed = skipper{}, false
}

// ended is err, or net.ErrClosed if the use was interrupted in mid-reply or mid-command: the stream has no boundary there.
func (s *socket) ended(err error) error {
	if s.stopped.Load() != 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		s.abort()
		return net.ErrClosed
	}
	return err
}

// Write gives the peer's reason for hanging up, if the peer gave any. With TLS 1.3 a server refuses a client's certificate when the client has
// finished the handshake, so the first write can fail before anybody has read the refusal.
func (s *socket) Write(b []byte) (int, error) {
	if s.greeting {
		s.greeting, s.made = false, helloReply
		return len(b), nil
	}
	if s.unsent || !s.sent && s.Conn != s.raw && s.overdue() {
		s.unsent = true // a TLS connection does not survive a write that times out
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
	_ = s.SetReadDeadline(time.Now().Add(time.Second)) // it has arrived, or never will
	if _, reason := s.Conn.Read(make([]byte, 1)); isDisagreement(reason) {
		return n, reason
	}
	return n, err
}

// lastWords has go-redis read what the server said before it hung up, if anything: the reason, such as too many clients.
func (s *socket) lastWords() bool {
	if len(s.made) == 0 {
		_ = s.SetReadDeadline(time.Now().Add(time.Second)) // they have arrived, or never will
		words := make([]byte, 512)
		n, _ := s.Conn.Read(words)
		s.made = words[:n]
	}
	return len(s.made) > 0
}

// overdue says that nothing more may be written by now.
func (s *socket) overdue() bool {
	return s.stopped.Load() != 0 || !s.writeBy.IsZero() && !time.Now().Before(s.writeBy)
}

// SetDeadline sets both deadlines, unless the socket is stopped.
func (s *socket) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

// waitFor has the replies to the commands in progress waited for until then, whatever go-redis says.
func (s *socket) waitFor(until time.Time) { s.blocks, s.readBy = true, until }

// SetReadDeadline sets the deadline, unless the socket is stopped.
func (s *socket) SetReadDeadline(t time.Time) error {
	if s.blocks {
		t = s.readBy
	}
	err := s.Conn.SetReadDeadline(t)
	if s.stopped.Load() != 0 { // afterwards: stop may have come in between
		return s.Conn.SetReadDeadline(longAgo)
	}
	return err
}

// SetWriteDeadline sets the deadline, unless the socket is stopped.
func (s *socket) SetWriteDeadline(t time.Time) error {
	s.writeBy = t
	err := s.Conn.SetWriteDeadline(t)
	if s.stopped.Load() != 0 {
		return s.Conn.SetWriteDeadline(longAgo)
	}
	return err
}

// Who may stop a socket.
const (
	byUse     uint32 = 1 << iota // the pool, as the use's context is over
	byCommand                    // the command in progress, as its own is
)

// stop makes every call return until resume. The transport stays open.
func (s *socket) stop(by uint32) {
	s.stopped.Or(by)
	_ = s.Conn.SetDeadline(longAgo)
}

// resume undoes stop. No stop by the same may be in progress.
func (s *socket) resume(by uint32) {
	s.stopped.And(^by)
	_ = s.Conn.SetDeadline(time.Time{})
	if s.stopped.Load() != 0 { // afterwards: a stop by another may have come in between
		_ = s.Conn.SetDeadline(longAgo)
	}
}

// abort closes the transport, so that every call in progress returns at once. abort does not wait for the peer; Close of a TLS connection
// may.
func (s *socket) abort() { _ = s.raw.Close() }

var (
	// errRedial is what go-redis gets should it ever want a second socket for a resource.
	errRedial = errors.New("redispool: a connection is not dialled twice")
	// errInterrupted is the error of a command after an interrupt, when the connection is kept.
	errInterrupted = errors.New("interrupted")
)
