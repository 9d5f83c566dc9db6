package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// server is a small memcached. Some keys have an effect: "silent" gets no reply, "late" gets its
// reply after 100 ms, "full" is answered with SERVER_ERROR, and "garbage" is answered with a line
// of another protocol.
type server struct {
	listener net.Listener
	sessions sync.WaitGroup

	mu     sync.Mutex
	values map[string]string
	conns  map[net.Conn]bool
}

func startServer(t testing.TB) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{listener: l, values: map[string]string{}, conns: map[net.Conn]bool{}}
	s.sessions.Go(s.accept)
	t.Cleanup(func() {
		l.Close()
		s.cut()
		s.sessions.Wait()
	})
	return s
}

func (s *server) address() string { return s.listener.Addr().String() }

// cut closes all connections.
func (s *server) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Close()
	}
}

func (s *server) accept() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns[c] = true
		s.mu.Unlock()
		s.sessions.Go(func() {
			defer c.Close()
			for r := bufio.NewReader(c); s.serve(c, r) == nil; {
			}
		})
	}
}

// serve answers a single command.
func (s *server) serve(w io.Writer, r *bufio.Reader) error {
	line, err := r.ReadString('\n')
	if err != nil {
		return err
	}
	fields := strings.Fields(line)
	if len(fields) == 1 && fields[0] == "version" {
		_, err = io.WriteString(w, "VERSION 1.6\r\n")
		return err
	}
	if len(fields) < 2 {
		_, err = io.WriteString(w, "ERROR\r\n")
		return err
	}
	if fields[1] == "late" {
		time.Sleep(100 * time.Millisecond)
	}
	reply, err := s.reply(fields, r)
	if err == nil && reply != "" {
		_, err = io.WriteString(w, reply+"\r\n")
	}
	return err
}

func (s *server) reply(fields []string, r *bufio.Reader) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	command, key := fields[0], fields[1]
	if command == "set" {
		var flags, ttl, size int
		if _, err := fmt.Sscan(strings.Join(fields[2:], " "), &flags, &ttl, &size); err != nil {
			return "CLIENT_ERROR bad command line format", nil
		}
		value := make([]byte, size+2)
		if _, err := io.ReadFull(r, value); err != nil {
			return "", err
		}
		if key == "full" {
			return "SERVER_ERROR out of memory storing object", nil
		}
		s.values[key] = string(value[:size])
		return "STORED", nil
	}
	switch key {
	case "silent":
		return "", nil
	case "late":
		return "VALUE late 0 1\r\nx\r\nEND", nil
	case "garbage":
		return "HTTP/1.1 400 Bad Request", nil
	}
	if value, ok := s.values[key]; ok {
		return fmt.Sprintf("VALUE %s 0 %d\r\n%s\r\nEND", key, len(value), value), nil
	}
	return "END", nil
}
