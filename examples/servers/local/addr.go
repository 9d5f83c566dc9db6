package local

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// Ports of servers and proxies come from below those that kernels give to outgoing connections (Linux from 32768, others from 49152).
// While a server is down its port is nobody's: an outgoing connection that got it would keep the server from coming back, and one that
// was given the very port it dials would be connected to itself (RFC 9293, simultaneous open) and hear its own requests as answers.
const (
	lowestPort  = 20000
	highestPort = 31999
)

// FreeAddr returns a loopback address, 127.0.0.1:PORT, that nobody listens on; no outgoing connection is given that port. Somebody may
// take it before the caller does. It may be called concurrently.
func FreeAddr() (string, error) {
	var errs []error
	for range 50 {
		addr := fmt.Sprintf("127.0.0.1:%d", lowestPort+rand.IntN(highestPort-lowestPort+1))
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		return addr, ln.Close()
	}
	return "", fmt.Errorf("no free port between %d and %d: %w", lowestPort, highestPort, errors.Join(errs...))
}
