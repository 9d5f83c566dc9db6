package mongopool

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/dns"

	"github.com/earnorm/poolstack/pool"
)

func TestOptions(t *testing.T) {
	const u = "mongodb://h/db"
	for _, c := range []struct {
		name string
		opts Options
		want []string // parts of the error; none: it is valid
	}{
		{"URI", Options{URI: u}, nil},
		{"fields", Options{
			Hosts: []string{"h:1", "i", "[::1]:2", "/run/m.sock"}, Database: "db", AppName: "a", Username: "u", Password: "p",
			AuthSource: "admin", AuthMechanism: "SCRAM-SHA-256", ReplicaSet: "rs0", ReadPreference: "secondaryPreferred",
			ReadConcern: "majority", WriteConcern: "majority", Journal: true, Compressors: []string{"zstd", "snappy"},
			ConnectTimeout: time.Second, ServerSelectionTimeout: time.Second, RetryReads: new(true), TLS: &TLS{ServerName: "m"},
		}, nil},
		{"the same in both", Options{
			URI: "mongodb://u:p@H:27017/db?authSource=a&readpreference=nearest&w=2&journal=true&tls=true&retryReads=false&appName=x" +
				"&compressors=zlib&connectTimeoutMS=1000",
			Hosts: []string{"H"}, Database: "db", Username: "u", Password: "p", AuthSource: "a", ReadPreference: "nearest", AppName: "x",
			WriteConcern: "2", Journal: true, TLS: &TLS{}, RetryReads: new(false), Compressors: []string{"zlib"}, ConnectTimeout: time.Second,
		}, nil},
		{"what only a URI can say", Options{
			URI: u + "?directConnection=true&readPreference=secondary&readPreferenceTags=dc:a&readPreferenceTags=&maxStalenessSeconds=120" +
				"&serverMonitoringMode=poll&heartbeatFrequencyMS=1000&zlibCompressionLevel=3&retryReads=true&maxAdaptiveRetries=1",
		}, nil},

		{"no database", Options{Hosts: []string{"h"}}, []string{"Database", `""`, "database's name"}},
		{"database with a dot", Options{Database: "a.b"}, []string{"Database", "a.b"}},
		{"mechanism", Options{Database: "db", AuthMechanism: "MD5"}, []string{"AuthMechanism", "MD5", "SCRAM-SHA-256"}},
		{"preference", Options{Database: "db", ReadPreference: "closest"}, []string{"ReadPreference", "closest", "nearest"}},
		{"read concern", Options{Database: "db", ReadConcern: "some"}, []string{"ReadConcern", "some", "majority"}},
		{"write concern", Options{Database: "db", WriteConcern: "-1"}, []string{"WriteConcern", "-1", "majority"}},
		{"journal of nothing", Options{Database: "db", WriteConcern: "0", Journal: true}, []string{"WriteConcern", "1 or more with Journal"}},
		{"compressor", Options{Database: "db", Compressors: []string{"lz4"}}, []string{"Compressors", "lz4", "zstd"}},
		{"timeouts", Options{Database: "db", ConnectTimeout: -1, ServerSelectionTimeout: -2},
			[]string{"ConnectTimeout is -1ns", "ServerSelectionTimeout is -2ns"}},
		{"password alone", Options{Database: "db", Password: "p"}, []string{"Username"}},
		{"credentials twice", Options{URI: "mongodb://u:p@h/db", Credentials: someCredentials}, []string{"Credentials"}},
		{"host with a user", Options{Hosts: []string{"u:p@h:1"}, Database: "db"}, []string{"Hosts", "host:port"}},
		{"key without certificate", Options{Database: "db", TLS: &TLS{KeyFile: "k"}}, []string{"TLS.KeyFile", "CertFile"}},
		{"no such authority", Options{Database: "db", TLS: &TLS{CAFile: "/nowhere/ca.pem"}}, []string{"TLS.CAFile", "/nowhere/ca.pem"}},

		{"URI as a database", Options{Database: "mongodb://u:s3cret@h/db"}, []string{"Database", "not shown"}},
		{"part of a URI as a database", Options{Hosts: []string{"h"}, Database: "u:s3cret@h:1/db"}, []string{"Database", "not shown"}},
		{"encoded URI as a database", Options{Hosts: []string{"h"}, Database: "mongodb%3A%2F%2Fu:s3cret%40h"}, []string{"Database", "not shown"}},
		{"part of a URI as a preference", Options{URI: u, ReadPreference: "//u:s3cret@h"}, []string{"ReadPreference", "not shown"}},
		{"part of a URI as a file", Options{URI: u, TLS: &TLS{CAFile: "mongodb:/u:s3cret@h"}}, []string{"TLS.CAFile", "not shown"}},
		{"part of a URI as a long name", Options{URI: u, AppName: "u:s3cret@h" + strings.Repeat("x", 128)}, []string{"AppName", "not shown"}},
		{"options behind &", Options{URI: "mongodb://h/db&w=1"}, []string{"URI: the hosts or the database's name"}},
		{"options behind another ?", Options{URI: "mongodb://h/db?w=1?journal=true"}, []string{"option w has a ?"}},
		{"scheme twice", Options{URI: "mongodb://mongodb://u:s3cret%40h/db"}, []string{"URI: the hosts or the database's name"}},
		{"user and password encoded with the host", Options{URI: "mongodb://u%3As3cret%40h/db"}, []string{"URI"}},
		{"URI as a name", Options{URI: u, AppName: "mongodb://u:s3cret@h/db"}, []string{"AppName", "not shown"}},
		{"URI as a file", Options{Database: "db", TLS: &TLS{CAFile: "mongodb://u:s3cret@h/db"}}, []string{"TLS.CAFile", "not shown"}},
		{"long name", Options{Database: "db", AppName: strings.Repeat("x", 129)}, []string{"AppName", "128 bytes"}},
		{"no slash", Options{URI: "mongodb://h?tls=true", Database: "db"}, []string{"no / before the ?"}},
		{"no slash, user", Options{URI: "mongodb://u:s3cret@h:1,i?tls=true", Database: "db"}, []string{"no / before the ?"}},
		{"database differs", Options{URI: u, Database: "other"}, []string{`Database is "other"`, `"db"`}},
		{"hosts differ", Options{URI: u, Hosts: []string{"i"}}, []string{"Hosts", "i:27017", "h:27017"}},
		{"user differs", Options{URI: "mongodb://u:p@h/db", Username: "v"}, []string{`Username is "v"`, `"u"`}},
		{"password differs", Options{URI: "mongodb://u:p@h/db", Password: "q"}, []string{"Password"}},
		{"set differs", Options{URI: u + "?replicaSet=a", ReplicaSet: "b"}, []string{`ReplicaSet is "b"`, `"a"`}},
		{"preference differs", Options{URI: u + "?readPreference=nearest", ReadPreference: "primary"}, []string{"ReadPreference", "nearest"}},
		{"concern differs", Options{URI: u + "?w=1", WriteConcern: "majority"}, []string{`WriteConcern is "majority"`, `"1"`}},
		{"journal differs", Options{URI: u + "?journal=false", Journal: true}, []string{"Journal"}},
		{"TLS differs", Options{URI: u + "?tls=false", TLS: &TLS{}}, []string{"TLS", "tls=false"}},
		{"retries differ", Options{URI: u + "?retryWrites=true", RetryWrites: new(false)}, []string{"RetryWrites is false", "true"}},
		{"timeout differs", Options{URI: u + "?connectTimeoutMS=1000", ConnectTimeout: time.Minute}, []string{"ConnectTimeout", "1m0s", "1s"}},
		{"compressors differ", Options{URI: u + "?compressors=zlib", Compressors: []string{"zstd"}}, []string{"Compressors", "zstd", "zlib"}},

		{"unknown option", Options{URI: u + "?readPreferance=primary"}, []string{"readpreferance", "unknown"}},
		{"EarnORM's name", Options{URI: u + "?auth_source=admin"}, []string{"auth_source", "must be authSource"}},
		{"option twice", Options{URI: u + "?w=1&w=2"}, []string{"option w", "2 times"}},
		{"the pool's business", Options{URI: u + "?maxPoolSize=7"}, []string{"maxpoolsize", `"7"`, "MaxSize"}},
		{"ignored by the driver", Options{URI: u + "?socketTimeoutMS=7"}, []string{"sockettimeoutms", "deadline"}},
		{"timeout for all", Options{URI: u + "?timeoutMS=7"}, []string{"timeoutms", "deadline"}},
		{"no timeout at all", Options{URI: u + "?connectTimeoutMS=0"}, []string{"connecttimeoutms", `"0"`, "1 or more"}},
		{"no number", Options{URI: u + "?connectTimeoutMS=soon"}, []string{"connectTimeoutMS", "soon", "milliseconds"}},
		{"neither true nor false", Options{URI: u + "?tls=yes"}, []string{"tls", "yes", "true or false"}},
		{"preference in the URI", Options{URI: u + "?readPreference=closest"}, []string{"ReadPreference", "closest", "nearest"}},
		{"retries of overload alone", Options{URI: u + "?maxAdaptiveRetries=1"}, []string{"maxAdaptiveRetries", "RetryReads"}},
		{"no scheme", Options{URI: "h/db"}, []string{"scheme", "mongodb://"}},
		{"two mechanisms of one mind", Options{URI: u + "?authMechanism=MONGODB-X509&authSource=x"}, []string{"$external"}},
		{"no value", Options{URI: u + "?tls"}, []string{"name=value"}},
		{"port", Options{URI: "mongodb://h:99999/db"}, []string{"host[:port]"}},
		{"mechanism that is not built in", Options{Database: "db", Username: "u", AuthMechanism: "GSSAPI"}, []string{"GSSAPI"}},
		{"direct to several", Options{URI: "mongodb://h,i/db?directConnection=true"}, []string{"direct connection"}},
	} {
		err := c.opts.Validate()
		if (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want an error: %t", c.name, err, c.want != nil)
			continue
		}
		for _, part := range c.want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: the error is %q, without %q", c.name, err, part)
			}
		}
		if strings.Contains(fmt.Sprint(err, c.opts), "s3cret") {
			t.Errorf("%s: the password is shown: %v, %v", c.name, err, c.opts)
		}
	}
}

