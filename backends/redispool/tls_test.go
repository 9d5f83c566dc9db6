package redispool_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/earnorm/poolstack/backends/redispool"
	"github.com/earnorm/poolstack/pool"
)

// authority signs certificates, and keeps everything in files.
type authority struct {
	dir  string
	file string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.file, _, a.key = a.write(t, "ca", a.cert)
	return a
}

// issue makes a certificate for a host, and for a client.
func (a *authority) issue(t *testing.T, name, host string, notAfter time.Time) (certFile, keyFile string) {
	t.Helper()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotAfter: notAfter,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		c.IPAddresses = []net.IP{ip}
	} else {
		c.DNSNames = []string{host}
	}
	certFile, keyFile, _ = a.write(t, name, c)
	return certFile, keyFile
}

// write makes a key and signs c with the authority's key. The first certificate is signed with its
// own key.
func (a *authority) write(t *testing.T, name string, c *x509.Certificate) (certFile, keyFile string, key *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer := a.key
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return a.save(t, name+".crt", "CERTIFICATE", der), a.save(t, name+".key", "PRIVATE KEY", keyDER), key
}

func (a *authority) save(t *testing.T, name, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// launchTLS starts a server with a further port for TLS.
func launchTLS(t *testing.T, a *authority, certFile, keyFile string, args ...string) (addr string) {
	t.Helper()
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	launch(t, append([]string{
		"--tls-port", strconv.Itoa(port), "--tls-cert-file", certFile, "--tls-key-file", keyFile, "--tls-ca-cert-file", a.file,
	}, args...)...)
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

func TestTLS(t *testing.T) {
	need(t)
	a, stranger := newAuthority(t, "ours"), newAuthority(t, "stranger")
	hour := time.Now().Add(time.Hour)
	byIP := func(args ...string) string {
		cert, key := a.issue(t, "byip", "127.0.0.1", hour)
		return launchTLS(t, a, cert, key, args...)
	}
	plain, mutual := byIP("--tls-auth-clients", "no"), byIP()
	cert, key := a.issue(t, "byname", "redis.test", hour)
	named := launchTLS(t, a, cert, key, "--tls-auth-clients", "no")
	cert, key = a.issue(t, "expired", "127.0.0.1", time.Now().Add(-time.Minute))
	expired := launchTLS(t, a, cert, key, "--tls-auth-clients", "no")
	clientCert, clientKey := a.issue(t, "client", "client", hour)
	strangerCert, strangerKey := stranger.issue(t, "stranger", "client", hour)

	for _, test := range []struct {
		name, addr string
		tls        *redispool.TLS
		want       string // of the error; "" for none
	}{
		{"verified", plain, &redispool.TLS{CAFile: a.file}, ""},
		{"an authority nobody knows", plain, &redispool.TLS{}, "unknown authority"},
		{"another authority", plain, &redispool.TLS{CAFile: stranger.file}, "unknown authority"},
		{"not verified", plain, &redispool.TLS{InsecureSkipVerify: true}, ""},
		{"another host", named, &redispool.TLS{CAFile: a.file}, "doesn't contain any IP SANs"},
		{"the host's name", named, &redispool.TLS{CAFile: a.file, ServerName: "redis.test"}, ""},
		{"another name", named, &redispool.TLS{CAFile: a.file, ServerName: "other.test"}, "not other.test"},
		{"expired", expired, &redispool.TLS{CAFile: a.file}, "expired"},
		{"client certificate", mutual, &redispool.TLS{CAFile: a.file, CertFile: clientCert, KeyFile: clientKey}, ""},
		{"no client certificate", mutual, &redispool.TLS{CAFile: a.file}, "certificate required"},
		{"a stranger's client certificate", mutual, &redispool.TLS{CAFile: a.file, CertFile: strangerCert, KeyFile: strangerKey},
			"unknown certificate authority"},
	} {
		t.Run(test.name, func(t *testing.T) {
			opts := redispool.Options{Address: test.addr, TLS: test.tls, Password: ""}
			err := using(t, opts, func(ctx context.Context, c *redispool.Conn) error { return c.Set(ctx, "k", "v", 0).Err() })
			if test.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
			if got := newDriver(t, opts).Classify(err); got != unfit {
				t.Errorf("the class of %v is %+v, want %+v", err, got, unfit)
			}
		})
	}
	t.Run("interrupted", func(t *testing.T) {
		p := open(t, redispool.Options{Address: plain, TLS: &redispool.TLS{CAFile: a.file}}, pool.Config{MaxSize: 1})
		took := interrupt(t, p, "BLPOP", func(ctx context.Context, c *redispool.Conn) error {
			return c.BLPop(ctx, 10*time.Second, "nothing").Err()
		})
		if took > time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// Errors about files name the field and the file.
func TestTLSFiles(t *testing.T) {
	a := newAuthority(t, "ours")
	cert, key := a.issue(t, "client", "client", time.Now().Add(time.Hour))
	_, other := a.issue(t, "other", "client", time.Now().Add(time.Hour))
	for _, test := range []struct {
		tls         redispool.TLS
		field, file string
	}{
		{redispool.TLS{CAFile: "/no/ca.pem"}, "TLS.CAFile", "/no/ca.pem"},
		{redispool.TLS{CAFile: key}, "TLS.CAFile", key},
		{redispool.TLS{CertFile: "/no/c.pem", KeyFile: key}, "TLS.CertFile", "/no/c.pem"},
		{redispool.TLS{CertFile: cert, KeyFile: "/no/k.pem"}, "TLS.KeyFile", "/no/k.pem"},
		{redispool.TLS{CertFile: cert, KeyFile: other}, "TLS.KeyFile", other},
	} {
		_, err := redispool.NewDriver(redispool.Options{TLS: &test.tls})
		if err == nil || !strings.Contains(err.Error(), test.field) || !strings.Contains(err.Error(), test.file) {
			t.Errorf("%+v: %v", test.tls, err)
		}
		if strings.Contains(fmt.Sprint(err), "PRIVATE KEY") {
			t.Errorf("the key is in %v", err)
		}
	}
}

// Certificates are replaced while the program runs, and the next connection uses the new
// certificates. Files that do not fit together yet are not used.
func TestRotatedCertificates(t *testing.T) {
	need(t)
	a, stranger := newAuthority(t, "ours"), newAuthority(t, "stranger")
	hour := time.Now().Add(time.Hour)
	cert, key := a.issue(t, "server", "127.0.0.1", hour)
	addr := launchTLS(t, a, cert, key)
	goodCert, goodKey := a.issue(t, "client", "client", hour)
	badCert, badKey := stranger.issue(t, "client", "client", hour)
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	put := func(name, from string) {
		t.Helper()
		data, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(path(name)+".new", data, 0o600)
		}
		if err == nil {
			err = os.Rename(path(name)+".new", path(name))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	put("ca", stranger.file)
	put("cert", badCert)
	put("key", badKey)
	d := newDriver(t, redispool.Options{Address: addr, TLS: &redispool.TLS{CAFile: path("ca"), CertFile: path("cert"), KeyFile: path("key")}})
	try := func() error {
		c, err := d.Open(t.Context())
		if err == nil {
			err = d.Close(t.Context(), c)
		}
		return err
	}
	expect := func(what, want string) {
		t.Helper()
		if err := try(); want == "" && err != nil || want != "" && !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%s: %v, want %q", what, err, want)
		}
	}
	expect("another authority", "unknown authority")
	put("ca", a.file)
	expect("another's certificate", "unknown certificate authority")
	put("cert", goodCert)
	expect("a key that does not fit", "unknown certificate authority")
	put("key", goodKey)
	expect("all in place", "")
	put("key", badKey)
	expect("half replaced", "")
	if err := os.Remove(path("cert")); err != nil {
		t.Fatal(err)
	}
	expect("a file is gone", "")
}

// A tls.Config of the caller's is the base of the configuration.
func TestTLSConfig(t *testing.T) {
	need(t)
	a := newAuthority(t, "ours")
	hour := time.Now().Add(time.Hour)
	cert, key := a.issue(t, "server", "redis.test", hour)
	addr := launchTLS(t, a, cert, key)
	clientCert, clientKey := a.issue(t, "client", "client", hour)
	pair, err := tls.LoadX509KeyPair(clientCert, clientKey)
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	config := &tls.Config{ServerName: "redis.test", GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		asked++
		return &pair, nil
	}}
	if err := opening(t, redispool.Options{Address: addr, TLS: &redispool.TLS{CAFile: a.file, Config: config}}); err != nil || asked != 1 {
		t.Errorf("%v; the certificate was asked for %d times", err, asked)
	}
	if config.RootCAs != nil {
		t.Error("the caller's own was changed")
	}
}
