package middleware_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/earnorm/poolstack/middleware"
	"github.com/earnorm/poolstack/pool"
)

const ms = time.Millisecond

// simScenario is one scenario. One of callers and rate is set, burst beside rate.
type simScenario struct {
	preset    middleware.Options // of the stack; its telemetry is ignored
	drawn     bool               // the failures are drawn at random for each client
	name      string
	size      int // of the pool
	callers   int // that use it one use after the other, with a pause of 5 ms after a failure
	rate      int // uses a second
	burst     int // uses at the beginning of the load, all at once
	consumers int // beside the load, that wait for an empty queue one BLPOP of 4 s after the other
	deadlines []time.Duration
	cancels   bool          // a caller cancels, in place of a deadline
	takes     time.Duration // the server's time for a command
	ops       []*simOp      // in turn; none: simGet
	cold      bool          // no connection at the beginning
	nested    bool          // there is another, dead server, with a client of the same kind
	pool      func(cfg *pool.Config)

	setUp     func(s *simServer) // before the first dial
	rest      time.Duration      // between the dials and the load
	afterRest func(s *simServer) // before the load
	lead      time.Duration      // of the load, before the script
	script    func(s *simServer)
	tail      time.Duration // of the load, after the script

	down    time.Duration // how long the server cannot serve; 0: it can all the time
	unseen  bool          // a check passes while the server cannot serve
	least   int           // the uses that the stack serves, whatever the bare client does; 0: no gate
	longest time.Duration // what one caller of the stack may wait; 0: no gate
	conns   int           // the connections that the stack may dial; 0: no gate
}

func (sc *simScenario) deadline(n int) time.Duration { return sc.deadlines[n%len(sc.deadlines)] }

func (sc *simScenario) op(n int) *simOp {
	if len(sc.ops) == 0 {
		return simGet
	}
	return sc.ops[n%len(sc.ops)]
}

// The operations.
var (
	simGet      = &simOp{op: pool.Op{Name: "GET", Idempotent: true}}
	simIncr     = &simOp{op: pool.Op{Name: "INCR"}}
	simMissing  = &simOp{op: pool.Op{Name: "GET", Idempotent: true}, answer: errSimMiss}
	simMistake  = &simOp{op: pool.Op{Name: "GET", Idempotent: true}, answer: errSimSyntax}
	simLong     = &simOp{op: pool.Op{Name: "AGGREGATE", Idempotent: true}, takes: 2 * time.Second, uncounted: true}
	simSlow     = &simOp{op: pool.Op{Name: "GET", Idempotent: true}, takes: 6 * time.Second}
	simSoiling  = &simOp{op: pool.Op{Name: "SELECT", Idempotent: true}, soils: true}
	simSet      = &simOp{op: pool.Op{Name: "SET", Idempotent: true}, uncounted: true}
	simBlocking = &simOp{op: pool.Op{Name: "BLPOP", Limit: -1}, takes: 4 * time.Second, answer: errSimMiss, uncounted: true}
	simNested   = &simOp{op: pool.Op{Name: "GET", Idempotent: true}, nested: true, uncounted: true}
)

// in says what deadlines the callers have.
func in(deadlines ...time.Duration) []time.Duration { return deadlines }

// TestJudgeCuts: one event ends many calls at once.
func TestJudgeCuts(t *testing.T) {
	cut := func(s *simServer) { s.change(s.cut) }
	var list []simScenario
	for _, n := range []int{1, 5, 20, 200} {
		list = append(list, simScenario{
			name: fmt.Sprintf("cut once, %d in flight", n), size: max(n, 10), callers: n, takes: 20 * ms, deadlines: in(time.Second),
			lead: 2 * time.Second, script: cut, tail: 8 * time.Second,
		})
	}
	judge(t, append(list, []simScenario{
		{
			name: "cut once, 20 in flight of 400 ms", size: 20, callers: 20, takes: 400 * ms, deadlines: in(time.Second),
			lead: 300 * ms, script: cut, tail: 8 * time.Second,
		},
		{
			name: "cut once, 20 INCR in flight", size: 20, callers: 20, takes: 20 * ms, deadlines: in(time.Second),
			ops: []*simOp{simIncr}, lead: 2 * time.Second, script: cut, tail: 8 * time.Second,
		},
		{
			name: "cut once, 8 consumers block", size: 20, rate: 100, consumers: 8, takes: 5 * ms, deadlines: in(time.Second),
			lead: 2 * time.Second, script: cut, tail: 20 * time.Second, conns: 40,
		},
		gaps(100*ms, 400*ms),
		gaps(300*ms, 700*ms),
		gaps(600*ms, 1400*ms),
	}...))
}