// The database with the user's account is the URI's, whether the user is in the URI or in a field.
// The test also covers the journal setting of a URI.
func TestClientOptionsOfURI(t *testing.T) {
	for _, tc := range []struct {
		opts    Options
		source  string
		journal *bool
	}{
		{Options{URI: "mongodb://u:p@h/shop"}, "shop", nil},
		{Options{URI: "mongodb://h/shop", Username: "u", Password: "p"}, "shop", nil},
		{Options{URI: "mongodb://h/shop", Credentials: someCredentials}, "shop", nil},
		{Options{URI: "mongodb://h/shop?authSource=users", Username: "u", Password: "p"}, "users", nil},
		{Options{URI: "mongodb://h/shop", Username: "u", Password: "p", AuthSource: "users"}, "users", nil},
		// The driver's default is admin.
		{Options{URI: "mongodb://h/", Database: "shop", Username: "u", Password: "p"}, "", nil},
		{Options{URI: "mongodb://h/shop?w=majority&journal=false"}, "", new(false)},
		{Options{URI: "mongodb://h/shop?w=majority&journal=true"}, "", new(true)},
		{Options{URI: "mongodb://h/shop?journal=false", WriteConcern: "2"}, "", new(false)},
	} {
		s, err := tc.opts.settle()
		if err != nil {
			t.Fatal(err)
		}
		co, err := s.clientOptions(t.Context(), measures{})
		if err != nil {
			t.Fatal(err)
		}
		if co.Auth == nil && tc.source != "" || co.Auth != nil && co.Auth.AuthSource != tc.source {
			t.Errorf("%v: the source is %+v, want %q", tc.opts.URI, co.Auth, tc.source)
		}
		if tc.journal != nil && (co.WriteConcern.Journal == nil || *co.WriteConcern.Journal != *tc.journal || co.WriteConcern.W == nil) {
			t.Errorf("%v: %+v, want journal %t", tc.opts.URI, co.WriteConcern, *tc.journal)
		}
	}
}

