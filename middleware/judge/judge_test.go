// Package judge runs scenarios with the default stack and with a bare client beside it, over a server that is simulated in a synctest
// bubble, and prints what each served. The bare client behaves as go-redis does by default: a pool with a bounded wait of 4 s, a read timeout
// of 3 s, a dial timeout of 5 s and three retries of what a network error ended.
package judge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	meternoop "go.opentelemetry.io/otel/metric/noop"
	tracernoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/earnorm/poolstack/middleware"
	"github.com/earnorm/poolstack/middleware/breaker"
	"github.com/earnorm/poolstack/middleware/logging"
	"github.com/earnorm/poolstack/middleware/metrics"
	"github.com/earnorm/poolstack/middleware/retry"
	"github.com/earnorm/poolstack/middleware/tracing"
	"github.com/earnorm/poolstack/pool"
)

type mode int

const (
	up mode = iota
	killed
	frozen    // takes connections, answers nothing; carries out later what it was sent
	blackhole // neither
)

var (
	errEOF     = errors.New("EOF")
	errRefused = errors.New("connection refused")
	errBusy    = errors.New("BUSY not now")
	errMiss    = errors.New("no such thing")
)

// server is the simulated one.
type server struct {
	mu        sync.Mutex
	mode      mode
	takes     time.Duration
	failShare float64
	dialFails int
	epoch     int // connections of an earlier one are cut
	deadUpTo  int // connections up to this number are silently dead
	conns     int
	changed   chan struct{}
	deadline  time.Duration // of the callers: an answer that takes longer is of no use
	useless   atomic.Int64
	sent      atomic.Int64
}

type conn struct{ epoch, id int }

func (s *server) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *server) can() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mode == up && s.takes <= s.deadline
}

func (s *server) dial(ctx context.Context) (*conn, error) {
	s.sent.Add(1)
	could := s.can()
	s.mu.Lock()
	if s.dialFails > 0 {
		s.dialFails--
		s.mu.Unlock()
		time.Sleep(time.Millisecond)
		return nil, errRefused
	}
	if s.mode == killed {
		s.mu.Unlock()
		s.useless.Add(1)
		return nil, errRefused
	}
	s.conns++
	c := &conn{s.epoch, s.conns}
	s.mu.Unlock()
	err := s.wait(ctx, c, 2*time.Millisecond)
	if err != nil && !could {
		s.useless.Add(1)
	}
	return c, err
}

func (s *server) call(ctx context.Context, c *conn, fails bool) error {
	s.sent.Add(1)
	could := s.can()
	s.mu.Lock()
	takes := s.takes
	fail := fails && rand.Float64() < s.failShare
	s.mu.Unlock()
	err := s.wait(ctx, c, takes)
	if err != nil && !could {
		s.useless.Add(1)
	}
	if err == nil && fail {
		return errBusy
	}
	return err
}

