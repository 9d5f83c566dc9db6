package mongopool

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
)

var (
	welcome = reply{doc: bson.D{
		{Key: "ok", Value: 1}, {Key: "conversationId", Value: 1}, {Key: "done", Value: true}, {Key: "payload", Value: []byte{}},
	}}
	notWelcome = reply{doc: bson.D{
		{Key: "ok", Value: 0}, {Key: "code", Value: authenticationFailed}, {Key: "errmsg", Value: "Authentication failed."},
	}}
)

// logins returns the user names and passwords that have arrived by PLAIN (RFC 4616). A NUL is
// before each name and each password.
func (f *fakeServer) logins() (logins []string) {
	for _, c := range f.commands("saslStart") {
		_, payload := c.doc.Lookup("payload").Binary()
		logins = append(logins, string(payload))
	}
	return logins
}

func TestCredentialsAreAskedAgain(t *testing.T) {
	f := newFake(t)
	f.script("saslStart", welcome)
	var asked atomic.Int64
	d, p := newPool(t, Options{
		Hosts: []string{f.address}, Database: "test", AuthMechanism: "PLAIN", AuthSource: "$external",
		Credentials: func(context.Context) (string, string, error) {
			return "app", fmt.Sprintf("s3cret%d", asked.Add(1)), nil
		},
		// OpenConcurrency is 1, so a late dial is not followed by another dial.
	}, pool.Config{MaxSize: 3, OpenConcurrency: 1})
	if err := p.Warm(bounded(t), 1); err != nil {
		t.Fatal(err)
	}
	f.script("saslStart", notWelcome) // the password has been changed
	err := p.Warm(bounded(t), 2)
	want := driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatNever, Code: "18"}
	if class := d.Classify(err); class != want {
		t.Errorf("the class of %v is %+v, want %+v", err, class, want)
	}
	if err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("the error shows the password, or is nil: %v", err)
	}
	f.script("saslStart", welcome)
	if err := p.Warm(bounded(t), 3); err != nil {
		t.Fatal(err)
	}
	logins := f.logins()
	if n := asked.Load(); n != 2 || logins[0] != "\x00app\x00s3cret1" || !slices.Contains(logins, "\x00app\x00s3cret2") {
		t.Errorf("asked %d times, logins %q, want 2 times, first with one password and then with the other", n, logins)
	}
	for range 3 { // resources of the old client move when they are used
		var leases []pool.Lease[*Conn]
		for range 3 {
			lease, err := p.Acquire(bounded(t), pool.Op{})
			if err != nil {
				t.Fatal(err)
			}
			leases = append(leases, lease)
		}
		for _, l := range leases {
			l.Release(nil)
		}
	}
	eventually(t, "the old client is gone", func() bool { return d.Stats().Clients == 1 })
}

// A pool in steady use opens nothing by itself. So a changed password shows in a use, after the
// sockets have been dropped. The next use has the new password. A server has many codes for a
// refusal.
func TestCredentialsAreAskedAgainInUse(t *testing.T) {
	for _, code := range []int{authenticationFailed, 8000, 11, 334} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			f := newFake(t)
			f.script("saslStart", welcome)
			f.script("insert", document(bson.E{Key: "n", Value: 1}))
			var changed atomic.Bool
			d, p := newPool(t, Options{
				Hosts: []string{f.address}, Database: "test", AuthMechanism: "PLAIN", AuthSource: "$external",
				Credentials: func(context.Context) (string, string, error) {
					if changed.Load() {
						return "app", "new", nil
					}
					return "app", "old", nil
				},
			}, pool.Config{MaxSize: 1, CheckAfter: time.Hour})
			if err := p.Do(bounded(t), pool.Op{}, insert); err != nil {
				t.Fatal(err)
			}
			changed.Store(true)
			f.script("saslStart", rejection(code), welcome)
			f.script("insert", reply{drop: true}, document(bson.E{Key: "n", Value: 1})) // the socket
			_ = p.Do(bounded(t), pool.Op{}, insert)
			err := p.Do(bounded(t), pool.Op{}, insert)
			if class := d.Classify(err); class.Repeat != driver.RepeatNever || class.Code != fmt.Sprint(code) || class.Fault != driver.FaultServer {
				t.Errorf("the use that was refused: %v, %+v", err, class)
			}
			if err := p.Do(bounded(t), pool.Op{}, insert); err != nil {
				t.Errorf("the next use: %v", err)
			}
			if logins := f.logins(); logins[len(logins)-1] != "\x00app\x00new" {
				t.Errorf("logins %q", logins)
			}
		})
	}
}

