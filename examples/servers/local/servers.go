// Package local starts a Redis and a MongoDB server on this machine, each behind a proxy that can make the network misbehave, and lets
// a program stop, kill, freeze and revive them. It is what the command `servers` is made of; tests use it directly.
//
// Redis is redis-server when that is installed, else miniredis; MongoDB is FerretDB over SQLite. Each runs in a process of its own,
// so that kill -9 and SIGSTOP mean what they mean in an outage; the proxies are toxiproxy's, in this process. FerretDB and miniredis
// are linked into the program and run by executing it again, which is why main, or TestMain, must call [Child] before anything else:
//
//	func TestMain(m *testing.M) {
//		local.Child()
//		os.Exit(pooltest.Main(m))
//	}
//
// Everything listens on 127.0.0.1 only, writes to one temporary directory only, and is gone after [Servers.Close]; or, when this
// process ends without it, as soon as that happens: three things see to it. A small process called the warden waits for the end of
// this one and then kills the servers and removes the directory; on Linux the kernel kills a server whose parent has died; elsewhere
// FerretDB and miniredis end when a pipe from their parent closes.
//
// The package needs a Unix: there is no SIGSTOP elsewhere.
package local

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/earnorm/poolstack/examples/servers/control"
)

// ErrClosed is what operations on closed servers return.
var ErrClosed = errors.New("local: the servers are closed")

// Choices of Options.Redis.
const (
	RedisAuto      = "auto"                  // redis-server if PATH has it, else miniredis
	RedisServer    = control.KindRedisServer // redis-server from PATH, or an error
	RedisMiniredis = control.KindMiniredis
)

// Options says what to start. The zero value is what most want.
type Options struct {
	// Redis is RedisAuto, RedisServer or RedisMiniredis. Empty means RedisAuto.
	Redis string
	// Log receives what the servers and the proxies print, line by line, each with the name of the server before it.
	// Nil drops it, but for the last lines, which are part of the error when a server does not start. It is written to by one
	// goroutine at a time.
	Log io.Writer
}

// Validate reports a field whose value is not allowed.
func (o Options) Validate() error {
	switch o.Redis {
	case "", RedisAuto, RedisServer, RedisMiniredis:
		return nil
	}
	return fmt.Errorf("local: Redis is %q: must be %q (default), %q or %q", o.Redis, RedisAuto, RedisServer, RedisMiniredis)
}

// Servers are a running Redis and a running MongoDB with their proxies. Make them with Start; whoever did must call Close.
// All methods may be called concurrently.
type Servers struct {
	host    *host
	servers []*server // sorted by name
	proxies *proxies
	control *endpoint

	life    context.Context // ends when Close begins
	endLife context.CancelCauseFunc
	close   func() error // once
}

var _ control.Controller = (*Servers)(nil)

// Start starts everything and returns when both servers answer a ping through their proxies, which takes about a second.
// The context bounds the start only; when it fails, or ctx ends, what was started is stopped again. An error about a server names it
// and ends with the last lines it printed.
func Start(ctx context.Context, opts Options) (_ *Servers, err error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	redis, err := redisServer(opts.Redis)
	if err != nil {
		return nil, err
	}
	host, err := newHost(opts.Log)
	if err != nil {
		return nil, err
	}
	s := &Servers{host: host, servers: []*server{ferretServer(opts.Log != nil), redis}}
	s.life, s.endLife = context.WithCancelCause(context.Background())
	s.close = sync.OnceValue(s.shutDown)
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()

	if err := s.launchAll(ctx); err != nil {
		return nil, err
	}
	upstreams := make(map[string]string)
	for _, srv := range s.servers {
		upstreams[srv.name] = srv.addr
	}
	if s.proxies, err = startProxies(upstreams, host.log); err != nil {
		return nil, err
	}
	for _, srv := range s.servers {
		srv.setProxy(s.proxies.to(srv.name).Listen)
		if err := srv.ping(ctx, srv.proxy); err != nil {
			return nil, fmt.Errorf("local: %s does not answer through its proxy: %w", srv.name, err)
		}
	}
	s.control, err = listenAndServe(control.Handler(s))
	return s, err
}

