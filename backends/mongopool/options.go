package mongopool

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/topology"

	"github.com/earnorm/poolstack/pool/driver"
)

// Defaults of [Options]. Both equal the default of OpenTimeout in pool.Config.
const (
	defaultConnectTimeout         = 5 * time.Second
	defaultServerSelectionTimeout = 5 * time.Second
)

// Bounds for the values given to the driver. The driver adds to a timeout, allocates memory for
// each possible socket, and runs a goroutine for each socket that may be opened at the same time.
const (
	longestTimeout  = math.MaxInt64 / 2
	largestSize     = 1 << 16 // a larger size means no bound
	mostConcurrency = 1 << 10
)

// Options configures the deployment and the connections. The zero value is not valid: Database is
// required. A value in URI and in another field must be the same. pool.Config sets the number and
// the lifetime of sockets.
//
// Options is a plain value: copy and change the value freely. Options prints without credentials
// for every verb of package fmt, and marshals to the same text. There is an exception: a struct
// with Options in an unexported field prints the credentials, because package fmt does not call the
// methods of such a field.
type Options struct {
	// URI is a connection string, mongodb:// or mongodb+srv://. "" means that the other fields
	// configure everything.
	URI string
	// Hosts are "host:port", "host" (port 27017) or the path of a unix socket ending in .sock. Empty
	// means the hosts of URI, or else localhost:27017.
	Hosts []string
	// Database is the database of Conn.Database and Conn.Collection. Database is required, here or in
	// the path of URI.
	Database string
	// AppName is the name in the server's log and list of operations, at most 128 bytes. "" means
	// none.
	AppName string

	// Username and Password are the credentials. Empty means the credentials of URI, or else none;
	// some mechanisms need none.
	Username, Password string
	// AuthSource is the database with the user's account. "" means the source implied by URI (its
	// database, or else "admin"), and "admin" without URI.
	AuthSource string
	// AuthMechanism is SCRAM-SHA-256, SCRAM-SHA-1, PLAIN, MONGODB-X509, MONGODB-AWS, MONGODB-OIDC or
	// GSSAPI. "" lets the server choose between the SCRAM mechanisms.
	AuthMechanism string
	// Credentials, if not nil, replaces Username and Password. Credentials is called each time a
	// client is made: for the first resource, and when a new client takes over. A new client takes
	// over, for example, after the server has refused the credentials of the present client in a use
	// or in a command of the pool. Credentials must return when ctx is over. Sockets that are open
	// stay open.
	Credentials func(ctx context.Context) (username, password string, err error)

	// TLS turns encryption on. Nil means the setting of URI, or else no encryption.
	TLS *TLS

	// ReplicaSet is the required name of the servers' set. "" means any set, or no set.
	ReplicaSet string
	// ReadPreference is primary, primaryPreferred, secondary, secondaryPreferred or nearest. "" means
	// primary. Only URI can set tags and staleness. Checks look for a server with this preference.
	ReadPreference string
	// ReadConcern is local, available, majority, linearizable or snapshot. "" means the server's
	// default.
	ReadConcern string
	// WriteConcern is majority, a whole number of servers, or the name of a custom write concern. ""
	// means the server's default. "0" means that writes are not acknowledged: nobody learns whether a
	// write was carried out.
	WriteConcern string
	// Journal makes writes wait for the journal. False means the server's default.
	Journal bool
	// Compressors are offered to the server, the best first: zstd, zlib, snappy. Empty means none.
	Compressors []string

	// ConnectTimeout bounds the making of a socket. 0 means 5 s. The first resource needs two sockets,
	// made in sequence. If a server needs more than 2.5 s for each socket, OpenTimeout of pool.Config
	// must be more than twice this time.
	ConnectTimeout time.Duration
	// ServerSelectionTimeout bounds how long a command waits for a server that satisfies its read
	// preference. The context's deadline bounds the wait as well. 0 means 5 s. An election takes about
	// 12 s, so the default does not outlast an election; the retries of package retry do.
	ServerSelectionTimeout time.Duration

	// RetryReads and RetryWrites turn on the driver's own retries. Nil means the setting of URI, or
	// else off. The package's documentation gives the reasons.
	RetryReads, RetryWrites *bool

	// Tune, if not nil, changes the driver's own options after all other fields. Tune is for settings
	// without a field here: a BSON registry, a stable API version, a dialer. Monitors set by Tune are
	// called after the pool's own monitors. Each call of New, NewDriver or Validate calls Tune at most
	// once. Tune must not change the settings of pool.Config (sizes, idle time), the retries, or the
	// timeout for all commands. Such a change is an error.
	Tune func(*options.ClientOptions)
}