func TestCredentialsFail(t *testing.T) {
	f := newFake(t)
	vault := errors.New("the vault is sealed")
	_, p := newPool(t, Options{
		Hosts: []string{f.address}, Database: "test", Credentials: func(context.Context) (string, string, error) { return "", "", vault },
	}, pool.Config{})
	if err := p.Warm(bounded(t), 1); !errors.Is(err, vault) {
		t.Errorf("Warm: %v, want %v", err, vault)
	}
	if n := f.open(); n != 0 {
		t.Errorf("%d connections, want none", n)
	}
}

// newCertificate returns a self-signed certificate for the name "mongo.test", and the file with the
// certificate.
func newCertificate(t *testing.T) (pair tls.Certificate, file string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mongo.test"}, DNSNames: []string{"mongo.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	if pair, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "both.pem")
	if err := os.WriteFile(file, append(certPEM, keyPEM...), 0o600); err != nil {
		t.Fatal(err)
	}
	return pair, file
}

func TestTLS(t *testing.T) {
	pair, file := newCertificate(t)
	f := newFake(t)
	var names, shown atomic.Int64
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		MinVersion: tls.VersionTLS12, ClientAuth: tls.RequestClientCert,
		GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if h.ServerName == "mongo.test" {
				names.Add(1)
			}
			return &pair, nil
		},
		VerifyConnection: func(s tls.ConnectionState) error {
			shown.Add(int64(len(s.PeerCertificates)))
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	f.accept(l)
	t.Cleanup(func() { _ = l.Close() })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	plain := Options{Hosts: []string{"127.0.0.1:" + port}, Database: "test"}
	for _, c := range []struct {
		name string
		uri  string
		tls  *TLS
		want string // the reason why it does not connect
	}{
		{"verified by the file and the name", "", &TLS{CAFile: file, ServerName: "mongo.test"}, ""},
		{"shows a certificate", "", &TLS{CAFile: file, ServerName: "mongo.test", CertFile: file, KeyFile: file}, ""},
		{"the same by URI and field", "?tls=true&tlsCAFile=" + file, &TLS{CAFile: file, ServerName: "mongo.test"}, ""},
		{"not verified", "", &TLS{InsecureSkipVerify: true}, ""},
		{"the system does not know the authority", "", &TLS{ServerName: "mongo.test"}, "unknown authority"},
		{"another name", "", &TLS{CAFile: file, ServerName: "other.test"}, "other.test"},
		{"by address", "", &TLS{CAFile: file}, "127.0.0.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			opts := plain
			opts.ConnectTimeout, opts.ServerSelectionTimeout, opts.TLS = patience, patience, c.tls
			if c.uri != "" {
				opts.URI = "mongodb://" + plain.Hosts[0] + "/" + c.uri
			}
			d, p := newPool(t, opts, pool.Config{
				// The first dial also reads the system's authorities.
				AcquireTimeout: patience, OpenTimeout: patience, OpenConcurrency: 1,
			})
			err := p.Do(bounded(t), pool.Op{}, ping)
			if c.want == "" {
				if err != nil {
					t.Errorf("the use ended with %v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the use ended with %v, want an error about %q", err, c.want)
			}
			if class := d.Classify(errors.Unwrap(errorsCause(err))); class.Repeat != driver.RepeatNever || class.Type != "certificate" {
				t.Errorf("the class of %v is %+v, want never, certificate", err, class)
			}
		})
	}
	if names.Load() == 0 || shown.Load() == 0 {
		t.Errorf("the server name was asked for %d times, a certificate shown %d times, want both", names.Load(), shown.Load())
	}
}

// errorsCause wraps the cause of the pool's own error. So Classify returns the driver's class, and
// not the pool's.
func errorsCause(err error) error {
	if own, ok := errors.AsType[*pool.Error](err); ok {
		return fmt.Errorf("cause: %w", own.Cause)
	}
	return err
}
