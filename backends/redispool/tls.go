package redispool

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
)

// TLS says how a connection is encrypted. The zero TLS verifies the server's certificate against the system's authorities, for the host in
// Options.Address, or for the host that the Sentinels name.
//
// The files are read by NewDriver, whose error names the field and the file. Each new connection looks whether a file has changed, and the files
// are read again if so: a certificate can be replaced while the program runs. A change that cannot be read, such as a key that does not fit to
// its certificate yet, is left alone until the next connection; the certificates read last are used meanwhile.
type TLS struct {
	// CAFile is a PEM file with the authorities to trust in place of the system's.
	CAFile string
	// CertFile and KeyFile are the PEM files of the certificate that this client shows. Both or neither.
	CertFile string
	KeyFile  string
	// ServerName is sent to the server (SNI) and verified in place of the host.
	ServerName string
	// InsecureSkipVerify accepts ANY certificate. Whoever can place himself between this program and the server then reads the password
	// and all data, and can change them at will, without anybody noticing. It is for tests on one machine; with a private authority set
	// CAFile, with an unexpected host name set ServerName instead.
	InsecureSkipVerify bool

	// Config, if not nil, has everything else: versions, cipher suites, GetClientCertificate for certificates that are in no file, and so on. It
	// is copied for each connection, and must not be changed after NewDriver. The fields above are added to it; a field must not be set in
	// both places.
	Config *tls.Config
}

// texts returns the fields that hold a text, by their names after prefix; nil for nil.
func (t *TLS) texts(prefix string) [][2]string {
	if t == nil {
		return nil
	}
	return [][2]string{
		{prefix + "CAFile", t.CAFile}, {prefix + "CertFile", t.CertFile}, {prefix + "KeyFile", t.KeyFile}, {prefix + "ServerName", t.ServerName},
	}
}

// validate returns an error for each field that is wrong. prefix stands before its name.
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

// tlsFiles makes the configurations of connections, and reads the files again when they have changed.
type tlsFiles struct {
	from TLS

	mu      sync.Mutex
	read    []os.FileInfo // as they were when they were read
	current *tls.Config
}

func newTLSFiles(t *TLS) (*tlsFiles, error) {
	f := &tlsFiles{from: *t}
	f.read = f.stat()
	var err error
	f.current, err = f.make()
	return f, err
}

// config returns the configuration for a new connection to a host.
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

// stat looks at the files that are set. What cannot be looked at is nil.
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

// filesChanged says whether a file is another one, or has been written since.
func filesChanged(before, now []os.FileInfo) bool {
	for i, b := range before {
		n := now[i]
		if b == nil || n == nil || !os.SameFile(b, n) || !b.ModTime().Equal(n.ModTime()) || b.Size() != n.Size() {
			return true
		}
	}
	return false
}

// make reads the files. Its errors name the field and the file.
func (f *tlsFiles) make() (*tls.Config, error) {
	t := &f.from
	c := t.Config.Clone()
	if c == nil {
		c = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if t.ServerName != "" {
		c.ServerName = t.ServerName
	}
	if t.InsecureSkipVerify { // asked for by name; the field's doc says what it means
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
