package redispool

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

const sentinelPort = "26379"

// Sentinel says how a pool finds its server: by asking Redis Sentinels, which watch a primary and its replicas, and promote a replica when the
// primary fails. MasterName and Addresses are required.
//
// Each time a connection is opened, all Sentinels are asked, and the answer with the highest configuration epoch holds. While none can be
// reached, the latest answer does. A new connection asks the server by ROLE whether it is the primary; a user who may not send ROLE goes
// without. When a Sentinel reports another primary, all connections to the old one are closed at once, those in use and those of subscriptions
// included, and the pool emits an [EventPrimaryChanged].
//
// A user of the Sentinels needs the right to SENTINEL GET-MASTER-ADDR-BY-NAME, and to SENTINEL REPLICAS for Replicas. Without SUBSCRIBE the pool
// hears of a failover when it opens a connection. Without SENTINEL MASTER it knows no epochs, and goes by what most Sentinels say. Without
// SENTINEL SENTINELS it knows only the Sentinels in Addresses.
//
// While the Sentinels agree on another primary, the breaker of a standard stack refuses uses at once, where go-redis' FailoverClient lets them wait.
//
// A failover loses writes, whatever the client does: replication is asynchronous, so a primary acknowledges writes that no replica has yet. The
// server's setting min-replicas-to-write bounds the loss, and WAIT ([Conn.Wait]) asks for one write.
type Sentinel struct {
	// MasterName is the name that the Sentinels have for the primary: the second word after "sentinel monitor" in their configuration.
	MasterName string
	// Addresses are those of Sentinels, each "host" or "host:port". The port defaults to 26379. One that answers is enough: the pool learns of the
	// others from it.
	Addresses []string

	// Username and Password are what connections to the Sentinels authenticate with. The rules are those of Options.Username and
	// Options.Password, which are for the servers.
	Username string
	Password string

	// TLS, if not nil, encrypts the connections to the Sentinels. Options.TLS is for those to the servers.
	TLS *TLS

	// Replicas has the pool connect to the replicas in turn, for reads: a write is answered with READONLY, and a read may return what the primary
	// no longer holds. The pool connects to the primary, which accepts writes, while the Sentinels know of no replica that is up. Otherwise a
	// connection stays where it is until the pool closes it: after a failover, or when a replica has come back, Config.MaxLifetime spreads them anew.
	Replicas bool
}

// validate returns an error for each field that is wrong.
func (s Sentinel) validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("redispool: Sentinel."+format, args...))
	}
	if s.MasterName == "" || strings.ContainsFunc(s.MasterName, func(r rune) bool { return r <= ' ' }) {
		bad("MasterName is %q: must be the name after \"sentinel monitor\" in the Sentinels' configuration, without spaces", s.MasterName)
	}
	if len(s.Addresses) == 0 {
		bad("Addresses is empty: must have the address of at least one Sentinel")
	}
	for i, a := range s.Addresses {
		if _, err := hostPort(a, sentinelPort); err != nil || a == "" {
			bad("Addresses[%d] must be a host or host:port, with an IPv6 host in brackets and a port between 1 and 65535", i)
		}
	}
	if s.TLS != nil {
		errs = append(errs, s.TLS.validate("Sentinel.", false))
	}
	return errors.Join(errs...)
}

// places returns the addresses, each with its port.
func (s Sentinel) places() []string {
	all := slices.Clone(s.Addresses)
	for i, a := range all {
		all[i], _ = hostPort(a, sentinelPort) // has been validated
	}
	return all
}
