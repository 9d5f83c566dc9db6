package redispool

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
)

// TLS are the settings of an encrypted connection. The zero TLS verifies the server's certificate
// against the authorities of the system. The certificate must be for the host in Options.Address,
// or for the host named by the Sentinels.
//
// NewDriver reads the files. An error names the field and the file. Before each new connection the
// driver checks whether a file has changed, and then reads the files again. So a certificate can be
// replaced while the program runs. If the new files cannot be read, the driver uses the
// certificates read last, and tries again at the next connection. For example, a key may not fit
// its certificate yet.
type TLS struct {
	// CAFile is a PEM file with the trusted authorities. It replaces the authorities of the system.
	CAFile string
	// CertFile and KeyFile are the PEM files of the client's certificate. Set both or neither.
	CertFile string
	KeyFile  string
	// ServerName is sent to the server (SNI) and verified, in place of the host.
	ServerName string
	// InsecureSkipVerify accepts ANY certificate. Then an attacker between this program and the server
	// can read the password and all data, and can change the data unnoticed. It is meant for tests on
	// a single machine. For a private authority set CAFile instead. For an unexpected host name set
	// ServerName instead.
	InsecureSkipVerify bool

	// Config, if not nil, has all other settings: versions, cipher suites, GetClientCertificate for
	// certificates without a file, and so on. The driver copies Config for each connection. Config
	// must not be changed after NewDriver. The fields above are added to the copy. A field must not be
	// set in both places.
	Config *tls.Config
}

// texts returns the string fields, each with its name after prefix. It returns nil if t is nil.
func (t *TLS) texts(prefix string) [][2]string {
	if t == nil {
		return nil
	}
	return [][2]string{
		{prefix + "CAFile", t.CAFile}, {prefix + "CertFile", t.CertFile}, {prefix + "KeyFile", t.KeyFile}, {prefix + "ServerName", t.ServerName},
	}
}

// validate returns an error for each invalid field. prefix precedes the field's name.
func (t *TLS) validate(prefix string, unix bool) error {
	var errs []error
	bad := func(text string) { errs = append(errs, errors.New("redispool: "+prefix+text)) }
	if (t.CertFile == "") != (t.KeyFile == "") {
		bad("TLS.CertFile and TLS.KeyFile: one is set without the other")
	}
	if t.CAFile != "" && t.InsecureSkipVerify {
		bad("TLS.CAFile is set together with TLS.InsecureSkipVerify: nothing would be verified against it")
	}
	if unix {
		bad("TLS is set, but Address is a unix socket")
	}
	if c := t.Config; c != nil {
		if t.CAFile != "" && c.RootCAs != nil {
			bad("TLS.CAFile and TLS.Config.RootCAs are both set: use one or the other")
		}
		if t.CertFile != "" && (len(c.Certificates) > 0 || c.GetClientCertificate != nil) {
			bad("TLS.CertFile is set, and TLS.Config has a certificate (Certificates or GetClientCertificate): use one or the other")
		}
		if t.ServerName != "" && c.ServerName != "" {
			bad("TLS.ServerName and TLS.Config.ServerName are both set: use one or the other")
		}
	}
	return errors.Join(errs...)
}

// tlsFiles makes the TLS configurations of connections. It reads the files again if they have
// changed.
type tlsFiles struct {
	from TLS

	mu      sync.Mutex
	read    []os.FileInfo // the state of the files at the last reading
	current *tls.Config
}

func newTLSFiles(t *TLS) (*tlsFiles, error) {
	f := &tlsFiles{from: *t}
	f.read = f.stat()
	var err error
	f.current, err = f.make()
	return f, err
}

// config returns the configuration for a new connection to host.
func (f *tlsFiles) config(host string) *tls.Config {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := f.stat(); filesChanged(f.read, now) {
		if c, err := f.make(); err == nil {
			f.current, f.read = c, now
		}
	}
	c := f.current
	if c.ServerName == "" {
		c = c.Clone()
		c.ServerName = host
	}
	return c
}

// stat returns the os.FileInfo of each configured file, or nil for a file without access.
func (f *tlsFiles) stat() []os.FileInfo {
	var infos []os.FileInfo
	for _, name := range []string{f.from.CAFile, f.from.CertFile, f.from.KeyFile} {
		if name != "" {
			info, _ := os.Stat(name)
			infos = append(infos, info)
		}
	}
	return infos
}

// filesChanged reports whether a file was replaced or written, or is without access.
func filesChanged(before, now []os.FileInfo) bool {
	for i, b := range before {
		n := now[i]
		if b == nil || n == nil || !os.SameFile(b, n) || !b.ModTime().Equal(n.ModTime()) || b.Size() != n.Size() {
			return true
		}
	}
	return false
}

// make reads the files and makes a configuration. An error names the field and the file.
func (f *tlsFiles) make() (*tls.Config, error) {
	t := &f.from
	c := t.Config.Clone()
	if c == nil {
		c = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if t.ServerName != "" {
		c.ServerName = t.ServerName
	}
	if t.InsecureSkipVerify { // see the field for the danger
		c.InsecureSkipVerify = true
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
