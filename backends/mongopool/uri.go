package mongopool

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/connstring"
)

// refused are URI options without an effect here, or with a misleading effect. The keys are in
// lower case.
var refused = map[string]string{
	"maxpoolsize":        "must be left out: pool.Config.MaxSize says how many sockets there are",
	"minpoolsize":        "must be left out: pool.Config.MinIdle says how many are kept ready",
	"maxidletimems":      "must be left out: pool.Config.MaxIdleTime says so",
	"maxconnecting":      "must be left out: pool.Config.OpenConcurrency says so",
	"waitqueuetimeoutms": "must be left out: pool.Config.AcquireTimeout bounds the wait",
	"sockettimeoutms":    "must be left out: the driver ignores it; use a context's deadline or a layer of package timeout",
	"timeoutms":          "must be left out: it counts only without a deadline; use a context's deadline or a layer of package timeout",
}

// renamed are option names of other programs, with the names to use here.
var renamed = map[string]string{
	"auth_source": "authSource", "replica_set": "replicaSet", "read_preference": "readPreference",
	"min_size": "MinIdle of pool.Config", "max_size": "MaxSize of pool.Config",
}

// secret are the URI options whose values are not shown.
var secret = map[string]bool{
	"tlscertificatekeyfilepassword": true, "sslclientcertificatekeypassword": true, "authmechanismproperties": true,
}

// allowed are the allowed values of a URI option, for errors. The driver's own errors only name the
// wrong value.
var allowed = map[string]string{
	"authmechanism":             "one of " + strings.Join(mechanisms, ", "),
	"authsource":                "a database's name, or $external where the mechanism says so",
	"connecttimeoutms":          wholeMilliseconds,
	"directconnection":          trueOrFalse,
	"enableoverloadretargeting": trueOrFalse,
	"heartbeatfrequencyms":      wholeMilliseconds,
	"journal":                   trueOrFalse,
	"loadbalanced":              trueOrFalse,
	"localthresholdms":          wholeMilliseconds,
	"maxadaptiveretries":        "a whole number, 0 or more",
	"maxstalenessseconds":       "a whole number of seconds, 0 or more",
	"readpreferencetags":        "key:value, several separated by commas, or empty",
	"retryreads":                trueOrFalse,
	"retrywrites":               trueOrFalse,
	"servermonitoringmode":      "one of auto, poll, stream",
	"serverselectiontimeoutms":  wholeMilliseconds,
	"ssl":                       trueOrFalse,
	"tls":                       trueOrFalse,
	"tlsinsecure":               trueOrFalse,
	"w":                         "majority, a whole number of 0 or more, or the name of a write concern",
	"zlibcompressionlevel":      "a whole number between -1 and 9",
	"zstdcompressionlevel":      "a whole number between -1 and 22",
}

const (
	trueOrFalse       = "true or false"
	wholeMilliseconds = "a whole number of milliseconds, 1 or more"
)

// ParseURI returns the Options of a connection string. The field URI is the string, and the other
// fields are the values in the string. A caller may read the fields, and may set empty fields. New
// fails if a field has another value than the URI.
//
// The driver warns of unusable options, or drops the options. ParseURI returns an error for an
// option that is unknown, given twice, or without effect here. The error names the option, its
// value and the allowed values. The error never holds the password, or another part of the string
// that could be a password. A mongodb+srv:// URI is looked up in the DNS. Write an @ in a value as
// %40, also in options.
func ParseURI(uri string) (Options, error) {
	u, err := parse(uri)
	if err != nil {
		return Options{}, err
	}
	return fromURI(uri, u), nil
}

// parse parses a URI with the driver's parser, with stricter rules, and with errors that are safe
// to show.
func parse(uri string) (*connstring.ConnString, error) {
	// The driver ends the password at the first @, and takes the rest of the password for hosts, for a
	// database or for options. The driver looks up hosts in the DNS, and telemetry shows the database.
	// A later @ may always belong to the password, even behind a ?. So a second @ is an error.
	if strings.Count(uri, "@") > 1 {
		return nil, errors.New("mongopool: URI: it holds more than one @: each but the one before the hosts must be written as %40")
	}
	u, err := connstring.Parse(uri)
	if err != nil {
		return nil, explain(uri, err)
	}
	if err := u.Validate(); err != nil { // the texts of these errors are fixed
		return nil, fmt.Errorf("mongopool: URI: %w", err)
	}
	times := given(uri)
	var errs []error
	if holdsLogin(u.Database) || strings.ContainsAny(u.Database, "&=?") || slices.ContainsFunc(u.Hosts, holdsLogin) {
		errs = append(errs, errors.New("mongopool: URI: the hosts or the database's name hold a part of something else: must be "+
			"mongodb://[user:password@]host[:port][,host[:port]...]/[database][?options]"))
	}
	for _, option := range sortedKeys(u.Options) {
		values := u.Options[option]
		_, unknown := u.UnknownOptions[option]
		switch why := refused[option]; {
		case slices.ContainsFunc(values, func(v string) bool { return strings.Contains(v, "?") }) && !secret[option]:
			errs = append(errs, fmt.Errorf("mongopool: URI: option %s has a ? in its value: options are separated by &", option))
		case why != "":
			errs = append(errs, uriError(option, values[0], why))
		case unknown && renamed[option] != "":
			errs = append(errs, fmt.Errorf("mongopool: URI: option %s is unknown: must be %s", option, renamed[option]))
		case unknown:
			errs = append(errs, fmt.Errorf("mongopool: URI: option %s is unknown: must be one that the MongoDB driver for Go knows", option))
		case times[option] > 1 && option != "readpreferencetags":
			errs = append(errs, fmt.Errorf("mongopool: URI: option %s is given %d times: must be given once", option, times[option]))
		case strings.HasSuffix(option, "timeoutms") && values[0] == "0":
			errs = append(errs, uriError(option, values[0], "must be "+wholeMilliseconds))
		}
	}
	return u, errors.Join(errs...)
}

