//go:build unix

package redispool

import (
	"errors"
	"net"
	"syscall"
)

// lookInto returns a function that reports, without waiting, whether conn is open and no byte has
// arrived. lookInto returns nil if conn is not a socket of the kernel. If a byte has arrived, the
// function reads the byte, and the connection must not be used any more. The function does not
// allocate. A single goroutine may call the function at a time.
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
