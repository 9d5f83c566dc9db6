package middleware_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/earnorm/poolstack/pool"
)

// The plans of TestRandom, and the server that they happen to.

type rMode uint8

const (
	rUp rMode = iota
	rSlow
	rFrozen
	rHole
	rRefusing
	rErrors
	rFull
	rQuiet
)

var (
	errRCut     = errors.New("connection cut")
	errRRefused = errors.New("connection refused")
	errRFull    = errors.New("max number of clients reached")
	errRBusy    = errors.New("BUSY")
	errROwn     = errors.New("the function's own")
	errRMiss    = errors.New("miss")
)

type rPhase struct {
	from, to    time.Duration
	mode        rMode
	slow        int
	share       float64
	room        int
	cut, silent bool
}

const (
	rDo = iota
	rGet
	rLease
	rNested
	rMissed
	rOwn
	rDeadInner
	rCancel
)

type rUse struct {
	at, deadline, cancel time.Duration
	kind                 int
	idempotent           bool
	takes                float64
}

type rPlan struct {
	seed       uint64
	work, dial time.Duration
	size       int
	minIdle    int
	deadlines  []time.Duration
	phases     []rPhase
	uses       []rUse
	rate       int
}

func rndPlan(seed uint64) *rPlan {
	r := rand.New(rand.NewPCG(seed, 1))
	pick := func(ds ...time.Duration) time.Duration { return ds[r.IntN(len(ds))] }
	p := &rPlan{seed: seed, work: pick(ms, 2*ms, 5*ms, 20*ms), dial: pick(0, 0, ms, 5*ms, 20*ms), size: 1 + r.IntN(20)}
	if r.IntN(2) == 0 {
		p.minIdle = r.IntN(p.size + 1)
	}
	for range 1 + r.IntN(3) {
		p.deadlines = append(p.deadlines, pick(100*ms, 300*ms, 500*ms, time.Second, 2900*ms, 0))
	}
	capacity := float64(p.size) / p.work.Seconds()
	p.rate = int(max(10, min(capacity*(0.05+1.2*r.Float64()), 20+180*r.Float64())))
	var at time.Duration
	for range 2 + r.IntN(5) {
		ph := rPhase{from: at, slow: 1, mode: rMode(r.IntN(8))}
		if r.IntN(3) == 0 || len(p.phases) > 0 && p.phases[len(p.phases)-1].mode != rUp && r.IntN(2) == 0 {
			ph.mode = rUp
		}
		ph.cut = r.IntN(4) == 0
		ph.silent = r.IntN(4) == 0
		switch ph.mode {
		case rSlow:
			ph.slow = []int{3, 10, 50, 400}[r.IntN(4)]
		case rErrors:
			ph.share = 0.05 + 0.6*r.Float64()
		case rFull:
			ph.room = 1 + r.IntN(p.size)
		}
		at += 2*time.Second + time.Duration(r.IntN(8000))*ms
		if ph.mode == rQuiet {
			at += 4 * time.Second
		}
		ph.to = at
		p.phases = append(p.phases, ph)
	}
	last := rPhase{from: at, to: at + 5*time.Second, mode: rUp, slow: 1}
	p.phases = append(p.phases, last)
	for t := time.Duration(0); t < last.to; t += time.Duration(r.ExpFloat64() * float64(time.Second) / float64(p.rate)) {
		u := rUse{at: t, deadline: p.deadlines[r.IntN(len(p.deadlines))], idempotent: r.IntN(3) > 0, takes: 0.7 + 0.6*r.Float64()}
		u.kind = []int{rDo, rDo, rDo, rGet, rGet, rLease, rNested, rMissed, rOwn, rDeadInner, rCancel}[r.IntN(11)]
		if p.at(t).mode == rQuiet {
			u.kind = []int{rOwn, rDeadInner, rCancel}[r.IntN(3)]
		}
		if u.kind == rLease && u.deadline == 0 {
			u.kind = rDo
		}
		if u.kind == rCancel {
			u.cancel = time.Duration(r.Float64() * float64(20*ms))
			if u.deadline > 0 {
				u.cancel = min(u.cancel, u.deadline/2)
			}
		}
		p.uses = append(p.uses, u)
	}
	return p
}

func (p *rPlan) at(t time.Duration) rPhase {
	for _, ph := range p.phases {
		if t < ph.to {
			return ph
		}
	}
	return rPhase{from: t, to: t + time.Hour, mode: rUp, slow: 1}
}

func (p *rPlan) bounds() (shortest, longest time.Duration) {
	shortest = time.Hour
	for _, d := range p.deadlines {
		if d == 0 || d > 3*time.Second {
			d = 3 * time.Second
		}
		shortest, longest = min(shortest, d), max(longest, d)
	}
	return shortest, longest
}

