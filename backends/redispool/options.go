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
	defaultUser = "default"
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
	// Sentinel, if not nil, has Redis Sentinels name the server, in place of Address, which must be "".
	Sentinel *Sentinel
	// DB is the index of the database. 0 is the server's default.
	DB int

	// Username and Password are what each connection authenticates with. Username "" means the server's default user. A Username without a
	// Password is for a user that needs none (nopass). Both "" means no authentication.
	Username string
	Password string
	// Credentials, if not nil, is asked each time a connection is opened or reset, in place of Username and Password, which must be "".
	// It may be called concurrently, must return when ctx is over, and should not put the password into its error. A username without a
	// password is an error: it is mostly a password in the wrong place.
	Credentials func(ctx context.Context) (username, password string, err error)

	// Protocol is the version of the wire protocol, 2 or 3. 0 means 3, and 2 with servers that refuse it; a plain 3 makes that an error.
	Protocol int
	// ClientName is shown by CLIENT LIST. "" means none; the library does not introduce itself in any other way.
	ClientName string

	// TLS, if not nil, encrypts the connection and verifies the server's certificate.
	TLS *TLS

	// Dialer, if not nil, connects in place of a net.Dialer with TCP keep-alives, to Sentinels too. TLS comes on top of it. It may be called
	// concurrently, and must return when ctx is over. Whatever error it returns counts as a server that cannot be reached.
	Dialer func(ctx context.Context, network, address string) (net.Conn, error)

	// DialTimeout bounds connecting and the TLS handshake. 0 means that only the pool's OpenTimeout does.
	DialTimeout time.Duration
	// ReadTimeout bounds the wait for a reply; the context's deadline bounds it as well. 0 means 5 s; negative: only the context. For
	// commands that block by themselves, such as BLPOP, WAIT, and XREAD with BLOCK, the bound is ten seconds more than their own timeouts, or
	// none if one of these is 0: however the commands are sent, by Do and in pipelines, too. The limits of layers are mostly shorter than
	// that: [pool.Op].Limit is for such commands.
	ReadTimeout time.Duration
	// WriteTimeout bounds the sending of a command likewise. 0 means 5 s; negative: only the context.
	WriteTimeout time.Duration
}

// Validate returns an error that names every field that is out of range or contradicts another, its value and what is allowed; nil when
// there is none. It reads no file and connects to nothing.
func (o Options) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("redispool: "+format, args...)) }
	if field := o.misplaced(); field != "" {
		return fmt.Errorf("redispool: %s is a URL, which is not shown: ParseURL takes URLs", field)
	}
	if _, _, err := o.network(); err != nil {
		errs = append(errs, err)
	}
	if o.Sentinel != nil {
		if o.Address != "" {
			bad("Address is set together with Sentinel: the Sentinels name the server")
		}
		errs = append(errs, o.Sentinel.validate())
	}
	if o.DB < 0 {
		bad("DB is %d: must be 0 or more", o.DB)
	}
	if o.Credentials != nil && (o.Username != "" || o.Password != "") {
		bad("Credentials is set together with Username or Password: use one or the other")
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
		errs = append(errs, o.TLS.validate("", strings.HasPrefix(o.Address, "/")))
	}
	return errors.Join(errs...)
}

// misplaced returns the first field that holds a URL, which may hold a password; "" if there is none. Address looks at itself.
func (o Options) misplaced() (field string) {
	if strings.Contains(o.Username, "://") { // a name may have an @
		return "Username"
	}
	fields := [][2]string{{"ClientName", o.ClientName}}
	fields = append(fields, o.TLS.texts("TLS.")...)
	if s := o.Sentinel; s != nil {
		if strings.Contains(s.Username, "://") {
			return "Sentinel.Username"
		}
		fields = append(fields, [2]string{"Sentinel.MasterName", s.MasterName})
		for i, a := range s.Addresses {
			fields = append(fields, [2]string{fmt.Sprintf("Sentinel.Addresses[%d]", i), a})
		}
		fields = append(fields, s.TLS.texts("Sentinel.TLS.")...)
	}
	for _, f := range fields {
		if holdsLogin(f[1]) {
			return f[0]
		}
	}
	return ""
}

// holdsLogin says whether a text may be a URL, or a part of one, with a password: whatever comes before an @ may be that.
func holdsLogin(text string) bool {
	_, behind, _ := strings.Cut(text, ":")
	return strings.Contains(text, "://") || strings.Contains(behind, "@") || strings.Contains(text, "%40")
}

// network returns what to dial. Its errors do not show the address, in case somebody has put a URL there, with a password.
func (o Options) network() (network, address string, err error) {
	a := o.Address
	switch {
	case strings.HasPrefix(a, "/"):
		return "unix", a, nil
	case strings.ContainsAny(a, "@, \t\r\n/"):
		return "", "", errors.New("redispool: Address must be one host, host:port or the path of a unix socket that begins with a slash")
	}
	address, err = hostPort(a, defaultPort)
	if err != nil {
		return "", "", fmt.Errorf("redispool: Address %w", err)
	}
	return "tcp", address, nil
}

// hostPort completes "host", "host:port" or "". Its errors go on after the name of a field, and do not show the address.
func hostPort(a, defaultPort string) (string, error) {
	if strings.ContainsAny(a, "@, \t\r\n/") {
		return "", errors.New("must be one host or host:port")
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
		return "", errors.New("must be host:port, with an IPv6 host in brackets")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", errors.New("has a port that is not a number between 1 and 65535")
	}
	return net.JoinHostPort(host, port), nil
}

// login returns what answers for a new connection's identity.
type login func(ctx context.Context) (username, password string, err error)

// fixed is a login that is always the same.
func fixed(username, password string) login {
	if username == defaultUser && password == "" { // who is not logged in is that user, with any server
		username = ""
	}
	return func(context.Context) (string, string, error) { return username, password, nil }
}

// forClient has a client of go-redis log in, which sends no empty password. A user without a password accepts any.
func (l login) forClient(ctx context.Context) (username, password string, err error) {
	username, password, err = l(ctx)
	if username != "" && password == "" {
		password = "any"
	}
	return username, password, err
}

// credentials returns what answers for a new connection's identity, so that nothing else needs to keep the password. Its errors are for
// wrapping, and hold neither name nor password but what Options.Credentials has put into its own.
func (o Options) credentials() login {
	if o.Credentials == nil {
		return fixed(o.Username, o.Password)
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
