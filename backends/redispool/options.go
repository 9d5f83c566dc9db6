package redispool

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

const (
	defaultHost = "localhost"
	defaultPort = "6379"
	// defaultIOTimeout is what ReadTimeout and WriteTimeout mean by 0. Without any bound a frozen server would hold every borrower that
	// set no deadline for ever.
	defaultIOTimeout = 5 * time.Second
)

// Options says which server a pool connects to, and how. The zero Options is redis://localhost:6379/0. It is a plain value: copy it,
// change the copy. However it is printed, logged or marshalled, the password does not appear; a struct of yours that holds Options in an
// unexported field is beyond that, for package fmt prints such fields without asking them.
type Options struct {
	// Address is "host", "host:port" or the path of a unix socket, which begins with a slash. The port defaults to 6379. "" means
	// localhost:6379.
	Address string
	// DB is the index of the database. 0 is the server's default.
	DB int

	// Username and Password are what each connection authenticates with. Username "" means the server's default user; a Username needs a
	// Password or Credentials. Both "" means no authentication.
	Username string
	Password string
	// Credentials, if not nil, is asked each time a connection is opened or reset, in place of Username and Password, which must be "".
	// It may be called concurrently, must return when ctx is over, and should not put the password into its error.
	Credentials func(ctx context.Context) (username, password string, err error)

	// Protocol is the version of the wire protocol, 2 or 3. 0 means 3, and 2 with servers that refuse it; a plain 3 makes that an error.
	Protocol int
	// ClientName is shown by CLIENT LIST. "" means none; the library does not introduce itself in any other way.
	ClientName string

	// TLS, if not nil, encrypts the connection and verifies the server's certificate.
	TLS *TLS

	// DialTimeout bounds connecting and the TLS handshake. 0 means that only the pool's OpenTimeout does.
	DialTimeout time.Duration
	// ReadTimeout bounds the wait for a reply; the context's deadline bounds it as well. 0 means 5 s; negative: only the context. For a
	// command that blocks by itself, such as BLPOP, ReadTimeout is ten seconds more than the command's own timeout, or no bound if that is
	// 0. The limits of layers are mostly shorter than that: [pool.Op].Limit is for such commands.
	ReadTimeout time.Duration
	// WriteTimeout bounds the sending of a command likewise. 0 means 5 s; negative: only the context.
	WriteTimeout time.Duration
}

// TLS says how a connection is encrypted. The zero TLS verifies the server's certificate for the host in Options.Address against the
// system's authorities. Files are read once, by NewDriver.
type TLS struct {
	// CAFile is a PEM file with the authorities to trust in place of the system's.
	CAFile string
	// CertFile and KeyFile are the PEM files of the certificate that this client shows. Both or neither.
	CertFile string
	KeyFile  string
	// ServerName is sent to the server (SNI) and verified in place of the host in Options.Address.
	ServerName string
	// InsecureSkipVerify accepts ANY certificate. Whoever can place himself between this program and the server then reads the password
	// and all data, and can change them at will, without anybody noticing. It is for tests on one machine; with a private authority set
	// CAFile, with an unexpected host name set ServerName instead.
	InsecureSkipVerify bool
}

// Validate returns an error that names every field that is out of range or contradicts another, its value and what is allowed; nil when
// there is none. It reads no file and connects to nothing.
func (o Options) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("redispool: "+format, args...)) }
	if _, _, err := o.network(); err != nil {
		errs = append(errs, err)
	}
	if o.DB < 0 {
		bad("DB is %d: must be 0 or more", o.DB)
	}
	if o.Credentials != nil && (o.Username != "" || o.Password != "") {
		bad("Credentials is set together with Username or Password: use one or the other")
	}
	if o.Username != "" && o.Password == "" && o.Credentials == nil {
		bad("Username is set without Password: it would not be used")
	}
	if o.Protocol != 0 && o.Protocol != 2 && o.Protocol != 3 {
		bad("Protocol is %d: must be 0 (3, or 2 if refused), 2 or 3", o.Protocol)
	}
	if strings.ContainsFunc(o.ClientName, func(r rune) bool { return r < '!' || r > '~' }) {
		bad("ClientName is %q: must be of printable ASCII without spaces", o.ClientName)
	}
	if o.DialTimeout < 0 {
		bad("DialTimeout is %v: must be 0 (the pool's OpenTimeout) or more", o.DialTimeout)
	}
	if o.TLS != nil {
		errs = append(errs, o.TLS.validate(strings.HasPrefix(o.Address, "/")))
	}
	return errors.Join(errs...)
}

func (t *TLS) validate(unix bool) error {
	var errs []error
	bad := func(text string) { errs = append(errs, errors.New("redispool: "+text)) }
	if (t.CertFile == "") != (t.KeyFile == "") {
		bad("TLS.CertFile and TLS.KeyFile: one is set without the other")
	}
	if t.CAFile != "" && t.InsecureSkipVerify {
		bad("TLS.CAFile is set together with TLS.InsecureSkipVerify: nothing would be verified against it")
	}
	if unix {
		bad("TLS is set, but Address is a unix socket")
	}
	return errors.Join(errs...)
}

// network returns what to dial. Its errors do not show the address, in case somebody has put a URL there, with a password.
func (o Options) network() (network, address string, err error) {
	a := o.Address
	switch {
	case strings.HasPrefix(a, "/"):
		return "unix", a, nil
	case a == "":
		a = defaultHost
	case strings.ContainsAny(a, "@, \t\r\n/"):
		return "", "", errors.New("redispool: Address must be one host, host:port or the path of a unix socket that begins with a slash")
	}
	host, port, err := net.SplitHostPort(a)
	if err != nil { // no port, or an IPv6 address without brackets
		host, port = strings.Trim(a, "[]"), defaultPort
	}
	if host == "" {
		host = defaultHost
	}
	if port == "" {
		port = defaultPort
	}
	if _, err := netip.ParseAddr(host); err != nil && strings.ContainsAny(host, ":[]") {
		return "", "", errors.New("redispool: Address must be host:port, with an IPv6 host in brackets")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", "", errors.New("redispool: Address has a port that is not a number between 1 and 65535")
	}
	return "tcp", net.JoinHostPort(host, port), nil
}

// credentials returns what answers for a new connection's identity, so that nothing else needs to keep the password. Its errors are for
// wrapping, and hold neither name nor password but what Options.Credentials has put into its own.
func (o Options) credentials() func(context.Context) (username, password string, err error) {
	if o.Credentials == nil {
		return func(context.Context) (string, string, error) { return o.Username, o.Password, nil }
	}
	return func(ctx context.Context) (string, string, error) {
		username, password, err := o.Credentials(ctx)
		switch {
		case err != nil:
			return "", "", fmt.Errorf("asking Credentials: %w", err)
		case username != "" && password == "":
			return "", "", errors.New("asking Credentials: a username without a password")
		}
		return username, password, nil
	}
}

// ioTimeout translates a timeout of ours into one of go-redis, where -1 stands for none.
func ioTimeout(d time.Duration) time.Duration {
	switch {
	case d == 0:
		return defaultIOTimeout
	case d < 0:
		return -1
	}
	return d
}
