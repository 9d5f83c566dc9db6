package middleware_test

import (
	"errors"
	"math/rand/v2"
	"time"
)

// The plans of TestRandom.

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

var errROwn = errors.New("the function's own")

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
		u := rUse{at: t, deadline: p.deadlines[r.IntN(len(p.deadlines))], idempotent: r.IntN(3) > 0}
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

// server makes a server that is up.
func (p *rPlan) server() *simServer {
	s := newSimServer(p.work, time.Hour)
	s.dial = p.dial
	return s
}

// follow has the phases of the plan happen to s.
func (p *rPlan) follow(s *simServer) {
	start := time.Now()
	for _, ph := range p.phases {
		time.Sleep(ph.from - time.Since(start))
		s.change(func() {
			s.mode, s.busy, s.room = simUp, ph.share, ph.room
			s.takes, s.dial = p.work*time.Duration(ph.slow), p.dial*time.Duration(min(ph.slow, 10))
			switch ph.mode {
			case rFrozen:
				s.mode = simFrozen
			case rHole:
				s.mode = simBlackHole
			case rRefusing:
				s.mode = simKilled
			}
			if ph.cut || ph.mode == rRefusing {
				s.cut()
			}
			if ph.silent {
				s.deadUpTo = s.conns
			}
		})
	}
}
