package main

import (
	"math"
	"time"
)

// figures are the result of a run for one side.
type figures struct {
	uses    int     // made, of those that the server could serve
	served  int     // answered within the caller's time
	twice   int     // adds that the server carried out more than once; they are not served
	refused int     // refused by the stack although the server would have served
	useless int     // commands sent and connections dialled while the server could not answer
	dials   int     // in all
	dead    float64 // seconds in which useless calls were counted
	waited  float64 // seconds that callers waited whose uses met the outage
	back    float64 // seconds from the server's return until callers are served again; +Inf: never
}

// outage is when the server could not answer, counted from the start of the load. The zero outage never was.
type outage struct{ from, to time.Duration }

func (o outage) was() bool { return o.to > 0 }

// meets says whether a use was under way in the outage.
func (o outage) meets(r record) bool { return o.was() && r.begin < o.to && r.end > o.from }

// excuses says whether a refusal of the use had a reason: the outage, or the search for the server behind it.
func (o outage) excuses(r record) bool { return o.was() && r.begin < o.to+settled && r.end > o.from }

// figure computes the figures of the records. servable says whether the server could serve uses of a kind; nil means all kinds.
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
	// settled is the time after the return that the stack has to find the server. Later refusals are needless.
	settled = 1500 * time.Millisecond
)

// back finds the first window after the return from which on enough callers are served for a second. A window holds too few callers for a
// share of 99 %, therefore a second is looked at.
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
