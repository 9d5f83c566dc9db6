package main

import (
	"math"
	"time"
)

// figures are the result of a run for one side.
type figures struct {
	uses    int     // uses which the server could serve
	served  int     // answered within the caller's time
	twice   int     // adds executed more than once; not counted as served
	refused int     // rejected by the stack, although the server could serve
	useless int     // commands and dials while the server could not answer
	dials   int     // in total
	dead    float64 // duration of the count of useless calls, in seconds
	waited  float64 // seconds of waiting in uses during the outage
	back    float64 // seconds from the server's return to service; +Inf: never
}

// outage is the time without answers from the server, from the start of the load. The zero value
// means no outage.
type outage struct{ from, to time.Duration }

func (o outage) was() bool { return o.to > 0 }

// meets reports whether a use was in progress during the outage.
func (o outage) meets(r record) bool { return o.was() && r.begin < o.to && r.end > o.from }

// excuses reports whether the stack had a reason to reject the use. The reasons are the outage, and
// the following search for the server.
func (o outage) excuses(r record) bool { return o.was() && r.begin < o.to+settled && r.end > o.from }

// figure computes the figures of the records. The function servable reports whether the server
// could serve uses of a kind. Nil means all kinds.
func figure(records []record, o outage, servable func(kind) bool, twice map[int]bool) figures {
	var f figures
	for i, r := range records {
		if r.kind == add && twice[r.id] {
			f.twice++
			records[i].outcome = failed
		}
		if o.meets(r) {
			f.waited += (r.end - r.begin).Seconds()
		}
		if servable != nil && !servable(r.kind) {
			continue
		}
		f.uses++
		if records[i].inTime() {
			f.served++
		}
		if r.outcome == turnedAway && !o.excuses(r) {
			f.refused++
		}
	}
	f.back = math.NaN()
	if o.was() {
		f.back = back(records, o.to)
	}
	return f
}

const (
	window  = 100 * time.Millisecond
	stretch = 10 // windows of which the callers must be served
	enough  = 0.99
	// settled is the time for the stack to find the server after the server's return. Later rejections
	// are needless.
	settled = 1500 * time.Millisecond
)

// back returns the time of the first window after the return with enough served callers in the
// following second. A single window has too few callers for a share of 99 %.
func back(records []record, from time.Duration) float64 {
	var all, good []int
	for _, r := range records {
		if r.begin < from {
			continue
		}
		i := int((r.begin - from) / window)
		for len(all) <= i {
			all, good = append(all, 0), append(good, 0)
		}
		all[i]++
		if r.inTime() {
			good[i]++
		}
	}
	for i := 0; i+stretch <= len(all); i++ {
		callers, happy := 0, 0
		for j := i; j < i+stretch; j++ {
			callers, happy = callers+all[j], happy+good[j]
		}
		if callers > 0 && float64(happy) >= enough*float64(callers) && (all[i] == 0 || good[i] == all[i]) {
			return (time.Duration(i) * window).Seconds()
		}
	}
	return math.Inf(1)
}
