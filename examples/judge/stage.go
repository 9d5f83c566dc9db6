package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/earnorm/poolstack/examples/servers/control"
	"github.com/earnorm/poolstack/examples/servers/local"
	"github.com/earnorm/poolstack/middleware"
)

// A scenario is a load with events at the server or in the network. All sides meet the same events
// at the same time.
type scenario struct {
	name  string
	about string
	mongo bool
	load  load
	// deadlines are the callers' deadlines. Each deadline has a lane for each side. All lanes meet the
	// same events.
	deadlines []time.Duration
	size      int                // connections; 0: sizeDefault
	mix       func(i int) kind   // nil: mostly reads
	servable  func(kind) bool    // kinds which the server can serve; nil: all
	capacity  float64            // maximum uses a second of the server; 0: more than the load
	cold      bool               // no connection before the load
	inner     bool               // a second server behind the uses
	heedful   bool               // also run go-redis with ContextTimeoutEnabled
	preset    middleware.Options // of the stack; zero: the defaults
	repeat    int                // number of runs; 0: a single run
	host      int                // index of the servers, for concurrent scenarios

	// before runs after the connections have been opened and before the load. Nil means nothing.
	before func(ctx context.Context, s *stage) error
	// play runs from the beginning of the load. Nil means nothing.
	play  func(ctx context.Context, s *stage) error
	gates []gate
	drawn bool // failures are drawn at random for each side
	dies  bool // the scenario has an outage
}

// sizeDefault is go-redis's default on two processors: ten connections per processor.
const sizeDefault = 20

// mostlyReads returns an add for every tenth use. The server must not execute an add twice.
func mostlyReads(i int) kind {
	if i%10 == 9 {
		return add
	}
	return read
}

// A stage is the environment of a run.
type stage struct {
	scenario
	hosts   *hosts
	servers *local.Servers
	name    string // of the server, as package control knows it
	direct  string
	db      string // of MongoDB, new for each run
	lanes   []*lane
	start   time.Time
	outage  outage
}

// A lane is a side with callers of the same deadline. Each lane has its own proxy, which counts the
// lane's dials and commands.
type lane struct {
	side     string
	deadline time.Duration
	proxy    *proxy
	inner    *proxy      // nil without a second server
	blind    *time.Timer // until callers can detect the fault
	caller   *caller
	records  []record
}

// hosts are the servers, started on demand.
type hosts struct {
	mu      sync.Mutex
	running []*local.Servers
}

// at returns the servers with index n. It also starts all servers with a lower index.
func (h *hosts) at(ctx context.Context, n int) (*local.Servers, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.running) <= n {
		s, err := local.Start(ctx, local.Options{Redis: local.RedisServer})
		if err != nil {
			return nil, err
		}
		h.running = append(h.running, s)
	}
	return h.running[n], nil
}

func (h *hosts) close() (err error) {
	for _, s := range h.running {
		err = errors.Join(err, s.Close())
	}
	return err
}

// run plays the scenario once, and returns the figures by deadline.
func (sc scenario) run(ctx context.Context, h *hosts) (_ map[time.Duration]run, err error) {
	s := &stage{scenario: sc, hosts: h, name: control.Redis, db: "judge_" + strings.ToLower(rand.Text()[:8])}
	if sc.mongo {
		s.name = control.MongoDB
	}
	if s.servers, err = h.at(ctx, sc.host); err != nil {
		return nil, err
	}
	defer s.close()
	if err := s.open(ctx); err != nil {
		return nil, err
	}
	if !sc.cold {
		if err := s.warm(ctx); err != nil {
			return nil, err
		}
	}
	if sc.before != nil {
		if err := sc.before(ctx, s); err != nil {
			return nil, err
		}
	}
	if err := s.perform(ctx); err != nil {
		return nil, err
	}
	return s.figures(ctx)
}

// addr returns the address of the server itself, without any proxy.
func (s *stage) addr(ctx context.Context, servers *local.Servers) (string, error) {
	status, err := control.Find(ctx, servers, s.name)
	return status.Addr, err
}

// sides are the sides of the scenario.
func (sc scenario) sides() []string {
	if sc.heedful && !sc.mongo {
		return []string{stacked, bare, bareCtx}
	}
	return []string{stacked, bare}
}

// open fills the server and creates the lanes.
func (s *stage) open(ctx context.Context) (err error) {
	if s.direct, err = s.addr(ctx, s.servers); err != nil {
		return err
	}
	inner := ""
	if s.inner {
		if inner, err = s.second(ctx); err != nil {
			return err
		}
	}
	var names []string
	for _, side := range s.sides() {
		for _, deadline := range s.deadlines {
			l := &lane{side: side, deadline: deadline}
			s.lanes = append(s.lanes, l)
			names = append(names, l.name())
		}
	}
	if err := s.fill(ctx, s.direct, names); err != nil {
		return err
	}
	for _, l := range s.lanes {
		if err := l.open(s, inner); err != nil {
			return err
		}
	}
	return nil
}

// second fills the server of the next host, and returns the server's address.
func (s *stage) second(ctx context.Context) (string, error) {
	servers, err := s.hosts.at(ctx, s.host+1)
	if err != nil {
		return "", err
	}
	addr, err := s.addr(ctx, servers)
	if err != nil {
		return "", err
	}
	return addr, s.fill(ctx, addr, nil)
}

func (s *stage) fill(ctx context.Context, addr string, lanes []string) error {
	if s.mongo {
		return fillMongo(ctx, addr, s.db, lanes)
	}
	return fillRedis(ctx, addr)
}

func (l *lane) name() string { return fmt.Sprintf("%s_%v", l.side, l.deadline) }

