package redispool

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// successors says what became of options that users of other libraries try.
var successors = map[string]string{
	"ssl":                     "use the scheme rediss",
	"ssl_cert_reqs":           "certificates are verified; tls_insecure_skip_verify=true turns that off",
	"ssl_ca_certs":            "use tls_ca_file",
	"ssl_certfile":            "use tls_cert_file",
	"ssl_keyfile":             "use tls_key_file",
	"skip_verify":             "use tls_insecure_skip_verify",
	"encoding":                "replies are strings of bytes; decode them as you like",
	"decode_responses":        "each reply is read as string, bytes or number by choice",
	"socket_timeout":          "use read_timeout and write_timeout",
	"socket_connect_timeout":  "use dial_timeout",
	"max_connections":         "use MaxSize of pool.Config",
	"pool_size":               "use MaxSize of pool.Config",
	"min_idle_conns":          "use MinIdle of pool.Config",
	"pool_timeout":            "use AcquireTimeout of pool.Config",
	"conn_max_idle_time":      "use MaxIdleTime of pool.Config",
	"conn_max_lifetime":       "use MaxLifetime of pool.Config",
	"max_retries":             "use the layer middleware/retry",
	"retry_on_timeout":        "use the layer middleware/retry",
	"health_check_interval":   "use KeepAlive of pool.Config",
	"context_timeout_enabled": "contexts are always honoured",
}

// ParseURL makes Options of a URL:
//
//	redis://user:password@host:port/db?option=value
//	rediss://...                      the same over TLS
//	unix://user:password@/path/to/socket?db=1
//
// Everything is optional but the scheme and the path of a unix socket. The options are the fields of [Options] and [TLS]: db, protocol,
// client_name, dial_timeout, read_timeout, write_timeout, tls_ca_file, tls_cert_file, tls_key_file, tls_server_name and
// tls_insecure_skip_verify. Timeouts are written as for time.ParseDuration, with a unit. Special characters in the user name and the
// password, above all / ? # and @, are percent-encoded.
//
// An option that is unknown, given twice or of no use with the rest of the URL is an error that names it. No error shows the URL.
func ParseURL(rawURL string) (Options, error) {
	u, err := parseURL(rawURL)
	if err != nil {
		return Options{}, err
	}
	var o Options
	switch u.Scheme {
	case "redis", "rediss":
		o.Address = u.Host
		if u.Scheme == "rediss" {
			o.TLS = &TLS{}
		}
	case "unix":
		if o.Address = u.Path; u.Host != "" || len(u.Path) < 2 {
			return Options{}, errors.New("redispool: a unix URL has no host and the path of a socket, as in unix:///run/redis.sock")
		}
	default:
		return Options{}, errors.New("redispool: the URL's scheme must be redis, rediss or unix")
	}
	o.Username = u.User.Username()
	o.Password, _ = u.User.Password()
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Options{}, errors.New("redispool: the URL's options cannot be parsed: check the percent-encoding")
	}
	if err := setPath(&o, u, query); err != nil {
		return Options{}, err
	}
	if err := setQuery(&o, query); err != nil {
		return Options{}, err
	}
	if err := o.Validate(); err != nil {
		return Options{}, err
	}
	return o, nil
}

// parseURL is url.Parse with errors that do not quote the URL, and refuses those in which a part of the password may have ended up
// elsewhere, where a later error would show it.
func parseURL(rawURL string) (*url.URL, error) {
	const encode = "special characters in the user name and the password must be percent-encoded"
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, errors.New("redispool: the URL cannot be parsed (it is not shown, for it may hold a password): " + encode +
			", and the port must be a number")
	}
	if strings.Contains(u.EscapedPath()+u.RawQuery+u.Opaque, "@") || strings.Contains(u.Host, "@") {
		return nil, errors.New("redispool: the URL has an @ after the host: " + encode + ", and an @ in an option as well")
	}
	if u.Fragment != "" || u.Opaque != "" {
		return nil, errors.New("redispool: the URL must be of the form scheme://host/db?options, without #: " + encode)
	}
	return u, nil
}

// setPath reads the database's index from the path of a TCP URL.
func setPath(o *Options, u *url.URL, query url.Values) error {
	path := strings.TrimPrefix(u.Path, "/")
	if u.Scheme == "unix" || path == "" {
		return nil
	}
	if query.Has("db") {
		return errors.New("redispool: the URL's path and its option db both name a database: use one")
	}
	db, err := strconv.Atoi(path)
	if err != nil {
		return errors.New("redispool: the URL's path must be the number of a database, as in redis://host/1")
	}
	o.DB = db
	return nil
}

// setQuery sets what the options of a URL say.
func setQuery(o *Options, query url.Values) error {
	names := make([]string, 0, len(query))
	for name := range query {
		names = append(names, name)
	}
	slices.Sort(names)
	var errs []error
	for _, name := range names {
		if len(query[name]) > 1 {
			errs = append(errs, fmt.Errorf("redispool: option %q is given %d times", name, len(query[name])))
			continue
		}
		if err := set(o, name, query.Get(name)); err != nil {
			errs = append(errs, fmt.Errorf("redispool: option %q: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// set sets one option by its name in URLs.
func set(o *Options, name, value string) (err error) {
	switch name {
	case "db":
		o.DB, err = parseInt(value)
	case "protocol":
		o.Protocol, err = parseInt(value)
	case "client_name":
		o.ClientName = value
	case "dial_timeout":
		o.DialTimeout, err = parseDuration(value)
	case "read_timeout":
		o.ReadTimeout, err = parseDuration(value)
	case "write_timeout":
		o.WriteTimeout, err = parseDuration(value)
	default:
		return setTLS(o, name, value)
	}
	return err
}

func setTLS(o *Options, name, value string) (err error) {
	t := o.TLS
	if t == nil {
		t = &TLS{}
	}
	switch name {
	case "tls_ca_file":
		t.CAFile = value
	case "tls_cert_file":
		t.CertFile = value
	case "tls_key_file":
		t.KeyFile = value
	case "tls_server_name":
		t.ServerName = value
	case "tls_insecure_skip_verify":
		if t.InsecureSkipVerify, err = strconv.ParseBool(value); err != nil {
			return errors.New("must be true or false")
		}
	case "username", "password":
		return errors.New("belongs before the host, as in redis://user:password@host")
	default:
		if hint, ok := successors[name]; ok {
			return errors.New("unknown: " + hint)
		}
		return errors.New("unknown")
	}
	if o.TLS == nil {
		return errors.New("needs the scheme rediss")
	}
	return nil
}

func parseInt(value string) (int, error) {
	n, err := strconv.Atoi(value)
	if err != nil {
		return 0, fmt.Errorf("is %q: must be a whole number", value)
	}
	return n, nil
}

func parseDuration(value string) (time.Duration, error) {
	d, err := time.ParseDuration(value)
	if err != nil {
		return 0, fmt.Errorf("is %q: must be a duration with a unit, such as 500ms", value)
	}
	return d, nil
}