func someCredentials(context.Context) (username, password string, err error) { return "u", "p", nil }

// What the options come to in the driver.
func TestClientOptions(t *testing.T) {
	s, err := Options{
		URI:        "mongodb://u:p@h/db?readPreference=secondary&maxStalenessSeconds=120&serverMonitoringMode=poll",
		AuthSource: "admin", AuthMechanism: "SCRAM-SHA-1", ReadConcern: "majority", WriteConcern: "2", AppName: "a", ReplicaSet: "rs0",
		TLS: &TLS{ServerName: "m"}, Compressors: []string{"zstd"},
	}.settle()
	if err != nil {
		t.Fatal(err)
	}
	co, err := s.clientOptions(context.Background(), measures{maxSize: 7, minIdle: 3, concurrency: 5, idleTime: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	staleness, _ := co.ReadPreference.MaxStaleness()
	for what, c := range map[string]struct{ got, want any }{
		"MaxPoolSize":            {*co.MaxPoolSize, uint64(7)},
		"MinPoolSize":            {*co.MinPoolSize, uint64(3)},
		"MaxConnecting":          {*co.MaxConnecting, uint64(5)},
		"MaxConnIdleTime":        {*co.MaxConnIdleTime, time.Minute},
		"ConnectTimeout":         {*co.ConnectTimeout, 5 * time.Second},
		"ServerSelectionTimeout": {*co.ServerSelectionTimeout, 5 * time.Second},
		"RetryReads":             {*co.RetryReads, false},
		"RetryWrites":            {*co.RetryWrites, false},
		"MaxAdaptiveRetries":     {*co.MaxAdaptiveRetries, uint(0)},
		"ReadPreference":         {co.ReadPreference.Mode().String(), "secondary"},
		"MaxStaleness":           {staleness, 2 * time.Minute},
		"ReadConcern":            {co.ReadConcern.Level, "majority"},
		"WriteConcern":           {co.WriteConcern.W, any(2)},
		"ServerMonitoringMode":   {*co.ServerMonitoringMode, "poll"},
		"AppName":                {*co.AppName, "a"},
		"ReplicaSet":             {*co.ReplicaSet, "rs0"},
		"Compressors":            {co.Compressors, []string{"zstd"}},
		"ServerName":             {co.TLSConfig.ServerName, "m"},
		"InsecureSkipVerify":     {co.TLSConfig.InsecureSkipVerify, false},
		"Auth": {*co.Auth, options.Credential{
			Username: "u", Password: "p", PasswordSet: true, AuthSource: "admin", AuthMechanism: "SCRAM-SHA-1",
		}},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("%s is %v, want %v", what, c.got, c.want)
		}
	}
}

func TestParseURI(t *testing.T) {
	const uri = "mongodb://u:p@h:1,i/db?authSource=a&replicaSet=rs0&readPreference=nearest&readConcernLevel=local&w=majority&journal=true" +
		"&compressors=zstd,zlib&appName=x&connectTimeoutMS=1000&serverSelectionTimeoutMS=2000&retryWrites=true&authMechanism=PLAIN" +
		"&tls=true&tlsInsecure=true"
	got, err := ParseURI(uri)
	if err != nil {
		t.Fatal(err)
	}
	want := Options{
		URI: uri, Hosts: []string{"h:1", "i"}, Database: "db", AppName: "x",
		Username: "u", Password: "p", AuthSource: "a", AuthMechanism: "PLAIN",
		ReplicaSet: "rs0", ReadPreference: "nearest", ReadConcern: "local", WriteConcern: "majority", Journal: true,
		Compressors: []string{"zstd", "zlib"}, ConnectTimeout: time.Second, ServerSelectionTimeout: 2 * time.Second, RetryWrites: new(true),
		TLS: &TLS{InsecureSkipVerify: true},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("ParseURI returns\n%#v, want\n%#v", reflect.ValueOf(got), reflect.ValueOf(want))
	}
	if err := got.Validate(); err != nil {
		t.Errorf("what ParseURI returns is not valid: %v", err)
	}
	if _, err := ParseURI("mongodb+srv://no-such-deployment.invalid/db"); err == nil || !strings.Contains(err.Error(), "DNS") {
		t.Errorf("an unknown deployment: the error is %v, want one of the DNS", err)
	}
}

// No way to print, log or encode options, drivers and errors shows the password.
func TestSecrets(t *testing.T) {
	const password = "s3cret%2Fw0rt" // "s3cret/w0rt" in a URI
	silent := func(what, text string) {
		t.Helper()
		for _, part := range []string{"s3cret", "w0rt"} {
			if strings.Contains(text, part) {
				t.Errorf("%s shows the password: %s", what, text)
			}
		}
	}
	prints := func(o Options) {
		t.Helper()
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%T"} {
			silent(verb, fmt.Sprintf(verb, o))
			silent(verb+" of a pointer", fmt.Sprintf(verb, &o))
			silent(verb+" of a struct", fmt.Sprintf(verb, struct{ O Options }{o}))
			silent(verb+" of a slice", fmt.Sprintf(verb, []Options{o}))
		}
		text, err := json.Marshal(map[string]any{"o": o, "p": &o})
		if err != nil {
			t.Fatal(err)
		}
		silent("json", string(text))
		var log strings.Builder
		for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
			slog.New(h).Info("options", "o", o, "p", &o, "in", struct{ O Options }{o})
		}
		silent("slog", log.String())
	}
	for _, o := range []Options{
		{URI: "mongodb://u:" + password + "@h/db", AuthMechanism: "PLAIN"},
		{Hosts: []string{"h"}, Database: "db", Username: "u", Password: "s3cret/w0rt"},
	} {
		prints(o)
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%T"} {
			silent(verb+" of a driver", fmt.Sprintf(verb, mustDriver(t, o)))
			silent(verb+" of a struct that hides a driver", fmt.Sprintf(verb, struct{ d *Driver }{mustDriver(t, o)}))
		}
		var log strings.Builder
		for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
			slog.New(h).Info("driver", "d", mustDriver(t, o))
		}
		silent("slog", log.String())
	}
	for _, uri := range []string{
		"mongodb://u:s3cret/w0rt@h/db", "mongodb://u:s3cret:w0rt@h/db", "mongodb://u:s3cret@w0rt@h/db", "mongodb://u:s3cret%zzw0rt@h/db",
		"mongodb://u:s3cretw0rt/db", "mongodb://u:s3cret:w0rt/db", "mongodb://u:s3cret%w0rt/db", "mongodb://u:a/s3cret%zzw0rt",
		"mongodb://:s3cretw0rt@h/db", "mongodb://u:s3cretw0rt@h:port/db", "mongodb:/u:s3cretw0rt@h/db", "u:s3cretw0rt@h/db",
		"mongodb://u:s3cretw0rt@h?tls=true", "mongodb://u:s3cretw0rt@h/db?tls=maybe", "mongodb://u:s3cretw0rt@h/db?nothing=1",
		"mongodb://u@h/db?tls=true&tlsCertificateKeyFilePassword=s3cretw0rt%zz", "mongodb://u:p@h/db?authMechanismProperties=s3cretw0rt",
		"mongodb://u:p@h/db?authMechanismProperties=AWS_SESSION_TOKEN:s3cretw0rt&authMechanism=MONGODB-AWS&tls=x", "mongodb://h/db?s3cretw0rt",
		"mongodb+srv://u:s3cretw0rt@h.i/db?replicaSet=x&srvMaxHosts=1", "mongodb://u:s3cretw0rt@h,i/db?directConnection=true",
		"mongodb://u:s3cretw0rt@h/db?authMechanism=MONGODB-X509", "mongodb://u:s3cretw0rt@h/db?tlsCAFile=/nowhere/ca.pem",
		"mongodb://u:p@ss/s3cret@h:1", "mongodb://u:p@s3cret:w0rt@h/db", "mongodb://u:p@h/d?s3cret=1&w0rt@h/db",
		"mongodb://u:p@h/d?appName=s3cret@w0rt/db", "mongodb+srv://u:p@s3cret/w0rt@h.i/db",
	} {
		prints(Options{URI: uri, Database: "other"})
		_, err := New(Options{URI: uri, Database: "other"}, pool.Config{})
		if err == nil {
			t.Errorf("%s is taken for good", uri)
			continue
		}
		silent("the error for "+uri, err.Error())
		silent("the error's parts for "+uri, fmt.Sprintf("%+v %#v", err, err))
	}
}

