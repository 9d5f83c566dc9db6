package main

import (
	"sync/atomic"
	"time"
)

const (
	hanging = time.Second            // a longer operation counts as hung
	prompt  = 100 * time.Millisecond // an earlier error leaves the caller time for an alternative
)

// A meter counts the results of a lane from the callers' point of view. A meter is safe for
// concurrent use.
type meter struct {
	ok, failed atomic.Int64
	inTime     atomic.Int64 // successes that did not hang
	prompt     atomic.Int64 // failures within the time prompt
	hung       atomic.Int64
	inFlight   atomic.Int64
	crowd      atomic.Int64 // maximum of inFlight
	slowest    atomic.Int64 // nanoseconds
	times      histogram    // of the successes
}

func (m *meter) begin() {
	raise(&m.crowd, m.inFlight.Add(1))
}

func (m *meter) end(took time.Duration, err error) {
	m.inFlight.Add(-1)
	raise(&m.slowest, int64(took))
	if took > hanging {
		m.hung.Add(1)
	}
	if err == nil {
		m.ok.Add(1)
		if took <= hanging {
			m.inTime.Add(1)
		}
		m.times.add(took)
		return
	}
	m.failed.Add(1)
	if took < prompt {
		m.prompt.Add(1)
	}
}

// slowestTook returns the duration of the slowest operation.
func (m *meter) slowestTook() time.Duration { return time.Duration(m.slowest.Load()) }

// raise increases high to at least v.
func raise(high *atomic.Int64, v int64) {
	for {
		old := high.Load()
		if v <= old || high.CompareAndSwap(old, v) {
			return
		}
	}
}

// A wire counts the dials and commands of a client, in total and while the server is killed or
// frozen. A wire is safe for concurrent use.
type wire struct {
	dials, commands         atomic.Int64
	dialsAway, commandsAway atomic.Int64
	away                    atomic.Bool // the server is killed or frozen
}

func (w *wire) dialled() { w.count(&w.dials, &w.dialsAway) }
func (w *wire) sent()    { w.count(&w.commands, &w.commandsAway) }

func (w *wire) count(all, away *atomic.Int64) {
	all.Add(1)
	if w.away.Load() {
		away.Add(1)
	}
}