// TLS configures the encryption of connections. The zero value verifies the server with the
// system's authorities and the server's host name.
type TLS struct {
	// CAFile is a PEM file with authorities, trusted instead of the system's authorities. "" means the
	// system's authorities.
	CAFile string
	// CertFile and KeyFile are PEM files with the client's certificate and its key. If KeyFile is "",
	// CertFile holds both. If both are "", there is no client certificate.
	CertFile, KeyFile string
	// ServerName is requested (SNI) and verified for every host. "" means each host's own name.
	ServerName string
	// InsecureSkipVerify accepts every certificate. Anybody on the network path can then read and
	// change all traffic.
	InsecureSkipVerify bool
}

var (
	mechanisms  = []string{"SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN", "MONGODB-X509", "MONGODB-AWS", "MONGODB-OIDC", "GSSAPI"}
	preferences = []string{"primary", "primaryPreferred", "secondary", "secondaryPreferred", "nearest"}
	concerns    = []string{"local", "available", "majority", "linearizable", "snapshot"}
	compressors = []string{"snappy", "zlib", "zstd"}
)

// Validate returns an error about the fields that are not valid, or nil. The error names each
// field, its value and the allowed values. A value that may hold a password is not shown. Validate
// checks in several steps, and returns the errors of the first step that fails. Validate reads the
// files in the fields, calls Tune, and looks up a mongodb+srv:// URI in the DNS, but connects to no
// server.
func (o Options) Validate() error {
	_, err := o.settle()
	return err
}

// settings are Options that have been checked.
type settings struct {
	database string
	identity driver.Identity
	name     string // the hosts and the database, for messages
	// clientOptions returns the driver's options for another client. The function hides the
	// credentials: printing settings does not show the credentials.
	clientOptions func(context.Context, measures) (*options.ClientOptions, error)
}

// settle checks the options, and returns the settings.
func (o Options) settle() (settings, error) {
	co := options.Client()
	if err := o.misplaced(); err != nil {
		return settings{}, err
	}
	if o.URI != "" {
		u, err := parse(o.URI)
		if err != nil {
			return settings{}, err
		}
		if o, err = o.agree(u); err != nil {
			return settings{}, err
		}
		if o.AuthSource == "" && u.Username == "" && (o.AuthMechanism == "" || strings.HasPrefix(o.AuthMechanism, "SCRAM-")) {
			o.AuthSource = u.Database // as for credentials in the URI
		}
		co.ApplyURI(o.URI)
		if u.ServerMonitoringMode != "" { // ApplyURI does not copy the mode
			co.SetServerMonitoringMode(u.ServerMonitoringMode)
		}
	}
	if err := o.invalid(co); err != nil {
		return settings{}, err
	}
	if err := o.TLS.apply(co); err != nil {
		return settings{}, err
	}
	o.apply(co)
	if err := o.tune(co); err != nil {
		return settings{}, err
	}
	if err := o.tryOut(co); err != nil {
		return settings{}, fmt.Errorf("mongopool: %w", err)
	}
	hosts := co.Hosts
	if len(hosts) == 0 {
		hosts = []string{"localhost"} // the driver's default
	}
	s := settings{database: o.Database, identity: identify(hosts, o.Database), name: strings.Join(hosts, ",") + "/" + o.Database}
	s.clientOptions = func(ctx context.Context, m measures) (*options.ClientOptions, error) {
		return o.measured(ctx, co, m)
	}
	return s, nil
}

const defaultPort = 27017

// splitHost returns the name and the port of a host. The port is 0 for a unix socket.
func splitHost(h string) (host string, port int) {
	if strings.HasSuffix(h, ".sock") {
		return h, 0
	}
	name, digits, err := net.SplitHostPort(h)
	if err != nil {
		return strings.Trim(h, "[]"), defaultPort
	}
	port, err = strconv.Atoi(digits)
	if err != nil {
		return h, defaultPort
	}
	return name, port
}

