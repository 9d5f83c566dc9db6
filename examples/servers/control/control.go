// Package control is how a program that runs under `servers` stops, kills, freezes and revives the servers it talks to.
//
// It has both ends: [Handler], which `servers` serves on a loopback port, and [Client], which finds that port in the environment:
//
//	servers, err := control.FromEnv()
//	err = servers.Kill(ctx, control.Redis)     // SIGKILL: clients see their connections end
//	err = servers.Restart(ctx, control.Redis)  // the same port and, where Status says Durable, the same data
//
// The network between client and server is not its business: latency, resets and cut connections are toxiproxy's, whose own client
// (github.com/Shopify/toxiproxy/v2/client) finds the proxies "redis" and "mongodb" at TOXIPROXY_URL.
package control

import (
	"context"
	"errors"
)

// Names of the servers, and of the proxies in front of them.
const (
	Redis   = "redis"
	MongoDB = "mongodb"
)

// Environment variables that `servers` sets for the program it runs. The first two lead through the proxies.
const (
	EnvRedis     = "REDIS_URL"     // redis://127.0.0.1:PORT/0
	EnvMongoDB   = "MONGODB_URI"   // mongodb://127.0.0.1:PORT/
	EnvToxiproxy = "TOXIPROXY_URL" // http://127.0.0.1:PORT, toxiproxy's own API
	EnvServers   = "SERVERS_URL"   // http://127.0.0.1:PORT, what Client talks to
)

// Kinds of server.
const (
	KindRedisServer = "redis-server" // keeps every acknowledged write over a kill
	KindMiniredis   = "miniredis"    // in memory only: a kill or a stop loses everything
	KindFerretDB    = "ferretdb"     // MongoDB's wire protocol over SQLite; keeps every acknowledged write over a kill
	KindRemote      = "remote"       // runs elsewhere; what is done to it is done to the way that leads there, so it loses nothing
)

// State is what a server is doing.
type State string

// The states of a server.
const (
	Starting State = "starting" // launched, does not answer yet
	Running  State = "running"  // answers
	Frozen   State = "frozen"   // stopped in its tracks by Freeze; its sockets stay open and silent
	Stopped  State = "stopped"  // ended by Stop
	Killed   State = "killed"   // ended by Kill
	Exited   State = "exited"   // ended by itself, or killed by somebody else
)

// Status is what is known of one server.
type Status struct {
	Name    string `json:"name"`           // Redis or MongoDB
	Kind    string `json:"kind"`           // one of the Kind constants
	State   State  `json:"state"`          // one of the states
	Durable bool   `json:"durable"`        // whether acknowledged writes outlive Stop, Kill and Restart
	PID     int    `json:"pid,omitempty"`  // of the process; 0 when there is none
	Starts  int    `json:"starts"`         // how often it was started, the first time included
	Addr    string `json:"addr"`           // host:port of the server itself, past the proxy; the same after a Restart
	Proxy   string `json:"proxy"`          // host:port of the proxy in front of it, where clients connect
	Exit    string `json:"exit,omitempty"` // how the last process ended: "exit status 0", "signal: killed"; empty while it runs
}

// Controller is what can be done to the servers. Client does it from another process; local.Servers in this one.
// Its methods may be called concurrently; those on one server wait for each other. A context that ends gives up the wait, and a start
// that is under way is undone.
type Controller interface {
	// Status lists all servers, sorted by name. It never waits for an operation in progress.
	Status(ctx context.Context) ([]Status, error)
	// Stop ends a server with SIGTERM, as an operator would, and returns when it has ended. A frozen one is thawed first.
	// FerretDB gives connected clients up to three seconds to leave.
	Stop(ctx context.Context, name string) error
	// Kill ends a server with SIGKILL and returns when it has ended.
	Kill(ctx context.Context, name string) error
	// Restart starts a server that has ended, on the port it had, and returns when it answers. One that still runs is stopped first.
	Restart(ctx context.Context, name string) error
	// Freeze suspends a server with SIGSTOP: connections stay open, new ones are accepted by the kernel, nothing answers.
	Freeze(ctx context.Context, name string) error
	// Thaw resumes a frozen server with SIGCONT.
	Thaw(ctx context.Context, name string) error
}

// Errors that a Controller's methods wrap.
var (
	// ErrUnknownServer says that there is no server of that name.
	ErrUnknownServer = errors.New("no such server")
	// ErrState says that the server's present state does not allow what was asked, such as freezing one that is stopped.
	ErrState = errors.New("not possible in its present state")
)

// Find returns the status of the server called name.
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