// fakeDNS makes the driver look up a deployment with a single server, h-0.example.net. Its TXT
// record has defaults for some options.
func fakeDNS(t *testing.T, txt string) {
	t.Helper()
	before := dns.DefaultResolver
	t.Cleanup(func() { dns.DefaultResolver = before })
	dns.DefaultResolver = &dns.Resolver{
		LookupSRV: func(_, _, _ string) (string, []*net.SRV, error) {
			return "", []*net.SRV{{Target: "h-0.example.net.", Port: 27017}}, nil
		},
		LookupTXT: func(string) ([]string, error) { return []string{txt}, nil },
	}
}

// A URI may repeat a value of the DNS's TXT record, or have another value, which then counts.
// Source: the specification "Initial DNS Seedlist Discovery" of MongoDB's drivers. The URIs of
// Atlas use this.
func TestURIOverridesDNS(t *testing.T) {
	fakeDNS(t, "authSource=admin&replicaSet=atlas-0")
	for _, c := range []struct{ query, authSource, replicaSet string }{
		{"", "admin", "atlas-0"},
		{"?authSource=admin&retryWrites=true&w=majority", "admin", "atlas-0"},
		{"?authSource=users", "users", "atlas-0"},
		{"?replicaset=rs1;AUTHSOURCE=users", "users", "rs1"},
	} {
		o, err := ParseURI("mongodb+srv://u:p@h.example.net/db" + c.query)
		if err == nil {
			err = o.Validate()
		}
		if err != nil || o.AuthSource != c.authSource || o.ReplicaSet != c.replicaSet {
			t.Errorf("%q: authSource %q, replicaSet %q, %v, want %q and %q", c.query, o.AuthSource, o.ReplicaSet, err, c.authSource, c.replicaSet)
		}
	}
	for _, query := range []string{"?authSource=a&authSource=b", "?authSource=a&auth%53ource=b", "?w=1&W=1"} {
		if _, err := ParseURI("mongodb+srv://u:p@h.example.net/db" + query); err == nil || !strings.Contains(err.Error(), "2 times") {
			t.Errorf("%q: the error is %v, want one of an option given 2 times", query, err)
		}
	}
}

