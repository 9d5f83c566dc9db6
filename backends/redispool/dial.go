package redispool

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"
)

// keepAlive makes the kernel find dead peers of idle connections. The first probe is sent after
// 30 s without traffic. 3 probes are sent, each 5 s after the last.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 5 * time.Second, Count: 3}

// dialer makes the sockets of connections.
type dialer struct {
	timeout time.Duration
	connect func(ctx context.Context, network, address string) (net.Conn, error)
	tls     *tlsFiles // nil without TLS
}

func newDialer(o Options, t *TLS) (*dialer, error) {
	d := &dialer{timeout: o.DialTimeout, connect: o.Dialer}
	if d.connect == nil {
		d.connect = (&net.Dialer{KeepAliveConfig: keepAlive}).DialContext
	}
	if t == nil {
		return d, nil
	}
	var err error
	d.tls, err = newTLSFiles(t)
	return d, err
}

// dial dials address, and does the TLS handshake if TLS is configured. ctx and the timeout bound
// both together.
func (d *dialer) dial(ctx context.Context, network, address string) (*socket, error) {
	if d.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.timeout)
		defer cancel()
	}
	raw, err := d.connect(ctx, network, address)
	if err == nil && raw == nil {
		err = errors.New("the Dialer returned neither a connection nor an error")
	}
	if err != nil {
		// A Dialer may return an error of any type.
		if _, ok := errors.AsType[*net.OpError](err); !ok {
			err = &net.OpError{Op: "dial", Net: network, Err: err}
		}
		return nil, err
	}
	if d.tls == nil {
		return newSocket(raw, raw), nil
	}
	host, _, _ := net.SplitHostPort(address) // made by JoinHostPort
	secure := tls.Client(raw, d.tls.config(host))
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	return newSocket(secure, raw), nil
}
