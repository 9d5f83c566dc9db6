package logging

import (
	"log/slog"
	"sync"
	"time"

	"github.com/earnorm/poolstack/pool/driver"
)

// maxCounts is the maximum number of separate counts. Beyond maxCounts, lines are counted by kind,
// level and fault only.
const maxCounts = 1000

// about identifies alike lines. Lines of different levels or faults are not alike: thousands of
// callers giving up (DEBUG) must not suppress a failure of the server (ERROR).
type about struct {
	pool, kind, layer, reason string
	level                     slog.Level
	fault                     driver.Fault // of a failed use, as in the line
}

// sampler selects the lines to write among alike lines.
type sampler struct {
	mu       sync.Mutex // guards the fields below
	interval time.Duration
	every    int
	counts   map[about]*count
}

// count counts alike lines.
type count struct {
	until      time.Time // the end of the current interval, which began with a written line
	seen       int       // lines in the interval
	suppressed int       // lines left out since the last written line
}

func newSampler(interval time.Duration, every int) *sampler {
	return &sampler{interval: interval, every: every, counts: map[about]*count{}}
}

// configure replaces the settings. Intervals in progress keep their end.
func (s *sampler) configure(interval time.Duration, every int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.interval, s.every = interval, every
}

// admit reports whether the line is written. suppressed is the number of alike lines left out since
// the last written line.
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

// count returns the count for a.
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
