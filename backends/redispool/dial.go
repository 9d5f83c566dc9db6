package redispool

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"time"
)

// keepAlive has the kernel find dead peers of connections that lie idle: after 30 s, then thrice every 5 s.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 5 * time.Second, Count: 3}

// dialer makes the sockets that go-redis is given.
type dialer struct {
	network, address string
	timeout          time.Duration
	tls              *tls.Config // nil without TLS
}

func newDialer(o Options) (*dialer, error) {
	d := &dialer{timeout: o.DialTimeout}
	var err error
	if d.network, d.address, err = o.network(); err != nil {
		return nil, err
	}
	if o.TLS == nil {
		return d, nil
	}
	host, _, err := net.SplitHostPort(d.address)
	if err != nil {
		return nil, fmt.Errorf("redispool: Address: %w", err)
	}
	d.tls, err = o.TLS.config(host)
	return d, err
}

// config reads the files. Its errors name the field and the file.
func (t *TLS) config(host string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	c.InsecureSkipVerify = t.InsecureSkipVerify // asked for by name; the field's doc says what it means
	if t.ServerName != "" {
		c.ServerName = t.ServerName
	}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("redispool: TLS.CAFile: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("redispool: TLS.CAFile is %q: there is no PEM certificate in it", t.CAFile)
		}
	}
	if t.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("redispool: TLS.CertFile %q with TLS.KeyFile %q: %w", t.CertFile, t.KeyFile, err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// dial connects within ctx and the timeout, TLS handshake included.
func (d *dialer) dial(ctx context.Context) (*socket, error) {
	if d.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.timeout)
		defer cancel()
	}
	nd := net.Dialer{KeepAliveConfig: keepAlive}
	raw, err := nd.DialContext(ctx, d.network, d.address)
	if err != nil {
		return nil, err
	}
	if d.tls == nil {
		return newSocket(raw, raw), nil
	}
	secure := tls.Client(raw, d.tls)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	return newSocket(secure, raw), nil
}