func (l *lane) open(s *stage, inner string) (err error) {
	p := redisProtocol
	if s.mongo {
		p = mongoProtocol
	}
	if l.proxy, err = startProxy(p, s.direct); err != nil {
		return err
	}
	w := where{addr: l.proxy.addr(), direct: s.direct, db: s.db, lane: l.name(), size: s.size, preset: s.preset}
	if w.size == 0 {
		w.size = sizeDefault
	}
	if inner != "" {
		if l.inner, err = startProxy(p, inner); err != nil {
			return err
		}
		w.inner = l.inner.addr()
	}
	l.caller = &caller{deadline: l.deadline}
	switch {
	case s.mongo && l.side == stacked:
		l.caller.client, err = newStackedMongo(w)
	case s.mongo:
		l.caller.client, err = newBareMongo(w)
	case l.side == stacked:
		l.caller.client, err = newStackedRedis(w)
	default:
		l.caller.client = newBareRedis(w, l.side == bareCtx)
	}
	return err
}

// close closes the clients first, because the clients still use the proxies.
func (s *stage) close() {
	var ends sync.WaitGroup
	for _, l := range s.lanes {
		ends.Go(func() {
			if l.caller != nil && l.caller.client != nil {
				l.caller.client.close()
			}
			for _, p := range []*proxy{l.proxy, l.inner} {
				if p != nil {
					p.close()
				}
			}
		})
	}
	ends.Wait()
}

// holding is the delay of replies while connections are opened. The delay makes each use in
// progress need its own connection.
const holding = 10 * time.Millisecond

// warm opens all connections of all lanes, and makes a few uses.
func (s *stage) warm(ctx context.Context) error {
	s.behave(manners{delay: always(holding)})
	k := read
	if s.inner {
		k = nested
	}
	var lanes sync.WaitGroup
	errs := make([]error, len(s.lanes))
	for i, l := range s.lanes {
		lanes.Go(func() { errs[i] = l.warm(ctx, max(s.size, sizeDefault), k) })
	}
	lanes.Wait()
	s.behave(manners{})
	return errors.Join(errs...)
}

// rounds is the number of warm-up rounds for a client without a warm-up operation. In each round, a
// use per wanted connection runs concurrently.
const rounds = 3

func (l *lane) warm(ctx context.Context, size int, k kind) error {
	asked, err := l.caller.client.warm(ctx)
	if err != nil {
		return fmt.Errorf("%s: opening connections: %w", l.name(), err)
	}
	for range rounds {
		var uses sync.WaitGroup
		for range size {
			uses.Go(func() { _ = l.caller.client.do(ctx, use{kind: k}) })
		}
		uses.Wait()
		if asked {
			break
		}
	}
	return nil
}

// each calls f for every lane.
func (s *stage) each(f func(*lane)) {
	for _, l := range s.lanes {
		f(l)
	}
}

// behave sets the manners of all proxies.
func (s *stage) behave(m manners) { s.each(func(l *lane) { l.proxy.behave(m) }) }

// perform runs the load on all lanes and the play concurrently.
func (s *stage) perform(ctx context.Context) error {
	mix := s.mix
	if mix == nil {
		mix = mostlyReads
	}
	s.start = time.Now()
	played := make(chan error, 1)
	go func() {
		if s.play == nil {
			played <- nil
			return
		}
		played <- s.play(ctx, s)
	}()
	var loads sync.WaitGroup
	for _, l := range s.lanes {
		l.caller.start = s.start
		loads.Go(func() { l.records = l.caller.run(s.load, mix) })
	}
	loads.Wait()
	return <-played
}

// until waits for a time from the start of the load.
func (s *stage) until(d time.Duration) { time.Sleep(time.Until(s.start.Add(d))) }

// die marks the beginning of the outage, just before the fault. In a silent fault, calls count as
// useless only after the callers' deadline, because no client can detect the fault before.
func (s *stage) die(silent bool) {
	s.outage.from = time.Since(s.start)
	s.each(func(l *lane) {
		if silent {
			l.blind = time.AfterFunc(l.deadline, func() { l.proxy.setDead(true) })
			return
		}
		l.proxy.setDead(true)
	})
}

// revive marks the end of the outage, just after the server's return.
func (s *stage) revive() {
	s.outage.to = time.Since(s.start)
	s.each(func(l *lane) {
		if l.blind != nil {
			l.blind.Stop()
		}
		l.proxy.setDead(false)
	})
}

// dead returns the number of seconds in which useless calls were counted.
func (l *lane) dead(o outage) float64 {
	if l.blind != nil {
		o.from += l.deadline
	}
	return max(0, o.to-o.from).Seconds()
}

// figures computes the figures of all lanes.
func (s *stage) figures(ctx context.Context) (map[time.Duration]run, error) {
	all := map[time.Duration]run{}
	for _, l := range s.lanes {
		var adds []int
		for _, r := range l.records {
			if r.kind == add && r.inTime() {
				adds = append(adds, r.id)
			}
		}
		twice, err := l.caller.client.twice(ctx, adds)
		if err != nil {
			return nil, fmt.Errorf("looking at the counters of %s: %w", l.name(), err)
		}
		f := figure(l.records, s.outage, s.servable, twice)
		f.useless, f.dead = int(l.proxy.useless.Load()), l.dead(s.outage)
		f.dials = int(l.proxy.dials.Load())
		if s.capacity > 0 { // uses above the capacity are rejected with reason
			unused := int(s.capacity*s.load.lasts.Seconds()) - f.served
			f.refused = min(f.refused, max(0, unused))
		}
		if all[l.deadline] == nil {
			all[l.deadline] = run{}
		}
		all[l.deadline][l.side] = f
		l.caller.complain(s.title() + ", " + l.name())
	}
	return all, nil
}