// launchAll starts the servers side by side. The first failure ends the other starts.
func (s *Servers) launchAll(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, len(s.servers))
	for _, srv := range s.servers {
		go func() { failed <- srv.launchAnywhere(ctx, s.host) }()
	}
	var first error
	for range s.servers {
		if err := <-failed; err != nil && first == nil {
			first = err
			cancel()
		}
	}
	return first
}

// RedisURL is where Redis is reached through its proxy, as redis://127.0.0.1:PORT/0.
func (s *Servers) RedisURL() string { return "redis://" + s.server(control.Redis).proxy + "/0" }

// MongoDBURI is where MongoDB is reached through its proxy, as mongodb://127.0.0.1:PORT/.
func (s *Servers) MongoDBURI() string { return "mongodb://" + s.server(control.MongoDB).proxy + "/" }

// ToxiproxyURL is where toxiproxy's API listens. Its proxies are called control.Redis and control.MongoDB.
func (s *Servers) ToxiproxyURL() string { return s.proxies.api.url }

// ControlURL is where control.Handler listens, for control.New.
func (s *Servers) ControlURL() string { return s.control.url }

// Env returns the four variables of package control as NAME=VALUE, for the environment of a program that uses the servers.
func (s *Servers) Env() []string {
	return environ(s.RedisURL(), s.MongoDBURI(), s.ToxiproxyURL(), s.ControlURL())
}

func environ(redis, mongodb, toxiproxy, servers string) []string {
	return []string{
		control.EnvRedis + "=" + redis, control.EnvMongoDB + "=" + mongodb,
		control.EnvToxiproxy + "=" + toxiproxy, control.EnvServers + "=" + servers,
	}
}

// Guard makes another process share the servers' fate: when this process ends, with Close or without, pid is killed. A negative pid
// means a whole process group. The caller calls forget as soon as the process has ended and been waited for.
func (s *Servers) Guard(pid int) (forget func()) { return s.host.guard(pid) }

// Status lists both servers, sorted by name. It never fails.
func (s *Servers) Status(context.Context) ([]control.Status, error) {
	all := make([]control.Status, len(s.servers))
	for i, srv := range s.servers {
		all[i] = srv.status()
	}
	return all, nil
}

// Stop ends a server with SIGTERM; see control.Controller. One that has not ended within ten seconds is killed, and an error.
func (s *Servers) Stop(ctx context.Context, name string) error {
	return s.do(ctx, "stop", name, (*server).stop)
}

// Kill ends a server with SIGKILL; see control.Controller.
func (s *Servers) Kill(ctx context.Context, name string) error {
	return s.do(ctx, "kill", name, (*server).kill)
}

// Restart starts a server that has ended; see control.Controller.
func (s *Servers) Restart(ctx context.Context, name string) error {
	return s.do(ctx, "restart", name, func(srv *server, ctx context.Context) error { return srv.restart(ctx, s.host) })
}

// Freeze suspends a server with SIGSTOP; see control.Controller.
func (s *Servers) Freeze(ctx context.Context, name string) error {
	return s.do(ctx, "freeze", name, (*server).freeze)
}

// Thaw resumes a frozen server with SIGCONT; see control.Controller.
func (s *Servers) Thaw(ctx context.Context, name string) error {
	return s.do(ctx, "thaw", name, (*server).thaw)
}

