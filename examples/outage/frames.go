package main

import "time"

// sample reads the lanes' counters.
func (p *play) sample() sample {
	s := sample{at: time.Now()}
	for _, st := range p.stations {
		for _, l := range st.lanes() {
			s.lanes = append(s.lanes, laneSample{ok: l.whole.ok.Load(), failed: l.whole.failed.Load(), times: l.whole.times.snapshot()})
		}
	}
	return s
}

// frame returns the content of the live table. Rates and quantiles are from the time between the
// two samples.
func (p *play) frame(earlier, now sample) frame {
	elapsed := now.at.Sub(p.news.start)
	f := frame{elapsed: elapsed, total: p.cfg.duration, metrics: p.metrics.url, news: p.news.latest(newsLines)}
	for _, st := range p.stations {
		f.stages = append(f.stages, st.stage(now.at, elapsed, of(st.status.Name, p.script)))
	}
	f.rows = p.rows(earlier, now)
	return f
}

// rows returns a row for each lane: the activity between the two samples, and the present state.
func (p *play) rows(earlier, now sample) []row {
	seconds := max(now.at.Sub(earlier.at).Seconds(), 1e-3)
	var rows []row
	for _, st := range p.stations {
		for _, l := range st.lanes() {
			i := len(rows)
			r := l.row(earlier.lanes[i], now.lanes[i], seconds)
			if l.side == stacked {
				st.pool.fill(&r)
			}
			rows = append(rows, r)
		}
	}
	return rows
}

// stage returns the server's position in the script.
func (s *station) stage(now time.Time, elapsed time.Duration, script []fault) stage {
	st := stage{server: s.status.Name}
	if f, since, ok := s.current(); ok {
		st.title, st.passed, st.lasts = f.kind.title(), now.Sub(since), f.lasts
		return st
	}
	for _, f := range script {
		if f.at > elapsed {
			st.passed = f.at - elapsed
			break
		}
	}
	return st
}

func (l *lane) row(earlier, now laneSample, seconds float64) row {
	times := now.times.since(earlier.times)
	return row{
		server: l.server, side: l.side,
		ok: float64(now.ok-earlier.ok) / seconds, failed: float64(now.failed-earlier.failed) / seconds,
		p50: times.quantile(0.5), p99: times.quantile(0.99), inFlight: l.whole.inFlight.Load(),
	}
}

// fill adds the columns of the stack.
func (m *managed) fill(r *row) {
	s := m.pool.Stat()
	r.managed, r.inUse, r.idle, r.waiters, r.breaker = true, s.InUse, s.Idle, s.Waiters, m.stack.Breaker.State()
	r.retries, r.refused, r.timeouts = m.tally.retries.Load(), m.tally.rejections.Load(), m.tally.timeouts.Load()
}
