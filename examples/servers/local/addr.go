package local

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// Ports of servers and proxies are below the kernels' ranges for outgoing connections (from 32768
// on Linux, from 49152 on other systems). While a server is down, its port is free. An outgoing
// connection on the port would prevent the server's restart. If the connection dials the same port,
// it connects to itself (RFC 9293, simultaneous open) and reads its own requests as answers.
const (
	lowestPort  = 20000
	highestPort = 31999
)

// FreeAddr returns a loopback address 127.0.0.1:PORT without a listener. The kernel does not use
// the port for outgoing connections. Another process may take the port before the caller does.
// FreeAddr may be called concurrently.
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
