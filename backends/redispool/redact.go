package redispool

import (
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strconv"
	"time"
)

// hidden stands for a password, as it does in net/url.
const hidden = "xxxxx"

// String returns the options as a URL for [ParseURL], with xxxxx in place of the password.
func (o Options) String() string {
	query := url.Values{}
	put := func(name, value string) {
		if value != "" {
			query.Set(name, value)
		}
	}
	u := url.URL{Scheme: "redis"}
	network, address, err := o.network()
	switch {
	case err != nil:
		u.Host = "invalid"
	case network == "unix":
		u.Scheme, u.Path = "unix", address
		put("db", intText(o.DB))
	default:
		u.Host, u.Path = address, "/"+strconv.Itoa(o.DB)
	}
	if o.Password != "" || o.Credentials != nil {
		u.User = url.UserPassword(o.Username, hidden)
	} else if o.Username != "" {
		u.User = url.User(o.Username)
	}
	put("protocol", intText(o.Protocol))
	put("client_name", o.ClientName)
	put("dial_timeout", durationText(o.DialTimeout))
	put("read_timeout", durationText(o.ReadTimeout))
	put("write_timeout", durationText(o.WriteTimeout))
	if t := o.TLS; t != nil {
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

// GoString is what %#v prints.
func (o Options) GoString() string { return fmt.Sprintf("redispool.Options(%q)", o.String()) }

// Format prints String for every verb, and GoString for %#v: no verb may reach the fields.
func (o Options) Format(f fmt.State, verb rune) {
	s := o.String()
	switch {
	case verb == 'v' && f.Flag('#'):
		s = o.GoString()
	case verb == 'q':
		s = strconv.Quote(s)
	}
	_, _ = io.WriteString(f, s)
}

// LogValue is what package log/slog prints.
func (o Options) LogValue() slog.Value { return slog.StringValue(o.String()) }

// MarshalText is what encoding/json, encoding/xml and YAML encoders print. It never fails.
func (o Options) MarshalText() ([]byte, error) { return []byte(o.String()), nil }
