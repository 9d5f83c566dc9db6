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

	"github.com/earnorm/poolstack/pool"
)

// Defaults of [Options]: as long as a pool waits for a resource, and for one to be opened, if it is not told otherwise.
const (
	defaultConnectTimeout         = 5 * time.Second
	defaultServerSelectionTimeout = 5 * time.Second
)

// Bounds of what the driver gets: it adds to a timeout, sets memory aside for each socket that there may be, and has a goroutine for each
// that may be made at once.
const (
	longestTimeout  = math.MaxInt64 / 2
	largestSize     = 1 << 16 // more is no bound
	mostConcurrency = 1 << 10
)

// Options says what to connect to and how. What is asked for twice, in URI and in another field, must agree. How many sockets there are
// and how long they live is said by pool.Config, not here.
//
// Options print without credentials, whatever the verb, and marshal to the same text; but a struct of yours that holds them in an
// unexported field is beyond that, for package fmt prints such fields without asking them. They are a plain value: copy and change them.
type Options struct {
	// URI is a connection string, mongodb:// or mongodb+srv://. "" means that Hosts and the other fields say everything.
	URI string
	// Hosts are "host:port", "host" (port 27017) or the path of a unix socket ending in .sock. Empty means URI's, or else localhost:27017.
	Hosts []string
	// Database is what Conn.Database and Conn.Collection use. It is required, here or in URI's path.
	Database string
	// AppName is what the server's log and its list of operations show, 128 bytes at most. "" means none.
	AppName string

	// Username and Password are the credentials. Empty means none, unless the mechanism needs none.
	Username, Password string
	// AuthSource is the database that knows the user. "" means what URI implies (its database, or else "admin"), and "admin" without URI.
	AuthSource string
	// AuthMechanism is SCRAM-SHA-256, SCRAM-SHA-1, PLAIN, MONGODB-X509, MONGODB-AWS, MONGODB-OIDC or GSSAPI. "" lets the server choose
	// among the SCRAMs.
	AuthMechanism string
	// Credentials, if set, is asked instead of Username and Password each time a client is made: with the first resource, and after the server
	// has refused the credentials of the present client, to the pool or in a use. It must heed ctx. Sockets that are open stay so.
	Credentials func(ctx context.Context) (username, password string, err error)

	// TLS turns encryption on. Nil means what URI says, or else none.
	TLS *TLS

	// ReplicaSet is the name that the servers must have for their set. "" means any, or none.
	ReplicaSet string
	// ReadPreference is primary, primaryPreferred, secondary, secondaryPreferred or nearest. "" means primary. Tags and staleness are said
	// by URI. Checks look for a server that satisfies it.
	ReadPreference string
	// ReadConcern is local, available, majority, linearizable or snapshot. "" means the server's default.
	ReadConcern string
	// WriteConcern is majority, a whole number of servers, or the name of a custom one. "" means the server's default. "0" means that
	// nobody learns whether a write was carried out.
	WriteConcern string
	// Journal makes writes wait for the journal. False means the server's default.
	Journal bool
	// Compressors are those to offer, the best first: zstd, zlib, snappy. Empty means none.
	Compressors []string

	// ConnectTimeout bounds the making of a socket. 0 means 5 s. The first resource needs two sockets, one after the other: for a server that needs
	// more than 2.5 s for each, OpenTimeout of pool.Config must be more than twice that time.
	ConnectTimeout time.Duration
	// ServerSelectionTimeout bounds how long a command waits for a server that satisfies its read preference; the context's deadline
	// bounds it as well. 0 means 5 s, which does not outlast an election of about 12 s: a layer of package retry does.
	ServerSelectionTimeout time.Duration

	// RetryReads and RetryWrites let the driver send a command again by itself. Nil means what URI says, or else not. See the package's
	// documentation for why.
	RetryReads, RetryWrites *bool

	// Tune, if set, changes the driver's own options after everything else, for what has no field here: a BSON registry, a stable API
	// version, a dialer. Monitors that it sets are called after the pool's own. It is called once. What pool.Config says (sizes, idle
	// time), retries and timeouts for all commands it must leave alone.
	Tune func(*options.ClientOptions)
}

// TLS says how connections are encrypted. The zero value verifies the server by the system's authorities and by its host name.
type TLS struct {
	// CAFile holds the authorities (PEM) that are trusted instead of the system's. "" means the system's.
	CAFile string
	// CertFile and KeyFile hold the client's certificate and its key (PEM). If KeyFile is "", CertFile holds both. "" means none.
	CertFile, KeyFile string
	// ServerName is asked for (SNI) and verified for every host. "" means each host's own name.
	ServerName string
	// InsecureSkipVerify accepts every certificate. Then anybody in between can read and change everything.
	InsecureSkipVerify bool
}

var (
	mechanisms  = []string{"SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN", "MONGODB-X509", "MONGODB-AWS", "MONGODB-OIDC", "GSSAPI"}
	preferences = []string{"primary", "primaryPreferred", "secondary", "secondaryPreferred", "nearest"}
	concerns    = []string{"local", "available", "majority", "linearizable", "snapshot"}
	compressors = []string{"snappy", "zlib", "zstd"}
)

