package main

import (
	"sync/atomic"
	"time"
)

const (
	hanging = time.Second            // an operation that takes longer hung
	prompt  = 100 * time.Millisecond // an error that comes sooner leaves the caller time for something else
)

// A meter counts what the callers of a lane saw. It may be used concurrently.
type meter struct {
	ok, failed atomic.Int64
	inTime     atomic.Int64 // of those that succeeded: they did not hang
	prompt     atomic.Int64 // of the failed
	hung       atomic.Int64
	inFlight   atomic.Int64
	crowd      atomic.Int64 // the most that were in flight at once
	slowest    atomic.Int64 // nanoseconds
	times      histogram    // of those that succeeded
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

// slowestTook is how long the slowest operation took.
func (m *meter) slowestTook() time.Duration { return time.Duration(m.slowest.Load()) }

// raise makes high at least v.
func raise(high *atomic.Int64, v int64) {
	for {
		old := high.Load()
		if v <= old || high.CompareAndSwap(old, v) {
			return
		}
	}
}

// A wire counts what a client puts on the network, and what of it goes to a server that is not there to answer. It may be used
// concurrently.
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
