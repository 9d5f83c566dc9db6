package redispool

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

const sentinelPort = "26379"

// Sentinel makes a pool find its server by Redis Sentinels. Sentinels watch a primary and its
// replicas, and promote a replica if the primary fails. MasterName and Addresses are required.
//
// The pool queries all Sentinels each time it opens a connection. The answer with the highest
// configuration epoch holds. If no Sentinel is reachable, the latest answer holds. A new connection
// asks the server by ROLE whether the server is the primary. This test is left out if the user has
// no permission for ROLE.
//
// When the Sentinels report another primary, the pool closes all connections to the old primary at
// once, including connections in use and connections of subscriptions. The pool emits an
// [EventPrimaryChanged]. A pool of replicas replaces all its connections instead: idle connections
// at once, connections in use at their release.
//
// The user of the Sentinels needs permission for SENTINEL GET-MASTER-ADDR-BY-NAME, and with
// Replicas for SENTINEL REPLICAS. Without SUBSCRIBE the pool learns of a failover when it opens a
// connection. Without SENTINEL MASTER the pool has no epochs, and the answer of most Sentinels
// holds. Without SENTINEL SENTINELS the pool uses only the Sentinels in Addresses.
//
// Until the Sentinels agree on another primary, the breaker of a standard stack rejects uses at
// once. In go-redis a FailoverClient makes the callers wait.
//
// A failover loses writes with every client: replication is asynchronous, so a primary acknowledges
// writes before a replica has received them. The server's setting min-replicas-to-write bounds the
// loss. WAIT ([Conn.Wait]) waits until replicas have received a write.
type Sentinel struct {
	// MasterName is the name of the primary in the configuration of the Sentinels: the word after
	// "sentinel monitor".
	MasterName string
	// Addresses are the addresses of Sentinels, each "host" or "host:port". The default port is 26379.
	// A single Sentinel that answers is enough, because the pool learns the addresses of the others
	// from it.
	Addresses []string

	// Username and Password authenticate connections to the Sentinels. The rules are the same as for
	// Options.Username and Options.Password, which are for the servers.
	Username string
	Password string

	// TLS, if not nil, encrypts the connections to the Sentinels. Options.TLS is for the connections
	// to the servers.
	TLS *TLS

	// Replicas makes the pool connect to the replicas in turn, for reads. A replica refuses a write
	// with READONLY. A read may return data that the primary has already changed. If the Sentinels
	// know no replica that is up, the pool connects to the primary, which accepts writes. The pool
	// replaces these connections when a replica is up.
	//
	// A connection stays with its replica until the pool closes the connection. So after the return of
	// a replica the connections are not spread evenly. Config.MaxLifetime spreads them again.
	Replicas bool
}

// validate returns an error for each invalid field.
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

// places returns the addresses, each with a port.
func (s Sentinel) places() []string {
	all := slices.Clone(s.Addresses)
	for i, a := range all {
		all[i], _ = hostPort(a, sentinelPort) // validated before
	}
	return all
}
