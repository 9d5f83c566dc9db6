package redispool_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/earnorm/poolstack/backends/redispool"
)

const secret = "s3cret!"

func TestParseURL(t *testing.T) {
	for _, test := range []struct {
		url  string
		want redispool.Options
	}{
		{"redis://", redispool.Options{}},
		{"redis://cache", redispool.Options{Address: "cache"}},
		{"redis://cache:7000/3", redispool.Options{Address: "cache:7000", DB: 3}},
		{"redis://cache/?db=3", redispool.Options{Address: "cache", DB: 3}},
		{"redis://cache/3/", redispool.Options{Address: "cache", DB: 3}},
		{"redis://app@cache", redispool.Options{Address: "cache", Username: "app"}},
		{"valkey://cache/3", redispool.Options{Address: "cache", DB: 3}},
		{"valkeys://cache", redispool.Options{Address: "cache", TLS: &redispool.TLS{}}},
		{"redis+tls://cache", redispool.Options{Address: "cache", TLS: &redispool.TLS{}}},
		{"redis-socket:///run/redis.sock?db=2", redispool.Options{Address: "/run/redis.sock", DB: 2}},
		{"redis://[::1]:7000", redispool.Options{Address: "[::1]:7000"}},
		{"redis://:s3cret%21@cache", redispool.Options{Address: "cache", Password: secret}},
		{"redis://app:s3cret!@cache", redispool.Options{Address: "cache", Username: "app", Password: secret}},
		{"redis://app:%2F%3F%23%40%25@cache", redispool.Options{Address: "cache", Username: "app", Password: "/?#@%"}},
		{"rediss://cache", redispool.Options{Address: "cache", TLS: &redispool.TLS{}}},
		{"unix:///run/redis.sock", redispool.Options{Address: "/run/redis.sock"}},
		{"unix://app:s3cret!@/run/redis.sock?db=2", redispool.Options{Address: "/run/redis.sock", Username: "app", Password: secret, DB: 2}},
		{"redis://cache?protocol=2&client_name=web&dial_timeout=1s&read_timeout=250ms&write_timeout=-1s", redispool.Options{
			Address: "cache", Protocol: 2, ClientName: "web",
			DialTimeout: time.Second, ReadTimeout: 250 * time.Millisecond, WriteTimeout: -time.Second,
		}},
		{"rediss://cache?tls_ca_file=ca.pem&tls_cert_file=c.pem&tls_key_file=k.pem&tls_server_name=redis", redispool.Options{
			Address: "cache", TLS: &redispool.TLS{CAFile: "ca.pem", CertFile: "c.pem", KeyFile: "k.pem", ServerName: "redis"},
		}},
		{"rediss://cache?tls_insecure_skip_verify=true", redispool.Options{
			Address: "cache", TLS: &redispool.TLS{InsecureSkipVerify: true},
		}},
		{"redis://sentry:watch@one?master_name=main", redispool.Options{
			Sentinel: &redispool.Sentinel{MasterName: "main", Addresses: []string{"one:26379"}, Username: "sentry", Password: "watch"},
		}},
		{"redis://one:7000/2?master_name=main&addr=two&addr=three:7001&username=app&password=s3cret%21&replica_only=true", redispool.Options{
			DB: 2, Username: "app", Password: secret,
			Sentinel: &redispool.Sentinel{MasterName: "main", Addresses: []string{"one:7000", "two", "three:7001"}, Replicas: true},
		}},
		{"rediss://one?master_name=main", redispool.Options{
			TLS:      &redispool.TLS{ServerName: "one"},
			Sentinel: &redispool.Sentinel{MasterName: "main", Addresses: []string{"one:26379"}, TLS: &redispool.TLS{ServerName: "one"}},
		}},
	} {
		got, err := redispool.ParseURL(test.url)
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s:\n got %+v, %v\nwant %+v", test.url, got, err, test.want)
		}
	}
}

