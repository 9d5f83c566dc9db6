package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"

	toxiproxy "github.com/Shopify/toxiproxy/v2"

	"github.com/earnorm/poolstack/examples/servers/control"
)

// Remote is a Redis and a MongoDB server elsewhere, such as in other containers, each behind a
// proxy on this machine. StartRemote creates a Remote, and its caller must call Close. All methods
// may be called concurrently.
//
// A Remote cannot kill a server, so the operations affect the connections. Stop and Kill make the
// proxy cut the connections and refuse new connections. A client of a dead server sees the same.
// Freeze makes the proxy hold back the clients' data until Thaw, for at most an hour.
type Remote struct {
	host    *host
	ways    []*way // sorted by name
	proxies *proxies
	control *endpoint
	close   func() error // once
}

var _ control.Controller = (*Remote)(nil)

// StartRemote starts proxies for the Redis server at redisURL (redis://HOST:PORT, optionally with
// user, password and database) and for the MongoDB server at mongodbURI (mongodb://HOST:PORT). Each
// URL must have a single host, without TLS. An error never quotes a URL, because a URL may hold a
// password. StartRemote does not connect to the servers. The writer log is as in Options.Log.
//
// A MongoDB client of a replica set learns the members' addresses and would bypass the proxy. So
// StartRemote adds directConnection to the URI and removes replicaSet. The server should be the
// primary.
func StartRemote(redisURL, mongodbURI string, log io.Writer) (_ *Remote, err error) {
	redis, err := newWay(control.Redis, control.EnvRedis, redisURL, "redis", "6379")
	if err != nil {
		return nil, err
	}
	mongodb, err := newWay(control.MongoDB, control.EnvMongoDB, mongodbURI, "mongodb", "27017")
	if err != nil {
		return nil, err
	}
	mongodb.directly()
	host, err := newHost(log)
	if err != nil {
		return nil, err
	}
	r := &Remote{host: host, ways: []*way{mongodb, redis}}
	r.close = sync.OnceValue(r.shutDown)
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	r.proxies, err = startProxies(map[string]string{control.Redis: redis.url.Host, control.MongoDB: mongodb.url.Host}, host.log)
	if err != nil {
		return nil, err
	}
	for _, w := range r.ways {
		w.proxy = r.proxies.to(w.name)
	}
	r.control, err = listenAndServe(control.Handler(r))
	return r, err
}

// RedisURL returns the given URL with the proxy's address, including the password.
func (r *Remote) RedisURL() string { return r.way(control.Redis).through() }

// MongoDBURI returns the given URI with the proxy's address, including the password. StartRemote
// describes the changed options.
func (r *Remote) MongoDBURI() string { return r.way(control.MongoDB).through() }

// Env returns the four variables of package control as NAME=VALUE, for the environment of a
// program.
func (r *Remote) Env() []string {
	return environ(r.RedisURL(), r.MongoDBURI(), r.proxies.api.url, r.control.url)
}

// Guard is like Servers.Guard.
func (r *Remote) Guard(pid int) (forget func()) { return r.host.guard(pid) }

// Status lists both servers, sorted by name, without process ids. It never fails.
func (r *Remote) Status(context.Context) ([]control.Status, error) {
	all := make([]control.Status, len(r.ways))
	for i, w := range r.ways {
		all[i] = w.status()
	}
	return all, nil
}

// Stop cuts the connections to a server; see Remote.
func (r *Remote) Stop(_ context.Context, name string) error {
	return r.do("stop", name, func(w *way) error { return w.cut(control.Stopped) })
}

// Kill cuts the connections to a server; see Remote.
func (r *Remote) Kill(_ context.Context, name string) error {
	return r.do("kill", name, func(w *way) error { return w.cut(control.Killed) })
}

// Restart accepts connections to a server again. If connections were not cut before, Restart first
// cuts the connections; see Remote.
func (r *Remote) Restart(_ context.Context, name string) error {
	return r.do("restart", name, (*way).reopen)
}

// Freeze holds back the clients' data to a server; see Remote.
func (r *Remote) Freeze(_ context.Context, name string) error {
	return r.do("freeze", name, (*way).hold)
}