// Validate returns an error that names every field that is wrong, its value and what is allowed; nil when there is none. It reads the
// files named and looks a mongodb+srv:// URI up in the DNS, but connects to no server.
func (o Options) Validate() error {
	_, err := o.settle()
	return err
}

// settings are Options that have been found good.
type settings struct {
	database string
	identity pool.Identity
	name     string // the hosts and the database, for people
	// clientOptions returns the driver's options for one more client. It keeps the credentials out of sight.
	clientOptions func(context.Context, measures) (*options.ClientOptions, error)
}

// settle checks the options and works out what they come to.
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
		if u.ServerMonitoringMode != "" { // ApplyURI forgets it
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

// splitHost returns a host's name and port, and port 0 for a unix socket.
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

// isHost says whether h looks like a host. Else it is not shown: it may be a URI with a password, put into the wrong field.
func isHost(h string) bool {
	name, port := splitHost(h)
	return name != "" && port >= 0 && port <= 65535 && (port == 0 || !strings.ContainsAny(name, "@/ "))
}

func identify(hosts []string, database string) pool.Identity {
	id := pool.Identity{System: "mongodb", Namespace: database}
	if len(hosts) == 1 {
		id.Address, id.Port = splitHost(hosts[0])
	}
	return id
}

// tryOut has the driver check its options as it does when it makes a client; credentials that are yet to be asked for are left out.
func (o Options) tryOut(co *options.ClientOptions) error {
	if o.Credentials != nil {
		return co.Validate()
	}
	_, err := topology.NewConfig(co, nil)
	return err
}

// misplaced returns an error for each field that holds a URI but is another field than URI. The field is not shown: the URI may hold a password.
func (o Options) misplaced() error {
	var c complaints
	check := func(field, value string) {
		if holdsLogin(value) {
			c.add(field, "a URI, which is not shown", "what its documentation says; only the field URI takes a URI")
		}
	}
	check("Database", o.Database)
	check("AppName", o.AppName)
	if strings.Contains(o.Username, "://") { // a name may have an @
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

// holdsLogin says whether a text may be a URI, or a part of one, with a password: whatever comes before an @ may be that.
func holdsLogin(text string) bool {
	_, behind, _ := strings.Cut(text, ":")
	return strings.Contains(text, "://") || strings.Contains(behind, "@") || strings.Contains(text, "%40")
}

// longestAppName is MongoDB's bound, in bytes. Source: "Connection String Options" in the manual, and the driver specifications' handshake.
const longestAppName = 128

// invalid returns an error for every field whose value is not allowed. co holds what the URI says.
func (o Options) invalid(co *options.ClientOptions) error {
	var c complaints
	if o.Database == "" || strings.ContainsAny(o.Database, `/\. "$`+"\x00") {
		c.add("Database", strconv.Quote(o.Database), `a database's name, here or in the URI, without any of / \ . " $ and spaces`)
	}
	for _, h := range o.Hosts {
		if !isHost(h) {
			c.add("Hosts", "not as it should be", "host, host:port or a path ending in .sock, each") // somebody may have put a URI there
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

// complaints are about fields with values that are not allowed.
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

// apply puts everything but TLS, measures and credentials from a callback into the driver's options. It has been found valid.
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
	if mode, err := readpref.ModeFromString(o.ReadPreference); err == nil && co.ReadPreference == nil { // else with the URI's tags
		if rp, err := readpref.New(mode); err == nil {
			co.SetReadPreference(rp)
		}
	}
	if o.ReadConcern != "" {
		co.SetReadConcern(&readconcern.ReadConcern{Level: o.ReadConcern})
	}
	if wc := (writeconcern.WriteConcern{}); o.WriteConcern != "" || o.Journal {
		if co.WriteConcern != nil { // the URI's, which may say journal=false
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

// tune calls Tune and makes sure that it has left alone what is not its business.
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

// measured returns a copy of co for one client.
func (o Options) measured(ctx context.Context, co *options.ClientOptions, m measures) (*options.ClientOptions, error) {
	one := *co
	if m.maxSize > largestSize {
		m.maxSize = 0
	}
	one.SetMaxPoolSize(uint64(m.maxSize)).SetMinPoolSize(uint64(m.minIdle)) //nolint:gosec // pool.Config has none below 0
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

// apply puts TLS into the driver's options, on top of what the URI says.
func (t *TLS) apply(co *options.ClientOptions) error {
	if t == nil {
		return nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if co.TLSConfig != nil {
		cfg = co.TLSConfig.Clone()
	}
	if t.CAFile != "" && cfg.RootCAs == nil { // else the driver has read it, as the URI names it too
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

// String names hosts and database, and no credentials.
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

// Format prints String for every verb, so that none shows a password.
func (o Options) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(o.String())) }

// MarshalText returns String, so that no encoding (JSON, YAML, XML) shows a password.
func (o Options) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// LogValue returns String, for log/slog.
func (o Options) LogValue() slog.Value { return slog.StringValue(o.String()) }
