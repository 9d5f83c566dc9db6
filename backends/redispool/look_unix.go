//go:build unix

package redispool

import (
	"errors"
	"net"
	"syscall"
)

// lookInto returns a function that says, without waiting, whether conn is open and nothing has arrived; nil if conn is no socket of the
// kernel's. The function reads a byte if there is one: then nobody may use the connection any more. The function allocates nothing. One
// goroutine at a time may call it.
func lookInto(conn net.Conn) func() bool {
	s, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return nil
	}
	var (
		quiet  bool
		buffer [1]byte
	)
	read := func(fd uintptr) {
		_, err := syscall.Read(int(fd), buffer[:])
		quiet = errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR)
	}
	return func() bool {
		return raw.Control(read) == nil && quiet
	}
}
