//go:build !unix

package redispool

import "net"

// lookInto returns nil: here only a read that waits could tell.
func lookInto(net.Conn) func() bool { return nil }
