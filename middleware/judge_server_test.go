package middleware_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
)

// The simulated server of the judge (see judge_test.go) and of TestRandom, its driver and its bare
// client.

// simMode is how the server behaves as a whole.
type simMode int

const (
	simUp        simMode = iota
	simKilled            // refuses dials, has cut its connections
	simFrozen            // takes dials and calls, answers none until it is up again
	simBlackHole         // what is sent is lost, and sent again later, as TCP does
)

// The errors that the server and its connections return.
var (
	errSimEOF      = errors.New("EOF")
	errSimRefused  = errors.New("connection refused")
	errSimBusy     = errors.New("BUSY not now")
	errSimMiss     = errors.New("no such thing")
	errSimSyntax   = errors.New("ERR syntax error")
	errSimFull     = errors.New("OOM command not allowed when used memory > 'maxmemory'")
	errSimReadOnly = errors.New("READONLY You can't write against a read only replica")
	errSimClients  = errors.New("ERR max number of clients reached")
)

// simOp is one kind of operation.
type simOp struct {
	op     pool.Op
	takes  time.Duration // the time the server needs; 0: the server's own setting
	answer error         // what a healthy server answers

	soils     bool // it leaves something behind on its connection
	nested    bool // before it, the use's function uses another client, whose server is dead
	uncounted bool // it is not among the uses that are counted
}

// simUse is one use by one caller.
type simUse struct {
	*simOp

	// inside is what the use's function does before its command; nil: nothing
	inside func(ctx context.Context) error
	// how often the server has carried out the operation; under the server's lock
	carried int
}

// simServer is a simulated server. Set its fields before the load begins, or within change.
type simServer struct {
	mu       sync.Mutex
	rng      *rand.Rand
	mode     simMode
	takes    time.Duration             // a command
	dial     time.Duration             // a dial
	latency  func(n int) time.Duration // of round trip number n; nil: takes and dial
	busy     float64                   // the share of the commands that are refused quickly
	refuses  map[string]error          // the answer to operations of a name
	failing  int                       // dials that are refused next
	hanging  int                       // dials that get no answer next
	hung     int                       // resets that get no answer next
	room     int                       // connections that the driver may have; 0: any number
	held     int                       // connections that the driver has
	cutUpTo  int                       // connections up to this number are cut
	deadUpTo int                       // connections up to this number get no answer
	conns    int                       // connections taken so far
	commands int                       // round trips so far
	changed  chan struct{}             // closed at each change
	deadline time.Duration             // of the callers
	// useless counts calls and dials that began while the server could not answer, and failed.
	useless int
}

// simConn is a connection to the server. Connections are numbered from 1.
type simConn struct {
	id     int
	soiled bool
}

func newSimServer(takes, deadline time.Duration) *simServer {
	return &simServer{
		rng: rand.New(rand.NewPCG(1, 2)), takes: takes, dial: 2 * time.Millisecond, deadline: deadline,
		changed: make(chan struct{}),
	}
}

// change changes the server's state. All calls in progress look at the new state.
func (s *simServer) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

// cut ends all connections. It is called within change.
func (s *simServer) cut() { s.cutUpTo = s.conns }

// canServe says whether the server answers an ordinary command in time.
func (s *simServer) canServe() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mode == simUp && s.takes <= s.deadline
}

// spent counts a call in vain.
func (s *simServer) spent() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.useless++
}

func (s *simServer) open(ctx context.Context) (*simConn, error) {
	could := s.canServe()
	s.mu.Lock()
	refused, hangs, dial := s.mode == simKilled || s.failing > 0, s.hanging > 0, s.dial
	switch {
	case refused:
		s.failing = max(s.failing-1, 0)
	case hangs:
		s.hanging--
	}
	if s.latency != nil { // two round trips
		s.commands += 2
		dial = s.latency(s.commands-1) + s.latency(s.commands)
	}
	s.conns++
	c := &simConn{id: s.conns}
	s.mu.Unlock()
	var err error
	switch {
	case refused:
		err = errSimRefused
	case hangs:
		<-ctx.Done()
		err = ctx.Err()
	default:
		err = s.answer(ctx, c, message{takes: dial, again: resendDial})
	}
	if err != nil && !could {
		s.spent()
	}
	return c, err
}

