package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// echo answers every command of Redis' protocol with its name.
func echo(t *testing.T) (addr string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				defer conn.Close()
				for r := bufio.NewReader(conn); ; {
					_, name, err := redisProtocol.request(r)
					if err != nil {
						return
					}
					fmt.Fprintf(conn, "+%s\r\n", name)
				}
			})
		}
	})
	t.Cleanup(func() { listener.Close(); work.Wait() })
	return listener.Addr().String()
}

// visitor is a connection through the proxy.
type visitor struct {
	*testing.T
	net.Conn
	*bufio.Reader
}

func startProxied(t *testing.T) *proxy {
	t.Helper()
	p, err := startProxy(redisProtocol, echo(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	return p
}

func visit(t *testing.T, p *proxy) visitor {
	t.Helper()
	conn, err := net.Dial("tcp", p.addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return visitor{t, conn, bufio.NewReader(conn)}
}

// limit bounds a visitor's wait for an expected reply. brief is the wait for an unexpected reply.
const (
	limit = 10 * time.Second
	brief = 50 * time.Millisecond
)

func (v visitor) send(name string) {
	v.Helper()
	if _, err := fmt.Fprintf(v.Conn, "*1\r\n$%d\r\n%s\r\n", len(name), name); err != nil {
		v.Error(err)
	}
}

// reply returns the next reply, "" if the connection has ended, or "..." without a reply in time.
func (v visitor) reply(wait time.Duration) string {
	v.Helper()
	v.SetReadDeadline(time.Now().Add(wait))
	line, err := v.ReadString('\n')
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "..."
	case err != nil:
		return ""
	}
	return strings.TrimSpace(line)
}

func (v visitor) ask(name string, wait time.Duration) string {
	v.Helper()
	v.send(name)
	return v.reply(wait)
}

func (v visitor) want(name, reply string) {
	v.Helper()
	wait := limit
	if reply == "..." {
		wait = brief
	}
	if got := v.ask(name, wait); got != reply {
		v.Errorf("%s is answered %q, want %q", name, got, reply)
	}
}

func TestProxyForwards(t *testing.T) {
	p := startProxied(t)
	a, b := visit(t, p), visit(t, p)
	a.want("hello", "+hello")
	b.want("get", "+get")
	a.want("set", "+set")
	if d := p.dials.Load(); d != 2 || p.useless.Load() != 0 {
		t.Errorf("%d dials, %d useless calls; want 2 and none", d, p.useless.Load())
	}
}

// While the server is dead, dials and commands count, and greetings do not.
func TestProxyCountsUselessCalls(t *testing.T) {
	p := startProxied(t)
	a := visit(t, p)
	a.want("get", "+get")
	p.setDead(true)
	a.want("get", "+get")
	b := visit(t, p)
	b.want("hello", "+hello")
	b.want("ping", "+ping")
	p.setDead(false)
	a.want("get", "+get")
	if n := p.useless.Load(); n != 3 {
		t.Errorf("%d useless calls, want 3: a command, a dial, a check", n)
	}
}

func TestProxyCuts(t *testing.T) {
	p := startProxied(t)
	a, b := visit(t, p), visit(t, p)
	a.want("get", "+get")
	b.want("get", "+get")
	p.cut(0.5)
	ended := 0
	for _, v := range []visitor{a, b} {
		if got := v.reply(brief); got == "" {
			ended++
		}
	}
	if ended != 1 {
		t.Errorf("%d of two connections have ended, want one", ended)
	}
	p.cut(1)
	if got := a.reply(limit) + b.reply(limit); got != "" {
		t.Errorf("%q comes from connections that were cut", got)
	}
	visit(t, p).want("get", "+get")
}

// A buried connection is silent, also about the command that was under way; new ones are served.
func TestProxyBuries(t *testing.T) {
	p := startProxied(t)
	a := visit(t, p)
	a.want("get", "+get")
	p.bury()
	a.want("get", "...")
	b := visit(t, p)
	b.want("get", "+get")
	p.behave(manners{bury: every})
	c := visit(t, p)
	c.want("get", "...")
	p.behave(manners{})
	c.want("get", "...")
	b.want("get", "+get")
}

func TestProxyResets(t *testing.T) {
	p := startProxied(t)
	p.behave(manners{reset: first(1)})
	wantReset(t, p)
	visit(t, p).want("get", "+get")
}

// wantReset requires a reset of a dial. Either the dial or the first read returns the error.
func wantReset(t *testing.T, p *proxy) {
	t.Helper()
	conn, err := net.Dial("tcp", p.addr())
	if err == nil {
		defer conn.Close()
		_, err = conn.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the connection ended with %v, want a reset", err)
	}
}

// A dial to a server that is gone is accepted, counted and reset.
func TestProxyWithoutServer(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	p, err := startProxy(redisProtocol, listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	p.setDead(true)
	wantReset(t, p)
	if n := p.useless.Load(); n != 1 {
		t.Errorf("%d useless calls, want the dial", n)
	}
}

// Replies are late by the rule, and in order. Greetings and checks are late only over a network.
func TestProxyDelays(t *testing.T) {
	p := startProxied(t)
	p.behave(manners{delay: eachThird(time.Hour, 0)})
	v := visit(t, p)
	v.want("get", "+get")
	v.want("get", "+get")
	v.want("ping", "+ping")
	v.want("get", "+get")
	v.want("get", "+get")
	v.want("get", "...")
	v.send("get")
	if got := v.reply(brief); got != "..." {
		t.Errorf("%q overtakes a late reply", got)
	}
	p.behave(manners{delay: always(time.Hour), far: true})
	visit(t, p).want("hello", "...")
}

// A refused command gets its error in its turn and does not reach the server.
func TestProxyRefuses(t *testing.T) {
	p := startProxied(t)
	p.behave(manners{refuse: func(name string) (serverError, bool) { return serverError{text: "OOM"}, name == "set" }})
	v := visit(t, p)
	v.send("get")
	v.send("set")
	v.send("get")
	for _, want := range []string{"+get", "-OOM", "+get"} {
		if got := v.reply(limit); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