type rConn struct {
	dead chan struct{}
	once sync.Once
	lost atomic.Bool
}

func (c *rConn) kill() { c.once.Do(func() { close(c.dead) }) }

func (c *rConn) wait(ctx context.Context, d time.Duration) error {
	if d < 0 {
		d = 24 * time.Hour
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-c.dead:
		return errRCut
	case <-t.C:
		return nil
	}
}

type rServer struct {
	plan  *rPlan
	start time.Time

	mu    sync.Mutex
	conns map[*rConn]bool
	tries map[int]int
	done  map[int]int
}

func (s *rServer) now() time.Duration { return time.Since(s.start) }
func (s *rServer) phase() rPhase      { return s.plan.at(s.now()) }

func (s *rServer) timeline() {
	for _, ph := range s.plan.phases {
		time.Sleep(ph.from - s.now())
		s.mu.Lock()
		for c := range s.conns {
			if ph.cut || ph.mode == rRefusing {
				c.kill()
			}
			if ph.silent {
				c.lost.Store(true)
			}
		}
		s.mu.Unlock()
	}
}

func (s *rServer) Open(ctx context.Context) (*rConn, error) {
	c := &rConn{dead: make(chan struct{})}
	for {
		ph := s.phase()
		switch ph.mode {
		case rRefusing:
			return nil, errRRefused
		case rHole:
			return nil, c.wait(ctx, -1)
		case rFrozen:
			if err := c.wait(ctx, ph.to-s.now()); err != nil {
				return nil, err
			}
			continue
		}
		if s.plan.dial > 0 {
			if err := c.wait(ctx, s.plan.dial*time.Duration(min(ph.slow, 10))); err != nil {
				return nil, err
			}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if ph.mode == rFull && len(s.conns) >= ph.room {
			return nil, errRFull
		}
		s.conns[c] = true
		return c, nil
	}
}

func (s *rServer) Close(_ context.Context, c *rConn) error {
	c.kill()
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	return nil
}

func (s *rServer) Check(ctx context.Context, c *rConn) error { return s.call(ctx, c, -1, 0.1) }

func (s *rServer) call(ctx context.Context, c *rConn, use int, takes float64) error {
	var ph rPhase
	for {
		ph = s.phase()
		if ph.mode == rHole {
			c.lost.Store(true)
		}
		if c.lost.Load() {
			return c.wait(ctx, -1)
		}
		if ph.mode != rFrozen {
			break
		}
		s.carry(use)
		if err := c.wait(ctx, ph.to-s.now()); err != nil {
			return err
		}
		use = -use - 2
	}
	if use < -1 {
		use = -use - 2
		s.uncarry(use)
	}
	if ph.mode == rErrors && use >= 0 && s.roll(use) < ph.share {
		if err := c.wait(ctx, s.plan.work/4); err != nil {
			return err
		}
		return errRBusy
	}
	s.carry(use)
	if err := c.wait(ctx, time.Duration(takes*float64(s.plan.work)*float64(ph.slow))); err != nil {
		return err
	}
	switch ph = s.phase(); {
	case ph.mode == rHole, c.lost.Load():
		c.lost.Store(true)
		return c.wait(ctx, -1)
	case ph.mode == rFrozen:
		return c.wait(ctx, ph.to-s.now())
	}
	return nil
}

func (s *rServer) roll(use int) float64 {
	s.mu.Lock()
	n := s.tries[use]
	s.tries[use]++
	s.mu.Unlock()
	return rand.New(rand.NewPCG(s.plan.seed*1_000_003+uint64(use), uint64(n))).Float64()
}

func (s *rServer) carry(use int) {
	s.mu.Lock()
	s.done[use]++
	s.mu.Unlock()
}

func (s *rServer) uncarry(use int) {
	s.mu.Lock()
	s.done[use]--
	s.mu.Unlock()
}

func (s *rServer) Classify(err error) pool.Class {
	switch {
	case errors.Is(err, errRCut):
		return pool.Class{Fault: pool.FaultServer, Repeat: pool.RepeatIfIdempotent, Broken: true, Type: "cut"}
	case errors.Is(err, errRRefused), errors.Is(err, errRFull):
		return pool.Class{Fault: pool.FaultServer, Repeat: pool.RepeatAlways, Broken: true, Type: "refused"}
	case errors.Is(err, errRBusy):
		return pool.Class{Fault: pool.FaultServer, Repeat: pool.RepeatAlways, Code: "BUSY"}
	case errors.Is(err, errRMiss):
		return pool.Class{Miss: true}
	case errors.Is(err, errROwn):
		return pool.Class{Fault: pool.FaultElsewhere}
	}
	c, ok := pool.ClassifyCommon(err)
	if !ok {
		return pool.Class{Fault: pool.FaultElsewhere, Suspect: true}
	}
	return c
}