// Thaw forwards the data held back by Freeze, and all later data.
func (r *Remote) Thaw(ctx context.Context, name string) error {
	return r.do("thaw", name, func(w *way) error { return w.release(ctx) })
}

func (r *Remote) do(action, name string, operate func(*way) error) error {
	w := r.way(name)
	if w == nil {
		return fmt.Errorf("local: %s: %w", action, control.Unknown(name))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := operate(w); err != nil {
		return fmt.Errorf("local: %s %s: %w", action, name, err)
	}
	return nil
}

func (r *Remote) way(name string) *way {
	i := slices.IndexFunc(r.ways, func(w *way) bool { return w.name == name })
	if i < 0 {
		return nil
	}
	return r.ways[i]
}

// Close stops the proxies and waits until they have ended. A further call also waits, and returns
// the same error.
func (r *Remote) Close() error { return r.close() }

func (r *Remote) shutDown() error {
	if r.control != nil {
		r.control.close()
	}
	var err error
	if r.proxies != nil {
		err = r.proxies.close()
	}
	return errors.Join(err, r.host.close())
}

// A way is the path through a proxy to a remote server.
type way struct {
	name string
	url  *url.URL // with a port

	mu     sync.Mutex // held during an operation; guards the fields below
	proxy  *toxiproxy.Proxy
	state  control.State
	starts int
}

// newWay parses the URL of a server. The variable names the URL in errors.
func newWay(name, variable, raw, scheme, port string) (*way, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != scheme || u.Hostname() == "" || strings.Contains(u.Host, ",") {
		return nil, fmt.Errorf("local: %s (not shown: it may hold a password): must be %s://HOST:PORT, with one host", variable, scheme)
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), port)
	}
	return &way{name: name, url: u, state: control.Running, starts: 1}, nil
}

// directly stops a MongoDB client from looking for other members of a replica set.
func (w *way) directly() {
	query := w.url.Query()
	query.Del("replicaSet")
	query.Set("directConnection", "true")
	w.url.RawQuery = query.Encode()
	if w.url.Path == "" {
		w.url.Path = "/" // the driver requires the slash before the query
	}
}

// through returns the server's URL with the proxy's address.
func (w *way) through() string {
	u := *w.url
	u.Host = w.proxy.Listen
	return u.String()
}

func (w *way) status() control.Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	return control.Status{
		Name: w.name, Kind: control.KindRemote, State: w.state, Durable: true,
		Starts: w.starts, Addr: w.url.Host, Proxy: w.proxy.Listen,
	}
}

// The operations are called with the lock held.

// cut closes the path. It first forwards the data held back by Freeze, because a closed toxiproxy
// cannot keep the data.
func (w *way) cut(state control.State) error {
	switch w.state {
	case control.Frozen:
		if err := w.release(context.Background()); err != nil {
			return err
		}
	case control.Running:
	default:
		return fmt.Errorf("%w: it is %s", control.ErrState, w.state)
	}
	w.proxy.Stop()
	w.state = state
	return nil
}

func (w *way) reopen() error {
	if w.state == control.Running || w.state == control.Frozen {
		if err := w.cut(control.Stopped); err != nil {
			return err
		}
	}
	if err := w.proxy.Start(); err != nil {
		return err
	}
	w.state = control.Running
	w.starts++
	return nil
}

// frozenToxic delays data to a server by an hour. On removal toxiproxy forwards the delayed data at
// once.
const (
	frozenName  = "frozen"
	frozenToxic = `{"name": "frozen", "type": "latency", "stream": "upstream", "toxicity": 1, "attributes": {"latency": 3600000}}`
)

func (w *way) hold() error {
	if w.state != control.Running {
		return fmt.Errorf("%w: it is %s, not %s", control.ErrState, w.state, control.Running)
	}
	if _, err := w.proxy.Toxics.AddToxicJson(strings.NewReader(frozenToxic)); err != nil {
		return err
	}
	w.state = control.Frozen
	return nil
}

func (w *way) release(ctx context.Context) error {
	if w.state != control.Frozen {
		return fmt.Errorf("%w: it is %s, not %s", control.ErrState, w.state, control.Frozen)
	}
	if err := w.proxy.Toxics.RemoveToxic(ctx, frozenName); err != nil {
		return err
	}
	w.state = control.Running
	return nil
}
