package driver_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// lineServer is the server for lineDriver.
type lineServer struct {
	listener net.Listener
	sessions sync.WaitGroup
	mu       sync.Mutex
	conns    map[net.Conn]bool
	closed   bool
}

// serveLines starts a server on a free port of the loopback interface. stop ends the server and all
// its sessions.
func serveLines() (addr string, stop func()) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	s := &lineServer{listener: l, conns: map[net.Conn]bool{}}
	s.sessions.Go(s.accept)
	return l.Addr().String(), s.stop
}

func (s *lineServer) accept() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.closed {
			_ = c.Close()
		} else {
			s.conns[c] = true
			s.sessions.Go(func() { s.serve(c) })
		}
		s.mu.Unlock()
	}
}

// serve answers until the client closes the connection. BLACKHOLE and everything after BLACKHOLE
// get no answer.
func (s *lineServer) serve(c net.Conn) {
	defer func() {
		_ = c.Close()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
	mute := false
	for lines := bufio.NewScanner(c); lines.Scan(); {
		command, rest, _ := strings.Cut(lines.Text(), " ")
		answer := "ERR unknown command"
		switch command {
		case "PING":
			answer = "PONG"
		case "ECHO":
			answer = rest
		case "LATE":
			time.Sleep(100 * time.Millisecond)
		case "BLACKHOLE":
			mute = true
		}
		if mute {
			continue
		}
		if _, err := fmt.Fprintln(c, answer); err != nil {
			return
		}
	}
}

func (s *lineServer) stop() {
	_ = s.listener.Close()
	s.mu.Lock()
	s.closed = true
	for c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.sessions.Wait()
}

// The driver of the example keeps the contract of every driver.
func TestExampleDriver(t *testing.T) {
	pooltest.RunDriver(t, pooltest.DriverSuite[*lineConn]{
		New: func(t testing.TB) driver.Driver[*lineConn] {
			addr, stop := serveLines()
			t.Cleanup(stop)
			return lineDriver{addr}
		},
		Use: func(ctx context.Context, c *lineConn) error {
			reply, err := c.Call(ctx, "ECHO x")
			if err == nil && reply != "x" {
				err = fmt.Errorf("the reply is %q", reply)
			}
			return err
		},
		Late: func(ctx context.Context, c *lineConn) error {
			_, err := c.Call(ctx, "LATE")
			return err
		},
		Unreachable: func(testing.TB) driver.Driver[*lineConn] {
			addr, stop := serveLines()
			stop()
			return lineDriver{addr}
		},
		Break: func(_ testing.TB, c *lineConn) { _ = c.Close() },
		Block: func(ctx context.Context, c *lineConn) error {
			_, err := c.Call(ctx, "BLACKHOLE")
			return err
		},
	})
}

// A server and its connections go away. The pool notices and reports the failure, and works again
// when the server is back.
func TestExampleDriverSurvivesItsServer(t *testing.T) {
	addr, stop := serveLines()
	p, err := pool.New(lineDriver{addr}, pool.Config{MaxSize: 3, OpenBackoff: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Close(context.Background()); err != nil {
			t.Errorf("Close: %v", err)
		}
	}()
	echo := func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		return p.Do(ctx, pool.Op{Name: "ECHO"}, func(ctx context.Context, c *lineConn) error {
			_, err := c.Call(ctx, "ECHO x")
			return err
		})
	}
	if err := p.Warm(context.Background(), 3); err != nil {
		t.Fatal(err)
	}
	if err := echo(); err != nil {
		t.Fatal(err)
	}
	stop()
	var open *pool.Error
	for range 10 { // each connection fails at most one use, and then all dials fail
		if errors.As(echo(), &open) {
			break
		}
	}
	if open == nil || !errors.Is(open, pool.ErrOpen) || open.Class().Fault != driver.FaultServer {
		t.Fatalf("with the server gone: %v, want ErrOpen, at the server", open)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Skipf("the port was taken by somebody else: %v", err)
	}
	s := &lineServer{listener: l, conns: map[net.Conn]bool{}}
	s.sessions.Go(s.accept)
	defer s.stop()
	if err := echo(); err != nil {
		t.Errorf("with the server back: %v", err)
	}
}
