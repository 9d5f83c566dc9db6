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

// refused are options of a URI that are known but have no effect here, or another than they seem to have. The keys are in lower case.
var refused = map[string]string{
	"maxpoolsize":        "must be left out: pool.Config.MaxSize says how many sockets there are",
	"minpoolsize":        "must be left out: pool.Config.MinIdle says how many are kept ready",
	"maxidletimems":      "must be left out: pool.Config.MaxIdleTime says so",
	"maxconnecting":      "must be left out: pool.Config.OpenConcurrency says so",
	"waitqueuetimeoutms": "must be left out: pool.Config.AcquireTimeout bounds the wait",
	"sockettimeoutms":    "must be left out: the driver ignores it; use a context's deadline or a layer of package timeout",
	"timeoutms":          "must be left out: it counts only without a deadline; use a context's deadline or a layer of package timeout",
}

// renamed are names that other programs use for options.
var renamed = map[string]string{
	"auth_source": "authSource", "replica_set": "replicaSet", "read_preference": "readPreference",
	"min_size": "MinIdle of pool.Config", "max_size": "MaxSize of pool.Config",
}

// secret are the options of a URI whose values are not shown.
var secret = map[string]bool{
	"tlscertificatekeyfilepassword": true, "sslclientcertificatekeypassword": true, "authmechanismproperties": true,
}

// allowed says what values an option of a URI may have, for errors. The driver's own say only what is not.
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

// ParseURI returns what a connection string says as Options: URI is the string, and the other fields are what it sets, so that they can
// be looked at and, where they are empty, be set. A field that is set to something else than the URI says makes New fail.
//
// Unlike the driver, which warns of them or drops them, ParseURI refuses options that are unknown, given twice, or without effect here.
// The error names the option, its value and what is allowed; it never holds the password, or another part of the string that could be
// one. A mongodb+srv:// URI is looked up in the DNS. An @ that belongs to a value must be written as %40, in options too.
func ParseURI(uri string) (Options, error) {
	u, err := parse(uri)
	if err != nil {
		return Options{}, err
	}
	return fromURI(uri, u), nil
}

// parse is the driver's parser with a stricter judgement and errors that can be shown.
func parse(uri string) (*connstring.ConnString, error) {
	// The driver ends the password at the first @ and takes the rest of it for hosts, which it looks up in the DNS, for a database, which
	// telemetry shows, or for options. No later @ is told from that, not even one behind a ?, which may be the password's as well.
	if strings.Count(uri, "@") > 1 {
		return nil, errors.New("mongopool: URI: it holds more than one @: each but the one before the hosts must be written as %40")
	}
	u, err := connstring.Parse(uri)
	if err != nil {
		return nil, explain(uri, err)
	}
	if err := u.Validate(); err != nil { // its texts are fixed
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

// given returns how often a URI that the driver could parse gives each option, by its name in lower case. The driver's own list has those
// of the DNS's TXT record too, which are defaults that the URI may override.
func given(uri string) map[string]int {
	_, rest, _ := strings.Cut(uri, "://")
	_, query := splitURI(rest)
	times := map[string]int{}
	for _, pair := range pairs(query) {
		key, _, _ := strings.Cut(pair, "=")
		key, _ = url.QueryUnescape(key) // the driver has done it, so it works
		times[strings.ToLower(key)]++
	}
	return times
}

// pairs returns the options in a query as they are written.
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

// uriError names an option, its value unless that is a secret, and what is allowed.
func uriError(option, value, allowed string) error {
	shown := strconv.Quote(value)
	if secret[strings.ToLower(option)] || holdsLogin(value) {
		shown = notShown
	}
	return fmt.Errorf("mongopool: URI: option %s is %s: %s", option, shown, allowed)
}

// notShown stands for a value that may hold a password.
const notShown = "not shown here"

// explain says what is wrong with a URI that the driver cannot parse. The driver's error may quote any part of it, so it is used only
// where it comes from parts that hold no secret.
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

// splitURI returns database and query of what follows the scheme. Whatever stands before the last @ may belong to a password.
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

// fromURI returns what a parsed URI says, without the defaults that the driver makes up.
func fromURI(uri string, u *connstring.ConnString) Options {
	o := Options{
		URI: uri, Database: u.Database, AppName: u.AppName,
		Username: u.Username, Password: u.Password, AuthMechanism: u.AuthMechanism,
		ReplicaSet: u.ReplicaSet, ReadPreference: u.ReadPreference, ReadConcern: u.ReadConcernLevel, WriteConcern: u.WString,
		Journal: u.J, Compressors: u.Compressors, ConnectTimeout: u.ConnectTimeout, ServerSelectionTimeout: u.ServerSelectionTimeout,
	}
	if u.Scheme != connstring.SchemeMongoDBSRV { // else they are the DNS's and may change
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