// isHost reports whether h looks like a host. Another value is not shown: the value may be a URI
// with a password in the wrong field.
func isHost(h string) bool {
	name, port := splitHost(h)
	return name != "" && port >= 0 && port <= 65535 && (port == 0 || !strings.ContainsAny(name, "@/ "))
}

func identify(hosts []string, database string) driver.Identity {
	id := driver.Identity{System: "mongodb", Namespace: database}
	if len(hosts) == 1 {
		id.Address, id.Port = splitHost(hosts[0])
	}
	return id
}

// tryOut runs the driver's own checks for a new client. Credentials from a callback are not
// checked.
func (o Options) tryOut(co *options.ClientOptions) error {
	if o.Credentials != nil {
		return co.Validate()
	}
	_, err := topology.NewConfig(co, nil)
	return err
}

// misplaced returns an error for each field, other than URI, that holds a URI. The field is not
// shown: the URI may hold a password.
func (o Options) misplaced() error {
	var c complaints
	check := func(field, value string) {
		if holdsLogin(value) {
			c.add(field, "a URI, which is not shown", "what its documentation says; only the field URI takes a URI")
		}
	}
	check("Database", o.Database)
	check("AppName", o.AppName)
	if strings.Contains(o.Username, "://") { // a user name may contain @
		c.add("Username", "a URI, which is not shown", "a name; only the field URI takes a URI")
	}
	check("AuthSource", o.AuthSource)
	check("AuthMechanism", o.AuthMechanism)
	check("ReplicaSet", o.ReplicaSet)
	check("ReadPreference", o.ReadPreference)
	check("ReadConcern", o.ReadConcern)
	check("WriteConcern", o.WriteConcern)
	for _, name := range o.Compressors {
		check("Compressors", name)
	}
	if t := o.TLS; t != nil {
		check("TLS.CAFile", t.CAFile)
		check("TLS.CertFile", t.CertFile)
		check("TLS.KeyFile", t.KeyFile)
		check("TLS.ServerName", t.ServerName)
	}
	return errors.Join(c...)
}

// holdsLogin reports whether a text may be a URI with a password, or a part of such a URI. Any text
// before an @ may be a password.
func holdsLogin(text string) bool {
	_, behind, _ := strings.Cut(text, ":")
	return strings.Contains(text, "://") || strings.Contains(behind, "@") || strings.Contains(text, "%40")
}

// longestAppName is MongoDB's bound, in bytes. Source: "Connection String Options" in the manual,
// and the handshake in the driver specifications.
const longestAppName = 128

// invalid returns an error for every field whose value is not allowed. co holds the options of the
// URI.
func (o Options) invalid(co *options.ClientOptions) error {
	var c complaints
	if o.Database == "" || strings.ContainsAny(o.Database, `/\. "$`+"\x00") {
		c.add("Database", strconv.Quote(o.Database), `a database's name, here or in the URI, without any of / \ . " $ and spaces`)
	}
	for _, h := range o.Hosts {
		if !isHost(h) {
			// Not shown: the value may be a URI with a password.
			c.add("Hosts", "not as it should be", "host, host:port or a path ending in .sock, each")
		}
	}
	if len(o.AppName) > longestAppName {
		c.add("AppName", strconv.Quote(o.AppName), fmt.Sprintf("at most %d bytes", longestAppName))
	}
	if _, err := readpref.ModeFromString(o.ReadPreference); o.ReadPreference != "" && err != nil {
		c.add("ReadPreference", strconv.Quote(o.ReadPreference), "empty or one of "+strings.Join(preferences, ", "))
	}
	c.oneOf("ReadConcern", o.ReadConcern, concerns)
	if n, err := strconv.Atoi(o.WriteConcern); err == nil && (n < 0 || n == 0 && o.Journal) {
		c.add("WriteConcern", strconv.Quote(o.WriteConcern), "majority, a whole number (1 or more with Journal) or a name")
	}
	for _, name := range o.Compressors {
		c.oneOf("Compressors", name, compressors)
	}
	c.notNegative("ConnectTimeout", o.ConnectTimeout)
	c.notNegative("ServerSelectionTimeout", o.ServerSelectionTimeout)
	if n := co.MaxAdaptiveRetries; n != nil && *n > 0 && !isTrue(o.RetryReads) && !isTrue(o.RetryWrites) {
		c.add("URI option maxAdaptiveRetries", *n, "0 unless RetryReads or RetryWrites is on")
	}
	o.invalidAuth(&c)
	return errors.Join(c...)
}

