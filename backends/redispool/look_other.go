//go:build !unix

package redispool

import "net"

// lookInto returns nil: on this system only a blocking read can find out.
func lookInto(net.Conn) func() bool { return nil }
