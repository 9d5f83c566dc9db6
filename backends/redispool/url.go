package redispool

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// successors has advice for options used with other libraries.
var successors = map[string]string{
	"database":                  "use db",
	"route_by_latency":          "use a pool of the primary and another with replica_only",
	"route_randomly":            "use a pool of the primary and another with replica_only",
	"use_disconnected_replicas": "replicas without a connection to their primary are used when there are no others",
	"ssl":                       "use the scheme rediss",
	"ssl_cert_reqs":             "certificates are verified; tls_insecure_skip_verify=true turns that off",
	"ssl_ca_certs":              "use tls_ca_file",
	"ssl_certfile":              "use tls_cert_file",
	"ssl_keyfile":               "use tls_key_file",
	"skip_verify":               "use tls_insecure_skip_verify",
	"encoding":                  "replies are strings of bytes; decode them as you like",
	"decode_responses":          "each reply is read as string, bytes or number by choice",
	"socket_timeout":            "use read_timeout and write_timeout",
	"socket_connect_timeout":    "use dial_timeout",
	"max_connections":           "use MaxSize of pool.Config",
	"pool_size":                 "use MaxSize of pool.Config",
	"min_idle_conns":            "use MinIdle of pool.Config",
	"pool_timeout":              "use AcquireTimeout of pool.Config",
	"conn_max_idle_time":        "use MaxIdleTime of pool.Config",
	"conn_max_lifetime":         "use MaxLifetime of pool.Config",
	"max_retries":               "use the layer middleware/retry",
	"retry_on_timeout":          "use the layer middleware/retry",
	"health_check_interval":     "use KeepAlive of pool.Config",
	"context_timeout_enabled":   "contexts are always honoured",
}

// ParseURL makes Options from a URL:
//
//	redis://user:password@host:port/db?option=value
//	rediss://...                      the same over TLS
//	unix://user:password@/path/to/socket?db=1
//
// valkey is another name for redis. valkeys and redis+tls are other names for rediss. redis-socket
// is another name for unix.
//
// With the option master_name the URL names a [Sentinel], as in ParseFailoverURL of go-redis:
//
//	redis://user:password@host:26379/db?master_name=mymaster&addr=host2:26379&username=app
//
// In such a URL the user and the password before the host are for the Sentinels. The options
// username and password are for the servers. Each addr is the address of a further Sentinel.
// replica_only=true sets Sentinel.Replicas. With rediss, the connections to servers and Sentinels
// use TLS. All their certificates must be for the URL's host, or for tls_server_name.
//
// Only the scheme is required, and the path of a unix socket. The options are the fields of
// [Options] and [TLS]: db, protocol, client_name, dial_timeout, read_timeout, write_timeout,
// tls_ca_file, tls_cert_file, tls_key_file, tls_server_name and tls_insecure_skip_verify. A timeout
// has the form of time.ParseDuration, with a unit. Special characters in the user name and the
// password must be percent-encoded, above all / ? # and @.
//
// ParseURL returns an error with the option's name if an option is unknown, is given twice, or does
// not fit the rest of the URL. An error never shows the URL.
func ParseURL(rawURL string) (Options, error) {
	u, err := parseURL(rawURL)
	if err != nil {
		return Options{}, err
	}
	var o Options
	if err := setServer(&o, u); err != nil {
		return Options{}, err
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Options{}, errors.New("redispool: the URL's options cannot be parsed: check the percent-encoding")
	}
	password, _ := u.User.Password()
	if query.Has("master_name") {
		if err := setSentinel(&o, u.User.Username(), password); err != nil {
			return Options{}, err
		}
	} else {
		o.Username, o.Password = u.User.Username(), password
	}
	if err := setPath(&o, u, query); err != nil {
		return Options{}, err
	}
	if err := setQuery(&o, query); err != nil {
		return Options{}, err
	}
	if o.Sentinel != nil && o.TLS != nil {
		t := *o.TLS
		o.Sentinel.TLS = &t
	}
	if err := o.Validate(); err != nil {
		return Options{}, err
	}
	return o, nil
}