func (o Options) invalidAuth(c *complaints) {
	c.oneOf("AuthMechanism", o.AuthMechanism, mechanisms)
	if o.Username == "" && o.Password != "" {
		c.add("Username", `""`, "set when there is a password")
	}
	if o.Credentials != nil && (o.Username != "" || o.Password != "") {
		c.add("Credentials", "set", "nil when Username and Password, or the URI, say who to be")
	}
}

// complaints are the errors about fields whose values are not allowed.
type complaints []error

func (c *complaints) add(field string, value any, allowed string) {
	if text, ok := value.(string); ok && holdsLogin(text) {
		value = notShown
	}
	*c = append(*c, fmt.Errorf("mongopool: %s is %v: must be %s", field, value, allowed))
}

func (c *complaints) oneOf(field, value string, values []string) {
	if value != "" && !slices.Contains(values, value) {
		c.add(field, strconv.Quote(value), "empty or one of "+strings.Join(values, ", "))
	}
}

func (c *complaints) notNegative(field string, value time.Duration) {
	if value < 0 {
		c.add(field, value, "0 (default 5s) or more")
	}
}

func isTrue(b *bool) bool { return b != nil && *b }

// apply copies the fields to the driver's options, except TLS, measures, and credentials from a
// callback. The fields have been checked.
func (o Options) apply(co *options.ClientOptions) {
	if len(o.Hosts) > 0 {
		co.SetHosts(o.Hosts)
	}
	if o.AppName != "" {
		co.SetAppName(o.AppName)
	}
	if o.ReplicaSet != "" {
		co.SetReplicaSet(o.ReplicaSet)
	}
	// Otherwise co already has the preference of the URI, with its tags.
	if mode, err := readpref.ModeFromString(o.ReadPreference); err == nil && co.ReadPreference == nil {
		if rp, err := readpref.New(mode); err == nil {
			co.SetReadPreference(rp)
		}
	}
	if o.ReadConcern != "" {
		co.SetReadConcern(&readconcern.ReadConcern{Level: o.ReadConcern})
	}
	if wc := (writeconcern.WriteConcern{}); o.WriteConcern != "" || o.Journal {
		if co.WriteConcern != nil { // the URI's; it may contain journal=false
			wc = *co.WriteConcern
		}
		if n, err := strconv.Atoi(o.WriteConcern); err == nil {
			wc.W = n
		} else if o.WriteConcern != "" {
			wc.W = o.WriteConcern
		}
		if o.Journal {
			wc.Journal = new(true)
		}
		co.SetWriteConcern(&wc)
	}
	if len(o.Compressors) > 0 && len(co.Compressors) == 0 {
		co.SetCompressors(o.Compressors)
	}
	co.SetConnectTimeout(min(orDefault(o.ConnectTimeout, defaultConnectTimeout), longestTimeout))
	co.SetServerSelectionTimeout(orDefault(o.ServerSelectionTimeout, defaultServerSelectionTimeout))
	if o.Username != "" || o.AuthMechanism != "" || o.Credentials != nil {
		o.applyAuth(co)
	}
}

func orDefault(d, fallback time.Duration) time.Duration {
	if d == 0 {
		return fallback
	}
	return d
}

func (o Options) applyAuth(co *options.ClientOptions) {
	auth := options.Credential{}
	if co.Auth != nil { // the URI's, with mechanism properties and an implied source
		auth = *co.Auth
	}
	if o.AuthMechanism != "" {
		auth.AuthMechanism = o.AuthMechanism
	}
	if o.AuthSource != "" {
		auth.AuthSource = o.AuthSource
	}
	if o.Username != "" {
		auth.Username = o.Username
	}
	if o.Password != "" {
		auth.Password, auth.PasswordSet = o.Password, true
	}
	co.SetAuth(auth)
}

