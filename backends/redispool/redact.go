package redispool

import (
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// hidden replaces a password, as in net/url.
const hidden = "xxxxx"

// invalid replaces a text that may hold a password in the wrong place.
const invalid = "invalid"

// String returns the options as a URL for [ParseURL], with xxxxx in place of the password.
func (o Options) String() string {
	query := url.Values{}
	put := func(name, value string) {
		if holdsLogin(value) {
			value = invalid
		}
		if value != "" {
			query.Set(name, value)
		}
	}
	u := url.URL{Scheme: "redis"}
	network, address, err := o.network()
	switch {
	case err != nil:
		u.Host = invalid
	case network == "unix":
		u.Scheme, u.Path = "unix", address
		put("db", intText(o.DB))
	default:
		u.Host, u.Path = address, "/"+strconv.Itoa(o.DB)
	}
	username, password := o.Username, o.Password
	if o.Credentials != nil {
		password = hidden
	}
	if s := o.Sentinel; s != nil {
		u.Host = s.put(query)
		put("master_name", s.MasterName)
		put("username", username)
		if password != "" {
			query.Set("password", hidden)
		}
		username, password = s.Username, s.Password
	}
	if strings.Contains(username, "://") {
		username = invalid
	}
	if password != "" {
		u.User = url.UserPassword(username, hidden)
	} else if username != "" {
		u.User = url.User(username)
	}
	put("protocol", intText(o.Protocol))
	put("client_name", o.ClientName)
	put("dial_timeout", durationText(o.DialTimeout))
	put("read_timeout", durationText(o.ReadTimeout))
	put("write_timeout", durationText(o.WriteTimeout))
	t := o.TLS
	if t == nil && o.Sentinel != nil {
		t = o.Sentinel.TLS
	}
	if t != nil {
		u.Scheme = "rediss"
		put("tls_ca_file", t.CAFile)
		put("tls_cert_file", t.CertFile)
		put("tls_key_file", t.KeyFile)
		put("tls_server_name", t.ServerName)
		if t.InsecureSkipVerify {
			put("tls_insecure_skip_verify", "true")
		}
	}
	u.RawQuery = query.Encode()
	return u.String()
}

// put adds the further addresses and Replicas to query, and returns the first address.
func (s Sentinel) put(query url.Values) (host string) {
	host = invalid
	for i, a := range s.Addresses {
		address, err := hostPort(a, sentinelPort)
		if err != nil {
			address = invalid
		}
		if i == 0 {
			host = address
		} else {
			query.Add("addr", address)
		}
	}
	if s.Replicas {
		query.Set("replica_only", "true")
	}
	return host
}

// String returns a URL with the Sentinels and the master's name, and xxxxx in place of the
// password.
func (s Sentinel) String() string { return Options{Sentinel: &s}.String() }

// GoString returns the text printed by %#v: String in quotes, after the name of the type.
func (s Sentinel) GoString() string { return fmt.Sprintf("redispool.Sentinel(%q)", s.String()) }

// Format prints String for every verb, and GoString for %#v, so no verb prints the fields.
func (s Sentinel) Format(f fmt.State, verb rune) { format(f, verb, s) }

// LogValue returns String for package log/slog.
func (s Sentinel) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText returns String for encoding/json, encoding/xml and YAML encoders. It never fails.
func (s Sentinel) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

func intText(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func durationText(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

// GoString returns the text printed by %#v: String in quotes, after the name of the type.
func (o Options) GoString() string { return fmt.Sprintf("redispool.Options(%q)", o.String()) }

// Format prints String for every verb, and GoString for %#v, so no verb prints the fields. There is
// an exception: %p is for pointers. Package fmt does not call Format for %p and prints the fields.
func (o Options) Format(f fmt.State, verb rune) { format(f, verb, o) }

// format prints the text of a value in place of the fields.
func format(f fmt.State, verb rune, text interface {
	fmt.Stringer
	fmt.GoStringer
}) {
	s := text.String()
	switch {
	case verb == 'v' && f.Flag('#'):
		s = text.GoString()
	case verb == 'q':
		s = strconv.Quote(s)
	}
	_, _ = io.WriteString(f, s)
}

// LogValue returns String for package log/slog.
func (o Options) LogValue() slog.Value { return slog.StringValue(o.String()) }

// MarshalText returns String for encoding/json, encoding/xml and YAML encoders. It never fails.
func (o Options) MarshalText() ([]byte, error) { return []byte(o.String()), nil }
