package main

import (
	"context"
	"fmt"
	"time"

	"github.com/earnorm/poolstack/backends/mongopool"
	"github.com/earnorm/poolstack/examples/servers/control"
	"github.com/earnorm/poolstack/middleware/breaker"
	"github.com/earnorm/poolstack/pool"
)

// A result is the data of a finished play, for the report and the invariants.
type result struct {
	cfg           config
	start         time.Time
	took          time.Duration // duration of the load
	interrupted   bool
	servers       []serverResult
	points        []point // in order of time
	log           []string
	closing       error // the error of closing the pools
	before, after leftovers
}

// A serverResult is the result for a server.
type serverResult struct {
	status      control.Status
	stack, bare laneResult
	incidents   []incident
	figures     figures
	stat        pool.Stat
	breaker     breaker.Snapshot
	sockets     *mongopool.Stats // nil for Redis
	rate        int
	health      pool.Health
	settings    string // the stack's settings other than defaults
}

// A laneResult is the result of a lane.
type laneResult struct {
	audit
	tallied
	p50, p99           time.Duration
	dials, commands    int64 // sent in total
	dialsAway, sentOff int64 // sent while the server was killed or frozen
	cutOff             int   // operations still in flight at the end of drain
	okInSecond         []int64
}

// tallied is the final state of a meter.
type tallied struct {
	ok, inTime, failed, prompt, hung, crowd int64
	slowest                                 time.Duration
}

func (m *meter) tallied() tallied {
	return tallied{
		ok: m.ok.Load(), inTime: m.inTime.Load(), failed: m.failed.Load(), prompt: m.prompt.Load(), hung: m.hung.Load(), crowd: m.crowd.Load(),
		slowest: m.slowestTook(),
	}
}

// result collects the result of the play. The clients must still be open. result reads the lanes'
// data from the servers and then deletes the data.
func (p *play) result(ctx context.Context) (result, error) {
	r := result{cfg: p.cfg, start: p.news.start, took: p.took, interrupted: p.interrupted, points: p.points}
	for _, s := range p.stations {
		one := serverResult{
			status: s.status, rate: p.cfg.rateOn(s.status.Name), incidents: s.history(), figures: s.pool.tally.snapshot(),
			health: s.pool.pool.Check(ctx), stat: s.pool.pool.Stat(), breaker: s.pool.stack.Breaker.Snapshot(),
			settings: s.pool.settings, stack: s.stack.result(p.cutOff[s.stack]), bare: s.bare.result(p.cutOff[s.bare]),
		}
		if s.pool.sockets != nil {
			one.sockets = s.pool.sockets()
		}
		if err := s.withStore(ctx, func(st store, ctx context.Context) error { return one.audit(ctx, s, st) }); err != nil {
			return r, fmt.Errorf("%s: what it holds cannot be read: %w", s.status.Name, err)
		}
		r.servers = append(r.servers, one)
	}
	r.log = p.book.summary()
	return r, nil
}

// audit compares the data on the server with the ledgers.
func (r *serverResult) audit(ctx context.Context, s *station, st store) error {
	for l, to := range map[*lane]*laneResult{s.stack: &r.stack, s.bare: &r.bare} {
		held, err := st.holding(ctx, l.side)
		if err != nil {
			return err
		}
		to.audit = l.ledger.compare(held)
		to.wrongReads = int(l.wrongReads.Load())
	}
	return st.remove(ctx)
}

func (l *lane) result(cutOff int) laneResult {
	times := l.whole.times.snapshot()
	r := laneResult{
		tallied: l.whole.tallied(), p50: times.quantile(0.5), p99: times.quantile(0.99), cutOff: cutOff,
		dials: l.wire.dials.Load(), commands: l.wire.commands.Load(),
		dialsAway: l.wire.dialsAway.Load(), sentOff: l.wire.commandsAway.Load(),
	}
	for i := range l.okInSecond {
		r.okInSecond = append(r.okInSecond, l.okInSecond[i].Load())
	}
	return r
}

// history returns copies of the incidents.
func (s *station) history() []incident {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []incident
	for _, i := range s.incidents {
		all = append(all, *i)
	}
	return all
}
