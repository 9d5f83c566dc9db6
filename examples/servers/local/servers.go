// Package local starts a Redis and a MongoDB server on this machine, each behind a proxy for
// network faults. A program can stop, kill, freeze and restart the servers. The command `servers`
// and tests use the package.
//
// Redis is redis-server if installed, and otherwise miniredis. MongoDB is FerretDB over SQLite.
// Each server runs in its own process, so kill -9 and SIGSTOP have the effects of a real outage.
// The proxies are toxiproxy's, in this process. FerretDB and miniredis are linked into the program.
// Start executes the program again to run these servers, so main, or TestMain, must first call
// [Child]:
//
//	func TestMain(m *testing.M) {
//		local.Child()
//		os.Exit(pooltest.Main(m))
//	}
//
// All servers listen on 127.0.0.1 only, and write to a single temporary directory only.
// [Servers.Close] removes all processes and files. If this process ends without Close, three
// safeguards clean up:
//
//   - A small process, the warden, waits for the end of this process. Then the warden kills the
//     servers and removes the directory.
//   - On Linux the kernel kills a server after its parent has died.
//   - On other systems FerretDB and miniredis end when a pipe from their parent closes.
//
// The package needs a Unix, because other systems have no SIGSTOP.
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

// ErrClosed is returned by operations on closed Servers.
var ErrClosed = errors.New("local: the servers are closed")

// Values of Options.Redis.
const (
	RedisAuto      = "auto"                  // redis-server if on PATH, else miniredis
	RedisServer    = control.KindRedisServer // redis-server from PATH, or an error
	RedisMiniredis = control.KindMiniredis
)

// Options selects the servers to start. The zero value works for most programs.
type Options struct {
	// Redis is RedisAuto, RedisServer or RedisMiniredis. Empty means RedisAuto.
	Redis string
	// Log receives the output of the servers and the proxies, line by line, with the name of the
	// server as a prefix. Calls of Write do not overlap. Nil drops the output. In either case, if a
	// server does not start, the error contains the last lines.
	Log io.Writer
}

// Validate returns an error if a field has an invalid value.
func (o Options) Validate() error {
	switch o.Redis {
	case "", RedisAuto, RedisServer, RedisMiniredis:
		return nil
	}
	return fmt.Errorf("local: Redis is %q: must be %q (default), %q or %q", o.Redis, RedisAuto, RedisServer, RedisMiniredis)
}

// Servers is a running Redis and a running MongoDB with their proxies. Start creates Servers, and
// its caller must call Close. All methods may be called concurrently.
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

// Start starts the servers and proxies. It returns after both servers have answered a ping through
// their proxies, which takes about a second. The context bounds only the start. If Start fails or
// ctx ends, Start stops everything again. An error about a server contains the server's name and
// its last lines.
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

// launchAll starts the servers concurrently. The first failure cancels the other starts.
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

// RedisURL returns the URL of Redis through its proxy, redis://127.0.0.1:PORT/0.
func (s *Servers) RedisURL() string { return "redis://" + s.server(control.Redis).proxy + "/0" }

// MongoDBURI returns the URI of MongoDB through its proxy, mongodb://127.0.0.1:PORT/.
func (s *Servers) MongoDBURI() string { return "mongodb://" + s.server(control.MongoDB).proxy + "/" }

// ToxiproxyURL returns the URL of toxiproxy's API. The names of the proxies are control.Redis and
// control.MongoDB.
func (s *Servers) ToxiproxyURL() string { return s.proxies.api.url }

// ControlURL returns the URL of the control.Handler, for control.New.
func (s *Servers) ControlURL() string { return s.control.url }

// Env returns the four variables of package control as NAME=VALUE, for the environment of a
// program.
func (s *Servers) Env() []string {
	return environ(s.RedisURL(), s.MongoDBURI(), s.ToxiproxyURL(), s.ControlURL())
}

func environ(redis, mongodb, toxiproxy, servers string) []string {
	return []string{
		control.EnvRedis + "=" + redis, control.EnvMongoDB + "=" + mongodb,
		control.EnvToxiproxy + "=" + toxiproxy, control.EnvServers + "=" + servers,
	}
}

// Guard registers another process: if this process ends, with or without Close, the process pid is
// killed. A negative pid means a process group. The caller must call forget as soon as the process
// has ended and Wait has returned.
func (s *Servers) Guard(pid int) (forget func()) { return s.host.guard(pid) }

// Status lists both servers, sorted by name. It never fails.
func (s *Servers) Status(context.Context) ([]control.Status, error) {
	all := make([]control.Status, len(s.servers))
	for i, srv := range s.servers {
		all[i] = srv.status()
	}
	return all, nil
}

// Stop ends a server with SIGTERM; see control.Controller. After ten seconds Stop kills the server
// and returns an error.
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

// do runs an operation on a server after earlier operations have ended. The operation's context
// ends with the caller's context or with Close.
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

// Close kills the servers, stops the proxies, removes the data, and waits for the end. Operations
// in progress end with ErrClosed. A further call also waits, and returns the same error.
func (s *Servers) Close() error { return s.close() }

func (s *Servers) shutDown() error {
	s.endLife(ErrClosed)
	var errs []error
	if s.control != nil {
		s.control.close()
	}
	for _, srv := range s.servers {
		srv.turn <- struct{}{} // the end of life ends the operation in progress
		errs = append(errs, srv.end())
		<-srv.turn
	}
	if s.proxies != nil {
		errs = append(errs, s.proxies.close())
	}
	return errors.Join(append(errs, s.host.close())...)
}

// redisServer returns the Redis server for choice.
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

// ferretServer returns the MongoDB server.
func ferretServer(verbose bool) *server {
	return newServer(control.MongoDB, control.KindFerretDB, true, pingMongoDB, func(h *host, addr string) *exec.Cmd {
		return h.child(control.KindFerretDB, "-listen", addr, fmt.Sprintf("-verbose=%t", verbose))
	})
}

// A host holds the common parts of all server processes of a Start.
type host struct {
	dir    string // contains a directory for each server
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
	return h, os.Mkdir(h.dir, 0o700) // only now, because the warden can remove the directory
}

// close releases the common parts. The warden removes the directory, and close checks the removal.
func (h *host) close() error {
	h.forker.close()
	h.pipe.close()
	h.warden.close()
	if h.dir == "" {
		return nil
	}
	return os.RemoveAll(h.dir)
}

// guard makes the warden kill the process pid when this process ends.
func (h *host) guard(pid int) (forget func()) {
	h.warden.watch(pid)
	return func() { h.warden.forget(pid) }
}

// child returns a command that runs this program again in a role of Child.
func (h *host) child(role string, args ...string) *exec.Cmd {
	cmd := exec.Command(h.exe, args...)
	cmd.Args[0] = filepath.Base(h.exe) + ":" + role // the name shown by ps
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	cmd.Stdin = h.pipe.read
	return cmd
}

// spawn starts cmd in the directory of the named server. The process becomes ready when it prints a
// line that contains ready.
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
		_ = cmd.Wait() // the result is in ProcessState
		h.warden.forget(cmd.Process.Pid)
	}()
	return p, nil
}