// TestJudgeColdStarts: nothing is known of the server.
func TestJudgeColdStarts(t *testing.T) {
	fails := func(n int) func(*simServer) { return func(s *simServer) { s.failing = n } }
	dial := func(s *simServer) { s.dial = 20 * ms }
	judge(t, []simScenario{
		{
			name: "four dials fail, 200 callers", size: 10, burst: 200, rate: 500, cold: true, takes: ms, deadlines: in(time.Second),
			setUp: fails(4), tail: 5 * time.Second,
		},
		{
			name: "one dial fails, MaxSize 1, 10 callers", size: 1, burst: 10, rate: 500, cold: true, takes: ms, deadlines: in(time.Second),
			setUp: fails(1), tail: 5 * time.Second,
		},
		{
			name: "deadlines of 5 ms, dials of 20 ms", size: 10, callers: 6, cold: true, takes: ms, deadlines: in(5 * ms),
			setUp: dial, tail: time.Second,
		},
		{
			name: "cancels after 5 ms, dials of 20 ms", size: 10, callers: 6, cold: true, takes: ms, deadlines: in(5 * ms), cancels: true,
			setUp: dial, tail: time.Second,
		},
		{
			name: "one dial hangs, 25 callers", size: 10, burst: 25, rate: 500, cold: true, takes: ms, deadlines: in(2 * time.Second),
			setUp: func(s *simServer) { s.hanging = 1 }, tail: 5 * time.Second, longest: 500 * ms,
		},
	})
}

// TestJudgeLoad: there is more to do than the pool can do.
func TestJudgeLoad(t *testing.T) {
	load := func(rate int, deadline, tail time.Duration) simScenario { // the capacity is 100 a second
		return simScenario{
			name: fmt.Sprintf("%d %% of the capacity, D %v", rate, deadline), size: 10, rate: rate, takes: 100 * ms, deadlines: in(deadline),
			tail: tail, least: int(90 * tail.Seconds()),
		}
	}
	judge(t, []simScenario{
		load(110, time.Second, 30*time.Second), load(110, 3*time.Second, time.Minute), load(110, 10*time.Second, time.Minute),
		load(300, time.Second, 20*time.Second), load(300, 3*time.Second, 20*time.Second),
		{
			name: "2 ms becomes 500 ms", size: 100, rate: 100, takes: 2 * ms, deadlines: in(time.Second), lead: 2 * time.Second,
			script: func(s *simServer) { s.change(func() { s.takes = 500 * ms }) }, tail: 20 * time.Second,
		},
		{
			name: "2 ms becomes 900 ms, the pool too small", size: 10, rate: 50, takes: 2 * ms, deadlines: in(time.Second), lead: 2 * time.Second,
			script: func(s *simServer) { s.change(func() { s.takes = 900 * ms }) }, tail: 20 * time.Second,
		},
		{
			name: "a third of the replies too late", size: 16, callers: 16, deadlines: in(40 * ms), tail: 5 * time.Second,
			setUp: thirdLate,
		},
		{
			name: "a third too late, callers cancel", size: 16, callers: 16, deadlines: in(40 * ms), cancels: true, tail: 5 * time.Second,
			setUp: thirdLate,
		},
		{
			name: "3 % of 2 s among reads, D 1s", size: 50, rate: 200, takes: 2 * ms, deadlines: in(time.Second), tail: 30 * time.Second,
			ops: append([]*simOp{simLong}, slicesOf(simGet, 32)...),
		},
		{
			name: "6 s each, D 10s", size: 30, rate: 2, takes: 6 * time.Second, deadlines: in(10 * time.Second), tail: 40 * time.Second, least: 60,
		},
		{
			name: "6 s each, no deadline", size: 30, rate: 2, takes: 6 * time.Second, deadlines: in(12 * time.Second), cancels: true,
			tail: 40 * time.Second, least: 60,
		},
		{
			name: "a tenth of 6 s among reads, D 10s", size: 60, rate: 20, takes: 2 * ms, deadlines: in(10 * time.Second), tail: time.Minute,
			ops: append([]*simOp{simSlow}, slicesOf(simGet, 9)...), least: 1170,
		},
	})
}

func thirdLate(s *simServer) {
	s.latency = func(n int) time.Duration {
		if n%3 == 0 {
			return 60 * ms
		}
		return 10 * ms
	}
}

func slicesOf(op *simOp, n int) (ops []*simOp) {
	for range n {
		ops = append(ops, op)
	}
	return ops
}

// TestJudgeDeadConnections: connections that give no answer, on a server that does.
func TestJudgeDeadConnections(t *testing.T) {
	die := func(s *simServer) { s.change(func() { s.deadUpTo = s.conns }) }
	var list []simScenario
	for _, size := range []int{10, 50} {
		for _, d := range []time.Duration{time.Second, 3 * time.Second} {
			list = append(list, simScenario{
				name: fmt.Sprintf("all idle dead, MaxSize %d, D %v", size, d), size: size, rate: 50, takes: ms, deadlines: in(d),
				rest: 2 * time.Second, afterRest: die, tail: 20 * time.Second, longest: 1100 * ms,
				pool: func(cfg *pool.Config) { cfg.MinIdle = min(size, 10) },
			})
		}
	}
	judge(t, append(list, []simScenario{
		{
			name: "all dead while in use, D 1s", size: 10, rate: 50, takes: ms, deadlines: in(time.Second), lead: 2 * time.Second, script: die,
			tail: 20 * time.Second,
		},
		{
			name: "all dead, keepalive checks, D 1s", size: 10, rate: 50, takes: ms, deadlines: in(time.Second), rest: 2 * time.Second,
			afterRest: die, tail: 20 * time.Second, pool: func(cfg *pool.Config) { cfg.KeepAlive = 500 * ms },
		},
		{
			name: "four resets hang", size: 10, rate: 50, takes: ms, deadlines: in(time.Second), ops: []*simOp{simSoiling}, lead: 2 * time.Second,
			script: func(s *simServer) { s.change(func() { s.hung = 4 }) }, tail: 10 * time.Second, longest: 500 * ms,
		},
	}...))
}