// parseURL is url.Parse with errors that do not quote the URL. It refuses a URL with a part of the
// password in a wrong place, because a later error would show this part.
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

// setServer sets the server from the scheme and the host of u.
func setServer(o *Options, u *url.URL) error {
	switch u.Scheme {
	case "redis", "valkey":
		o.Address = u.Host
	case "rediss", "valkeys", "redis+tls":
		o.Address, o.TLS = u.Host, &TLS{}
	case "unix", "redis-socket":
		if o.Address = u.Path; u.Host != "" || len(u.Path) < 2 {
			return errors.New("redispool: a unix URL has no host and the path of a socket, as in unix:///run/redis.sock")
		}
	case "redis-sentinel", "redis+sentinel":
		return errors.New("redispool: the URL names Sentinels: write it as redis://host:26379/0?master_name=NAME&addr=host2:26379")
	case "redis-cluster", "redis+cluster":
		return errors.New("redispool: the URL names a cluster: use redis.ClusterClient, for a pool connects to one server")
	default:
		return errors.New("redispool: the URL's scheme must be redis, rediss or unix, or another name for one of them")
	}
	return nil
}

// setSentinel makes the server in the URL a Sentinel.
func setSentinel(o *Options, username, password string) error {
	if strings.HasPrefix(o.Address, "/") {
		return errors.New("redispool: option \"master_name\": needs the address of a Sentinel, not the path of a socket")
	}
	address, err := hostPort(o.Address, sentinelPort)
	if err != nil {
		return fmt.Errorf("redispool: the URL's host %w", err)
	}
	o.Address = ""
	o.Sentinel = &Sentinel{Addresses: []string{address}, Username: username, Password: password}
	if o.TLS != nil {
		o.TLS.ServerName, _, _ = net.SplitHostPort(address)
	}
	return nil
}

// setPath sets the index of the database from the path of a TCP URL.
func setPath(o *Options, u *url.URL, query url.Values) error {
	path := strings.TrimSuffix(strings.TrimPrefix(u.Path, "/"), "/")
	if strings.HasPrefix(o.Address, "/") || path == "" {
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

// setQuery sets the options of a URL.
func setQuery(o *Options, query url.Values) error {
	names := make([]string, 0, len(query))
	for name := range query {
		names = append(names, name)
	}
	slices.Sort(names)
	var errs []error
	for _, name := range names {
		if name == "addr" && o.Sentinel != nil {
			o.Sentinel.Addresses = append(o.Sentinel.Addresses, query[name]...)
			continue
		}
		if len(query[name]) > 1 {
			errs = append(errs, fmt.Errorf("redispool: option %q is given %d times", name, len(query[name])))
			continue
		}
		if query.Get(name) == "" && query.Has("password") {
			errs = append(errs, errors.New("redispool: an option has no value; it is not shown, for it may belong to the password, whose & is written as %26"))
			continue
		}
		if err := set(o, name, query.Get(name)); err != nil {
			errs = append(errs, fmt.Errorf("redispool: option %q: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// set sets a single option by its name in URLs.
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
	case "master_name", "addr", "replica_only", "username", "password":
		return setServers(o, name, value)
	default:
		return setTLS(o, name, value)
	}
	return err
}

// setServers sets the options about Sentinels.
func setServers(o *Options, name, value string) (err error) {
	if o.Sentinel == nil {
		if name == "username" || name == "password" {
			return errors.New("belongs before the host, as in redis://user:password@host")
		}
		return errors.New("needs the option master_name")
	}
	switch name {
	case "master_name":
		o.Sentinel.MasterName = value
	case "username":
		o.Username = value
	case "password":
		o.Password = value
	case "replica_only":
		if o.Sentinel.Replicas, err = strconv.ParseBool(value); err != nil {
			return errors.New("must be true or false")
		}
	}
	return nil
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
