package local

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/earnorm/poolstack/examples/servers/control"
)

// readyLine is a part of the line printed by a server when the server listens. The wording is
// redis-server's, and our servers print the same. The line in the process's own output proves that
// no other process answers on the port.
const readyLine = "Ready to accept connections"

const (
	startPatience = 20 * time.Second // from start to the first answered ping
	stopPatience  = 10 * time.Second // from SIGTERM to the end; FerretDB waits 3 s for clients
	diePatience   = 5 * time.Second  // from SIGKILL to the end
	portAttempts  = 3                // starts if another process takes the free port
)

// A server is the Redis or the MongoDB server. Each start creates a new process of the server.
type server struct {
	name, kind string
	durable    bool
	command    func(h *host, addr string) *exec.Cmd
	ping       func(ctx context.Context, addr string) error

	turn chan struct{} // held by the operation in progress

	mu          sync.Mutex
	addr, proxy string // constant after Start
	proc        *process
	state       control.State // while proc runs
	fate        control.State // after proc: Stopped or Killed by an operation, else ""
	starts      int
}

func newServer(name, kind string, durable bool, ping func(context.Context, string) error, command func(*host, string) *exec.Cmd) *server {
	return &server{name: name, kind: kind, durable: durable, ping: ping, command: command, turn: make(chan struct{}, 1)}
}

func (s *server) status() control.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := control.Status{
		Name: s.name, Kind: s.kind, Durable: s.durable, Addr: s.addr, Proxy: s.proxy, State: s.state, Starts: s.starts,
	}
	switch {
	case s.proc == nil:
	case !s.proc.over():
		st.PID = s.proc.cmd.Process.Pid
	default:
		st.State, st.Exit = s.fate, s.proc.exit()
		if s.fate == "" {
			st.State = control.Exited
		}
	}
	return st
}

// launchAnywhere starts the server for the first time, on a free port.
func (s *server) launchAnywhere(ctx context.Context, h *host) error {
	for attempt := 1; ; attempt++ {
		addr, err := FreeAddr()
		if err != nil {
			return fmt.Errorf("local: %s: %w", s.name, err)
		}
		s.mu.Lock()
		s.addr = addr
		s.mu.Unlock()
		err = s.launch(ctx, h)
		if err == nil {
			return nil
		}
		if attempt == portAttempts || !strings.Contains(strings.ToLower(err.Error()), "address already in use") {
			return fmt.Errorf("local: %w", err)
		}
	}
}

// launch starts a process on s.addr and waits for an answer. It kills the process if there is no
// answer.
func (s *server) launch(ctx context.Context, h *host) error {
	p, err := h.spawn(s.command(h, s.addr), s.name, readyLine)
	if err != nil {
		return fmt.Errorf("%s (%s) cannot be run: %w", s.name, s.kind, err)
	}
	s.mu.Lock()
	s.proc, s.state, s.fate = p, control.Starting, ""
	s.starts++
	s.mu.Unlock()

	if err := s.awaitReady(ctx, p); err != nil {
		return errors.Join(fmt.Errorf("%s (%s) did not start: %w%s", s.name, s.kind, err, p.journal.lastWords()), p.kill())
	}
	s.setState(control.Running)
	return nil
}

func (s *server) awaitReady(ctx context.Context, p *process) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startPatience, fmt.Errorf("it does not answer after %v", startPatience))
	defer cancel()
	select {
	case <-p.journal.ready:
	case <-p.ended:
		return errors.New(p.exit())
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	for {
		err := s.ping(ctx, s.addr)
		if err == nil {
			return nil
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-p.ended:
			return errors.New(p.exit())
		case <-ctx.Done():
			return fmt.Errorf("%w; the last ping: %w", context.Cause(ctx), err)
		}
	}
}

// alive returns the running process, or an error that wraps control.ErrState.
func (s *server) alive() (*process, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc.over() {
		return nil, fmt.Errorf("%w: it has ended (%s)", control.ErrState, s.proc.exit())
	}
	return s.proc, nil
}

func (s *server) setProxy(addr string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proxy = addr
}

func (s *server) setState(state control.State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = state
}

func (s *server) setFate(fate control.State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fate = fate
}

func (s *server) stop(ctx context.Context) error {
	p, err := s.alive()
	if err != nil {
		return err
	}
	s.setFate(control.Stopped)
	p.signal(syscall.SIGTERM)
	p.signal(syscall.SIGCONT) // a frozen process receives SIGTERM after SIGCONT
	timer := time.NewTimer(stopPatience)
	defer timer.Stop()
	select {
	case <-p.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("it was told to end and has not yet: %w", context.Cause(ctx))
	case <-timer.C:
		s.setFate(control.Killed)
		return errors.Join(fmt.Errorf("it did not end within %v of SIGTERM, so it was killed", stopPatience), p.kill())
	}
}

func (s *server) kill(context.Context) error {
	p, err := s.alive()
	if err != nil {
		return err
	}
	s.setFate(control.Killed)
	return p.kill()
}

func (s *server) restart(ctx context.Context, h *host) error {
	if _, err := s.alive(); err == nil {
		if err := s.stop(ctx); err != nil {
			return err
		}
	}
	return s.launch(ctx, h)
}

func (s *server) freeze(context.Context) error {
	return s.turnFrom(control.Running, control.Frozen, syscall.SIGSTOP)
}

func (s *server) thaw(context.Context) error {
	return s.turnFrom(control.Frozen, control.Running, syscall.SIGCONT)
}

func (s *server) turnFrom(from, to control.State, sig os.Signal) error {
	p, err := s.alive()
	if err != nil {
		return err
	}
	if is := s.status().State; is != from {
		return fmt.Errorf("%w: it is %s, not %s", control.ErrState, is, from)
	}
	p.signal(sig)
	s.setState(to)
	return nil
}

// end kills the process, if there is a process. Close calls end.
func (s *server) end() error {
	s.mu.Lock()
	p := s.proc
	s.mu.Unlock()
	if p == nil || p.over() {
		return nil
	}
	s.setFate(control.Killed)
	return p.kill()
}

// redisArgs returns the arguments of a redis-server that writes each command to disk before the
// acknowledgement. So kill -9 loses no acknowledged write (appendfsync always: redis.io/docs,
// "Redis persistence"). The server works in its current directory.
func redisArgs(addr string) []string {
	host, port, _ := net.SplitHostPort(addr) // from FreeAddr
	return []string{
		"--bind", host, "--port", port, "--daemonize", "no",
		"--save", "", "--appendonly", "yes", "--appendfsync", "always",
	}
}