// do runs one operation on a server when its turn has come. The context that it gets ends with the caller's and with Close.
func (s *Servers) do(ctx context.Context, action, name string, operate func(*server, context.Context) error) error {
	srv := s.server(name)
	if srv == nil {
		return fmt.Errorf("local: %s: %w", action, control.Unknown(name))
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.life, func() { cancel(ErrClosed) })()
	select {
	case srv.turn <- struct{}{}:
		defer func() { <-srv.turn }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if s.life.Err() != nil {
		return ErrClosed
	}
	if err := operate(srv, ctx); err != nil {
		return fmt.Errorf("local: %s %s: %w", action, name, err)
	}
	return nil
}

func (s *Servers) server(name string) *server {
	i := slices.IndexFunc(s.servers, func(srv *server) bool { return srv.name == name })
	if i < 0 {
		return nil
	}
	return s.servers[i]
}

// Close kills the servers, stops the proxies and removes the data. Operations in progress end with ErrClosed. It waits until
// everything is gone; a further call waits too and returns the same.
func (s *Servers) Close() error { return s.close() }

func (s *Servers) shutDown() error {
	s.endLife(ErrClosed)
	var errs []error
	if s.control != nil {
		s.control.close()
	}
	for _, srv := range s.servers {
		srv.turn <- struct{}{} // what was in progress ends with life
		errs = append(errs, srv.end())
		<-srv.turn
	}
	if s.proxies != nil {
		errs = append(errs, s.proxies.close())
	}
	return errors.Join(append(errs, s.host.close())...)
}

// redisServer describes the Redis server that choice asks for.
func redisServer(choice string) (*server, error) {
	path, err := exec.LookPath("redis-server")
	switch {
	case choice == RedisMiniredis, choice != RedisServer && errors.Is(err, exec.ErrNotFound):
		return newServer(control.Redis, control.KindMiniredis, false, pingRedis, func(h *host, addr string) *exec.Cmd {
			return h.child(control.KindMiniredis, "-listen", addr)
		}), nil
	case err != nil:
		return nil, fmt.Errorf("local: redis-server cannot be run: %w", err)
	}
	return newServer(control.Redis, control.KindRedisServer, true, pingRedis, func(_ *host, addr string) *exec.Cmd {
		return exec.Command(path, redisArgs(addr)...)
	}), nil
}

// ferretServer describes the MongoDB server.
func ferretServer(verbose bool) *server {
	return newServer(control.MongoDB, control.KindFerretDB, true, pingMongoDB, func(h *host, addr string) *exec.Cmd {
		return h.child(control.KindFerretDB, "-listen", addr, fmt.Sprintf("-verbose=%t", verbose))
	})
}

// A host is what all server processes of one Start share.
type host struct {
	dir    string // holds one directory a server
	exe    string // this program, to be executed again
	log    io.Writer
	forker *forker
	pipe   *lifeline
	warden *warden
}

func newHost(log io.Writer) (h *host, err error) {
	if !childCalled.Load() {
		return nil, errors.New("local: Child was not called: main or TestMain must call local.Child before anything else")
	}
	h = &host{log: newSharedWriter(log), forker: newForker()}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("local: %w", err), h.close())
		}
	}()
	if h.exe, err = os.Executable(); err != nil {
		return h, err
	}
	if h.pipe, err = newLifeline(); err != nil {
		return h, err
	}
	h.dir = filepath.Join(os.TempDir(), "poolstack-servers-"+rand.Text())
	if h.warden, err = startWarden(h); err != nil {
		return h, err
	}
	return h, os.Mkdir(h.dir, 0o700) // now there is somebody to remove it
}

// close ends what the servers shared. The warden removes the directory; this only makes sure that it did.
func (h *host) close() error {
	h.forker.close()
	h.pipe.close()
	h.warden.close()
	if h.dir == "" {
		return nil
	}
	return os.RemoveAll(h.dir)
}

// guard has the warden kill a process when this one ends.
func (h *host) guard(pid int) (forget func()) {
	h.warden.watch(pid)
	return func() { h.warden.forget(pid) }
}

// child is a command that runs this program again in one of the roles of Child.
func (h *host) child(role string, args ...string) *exec.Cmd {
	cmd := exec.Command(h.exe, args...)
	cmd.Args[0] = filepath.Base(h.exe) + ":" + role // what ps shows
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	cmd.Stdin = h.pipe.read
	return cmd
}

// spawn starts cmd in the directory of the server called name. It becomes ready when it prints the line that ready is a part of.
func (h *host) spawn(cmd *exec.Cmd, name, ready string) (*process, error) {
	dir := filepath.Join(h.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, journal: newJournal(name, ready, h.log), ended: make(chan struct{})}
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, p.journal, p.journal
	cmd.SysProcAttr = serverAttr()
	cmd.WaitDelay = time.Second
	if err := h.forker.start(cmd); err != nil {
		return nil, err
	}
	h.warden.watch(cmd.Process.Pid)
	go func() {
		defer close(p.ended)
		_ = cmd.Wait() // ProcessState tells it all
		h.warden.forget(cmd.Process.Pid)
	}()
	return p, nil
}