// given returns how often a URI gives each option, by name in lower case. The driver has parsed the
// URI already. The driver's own list also has the options of the DNS's TXT record. Such options are
// defaults, and the URI may override the defaults.
func given(uri string) map[string]int {
	_, rest, _ := strings.Cut(uri, "://")
	_, query := splitURI(rest)
	times := map[string]int{}
	for _, pair := range pairs(query) {
		key, _, _ := strings.Cut(pair, "=")
		key, _ = url.QueryUnescape(key) // cannot fail: the driver has done the same
		times[strings.ToLower(key)]++
	}
	return times
}

// pairs returns the options of a query, not unescaped.
func pairs(query string) []string {
	return strings.FieldsFunc(query, func(r rune) bool { return r == ';' || r == '&' })
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// uriError returns an error with the option, its value unless the value is secret, and the allowed
// values.
func uriError(option, value, allowed string) error {
	shown := strconv.Quote(value)
	if secret[strings.ToLower(option)] || holdsLogin(value) {
		shown = notShown
	}
	return fmt.Errorf("mongopool: URI: option %s is %s: %s", option, shown, allowed)
}

// notShown stands for a value that may hold a password.
const notShown = "not shown here"

// explain returns an error for a URI that the driver cannot parse. The driver's error may quote any
// part of the URI. So explain uses the driver's error only for parts without a secret.
func explain(uri string, err error) error {
	scheme, rest, found := strings.Cut(uri, "://")
	if !found || scheme != connstring.SchemeMongoDB && scheme != connstring.SchemeMongoDBSRV {
		return errors.New("mongopool: URI: the scheme is not known: must be mongodb:// or mongodb+srv://")
	}
	if dns := (*net.DNSError)(nil); errors.As(err, &dns) {
		return fmt.Errorf("mongopool: URI: the DNS does not know the deployment: %w", dns)
	}
	database, query := splitURI(rest)
	if _, err := url.PathUnescape(database); err != nil {
		return errors.New("mongopool: URI: the database's name is not valid: must have % and ? written as %XX")
	}
	var public []string
	for _, pair := range pairs(query) {
		key, value, _ := strings.Cut(pair, "=")
		if _, err := connstring.Parse("mongodb://host/?" + pair); err != nil && !strings.HasPrefix(strings.ToLower(key), "srv") {
			return explainOption(key, value)
		}
		if !secret[strings.ToLower(key)] {
			public = append(public, pair)
		}
	}
	if _, err := connstring.Parse("mongodb://user:password@host/?" + strings.Join(public, "&")); err != nil {
		return fmt.Errorf("mongopool: URI: %w", err)
	}
	if hosts := rest[strings.LastIndexByte(rest, '@')+1:]; !strings.Contains(hosts, "/") && strings.Contains(hosts, "?") {
		return errors.New("mongopool: URI: there is no / before the ?: must be mongodb://host/?options or mongodb://host/database?options")
	}
	return errors.New("mongopool: URI: user, password or hosts are not valid: must be " +
		"mongodb://[user:password@]host[:port][,host[:port]...]/[database][?options], with each of : / ? # [ ] @ % in user and password " +
		"written as %XX")
}

// splitURI returns the database and the query of a URI without its scheme. Text before the last @
// may belong to a password.
func splitURI(rest string) (database, query string) {
	rest = rest[strings.LastIndexByte(rest, '@')+1:]
	_, rest, _ = strings.Cut(rest, "/")
	database, query, _ = strings.Cut(rest, "?")
	return database, query
}

func explainOption(key, value string) error {
	if key == "" || value == "" && !strings.Contains(strings.ToLower(key), "tags") {
		return errors.New("mongopool: URI: an option has no name or no value: must be name=value, separated by &")
	}
	values, ok := allowed[strings.ToLower(key)]
	if !ok {
		values = "what the MongoDB driver documents"
	}
	return uriError(key, value, "must be "+values)
}

// fromURI returns the Options of a parsed URI, without the driver's defaults.
func fromURI(uri string, u *connstring.ConnString) Options {
	o := Options{
		URI: uri, Database: u.Database, AppName: u.AppName,
		Username: u.Username, Password: u.Password, AuthMechanism: u.AuthMechanism,
		ReplicaSet: u.ReplicaSet, ReadPreference: u.ReadPreference, ReadConcern: u.ReadConcernLevel, WriteConcern: u.WString,
		Journal: u.J, Compressors: u.Compressors, ConnectTimeout: u.ConnectTimeout, ServerSelectionTimeout: u.ServerSelectionTimeout,
	}
	// The hosts of a mongodb+srv:// URI are from the DNS, and may change.
	if u.Scheme != connstring.SchemeMongoDBSRV {
		o.Hosts = u.Hosts
	}
	if u.AuthSourceSet {
		o.AuthSource = u.AuthSource
	}
	if u.WNumberSet {
		o.WriteConcern = strconv.Itoa(u.WNumber)
	}
	if u.RetryReadsSet {
		o.RetryReads = &u.RetryReads
	}
	if u.RetryWritesSet {
		o.RetryWrites = &u.RetryWrites
	}
	if u.SSL {
		o.TLS = &TLS{
			CAFile: u.SSLCaFile, CertFile: u.SSLCertificateFile, KeyFile: u.SSLPrivateKeyFile, InsecureSkipVerify: u.SSLInsecure,
		}
		if u.SSLClientCertificateKeyFileSet {
			o.TLS.CertFile = u.SSLClientCertificateKeyFile
		}
	}
	return o
}
