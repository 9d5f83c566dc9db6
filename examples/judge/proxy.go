package main

import (
	"bufio"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A proxy is between a client and a server. The proxy counts dials and commands, and simulates
// faults of the network and of the server. All methods may be called concurrently.
type proxy struct {
	protocol protocol
	listener net.Listener
	server   string
	manners  atomic.Pointer[manners]

	dials    atomic.Int64
	messages atomic.Int64
	dead     atomic.Bool  // the server cannot answer at present
	useless  atomic.Int64 // dials and commands while dead

	mu    sync.Mutex
	links map[*link]bool
	work  sync.WaitGroup
}

// manners configure a proxy's treatment of messages and connections. The zero value forwards
// everything at once.
type manners struct {
	// delay returns the time from the arrival of the nth message to its reply. Nil means no delay.
	delay func(n int64) time.Duration
	// far also delays greetings and checks, like a slow network. Otherwise only the work of uses is
	// delayed.
	far bool
	// refuse may return an error for a command. Then the proxy replies with the error and does not
	// forward the command. Nil means no errors.
	refuse func(name string) (e serverError, refused bool)
	// bury reports whether the nth connection, counted from 1, is accepted and never served. Nil means
	// no connection.
	bury func(n int64) bool
	// reset reports whether the nth connection, counted from 1, is closed at once. Nil means no
	// connection.
	reset func(n int64) bool
}

// dialLimit is far above the time of a dial on loopback, unless a frozen server's queue is full.
const dialLimit = 5 * time.Second

// startProxy listens on loopback.
func startProxy(p protocol, server string) (*proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	px := &proxy{protocol: p, listener: listener, server: server, links: map[*link]bool{}}
	px.manners.Store(&manners{})
	px.work.Go(px.accept)
	return px, nil
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

// behave sets the manners.
func (p *proxy) behave(m manners) { p.manners.Store(&m) }

// setDead sets whether the server cannot answer. While dead, the proxy counts useless calls.
func (p *proxy) setDead(dead bool) { p.dead.Store(dead) }

// cut closes a share of the connections, from 0 to 1.
func (p *proxy) cut(share float64) {
	links := p.now()
	for _, l := range links[:int(float64(len(links))*share+0.5)] {
		l.close()
	}
}

// bury makes all present connections silent forever, in both directions.
func (p *proxy) bury() {
	for _, l := range p.now() {
		l.buried.Store(true)
	}
}

func (p *proxy) now() []*link {
	p.mu.Lock()
	defer p.mu.Unlock()
	links := make([]*link, 0, len(p.links))
	for l := range p.links {
		links = append(links, l)
	}
	return links
}

// close ends all connections and waits for the end of the proxy's goroutines.
func (p *proxy) close() {
	_ = p.listener.Close()
	p.cut(1)
	p.work.Wait()
}

func (p *proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		n := p.dials.Add(1)
		p.count()
		p.work.Go(func() { p.serve(conn, n) })
	}
}

func (p *proxy) count() {
	if p.dead.Load() {
		p.useless.Add(1)
	}
}

// A link is a client's connection and the proxy's connection to the server.
type link struct {
	client, server net.Conn
	buried         atomic.Bool
	answered       atomic.Bool // a reply has been forwarded
	end            chan struct{}
	once           sync.Once
}

func (l *link) close() {
	l.once.Do(func() {
		close(l.end)
		_ = l.client.Close()
		if l.server != nil {
			_ = l.server.Close()
		}
	})
}

// asked is a command without a reply so far.
type asked struct {
	n       int64 // counted from 1, over all connections
	works   bool  // for a use
	at      time.Time
	refusal []byte // nil: the server answers
}

// serve forwards a connection until either end closes.
func (p *proxy) serve(conn net.Conn, n int64) {
	m := p.manners.Load()
	server, err := net.DialTimeout("tcp", p.server, dialLimit)
	if err != nil || m.reset != nil && m.reset(n) {
		if err == nil {
			_ = server.Close()
		}
		_ = conn.(*net.TCPConn).SetLinger(0) // the client sees a reset, as from a dead server
		_ = conn.Close()
		return
	}
	l := &link{client: conn, server: server, end: make(chan struct{})}
	p.mu.Lock()
	// The manners are loaded again. A link created after bury must have the manners set after bury.
	m = p.manners.Load()
	l.buried.Store(m.bury != nil && m.bury(n))
	p.links[l] = true
	p.mu.Unlock()
	defer func() {
		l.close()
		p.mu.Lock()
		delete(p.links, l)
		p.mu.Unlock()
	}()
	pending, replies := make(chan asked, 1<<10), make(chan []byte, 1<<10)
	p.work.Go(func() { defer l.close(); p.readReplies(l, replies) })
	p.work.Go(func() { defer l.close(); p.answer(l, pending, replies) })
	p.readRequests(l, pending)
}

func (p *proxy) readRequests(l *link, pending chan<- asked) {
	r := bufio.NewReader(l.client)
	for {
		frame, name, err := p.protocol.request(r)
		if err != nil {
			return
		}
		a := asked{n: p.messages.Add(1), works: work[name], at: time.Now()}
		// redispool sends a PING with HELLO, in a single write.
		greets := greetings[name] || name == "ping" && !l.answered.Load()
		if !greets {
			p.count()
		}
		if l.buried.Load() {
			continue
		}
		m := p.manners.Load()
		if m.refuse != nil && a.works {
			if e, refused := m.refuse(name); refused {
				a.refusal = p.protocol.refusal(frame, e)
			}
		}
		select {
		case pending <- a:
		case <-l.end:
			return
		}
		if a.refusal != nil {
			continue
		}
		if _, err := l.server.Write(frame); err != nil {
			return
		}
	}
}

func (p *proxy) readReplies(l *link, replies chan<- []byte) {
	r := bufio.NewReader(l.server)
	var whole []byte
	for {
		frame, more, err := p.protocol.reply(r)
		if err != nil {
			return
		}
		whole = append(whole, frame...)
		if more {
			continue
		}
		select {
		case replies <- whole:
		case <-l.end:
			return
		}
		whole = nil
	}
}

// answer sends the replies in the order of the commands, each reply at its time.
func (p *proxy) answer(l *link, pending <-chan asked, replies <-chan []byte) {
	for {
		var a asked
		select {
		case a = <-pending:
		case <-l.end:
			return
		}
		reply := a.refusal
		if reply == nil {
			select {
			case reply = <-replies:
			case <-l.end:
				return
			}
		}
		m := p.manners.Load()
		if m.delay != nil && (m.far || a.works) && !l.pause(time.Until(a.at.Add(m.delay(a.n)))) {
			return
		}
		if l.buried.Load() {
			continue
		}
		if _, err := l.client.Write(reply); err != nil {
			return
		}
		l.answered.Store(true)
	}
}

// pause returns false if the link ends before the time is over.
func (l *link) pause(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.end:
		return false
	}
}
