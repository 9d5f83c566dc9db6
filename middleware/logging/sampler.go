package logging

import (
	"log/slog"
	"sync"
	"time"

	"github.com/earnorm/poolstack/pool"
)

// maxCounts bounds what is counted apart. What comes later is counted by its kind, level and fault only.
const maxCounts = 1000

// about is what lines that are about the same have in common. A line of another level or fault is about something else: callers that give up by
// the thousand (DEBUG) do not leave out what the server has failed at (ERROR).
type about struct {
	pool, kind, layer, reason string
	level                     slog.Level
	fault                     pool.Fault // of a failed use, as written
}

// sampler says which of many lines that are about the same are written.
type sampler struct {
	interval time.Duration
	every    int

	mu     sync.Mutex
	counts map[about]*count
}

type count struct {
	until      time.Time // the end of the interval that its last first line began
	seen       int       // in it
	suppressed int       // since the last line that was written
}

func newSampler(interval time.Duration, every int) *sampler {
	return &sampler{interval: interval, every: every, counts: map[about]*count{}}
}

// admit says whether the line is to be written, and how many like it have not been.
func (s *sampler) admit(a about) (suppressed int, ok bool) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.count(a)
	if !now.Before(c.until) {
		c.until, c.seen = now.Add(s.interval), 0
	}
	c.seen++
	if (c.seen-1)%s.every != 0 {
		c.suppressed++
		return 0, false
	}
	suppressed, c.suppressed = c.suppressed, 0
	return suppressed, true
}

func (s *sampler) count(a about) *count {
	c := s.counts[a]
	if c != nil {
		return c
	}
	if len(s.counts) >= maxCounts {
		a = about{kind: a.kind, level: a.level, fault: a.fault}
		if c = s.counts[a]; c != nil {
			return c
		}
	}
	c = &count{}
	s.counts[a] = c
	return c
}
