package mongopool

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/connstring"
)

// agree fills in the fields that only the URI sets. agree returns an error with each field whose
// value differs from the URI's. TLS is not filled in: the driver has read the URI's files already.
func (o Options) agree(u *connstring.ConnString) (Options, error) {
	theirs := fromURI(o.URI, u)
	var a agreement
	a.text("Database", &o.Database, theirs.Database)
	a.text("AppName", &o.AppName, theirs.AppName)
	a.text("Username", &o.Username, theirs.Username)
	a.secret("Password", &o.Password, theirs.Password)
	a.text("AuthSource", &o.AuthSource, theirs.AuthSource)
	a.name("AuthMechanism", &o.AuthMechanism, theirs.AuthMechanism)
	a.text("ReplicaSet", &o.ReplicaSet, theirs.ReplicaSet)
	a.name("ReadPreference", &o.ReadPreference, theirs.ReadPreference)
	a.text("ReadConcern", &o.ReadConcern, theirs.ReadConcern)
	a.text("WriteConcern", &o.WriteConcern, theirs.WriteConcern)
	a.span("ConnectTimeout", &o.ConnectTimeout, theirs.ConnectTimeout)
	a.span("ServerSelectionTimeout", &o.ServerSelectionTimeout, theirs.ServerSelectionTimeout)
	a.flag("RetryReads", &o.RetryReads, theirs.RetryReads)
	a.flag("RetryWrites", &o.RetryWrites, theirs.RetryWrites)
	a.list("Compressors", &o.Compressors, theirs.Compressors)
	o.agreeHosts(&a, u, theirs.Hosts)
	if o.Journal && u.JSet && !u.J {
		a.differ("Journal", true, false)
	}
	o.Journal = o.Journal || theirs.Journal
	o.agreeTLS(&a, u, theirs.TLS)
	return o, errors.Join(a...)
}

func (o Options) agreeHosts(a *agreement, u *connstring.ConnString, theirs []string) {
	if slices.ContainsFunc(o.Hosts, func(h string) bool { return !isHost(h) }) {
		return // the values are not shown; invalid reports the error
	}
	if u.Scheme == connstring.SchemeMongoDBSRV {
		if len(o.Hosts) > 0 {
			a.differ("Hosts", o.Hosts, "that the DNS names them")
		}
		return
	}
	mine := withPorts(o.Hosts)
	a.list("Hosts", &mine, withPorts(theirs))
}

// withPorts adds the default port to a host without a port, so the same hosts compare as equal.
func withPorts(hosts []string) []string {
	full := make([]string, len(hosts))
	for i, h := range hosts {
		full[i] = h
		if host, port := splitHost(h); port != 0 {
			full[i] = net.JoinHostPort(host, strconv.Itoa(port))
		}
	}
	return full
}

func (o Options) agreeTLS(a *agreement, u *connstring.ConnString, theirs *TLS) {
	switch {
	case o.TLS == nil:
	case u.SSLSet && !u.SSL:
		a.differ("TLS", "on", "tls=false")
	case theirs != nil:
		mine := *o.TLS // a copy: the files that only the URI names have been read already
		a.text("TLS.CAFile", &mine.CAFile, theirs.CAFile)
		a.text("TLS.CertFile", &mine.CertFile, theirs.CertFile)
		a.text("TLS.KeyFile", &mine.KeyFile, theirs.KeyFile)
	}
}

// agreement collects the errors of a comparison with the URI. An empty field takes the URI's value.
// A field with another value than the URI's is an error.
type agreement []error

func (a *agreement) differ(field string, mine, theirs any) {
	*a = append(*a, fmt.Errorf("mongopool: %s is %v, but the URI says %v: must be the same, or be left out here or there",
		field, mine, theirs))
}

func (a *agreement) text(field string, mine *string, theirs string) {
	if *mine == "" {
		*mine = theirs
	}
	if theirs != "" && *mine != theirs {
		a.differ(field, strconv.Quote(*mine), strconv.Quote(theirs))
	}
}

// name is text for values whose case does not matter.
func (a *agreement) name(field string, mine *string, theirs string) {
	if strings.EqualFold(*mine, theirs) {
		return
	}
	a.text(field, mine, theirs)
}

// secret is text for values that are not shown.
func (a *agreement) secret(field string, mine *string, theirs string) {
	if *mine == "" {
		*mine = theirs
	}
	if theirs != "" && *mine != theirs {
		a.differ(field, "one thing", "another")
	}
}

func (a *agreement) span(field string, mine *time.Duration, theirs time.Duration) {
	if *mine == 0 {
		*mine = theirs
	}
	if theirs != 0 && *mine != theirs {
		a.differ(field, *mine, theirs)
	}
}

func (a *agreement) flag(field string, mine **bool, theirs *bool) {
	if *mine == nil {
		*mine = theirs
	}
	if theirs != nil && **mine != *theirs {
		a.differ(field, **mine, *theirs)
	}
}

func (a *agreement) list(field string, mine *[]string, theirs []string) {
	if len(*mine) == 0 {
		*mine = theirs
	}
	if len(theirs) > 0 && !slices.Equal(*mine, theirs) {
		a.differ(field, *mine, theirs)
	}
}