// tune calls Tune, and returns an error if Tune has changed a setting of pool.Config or of Options.
func (o Options) tune(co *options.ClientOptions) error {
	if o.Tune != nil {
		adaptive := co.MaxAdaptiveRetries
		reads, writes := co.RetryReads, co.RetryWrites
		o.Tune(co)
		for field, changed := range map[string]bool{
			"MaxPoolSize": co.MaxPoolSize != nil, "MinPoolSize": co.MinPoolSize != nil, "MaxConnecting": co.MaxConnecting != nil,
			"MaxConnIdleTime": co.MaxConnIdleTime != nil, "Timeout": co.Timeout != nil, "RetryReads": co.RetryReads != reads,
			"RetryWrites": co.RetryWrites != writes, "MaxAdaptiveRetries": co.MaxAdaptiveRetries != adaptive,
		} {
			if changed {
				return fmt.Errorf("mongopool: Tune sets %s: must leave it to pool.Config and the fields of Options", field)
			}
		}
	}
	co.SetRetryReads(isTrue(o.RetryReads)).SetRetryWrites(isTrue(o.RetryWrites))
	if !isTrue(o.RetryReads) && !isTrue(o.RetryWrites) {
		co.SetMaxAdaptiveRetries(0)
	}
	return nil
}

// measured returns a copy of co for a client, with the bounds of m and the credentials.
func (o Options) measured(ctx context.Context, co *options.ClientOptions, m measures) (*options.ClientOptions, error) {
	one := *co
	if m.maxSize > largestSize {
		m.maxSize = 0
	}
	one.SetMaxPoolSize(uint64(m.maxSize)).SetMinPoolSize(uint64(m.minIdle)) //nolint:gosec // never < 0
	if m.concurrency > 0 {
		one.SetMaxConnecting(uint64(min(m.concurrency, mostConcurrency)))
	}
	if m.idleTime > 0 {
		one.SetMaxConnIdleTime(m.idleTime)
	}
	if o.Credentials == nil {
		return &one, nil
	}
	username, password, err := o.Credentials(ctx)
	if err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	auth := options.Credential{}
	if one.Auth != nil {
		auth = *one.Auth
	}
	auth.Username, auth.Password, auth.PasswordSet = username, password, password != ""
	one.SetAuth(auth)
	return &one, nil
}

// apply adds the fields of t to the driver's options, after the settings of the URI.
func (t *TLS) apply(co *options.ClientOptions) error {
	if t == nil {
		return nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if co.TLSConfig != nil {
		cfg = co.TLSConfig.Clone()
	}
	// Otherwise the URI names the file too, and the driver has read the file already.
	if t.CAFile != "" && cfg.RootCAs == nil {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return fmt.Errorf("mongopool: TLS.CAFile: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("mongopool: TLS.CAFile is %q: must hold certificates in PEM", t.CAFile)
		}
	}
	if t.CertFile == "" && t.KeyFile != "" {
		return fmt.Errorf("mongopool: TLS.KeyFile is %q: must be empty without CertFile", t.KeyFile)
	}
	if t.CertFile != "" && len(cfg.Certificates) == 0 {
		key := t.KeyFile
		if key == "" {
			key = t.CertFile
		}
		pair, err := tls.LoadX509KeyPair(t.CertFile, key)
		if err != nil {
			return fmt.Errorf("mongopool: TLS.CertFile is %q, KeyFile %q: must hold a certificate and its key: %w", t.CertFile, t.KeyFile, err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	if t.ServerName != "" {
		cfg.ServerName = t.ServerName
	}
	cfg.InsecureSkipVerify = cfg.InsecureSkipVerify || t.InsecureSkipVerify
	co.SetTLSConfig(cfg)
	return nil
}

// String returns the hosts and the database, without credentials.
func (o Options) String() string {
	hosts, database := strings.Join(o.Hosts, ","), o.Database
	if holdsLogin(database) {
		database = "invalid"
	}
	switch {
	case slices.ContainsFunc(o.Hosts, func(h string) bool { return !isHost(h) }):
		hosts = "invalid"
	case hosts == "" && o.URI != "":
		hosts = "by URI"
	}
	return fmt.Sprintf("mongopool.Options(hosts %q, database %q)", hosts, database)
}

// Format writes String for every verb, so no verb shows a password.
func (o Options) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(o.String())) }

// MarshalText returns String, so no encoding (JSON, YAML, XML) shows a password.
func (o Options) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// LogValue returns String, for log/slog.
func (o Options) LogValue() slog.Value { return slog.StringValue(o.String()) }