// Errors name the problem, and never show the password, even if a part of an unencoded password
// ends up in another place.
func TestParseURLErrors(t *testing.T) {
	for _, test := range []struct{ url, want string }{
		{"", "scheme"},
		{"cache:6379", "scheme://host"},
		{"http://:s3cret!@cache", "redis, rediss or unix"},
		{"s3cret!://cache", "cannot be parsed"},
		{"redis://:s3cret!@cache:port", "port must be a number"},
		{"redis://:s3cret!@cache:99999", "port"},
		{"redis://:s3cret!%@cache", "percent-encoded"},
		{"redis://:12/s3cret!@cache", "percent-encoded"},
		{"redis://:12?s3cret!@cache", "percent-encoded"},
		{"redis://:12#s3cret!@cache", "#"},
		{"redis://:12/s3cret!", "number of a database"},
		{"redis://:s3cret!@cache/one", "number of a database"},
		{"redis://:s3cret!@cache/1/2", "number of a database"},
		{"redis://:s3cret!@cache/-1", "DB is -1"},
		{"redis://:s3cret!@cache/1?db=2", "db"},
		{"redis://:s3cret!@cache?db=", `option "db": is ""`},
		{"redis://:s3cret!@cache?db=1&db=2", `option "db" is given 2 times`},
		{"redis://:s3cret!@cache?%zz", "percent-encoding"},
		{"redis://:s3cret!@a,b", "one host"},
		{"redis-sentinel://:s3cret!@cache/main", "redis://host:26379/0?master_name=NAME"},
		{"redis://:s3cret!@cache?master_name=", `Sentinel.MasterName is ""`},
		{"redis://:s3cret!@cache?addr=two", `option "addr": needs the option master_name`},
		{"redis://cache?replica_only=true", `option "replica_only": needs the option master_name`},
		{"redis://cache?master_name=m&replica_only=maybe", "true or false"},
		{"redis://cache?master_name=m&addr=a,b", "Sentinel.Addresses[1]"},
		{"redis://cache?master_name=m&password=s3cret!&password=s3cret!", `option "password" is given 2 times`},
		{"redis://cache?master_name=m&password=a&s3cret!", "written as %26"},
		{"redis://cache?master_name=m&route_randomly=true", "replica_only"},
		{"unix:///run/redis.sock?master_name=m", "not the path of a socket"},
		{"redis-cluster://:s3cret!@cache", "redis.ClusterClient"},
		{"redis-socket://:s3cret!@/run/redis.sock?database=2", "use db"},
		{"redis://:s3cret!@cache//1", "number of a database"},
		{"redis://:s3cret!@cache?protocol=4", "Protocol is 4"},
		{"redis://:s3cret!@cache?client_name=a+b", "ClientName"},
		{"redis://:s3cret!@cache?read_timeout=5", `option "read_timeout": is "5": must be a duration`},
		{"redis://:s3cret!@cache?dial_timeout=-1s", "DialTimeout is -1s"},
		{"redis://:s3cret!@cache?colour=red", `option "colour": unknown`},
		{"redis://:s3cret!@cache?ssl=true", "scheme rediss"},
		{"redis://:s3cret!@cache?decode_responses=true", "by choice"},
		{"rediss://:s3cret!@cache?ssl_cert_reqs=none", "tls_insecure_skip_verify"},
		{"redis://cache?password=x", `option "password": belongs before the host`},
		{"redis://:s3cret!@cache?tls_ca_file=ca.pem", `option "tls_ca_file": needs the scheme rediss`},
		{"rediss://:s3cret!@cache?tls_cert_file=c.pem", "TLS.CertFile and TLS.KeyFile"},
		{"rediss://:s3cret!@cache?tls_insecure_skip_verify=maybe", "true or false"},
		{"rediss://:s3cret!@cache?tls_insecure_skip_verify=1&tls_ca_file=ca.pem", "TLS.CAFile"},
		{"unix://:s3cret!@host/run/redis.sock", "no host"},
		{"unix://:s3cret!@/", "path of a socket"},
		{"unix://:s3cret!@/run/redis.sock?tls_server_name=a", "rediss"},
	} {
		got, err := redispool.ParseURL(test.url)
		if err == nil {
			t.Errorf("%s: no error", test.url)
			continue
		}
		if text := err.Error(); !strings.Contains(text, test.want) || !strings.HasPrefix(text, "redispool: ") {
			t.Errorf("%s: %v, want %s", test.url, err, test.want)
		}
		if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: the error shows the password: %v", test.url, err)
		}
		if !reflect.DeepEqual(got, redispool.Options{}) {
			t.Errorf("%s: options with an error: %+v", test.url, got)
		}
	}
}