// TestJudgeAnswers: quick answers that are no successes.
func TestJudgeAnswers(t *testing.T) {
	busy := func(share float64) func(*simServer) {
		return func(s *simServer) { s.change(func() { s.busy = share }) }
	}
	refuse := func(answer error) func(*simServer) {
		return func(s *simServer) { s.change(func() { s.refuses = map[string]error{"SET": answer} }) }
	}
	writes := []*simOp{simSet, simGet, simSet, simGet, simSet}
	list := []simScenario{
		{name: "misses and mistakes only", ops: []*simOp{simMissing, simMistake}},
		{name: "3 % of the commands fail", script: busy(.03), drawn: true},
		{name: "30 % of the commands fail", script: busy(.3), drawn: true},
		{name: "60 % of the commands fail, middleware.Queue", script: busy(.6), drawn: true, preset: middleware.Queue()},
		{name: "60 % writes, answered OOM", ops: writes, script: refuse(errSimFull)},
		{name: "60 % writes, answered READONLY", ops: writes, script: refuse(errSimReadOnly)},
		{name: "another pool's outage in half of the uses", ops: []*simOp{simGet, simNested}, nested: true},
	}
	for i := range list {
		sc := &list[i]
		sc.size, sc.rate, sc.takes, sc.deadlines, sc.lead, sc.tail = 20, 200, 5*ms, in(time.Second), 2*time.Second, 20*time.Second
	}
	judge(t, list)
}

// TestJudgeOutages: the server cannot serve for three deadlines or more, and is back.
func TestJudgeOutages(t *testing.T) {
	kinds := []struct {
		name  string
		begin func(s *simServer, deadline time.Duration)
	}{
		{"killed", func(s *simServer, _ time.Duration) { s.mode = simKilled; s.cut() }},
		{"frozen", func(s *simServer, _ time.Duration) { s.mode = simFrozen }},
		{"black hole", func(s *simServer, _ time.Duration) { s.mode = simBlackHole }},
		{"too slow", func(s *simServer, deadline time.Duration) { s.takes = deadline * 3 / 2 }},
	}
	outage := func(down time.Duration, begin func(s *simServer)) func(s *simServer) {
		return func(s *simServer) {
			s.change(func() { begin(s); s.useless = 0 })
			time.Sleep(down)
			s.change(func() { s.mode, s.takes = simUp, 2*ms })
		}
	}
	var list []simScenario
	for _, k := range kinds {
		for _, d := range []time.Duration{100 * ms, time.Second, 3 * time.Second} {
			for _, down := range []time.Duration{max(2*time.Second, 3*d), 10 * time.Second, time.Minute} {
				list = append(list, simScenario{
					name: fmt.Sprintf("%s for %v, D %v", k.name, down, d), size: 10, rate: 200, takes: 2 * ms, deadlines: in(d),
					lead: 12 * time.Second, script: outage(down, func(s *simServer) { k.begin(s, d) }), tail: 5 * time.Second, down: down,
					unseen: k.name == "too slow",
				})
			}
		}
	}
	mixed := in(500*ms, time.Second, 2900*ms)
	for _, size := range []int{10, 600} {
		list = append(list, simScenario{
			name: fmt.Sprintf("frozen for 10s, D .5, 1, 2.9 s, MaxSize %d", size), size: size, rate: 400, takes: 2 * ms, deadlines: mixed,
			lead: 5 * time.Second, script: outage(10*time.Second, func(s *simServer) { s.mode = simFrozen }), tail: 5 * time.Second,
			down: 10 * time.Second,
		})
	}
	judge(t, list)
}

// gaps are three gaps in which the connections are cut and dials refused, each followed by good
// time.
func gaps(gap, good time.Duration) simScenario {
	return simScenario{
		name: fmt.Sprintf("three times cut, refused for %v", gap), size: 20, rate: 200, takes: 20 * ms, deadlines: in(time.Second),
		lead: 2 * time.Second, tail: 5 * time.Second,
		script: func(s *simServer) {
			for range 3 {
				s.change(func() { s.mode = simKilled; s.cut() })
				time.Sleep(gap)
				s.change(func() { s.mode = simUp })
				time.Sleep(good)
			}
		},
	}
}
