// Package control lets a program run under `servers` stop, kill, freeze and restart its servers.
//
// The package has both ends. The command `servers` serves [Handler] on a loopback port. [Client]
// finds the port in the environment:
//
//	servers, err := control.FromEnv()
//	err = servers.Kill(ctx, control.Redis)     // SIGKILL: clients see their connections end
//	err = servers.Restart(ctx, control.Redis)  // the same port and, if Durable, the same data
//
// The package does not control the network between clients and servers. For latency, resets and cut
// connections use toxiproxy's client (github.com/Shopify/toxiproxy/v2/client). Its API is at
// TOXIPROXY_URL, and the proxies are "redis" and "mongodb".
package control

import (
	"context"
	"errors"
)

// Names of the servers and of their proxies.
const (
	Redis   = "redis"
	MongoDB = "mongodb"
)

// Environment variables set by `servers` for the program. The addresses of the servers are the
// addresses of the proxies.
const (
	EnvRedis     = "REDIS_URL"     // redis://127.0.0.1:PORT/0
	EnvMongoDB   = "MONGODB_URI"   // mongodb://127.0.0.1:PORT/
	EnvToxiproxy = "TOXIPROXY_URL" // http://127.0.0.1:PORT, toxiproxy's own API
	EnvServers   = "SERVERS_URL"   // http://127.0.0.1:PORT, for Client
)

// Kinds of server.
const (
	KindRedisServer = "redis-server" // acknowledged writes survive a kill
	KindMiniredis   = "miniredis"    // in memory only: a kill or a stop loses all data
	KindFerretDB    = "ferretdb"     // MongoDB protocol over SQLite; as durable as redis-server
	KindRemote      = "remote"       // a server elsewhere; see local.Remote
)

// State is the state of a server.
type State string

// The states of a server.
const (
	Starting State = "starting" // started, does not answer yet
	Running  State = "running"  // answers
	Frozen   State = "frozen"   // suspended by Freeze; sockets stay open and silent
	Stopped  State = "stopped"  // ended by Stop
	Killed   State = "killed"   // ended by Kill
	Exited   State = "exited"   // ended by itself, or killed by another program
)

// Status describes a server.
type Status struct {
	Name    string `json:"name"`           // Redis or MongoDB
	Kind    string `json:"kind"`           // a Kind constant
	State   State  `json:"state"`          // a State constant
	Durable bool   `json:"durable"`        // acknowledged writes survive Stop, Kill and Restart
	PID     int    `json:"pid,omitempty"`  // of the process; 0 without a process
	Starts  int    `json:"starts"`         // number of starts, including the first
	Addr    string `json:"addr"`           // host:port of the server itself; constant
	Proxy   string `json:"proxy"`          // host:port of the proxy, for clients
	Exit    string `json:"exit,omitempty"` // last exit, such as "signal: killed"; "" while running
}

// Controller controls the servers. Client implements Controller for another process, and
// local.Servers implements Controller in the same process. The methods may be called concurrently.
// Operations on the same server run one after the other. If the context ends, an operation stops
// waiting, and a start in progress is undone.
type Controller interface {
	// Status lists all servers, sorted by name. It does not wait for an operation in progress.
	Status(ctx context.Context) ([]Status, error)
	// Stop ends a server with SIGTERM, as an operator would, and returns after the end. Stop first
	// thaws a frozen server. FerretDB waits up to three seconds for connected clients.
	Stop(ctx context.Context, name string) error
	// Kill ends a server with SIGKILL and returns after the end.
	Kill(ctx context.Context, name string) error
	// Restart starts a server on its previous port, and returns when the server answers. Restart first
	// stops a running server.
	Restart(ctx context.Context, name string) error
	// Freeze suspends a server with SIGSTOP. Connections stay open, the kernel accepts new
	// connections, and the server does not answer.
	Freeze(ctx context.Context, name string) error
	// Thaw resumes a frozen server with SIGCONT.
	Thaw(ctx context.Context, name string) error
}

// Errors wrapped by the errors of a Controller.
var (
	// ErrUnknownServer means no server has the name.
	ErrUnknownServer = errors.New("no such server")
	// ErrState means the server's state does not allow the operation, such as Freeze in the state
	// Stopped.
	ErrState = errors.New("not possible in its present state")
)

// Find returns the status of the named server. The error wraps ErrUnknownServer if there is no such
// server.
func Find(ctx context.Context, c Controller, name string) (Status, error) {
	all, err := c.Status(ctx)
	if err != nil {
		return Status{}, err
	}
	for _, s := range all {
		if s.Name == name {
			return s, nil
		}
	}
	return Status{}, Unknown(name)
}
