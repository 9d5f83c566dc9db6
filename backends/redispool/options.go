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
	// defaultIOTimeout is used for a ReadTimeout or WriteTimeout of 0. Without a bound, a frozen
	// server would block every borrower without a deadline for ever.
	defaultIOTimeout = 5 * time.Second
)

// Options are the settings of a connection to a server. The zero Options mean
// redis://localhost:6379/0. Options may be copied and changed. Validate reports invalid settings.
//
// The password does not appear when Options are printed, logged or marshalled. There is one
// exception: package fmt prints an unexported field of your struct without calling the methods of
// Options.
type Options struct {
	// Address is "host", "host:port" or the path of a unix socket, beginning with a slash. The default
	// port is 6379. "" means localhost:6379.
	Address string
	// Sentinel, if not nil, finds the server by Redis Sentinels. Address must be "" then.
	Sentinel *Sentinel
	// DB is the index of the database. 0 is the default database of a Redis server.
	DB int

	// Username and Password authenticate each connection. Username "" means the server's default user.
	// A Username without a Password is for a user without a password (nopass). Both "" means no
	// authentication.
	Username string
	Password string
	// Credentials, if not nil, returns the username and the password. The driver calls it each time a
	// connection is opened or reset. Username and Password must be "" then. Credentials may be called
	// concurrently. It must return when ctx is done, and should not put the password into its error. A
	// username without a password is an error: mostly it is a password in the wrong place.
	Credentials func(ctx context.Context) (username, password string, err error)

	// Protocol is the version of the wire protocol (RESP), 2 or 3. 0 means 3, or 2 if the server
	// refuses 3. With Protocol 3 a refusal is an error.
	Protocol int
	// ClientName is the name of the connection in CLIENT LIST. "" means no name. The library sends no
	// other name of its own.
	ClientName string

	// TLS, if not nil, encrypts the connection. The server's certificate is verified (see the type
	// TLS).
	TLS *TLS

	// Dialer, if not nil, dials the server and the Sentinels, in place of a net.Dialer with TCP
	// keep-alives. TLS is added on top. Dialer may be called concurrently, and must return when ctx is
	// done. Every error of Dialer means that the server is not reachable.
	Dialer func(ctx context.Context, network, address string) (net.Conn, error)

	// DialTimeout bounds the dial together with the TLS handshake. 0 means no other bound than the
	// pool's OpenTimeout. A negative DialTimeout is an error.
	DialTimeout time.Duration
	// ReadTimeout bounds the wait for a reply. The context's deadline also bounds the wait. 0 means
	// 5 s. Negative means that only the context bounds the wait.
	//
	// The bound is different for commands that block, such as BLPOP, WAIT, and XREAD with BLOCK. The
	// wait is bounded by 10 s more than the timeouts in the commands. There is no bound if a timeout
	// in a command is 0. This holds for methods, for Do and for pipelines. The limits of layers are
	// mostly shorter: set [pool.Op].Limit for such commands.
	ReadTimeout time.Duration
	// WriteTimeout bounds the sending of a command in the same way. 0 means 5 s. Negative means that
	// only the context bounds the sending.
	WriteTimeout time.Duration
}

// Validate returns an error with every field that is out of range or contradicts another field, its
// value and the allowed values. Validate returns nil if all fields are valid. It reads no file and
// dials nothing.
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

// misplaced returns the name of the first field that holds a URL, or "". A URL may hold a password.
// The method network checks Address.
func (o Options) misplaced() (field string) {
	if strings.Contains(o.Username, "://") { // a username may have an @
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

// holdsLogin reports whether text may be a URL with a password, or a part of such a URL. The text
// before an @ may be a password.
func holdsLogin(text string) bool {
	_, behind, _ := strings.Cut(text, ":")
	return strings.Contains(text, "://") || strings.Contains(behind, "@") || strings.Contains(text, "%40")
}

// network returns the network and the address to dial. The errors do not show the address: somebody
// may have set Address to a URL with a password.
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

// hostPort adds the missing parts to "host", "host:port" or "". The text of an error continues
// after the name of a field, and does not show the address.
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

// login returns the username and the password for a new connection.
type login func(ctx context.Context) (username, password string, err error)

// fixed returns a login with a constant username and password.
func fixed(username, password string) login {
	// On any server, a connection without a login belongs to the default user.
	if username == defaultUser && password == "" {
		username = ""
	}
	return func(context.Context) (string, string, error) { return username, password, nil }
}

// forClient is the login of a go-redis client, which sends no empty password. A user without a
// password accepts any password, so forClient returns "any".
func (l login) forClient(ctx context.Context) (username, password string, err error) {
	username, password, err = l(ctx)
	if username != "" && password == "" {
		password = "any"
	}
	return username, password, err
}

// credentials returns the login of new connections. No other field needs to keep the password. The
// errors are made for wrapping. They contain no name and no password, unless Options.Credentials
// has put a name or a password into its own error.
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

// ioTimeout converts a timeout of Options into a timeout of go-redis, where -1 means none.
func ioTimeout(d time.Duration) time.Duration {
	switch {
	case d == 0:
		return defaultIOTimeout
	case d < 0:
		return -1
	}
	return d
}