func (s *server) wait(ctx context.Context, c *conn, takes time.Duration) error {
	for {
		s.mu.Lock()
		m, ch, cut, dead := s.mode, s.changed, c.epoch != s.epoch, c.id <= s.deadUpTo
		s.mu.Unlock()
		switch {
		case cut || m == killed:
			return errEOF
		case m == up && !dead:
			t := time.NewTimer(takes)
			select {
			case <-t.C:
				return nil
			case <-ch:
				t.Stop()
			case <-ctx.Done():
				t.Stop()
				return ctx.Err()
			}
		default:
			select {
			case <-ch:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// driver makes it a backend.
type driver struct{ s *server }

func (d driver) Open(ctx context.Context) (*conn, error)  { return d.s.dial(ctx) }
func (d driver) Check(ctx context.Context, c *conn) error { return d.s.call(ctx, c, false) }
func (d driver) Close(ctx context.Context, c *conn) error { return nil }
func (d driver) Classify(err error) pool.Class {
	switch {
	case errors.Is(err, errMiss):
		return pool.Class{Miss: true}
	case errors.Is(err, errBusy):
		return pool.Class{Fault: pool.FaultServer, Repeat: pool.RepeatAlways, Code: "BUSY"}
	case errors.Is(err, errRefused):
		return pool.Class{Fault: pool.FaultServer, Repeat: pool.RepeatAlways, Broken: true}
	case errors.Is(err, errEOF), errors.Is(err, context.DeadlineExceeded):
		return pool.Class{Fault: pool.FaultServer, Repeat: pool.RepeatIfIdempotent, Broken: true}
	case errors.Is(err, context.Canceled):
		return pool.Class{Fault: pool.FaultCaller, Broken: true}
	}
	return pool.Class{}
}

type client interface {
	do(ctx context.Context) error
	warm(n int)
	close()
}

// stack is the default stack.
type stack struct {
	p  *pool.Pool[*conn]
	s  *server
	st *middleware.Stack
}

func newStack(s *server, size int) *stack {
	st, err := middleware.Standard(middleware.Options{
		Retry:   retryConfig(),
		Tracing: tracing.Config{TracerProvider: tracernoop.NewTracerProvider()},
		Metrics: metrics.Config{MeterProvider: meternoop.NewMeterProvider()},
		Logging: logging.Config{Logger: slog.New(slog.DiscardHandler)},
	})
	if err != nil {
		panic(err)
	}
	p, err := pool.New[*conn](driver{s}, pool.Config{MaxSize: size}, st.Layers()...)
	if err != nil {
		panic(err)
	}
	return &stack{p, s, st}
}

func (c *stack) do(ctx context.Context) error {
	return c.p.Do(ctx, pool.Op{Name: "GET", Idempotent: true}, func(ctx context.Context, k *conn) error { return c.s.call(ctx, k, true) })
}
func (c *stack) warm(n int) { _ = c.p.Warm(context.Background(), n) }
func (c *stack) close()     { _ = c.p.Close(context.Background()) }

// bare is the bare client.
type bare struct {
	s    *server
	sem  chan struct{}
	mu   sync.Mutex
	idle []*conn
}

func newBare(s *server, size int) *bare { return &bare{s: s, sem: make(chan struct{}, size)} }

func (b *bare) warm(n int) {
	for range n {
		c, _ := b.s.dial(context.Background())
		b.idle = append(b.idle, c)
	}
}
func (b *bare) close() {}

func (b *bare) do(ctx context.Context) (err error) {
	for try := range 4 {
		if try > 0 {
			d := min(8*time.Millisecond<<(try-1), 512*time.Millisecond)
			t := time.NewTimer(d/2 + time.Duration(rand.Int64N(int64(d/2))))
			select {
			case <-t.C:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err = b.once(ctx); err == nil || ctx.Err() != nil || errors.Is(err, errPoolTimeout) {
			return err
		}
	}
	return err
}

var errPoolTimeout = errors.New("pool timeout")

func (b *bare) once(ctx context.Context) error {
	t := time.NewTimer(4 * time.Second)
	defer t.Stop()
	select {
	case b.sem <- struct{}{}:
	case <-t.C:
		return errPoolTimeout
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-b.sem }()
	var c *conn
	b.mu.Lock()
	for len(b.idle) > 0 && c == nil { // it looks whether the socket was closed
		c = b.idle[len(b.idle)-1]
		b.idle = b.idle[:len(b.idle)-1]
		b.s.mu.Lock()
		if c.epoch != b.s.epoch {
			c = nil
		}
		b.s.mu.Unlock()
	}
	b.mu.Unlock()
	if c == nil {
		var err error
		d, cancel := context.WithTimeout(ctx, 5*time.Second)
		c, err = b.s.dial(d)
		cancel()
		if err != nil {
			return err
		}
	}
	r, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	err := b.s.call(r, c, true)
	if err == nil || errors.Is(err, errBusy) {
		b.mu.Lock()
		b.idle = append(b.idle, c)
		b.mu.Unlock()
	}
	return err
}

// result is what a run came to.
type result struct {
	uses, served, refused, needless, useless, peak int64
	waited                                         time.Duration // caller-seconds
	back                                           time.Duration // from the server's return to 99 % served; negative: not at all
	opened                                         uint64
}

type scenario struct {
	name     string
	size     int
	rate     int // uses a second, 0: closed loop of inFlight
	inFlight int
	cold     bool
	takes    time.Duration
	deadline time.Duration
	lead     time.Duration // before the event
	script   func(s *server) (returned time.Time)
	tail     time.Duration
}

func run(t *testing.T, sc scenario, make func(s *server, size int) client) (res result) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{takes: sc.takes, changed: newChan(), deadline: sc.deadline}
		c := make(s, sc.size)
		if !sc.cold {
			c.warm(min(sc.size, 10))
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		var waiting atomic.Int64
		type use struct {
			at time.Time
			ok bool
		}
		var all []use
		one := func() bool {
			begin := time.Now()
			n := waiting.Add(1)
			ctx, cancel := context.WithTimeout(context.Background(), sc.deadline)
			defer cancel()
			err := c.do(ctx)
			waiting.Add(-1)
			took := time.Since(begin)
			ok := (err == nil || errors.Is(err, errMiss)) && took <= sc.deadline
			mu.Lock()
			defer mu.Unlock()
			res.uses++
			res.peak = max(res.peak, n)
			res.waited += took
			if ok {
				res.served++
			}
			if errors.Is(err, breaker.ErrOpen) {
				res.refused++
				if s.can() {
					res.needless++
				}
			}
			all = append(all, use{begin, ok})
			return ok
		}
		var stop atomic.Bool
		load := func() {
			if sc.rate == 0 {
				for range sc.inFlight {
					wg.Go(func() {
						for !stop.Load() {
							if !one() {
								time.Sleep(5 * time.Millisecond)
							}
						}
					})
				}
				return
			}
			wg.Go(func() {
				for !stop.Load() {
					wg.Go(func() { one() })
					time.Sleep(time.Second / time.Duration(sc.rate))
				}
			})
		}
		load()
		time.Sleep(sc.lead)
		s.useless.Store(0)
		returned := sc.script(s)
		time.Sleep(sc.tail)
		stop.Store(true)
		wg.Wait()
		res.useless = s.useless.Load()
		// the end of the last 100 ms after the return in which less than 99 % were served
		const slot = 100 * time.Millisecond
		type tally struct{ n, ok int }
		by := map[int]*tally{}
		for _, u := range all {
			if i := int(u.at.Sub(returned) / slot); u.at.After(returned) {
				if by[i] == nil {
					by[i] = &tally{}
				}
				by[i].n++
				if u.ok {
					by[i].ok++
				}
			}
		}
		for i, b := range by {
			if float64(b.ok) < .99*float64(b.n) {
				res.back = max(res.back, time.Duration(i+1)*slot)
			}
		}
		if st, ok := c.(*stack); ok {
			res.opened = st.st.Breaker.Snapshot().Opened
		}
		c.close()
	})
	return res
}

func newChan() chan struct{} { return make(chan struct{}) }

func asStack(s *server, n int) client { return newStack(s, n) }
func asBare(s *server, n int) client  { return newBare(s, n) }

func cut(s *server) { s.set(func() { s.epoch++ }) }

const ms = time.Millisecond

func TestServerCanServe(t *testing.T) {
	sec := time.Second
	list := []scenario{
		{name: "cut once, 1 in flight", size: 10, inFlight: 1, takes: 20 * ms, deadline: sec, lead: 2 * sec, tail: 5 * sec, script: func(s *server) time.Time { cut(s); return time.Now() }},
		{name: "cut once, 20 in flight", size: 20, inFlight: 20, takes: 20 * ms, deadline: sec, lead: 2 * sec, tail: 5 * sec, script: func(s *server) time.Time { cut(s); return time.Now() }},
		{name: "cut once, 200 in flight", size: 200, inFlight: 200, takes: 20 * ms, deadline: sec, lead: 2 * sec, tail: 5 * sec, script: func(s *server) time.Time { cut(s); return time.Now() }},
		{name: "cut once, 20 in flight, 400 ms each, quiet", size: 20, inFlight: 20, takes: 400 * ms, deadline: sec, lead: 300 * ms, tail: 5 * sec, script: func(s *server) time.Time { cut(s); return time.Now() }},
		{name: "4 dials fail, cold, 200 callers", size: 10, rate: 0, inFlight: 200, cold: true, takes: ms, deadline: sec, lead: 0, tail: 5 * sec, script: func(s *server) time.Time { s.set(func() { s.dialFails = 4 }); return time.Now() }},
		{name: "110 % of the pool, D 1s", size: 10, rate: 110, takes: 100 * ms, deadline: sec, lead: sec, tail: 30 * sec, script: func(s *server) time.Time { return time.Now() }},
		{name: "110 % of the pool, D 3s", size: 10, rate: 110, takes: 100 * ms, deadline: 3 * sec, lead: sec, tail: 60 * sec, script: func(s *server) time.Time { return time.Now() }},
		{name: "110 % of the pool, D 10s", size: 10, rate: 110, takes: 100 * ms, deadline: 10 * sec, lead: sec, tail: 60 * sec, script: func(s *server) time.Time { return time.Now() }},
		{name: "300 % of the pool, D 1s", size: 10, rate: 300, takes: 100 * ms, deadline: sec, lead: sec, tail: 20 * sec, script: func(s *server) time.Time { return time.Now() }},
		{name: "300 % of the pool, D 3s", size: 10, rate: 300, takes: 100 * ms, deadline: 3 * sec, lead: sec, tail: 20 * sec, script: func(s *server) time.Time { return time.Now() }},
		{name: "silently dead idle, D 1s", size: 10, rate: 50, takes: ms, deadline: sec, lead: sec, tail: 20 * sec, script: func(s *server) time.Time { s.set(func() { s.deadUpTo = s.conns }); return time.Now() }},
		{name: "silently dead idle, D 3s", size: 10, rate: 50, takes: ms, deadline: 3 * sec, lead: sec, tail: 20 * sec, script: func(s *server) time.Time { s.set(func() { s.deadUpTo = s.conns }); return time.Now() }},
		{name: "rolling: 3 x cut, refused for 100 ms", size: 20, rate: 200, takes: 20 * ms, deadline: sec, lead: 2 * sec, tail: 5 * sec, script: func(s *server) time.Time {
			for range 3 {
				s.set(func() { s.epoch++; s.mode = killed })
				time.Sleep(100 * ms)
				s.set(func() { s.mode = up })
				time.Sleep(400 * ms)
			}
			return time.Now()
		}},
		{name: "30 % of the commands fail", size: 20, rate: 200, takes: 5 * ms, deadline: sec, lead: 2 * sec, tail: 20 * sec, script: func(s *server) time.Time { s.set(func() { s.failShare = .3 }); return time.Now() }},
		{name: "60 % of the commands fail", size: 20, rate: 200, takes: 5 * ms, deadline: sec, lead: 2 * sec, tail: 20 * sec, script: func(s *server) time.Time { s.set(func() { s.failShare = .6 }); return time.Now() }},
		{name: "slow: 2 ms becomes 500 ms, D 1s", size: 100, rate: 100, takes: 2 * ms, deadline: sec, lead: 2 * sec, tail: 20 * sec, script: func(s *server) time.Time { s.set(func() { s.takes = 500 * ms }); return time.Now() }},
		{name: "slow: 2 ms becomes 900 ms, D 1s, pool too small", size: 10, rate: 50, takes: 2 * ms, deadline: sec, lead: 2 * sec, tail: 20 * sec, script: func(s *server) time.Time { s.set(func() { s.takes = 900 * ms }); return time.Now() }},
	}
	fmt.Printf("%-48s %8s | %8s %8s %8s %6s %7s | %8s %6s\n", "A: the server can serve", "uses", "served", "needless", "useless", "opened", "back", "bare", "back")
	for _, sc := range list {
		if f := os.Getenv("JUDGE"); f != "" && !strings.Contains(sc.name, f) {
			continue
		}
		a, b := run(t, sc, asStack), run(t, sc, asBare)
		fmt.Printf("%-48s %8d | %8d %8d %8d %6d %7v | %8d %6v   served %.3f of bare's share\n", sc.name, a.uses, a.served, a.needless, a.useless, a.opened, a.back, b.served, b.back,
			float64(a.served)/float64(a.uses)/(float64(b.served)/float64(b.uses)))
	}
}

func TestServerCannotServe(t *testing.T) {
	kinds := []struct {
		name string
		set  func(s *server, d time.Duration)
	}{
		{"killed", func(s *server, _ time.Duration) { s.epoch++; s.mode = killed }},
		{"frozen", func(s *server, _ time.Duration) { s.mode = frozen }},
		{"black hole", func(s *server, _ time.Duration) { s.mode = blackhole }},
		{"slower than the deadline", func(s *server, d time.Duration) { s.takes = d * 3 / 2 }},
	}
	fmt.Printf("%-42s | %6s %6s %5s | %6s %6s %5s | %5s %5s | %8s %8s %5s | %6s %6s | %6s\n", "B: it cannot", "useless", "bare", "share", "peak", "bare", "share", "back", "bare", "waited s", "bare", "share", "served", "bare", "opened")
	for _, k := range kinds {
		for _, d := range []time.Duration{100 * ms, time.Second, 3 * time.Second} {
			for _, out := range []time.Duration{2 * time.Second, 10 * time.Second, 60 * time.Second} {
				name := fmt.Sprintf("%s, D %v, for %v", k.name, d, out)
				if f := os.Getenv("JUDGE"); f != "" && !strings.Contains(name, f) {
					continue
				}
				sc := scenario{name: name, size: 10, rate: 200, takes: 2 * ms, deadline: d, lead: 12 * time.Second, tail: 12 * time.Second, script: func(s *server) time.Time {
					s.set(func() { k.set(s, d) })
					time.Sleep(out)
					s.set(func() { s.mode, s.takes = up, 2*ms })
					return time.Now()
				}}
				a, b := run(t, sc, asStack), run(t, sc, asBare)
				share := func(x, y float64) float64 { return x / max(y, 1e-9) }
				fmt.Printf("%-42s | %6d %6d %5.2f | %6d %6d %5.2f | %5.1f %5.1f | %8.1f %8.1f %5.2f | %6d %6d | %6d\n", name, a.useless, b.useless, share(float64(a.useless), float64(b.useless)),
					a.peak, b.peak, share(float64(a.peak), float64(b.peak)), a.back.Seconds(), b.back.Seconds(), a.waited.Seconds(), b.waited.Seconds(),
					share(a.waited.Seconds(), b.waited.Seconds()), a.served, b.served, a.opened)
			}
		}
	}
}

// retryConfig is the default, unless RETRIES asks for as many attempts as the bare client makes, and a budget that allows them.
func retryConfig() retry.Config {
	if os.Getenv("RETRIES") != "" {
		return retry.Config{MaxAttempts: 4, Budget: .5}
	}
	return retry.Config{}
}