// call is one command of use u on connection c. A nil u is a check.
func (s *simServer) call(ctx context.Context, c *simConn, u *simUse) error {
	could := s.canServe()
	s.mu.Lock()
	carries, takes := u, s.takes
	var reply error
	if u != nil {
		s.commands++
		reply = u.answer
		switch refusal := s.refuses[u.op.Name]; {
		case refusal != nil:
			carries, takes, reply = nil, time.Millisecond, refusal
		case s.rng.Float64() < s.busy:
			carries, reply = nil, errSimBusy
		case u.takes > 0:
			takes = u.takes
		case s.latency != nil:
			takes = s.latency(s.commands)
		}
	}
	s.mu.Unlock()
	err := s.answer(ctx, c, message{carries, takes, resendData})
	if err != nil && !could {
		s.spent()
	}
	if err == nil {
		err = reply
	}
	return err
}

// work is what the function of a use does.
func (s *simServer) work(ctx context.Context, c *simConn, u *simUse) error {
	if u.inside != nil {
		if err := u.inside(ctx); err != nil {
			return err
		}
	}
	if u.soils {
		c.soiled = true
	}
	return s.call(ctx, c, u)
}

// message is what a connection has sent to the server: a command, or the first word of a dial.
type message struct {
	use   *simUse       // nil: a dial or a check
	takes time.Duration // the server's time
	// the first pause before a lost message is sent again; each further pause is twice as long
	again time.Duration
}

// The pauses of TCP.
const (
	resendDial = time.Second
	resendData = 200 * time.Millisecond
)

// answer waits for the server's answer to m on connection c.
func (s *simServer) answer(ctx context.Context, c *simConn, m message) error {
	sent, ready := time.Now(), time.Now().Add(m.takes)
	for late := false; ; late = true {
		s.mu.Lock()
		mode, changed, cut, dead := s.mode, s.changed, c.id <= s.cutUpTo || s.mode == simKilled, c.id <= s.deadUpTo
		if cut && m.use != nil && s.rng.IntN(2) == 0 {
			m.use.carried++ // and the reply is lost
		}
		s.mu.Unlock()
		if cut {
			return errSimEOF
		}
		var answered <-chan time.Time // never, while there is no answer
		if mode == simUp && !dead {
			if late { // the server was away, or something else changed
				ready = m.resumed(sent, ready)
			}
			t := time.NewTimer(time.Until(ready))
			defer t.Stop()
			answered = t.C
		}
		select {
		case <-answered:
			s.carriedOut(m.use)
			return nil
		case <-changed:
			if mode == simBlackHole {
				ready = time.Time{}
			}
		case <-ctx.Done():
			s.carriedOut(m.use) // in the end, perhaps
			return ctx.Err()
		}
	}
}

// resumed returns the time of the answer if the server can be reached again from now on. ready is
// the time at which the answer should have come; zero if m was lost.
func (m message) resumed(sent, ready time.Time) time.Time {
	now := time.Now()
	if !ready.IsZero() {
		if ready.Before(now) {
			return now
		}
		return ready
	}
	for pause := m.again; !sent.After(now); pause *= 2 {
		sent = sent.Add(pause)
	}
	return sent.Add(m.takes)
}

func (s *simServer) carriedOut(u *simUse) {
	if u != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		u.carried++
	}
}

// simDriver is the driver of a backend for the server.
type simDriver struct{ s *simServer }

func (d simDriver) Open(ctx context.Context) (*simConn, error) {
	c, err := d.s.open(ctx)
	if err != nil {
		return nil, err
	}
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	if d.s.room > 0 && d.s.held >= d.s.room {
		return nil, errSimClients
	}
	d.s.held++
	return c, nil
}

func (d simDriver) Close(context.Context, *simConn) error {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	d.s.held--
	return nil
}

func (d simDriver) Check(ctx context.Context, c *simConn) error { return d.s.call(ctx, c, nil) }
func (d simDriver) Dirty(c *simConn) bool                       { return c.soiled }

func (d simDriver) Reset(ctx context.Context, c *simConn) error {
	d.s.mu.Lock()
	hangs := d.s.hung > 0
	d.s.hung = max(d.s.hung-1, 0)
	d.s.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	c.soiled = false
	return nil
}

func (d simDriver) Classify(err error) driver.Class {
	switch {
	case errors.Is(err, errSimMiss):
		return driver.Class{Miss: true}
	case errors.Is(err, errSimSyntax):
		return driver.Class{Code: "ERR"}
	case errors.Is(err, errSimBusy):
		return driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatAlways, Code: "BUSY"}
	case errors.Is(err, errSimFull):
		return driver.Class{Fault: driver.FaultServer, Narrow: true, Code: "OOM"}
	case errors.Is(err, errSimReadOnly):
		return driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatAlways, Narrow: true, Broken: true, Code: "READONLY"}
	case errors.Is(err, errSimRefused), errors.Is(err, errSimClients):
		return driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatAlways, Broken: true}
	case errors.Is(err, errSimEOF), errors.Is(err, context.DeadlineExceeded):
		return driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatIfIdempotent, Broken: true}
	case errors.Is(err, context.Canceled):
		return driver.Class{Fault: driver.FaultCaller, Broken: true}
	}
	return driver.Class{Fault: driver.FaultElsewhere}
}