func sentinel(addresses ...string) *redispool.Sentinel {
	return &redispool.Sentinel{MasterName: "m", Addresses: addresses, Password: secret}
}

func TestValidate(t *testing.T) {
	provider := func(context.Context) (string, string, error) { return "", "", nil }
	for _, test := range []struct {
		opts redispool.Options
		want string
	}{
		{redispool.Options{Address: "a:b:c"}, "Address"},
		{redispool.Options{Address: "cache:0"}, "Address"},
		{redispool.Options{Address: "redis://:s3cret!@cache"}, "Address"},
		{redispool.Options{Address: "cache:s3cret!"}, "Address"},
		{redispool.Options{Password: secret, Credentials: provider}, "Credentials"},
		{redispool.Options{Address: "/run/redis.sock", Password: secret, TLS: &redispool.TLS{}}, "TLS is set, but Address is a unix socket"},
		{redispool.Options{TLS: &redispool.TLS{CAFile: "ca.pem", Config: &tls.Config{RootCAs: x509.NewCertPool()}}}, "TLS.Config.RootCAs"},
		{redispool.Options{TLS: &redispool.TLS{ServerName: "a", Config: &tls.Config{ServerName: "b"}}}, "TLS.Config.ServerName"},
		{redispool.Options{TLS: &redispool.TLS{CertFile: "c.pem", KeyFile: "k.pem", Config: &tls.Config{
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil },
		}}}, "GetClientCertificate"},
		{redispool.Options{Username: "redis://:s3cret!@cache"}, "Username is a URL"},
		{redispool.Options{ClientName: "redis://:s3cret!@cache"}, "ClientName is a URL"},
		{redispool.Options{ClientName: "app:s3cret!@cache:6379"}, "ClientName is a URL"},
		{redispool.Options{TLS: &redispool.TLS{CAFile: "redis%3A%2F%2Fapp:s3cret!%40cache"}}, "TLS.CAFile is a URL"},
		{redispool.Options{TLS: &redispool.TLS{CAFile: "redis://:s3cret!@cache"}}, "TLS.CAFile is a URL"},
		{redispool.Options{Sentinel: &redispool.Sentinel{Password: secret}}, `Sentinel.MasterName is ""`},
		{redispool.Options{Sentinel: &redispool.Sentinel{MasterName: "m"}}, "Sentinel.Addresses is empty"},
		{redispool.Options{Sentinel: sentinel("", "a")}, "Sentinel.Addresses[0]"},
		{redispool.Options{Sentinel: sentinel("a", "b:0")}, "Sentinel.Addresses[1]"},
		{redispool.Options{Sentinel: sentinel("redis://:s3cret!@a")}, "Sentinel.Addresses[0] is a URL"},
		{redispool.Options{Address: "cache", Sentinel: sentinel("a")}, "Address is set together with Sentinel"},
		{redispool.Options{Sentinel: &redispool.Sentinel{MasterName: "m", Addresses: []string{"a"}, TLS: &redispool.TLS{CertFile: "c.pem"}}},
			"Sentinel.TLS.CertFile and"},
		{redispool.Options{DB: -1, Protocol: 1, Password: secret}, "Protocol is 1"},
	} {
		err := test.opts.Validate()
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(fmt.Sprint(err, test.opts), "s3cret") {
			t.Errorf("%v: %v, want %s", test.opts, err, test.want)
		}
		if _, err := redispool.New(test.opts, config()); err == nil {
			t.Errorf("%v: New accepts them", test.opts)
		}
	}
	for _, ok := range []redispool.Options{
		{}, {Address: "::1"}, {Address: "[::1]"}, {Address: "[fe80::1%eth0]:6379"}, {Credentials: provider}, {ReadTimeout: -1},
	} {
		if err := ok.Validate(); err != nil {
			t.Errorf("%v: %v", ok, err)
		}
	}
}