// A URI that somebody has put into the field of the hosts is not shown either.
func TestHostsWithSecrets(t *testing.T) {
	const host = "u:s3cret@h:1"
	for _, o := range []Options{
		{Hosts: []string{"i", host}, Database: "db"},
		{Hosts: []string{host}, URI: "mongodb://h/db"},
		{Hosts: []string{host}, URI: "mongodb+srv://h.i/db"},
	} {
		if text := o.String(); strings.Contains(text, "s3cret") || !strings.Contains(text, "invalid") {
			t.Errorf("String is %s, want invalid hosts and no password", text)
		}
		if err := o.Validate(); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("the error is %v, want one without the password", err)
		}
	}
}

// The driver would take the text after the first @ of a password for hosts, a database or options,
// and would show the text.
func TestURIWithSeveralAts(t *testing.T) {
	for _, uri := range []string{
		"mongodb://app:P@ss/w0rd@db.internal:27017", "mongodb://app:P@ss/w0rd@db/shop", "mongodb://app:P@ss@h/shop", "mongodb://a@b:p@h/shop",
		"mongodb://app:P@ss/w?0rd=1&x@h/shop", "mongodb://u:p@h/shop?appName=a@b", "mongodb+srv://app:P@ss/w0rd@h.example.net/shop",
	} {
		got, err := ParseURI(uri)
		if err == nil || !strings.Contains(err.Error(), "%40") {
			t.Errorf("%s: the error is %v, want one that says how to write an @", uri, err)
		}
		if !reflect.DeepEqual(got, Options{}) {
			t.Errorf("%s: options with an error: %#v", uri, reflect.ValueOf(got))
		}
	}
	got, err := ParseURI("mongodb://a%40b:P%40ss%2Fw0rd@h/shop?appName=a%40b")
	if err != nil || got.Username != "a@b" || got.Password != "P@ss/w0rd" || got.AppName != "a@b" {
		t.Errorf("each @ escaped: %#v, %v", reflect.ValueOf(got), err)
	}
}