// bareClient imitates go-redis with ContextTimeoutEnabled and the defaults of v9.23.0: 6 s for the
// wait, 5 s for a dial, 5 s for a reply, and pauses of 10 ms to 1 s. It makes three retries after
// an error of the network or a quick refusal. A dial is tried five times, 100 ms apart. After as
// many failed dials as there are slots, uses fail at once, and a dial each second finds out whether
// the server is back. An idle connection cut by the server is detected and dropped.
type bareClient struct {
	s      *simServer
	slots  chan struct{}
	mu     sync.Mutex
	idle   []*simConn
	failed int   // dials since one has succeeded
	last   error // the last dial's
	closed bool
	prober sync.WaitGroup
}

const (
	bareRetries = 3
	bareWait    = 6 * time.Second
	bareDial    = 5 * time.Second
	bareRead    = 5 * time.Second
	bareDials   = 5
	barePause   = 100 * time.Millisecond
	bareProbe   = time.Second
)

var errBareWait = errors.New("connection pool timeout")

func newBare(s *simServer, size int) *bareClient {
	return &bareClient{s: s, slots: make(chan struct{}, size)}
}

func (b *bareClient) warm(n int) {
	for range n {
		if c, err := b.s.open(context.Background()); err == nil {
			b.idle = append(b.idle, c)
		}
	}
}

func (b *bareClient) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.prober.Wait()
}

func (b *bareClient) do(ctx context.Context, u *simUse) error {
	err := b.once(ctx, u)
	for try := 0; try < bareRetries && b.repeats(err) && ctx.Err() == nil; try++ {
		t := time.NewTimer(min(10*time.Millisecond+rand.N(20*time.Millisecond<<try), time.Second))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
		err = b.once(ctx, u)
	}
	return err
}

func (b *bareClient) repeats(err error) bool {
	return errors.Is(err, errSimEOF) || errors.Is(err, errSimRefused) || errors.Is(err, errSimBusy) || errors.Is(err, errBareWait) ||
		errors.Is(err, errSimReadOnly) ||
		errors.Is(err, context.DeadlineExceeded)
}

func (b *bareClient) once(ctx context.Context, u *simUse) error {
	t := time.NewTimer(bareWait)
	defer t.Stop()
	select {
	case b.slots <- struct{}{}:
	case <-t.C:
		return errBareWait
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-b.slots }()
	c := b.takeIdle()
	if c == nil {
		var err error
		if c, err = b.dial(ctx); err != nil {
			return err
		}
	}
	read, cancel := context.WithTimeout(ctx, bareRead)
	defer cancel()
	err := b.s.work(read, c, u)
	if !errors.Is(err, errSimEOF) && !errors.Is(err, errSimReadOnly) && read.Err() == nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.idle = append(b.idle, c)
	}
	return err
}

func (b *bareClient) dial(ctx context.Context) (*simConn, error) {
	b.mu.Lock()
	failed, last := b.failed, b.last
	b.mu.Unlock()
	if failed >= cap(b.slots) {
		return nil, last
	}
	var err error
	for try := range bareDials {
		if try > 0 {
			select {
			case <-time.After(barePause):
			case <-ctx.Done():
				return nil, err
			}
		}
		var c *simConn
		if c, err = b.open(ctx); err == nil {
			return c, nil
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last = err
	if b.failed++; b.failed == cap(b.slots) {
		b.prober.Go(b.probe)
	}
	return nil, err
}

func (b *bareClient) open(ctx context.Context) (*simConn, error) {
	ctx, cancel := context.WithTimeout(ctx, bareDial)
	defer cancel()
	return b.s.open(ctx)
}

// probe dials each second until a dial succeeds.
func (b *bareClient) probe() {
	for {
		_, err := b.open(context.Background())
		b.mu.Lock()
		if err == nil {
			b.failed = 0
		}
		over := err == nil || b.closed
		b.mu.Unlock()
		if over {
			return
		}
		time.Sleep(bareProbe)
	}
}

func (b *bareClient) takeIdle() *simConn {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	for len(b.idle) > 0 {
		c := b.idle[len(b.idle)-1]
		b.idle = b.idle[:len(b.idle)-1]
		if c.id > b.s.cutUpTo {
			return c
		}
	}
	return nil
}