// The password is left out in every form of printing.
func TestOptionsPrint(t *testing.T) {
	opts := redispool.Options{Address: "cache", Username: "app", Password: secret, DB: 1, TLS: &redispool.TLS{CAFile: "ca.pem"}}
	const want = "rediss://app:xxxxx@cache:6379/1?tls_ca_file=ca.pem"
	if got := opts.String(); got != want {
		t.Errorf("String is %s, want %s", got, want)
	}
	checkPrinted(t, opts, "app:xxxxx@cache")
	s := redispool.Sentinel{MasterName: "main", Addresses: []string{"one", "two"}, Username: "watch", Password: secret, Replicas: true}
	checkPrinted(t, s, "watch:xxxxx@one")
	opts = redispool.Options{Sentinel: &s, Username: "app", Password: secret}
	const found = "redis://watch:xxxxx@one:26379/0?addr=two%3A26379&master_name=main&password=xxxxx&replica_only=true&username=app"
	if got := opts.String(); got != found {
		t.Errorf("String is %s, want %s", got, found)
	}
	checkPrinted(t, opts, "watch:xxxxx@one")
}

// checkPrinted prints v in every way, and looks for the password.
func checkPrinted[T any](t *testing.T, v T, shown string) {
	t.Helper()
	var out bytes.Buffer
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T"} {
		fmt.Fprintf(&out, format+"\n", v)
		fmt.Fprintf(&out, format+"\n", &v)
		fmt.Fprintf(&out, format+"\n", struct{ Redis T }{v})
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("text", "redis", v, "pointer", &v)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("json", "redis", v, "in", map[string]any{"redis": v})
	if err := json.NewEncoder(&out).Encode(struct{ Redis T }{v}); err != nil {
		t.Error(err)
	}
	if strings.Contains(out.String(), "s3cret") {
		t.Errorf("the password is in\n%s", out.String())
	}
	if n := strings.Count(out.String(), shown); n < 20 {
		t.Errorf("the options are shown %d times in\n%s", n, out.String())
	}
}

// FuzzParseURL looks for a URL whose error shows the password, and for Options that change when
// printed and parsed again.
func FuzzParseURL(f *testing.F) {
	f.Add("redis://app:", "", "@cache:6379/1?protocol=3&read_timeout=1s")
	f.Add("rediss://", ":", "@[::1]?tls_server_name=a&tls_insecure_skip_verify=1")
	f.Add("unix://:", "%", "@/run/redis.sock?db=1")
	f.Add("redis://:", "12?a=", "&db=x@cache")
	f.Add("redis://:", "12/", "@cache#x")
	f.Add("redis://a:", "1@b:2?", "=@")
	f.Add("redis://a:", "", "@b?master_name=m&addr=c&username=d&password=e&replica_only=true")
	f.Add("rediss://a:", "", "@b?master_name=m&tls_server_name=c")
	f.Fuzz(func(t *testing.T, before, within, after string) {
		if !strings.Contains(after, "@") || strings.Contains(before, "?") || strings.Contains(before, "#") {
			return // then it is no password
		}
		opts, err := redispool.ParseURL(before + within + secret + after)
		if err != nil {
			if strings.Contains(err.Error(), secret) {
				t.Fatalf("the error shows the password: %v", err)
			}
			return
		}
		text := opts.String()
		if strings.Contains(text, secret) {
			t.Fatalf("String shows the password: %s", text)
		}
		again, err := redispool.ParseURL(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if again.String() != text {
			t.Fatalf("%s is printed as %s", text, again)
		}
	})
}
