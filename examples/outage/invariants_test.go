package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/earnorm/poolstack/examples/servers/control"
)

// good returns a result in which every invariant holds.
func good() result {
	start := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	server := func(name, kind string) serverResult {
		s := serverResult{status: control.Status{Name: name, Kind: kind, Durable: true}, rate: 2, settings: "MaxSize 16, Total.Limit 900ms"}
		s.stack.audit = audit{writes: 12, acknowledged: 10, uncertain: 1}
		s.stack.tallied = tallied{ok: 18, inTime: 18, failed: 6, prompt: 5, crowd: 4, slowest: 800 * time.Millisecond}
		s.stack.p50, s.stack.p99 = time.Millisecond, 20*time.Millisecond
		s.stack.okInSecond = []int64{2, 2, 0, 0, 1, 2, 2, 2, 2, 2}
		s.bare = s.stack
		s.bare.repeated, s.bare.surplus, s.bare.hung, s.bare.slowest = 2, 3, 5, 4*time.Second
		s.figures = newTally().figures
		s.figures.errors["breaker_open"] = 6
		s.health.Latency = time.Millisecond
		began := start.Add(2 * time.Second)
		s.incidents = []incident{{
			fault: fault{server: name, kind: killed, at: 2 * time.Second, lasts: 2 * time.Second},
			began: began, sign: began.Add(5 * time.Millisecond), opened: began.Add(40 * time.Millisecond),
			back: began.Add(2 * time.Second), whole: began.Add(2500 * time.Millisecond),
			meters: map[side]*meter{stacked: {}, bare: {}},
		}}
		return s
	}
	return result{
		cfg: config{recovery: defaultRecovery, grace: defaultGrace, seed: 1}, start: start, took: 10 * time.Second,
		servers: []serverResult{server(control.Redis, control.KindRedisServer), server(control.MongoDB, control.KindFerretDB)},
		log:     []string{`3 WARN "use failed"`},
		before:  leftovers{goroutines: 4, sockets: 0}, after: leftovers{goroutines: 4, sockets: 0},
	}
}

// Each defect breaks exactly the invariant about the defect.
func TestJudge(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil func(r *result, s *serverResult)
		want  string // the broken invariant; "" for none
	}{
		"nothing":               {func(*result, *serverResult) {}, ""},
		"a lost write":          {func(_ *result, s *serverResult) { s.stack.lost = 1 }, "no acknowledged write lost"},
		"a damaged write":       {func(_ *result, s *serverResult) { s.stack.damaged = 1 }, "no acknowledged write lost"},
		"a write of nobody's":   {func(_ *result, s *serverResult) { s.stack.foreign = 1 }, "no acknowledged write lost"},
		"no write at all":       {func(_ *result, s *serverResult) { s.stack.acknowledged = 0 }, "no acknowledged write lost"},
		"a write done twice":    {func(_ *result, s *serverResult) { s.stack.repeated = 1 }, "no unsafe operation repeated"},
		"a wrong read":          {func(_ *result, s *serverResult) { s.stack.wrongReads = 1 }, "reads return what was written"},
		"never whole again":     {func(_ *result, s *serverResult) { s.incidents[0].whole = time.Time{} }, "whole again within 2s"},
		"nobody waited for it":  {func(_ *result, s *serverResult) { s.incidents[0].whole, s.incidents[0].cut = time.Time{}, true }, ""},
		"a slow operation":      {func(_ *result, s *serverResult) { s.stack.slowest = deadline + defaultGrace + 1 }, "ended by its deadline"},
		"a slow one, but bare":  {func(_ *result, s *serverResult) { s.bare.slowest, s.bare.lost, s.bare.cutOff = time.Minute, 1, 1 }, ""},
		"one that never ends":   {func(_ *result, s *serverResult) { s.stack.cutOff = 1 }, "ended by its deadline"},
		"an unexplained error":  {func(_ *result, s *serverResult) { s.figures.unexplained = 1 }, "every error says what it is"},
		"a lease that is out":   {func(_ *result, s *serverResult) { s.stat.InUse = 1 }, "at rest in the end"},
		"a waiter":              {func(_ *result, s *serverResult) { s.stat.Waiters = 1 }, "at rest in the end"},
		"a server that is gone": {func(_ *result, s *serverResult) { s.health.Latency = 0 }, "at rest in the end"},
		"a goroutine":           {func(r *result, _ *serverResult) { r.after.goroutines++ }, "no goroutine and no socket left"},
		"a socket":              {func(r *result, _ *serverResult) { r.after.sockets++ }, "no goroutine and no socket left"},
		"no way to see sockets": {func(r *result, _ *serverResult) { r.before.sockets, r.after.sockets = -1, -1 }, ""},
		"a pool not closed":     {func(r *result, _ *serverResult) { r.closing = errors.New("still out") }, "no goroutine and no socket left"},
	} {
		t.Run(name, func(t *testing.T) {
			for i := range 2 {
				r := good()
				tt.spoil(&r, &r.servers[i])
				all := judge(r)
				var wrong []string
				for _, inv := range all {
					if !inv.held {
						wrong = append(wrong, inv.what)
					}
				}
				switch {
				case tt.want == "" && len(wrong) == 0:
				case tt.want != "" && len(wrong) == 1 && strings.Contains(wrong[0], tt.want):
				default:
					t.Errorf("broken are %q, want %q", wrong, tt.want)
				}
				if broken(all) != (tt.want != "") {
					t.Errorf("broken says %t", broken(all))
				}
			}
		})
	}
}
