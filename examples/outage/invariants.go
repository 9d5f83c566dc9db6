package main

import (
	"fmt"
	"time"
)

// An invariant is a condition that must hold under every fault. Invariants apply to the stack only,
// not to the bare clients.
type invariant struct {
	what   string
	held   bool
	detail string // the figures behind the verdict
}

// judge checks the invariants of a result.
func judge(r result) []invariant {
	var all []invariant
	for _, s := range r.servers {
		name := s.status.Name + ": "
		for _, i := range []invariant{
			nothingLost(s), nothingRepeated(s), readsRight(s), recovered(s, r.cfg.recovery), inTime(s, deadline, r.cfg.grace), clearErrors(s), atRest(s),
		} {
			i.what = name + i.what
			all = append(all, i)
		}
	}
	return append(all, nothingLeft(r))
}

// broken reports whether an invariant did not hold.
func broken(all []invariant) bool {
	for _, i := range all {
		if !i.held {
			return true
		}
	}
	return false
}

func nothingLost(s serverResult) invariant {
	a := s.stack.audit
	detail := fmt.Sprintf("%d acknowledged, %d lost, %d damaged, %d foreign", a.acknowledged, a.lost, a.damaged, a.foreign)
	if a.exempt > 0 {
		detail += fmt.Sprintf("; %d not judged: %s keeps nothing over a kill", a.exempt, s.status.Kind)
	}
	return invariant{
		what: "no acknowledged write lost", held: a.lost == 0 && a.damaged == 0 && a.foreign == 0 && a.acknowledged > 0, detail: detail,
	}
}

func nothingRepeated(s serverResult) invariant {
	a := s.stack.audit
	return invariant{
		what: "no unsafe operation repeated", held: a.repeated == 0,
		detail: fmt.Sprintf("%d repeated; %d took effect though their answer was lost", a.repeated, a.uncertain),
	}
}

func readsRight(s serverResult) invariant {
	return invariant{
		what: "reads return what was written", held: s.stack.wrongReads == 0, detail: fmt.Sprintf("%d wrong", s.stack.wrongReads),
	}
}

// recovered checks that the pool recovered within limit after each fault.
func recovered(s serverResult, limit time.Duration) invariant {
	i := invariant{what: "whole again within " + limit.String() + " of the server's return", held: true}
	var longest time.Duration
	whole := 0
	for _, inc := range s.incidents {
		switch {
		case !inc.whole.IsZero():
			whole++
			longest = max(longest, inc.whole.Sub(inc.back))
		case !inc.cut:
			i.held = false
			i.detail += inc.fault.kind.title() + ": not in time; "
		}
	}
	i.detail += fmt.Sprintf("after %d of %d faults; at most %s", whole, len(s.incidents), show(longest))
	return i
}

func inTime(s serverResult, limit, grace time.Duration) invariant {
	return invariant{
		what:   "every operation ended by its deadline of " + limit.String(),
		held:   s.stack.slowest <= limit+grace && s.stack.cutOff == 0,
		detail: fmt.Sprintf("slowest %s, %d never ended", show(s.stack.slowest), s.stack.cutOff),
	}
}

func clearErrors(s serverResult) invariant {
	total := 0
	for _, n := range s.figures.errors {
		total += n
	}
	return invariant{
		what: "every error says what it is", held: s.figures.unexplained == 0,
		detail: fmt.Sprintf("%d errors, %d unexplained", total, s.figures.unexplained),
	}
}

func atRest(s serverResult) invariant {
	return invariant{
		what:   "at rest in the end, and the server answers",
		held:   s.stat.InUse == 0 && s.stat.Waiters == 0 && s.health.Latency > 0,
		detail: fmt.Sprintf("%d in use, %d waiting, health %v", s.stat.InUse, s.stat.Waiters, s.health.Status),
	}
}

func nothingLeft(r result) invariant {
	i := invariant{
		what: "the pools closed, and no goroutine and no socket left",
		held: r.closing == nil && r.after.goroutines <= r.before.goroutines && r.after.sockets <= r.before.sockets,
	}
	i.detail = fmt.Sprintf("%d goroutines before, %d after", r.before.goroutines, r.after.goroutines)
	if r.before.sockets < 0 {
		i.detail += "; sockets cannot be counted on this system"
	} else {
		i.detail += fmt.Sprintf("; %d sockets before, %d after", r.before.sockets, r.after.sockets)
	}
	if r.closing != nil {
		i.detail += "; " + r.closing.Error()
	}
	return i
}