// FuzzParseURI looks for a URI that reveals the password, for every position of the secret and
// every surrounding text.
func FuzzParseURI(f *testing.F) {
	f.Add("user", "", "", "host:1,other/db?tls=true&w=majority")
	f.Add("u", "pass:", "word", "h/db")
	f.Add("u", "pass/", "", "h/db?readPreference=x")
	f.Add("u", "", "%zz", "h")
	f.Add("u", "p@", "", "h/db?maxPoolSize=1")
	f.Add("u", "p@h/", "", "i/db")
	f.Add("u", "p@h/db?", "=1&a=", "i/db")
	f.Add("u", "p@h/db?appName=", "", "i/db")
	f.Add("u:p@h/db?w=1&", "", "", "i/db")
	f.Add("", "", "", "/?authMechanismProperties=a:b")
	f.Fuzz(func(t *testing.T, user, before, after, rest string) {
		const secret = "s3cretw0rt"
		silent := func(what, text string) {
			t.Helper()
			if strings.Contains(text, secret) {
				t.Errorf("%s shows the password: %s", what, text)
			}
		}
		uri := "mongodb://" + user + ":" + before + secret + after + "@" + rest
		opts, err := ParseURI(uri)
		if err != nil {
			silent("the error", err.Error())
		}
		for _, o := range []Options{opts, {URI: uri}, {URI: uri, Database: "other", Hosts: []string{"h"}, AppName: "a", Username: "v"}} {
			silent("String", o.String())
			d, err := NewDriver(o)
			if err != nil {
				silent("NewDriver's error", err.Error())
				continue
			}
			silent("the identity", fmt.Sprint(d.Identity()))
			silent("the driver's String", d.String())
		}
	})
}

func TestTLSFiles(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	junk := file("junk.pem", "s3cret junk")
	for _, tls := range []*TLS{{CAFile: junk}, {CertFile: junk}, {CertFile: junk, KeyFile: junk}} {
		err := Options{Database: "db", TLS: tls}.Validate()
		if err == nil || !strings.Contains(err.Error(), junk) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%+v: the error is %v, want one that names the file and not its content", *tls, err)
		}
	}
}
