package main

import "time"

// A point is a sample of all lanes: the present state, and the activity in the window before.
type point struct {
	elapsed time.Duration
	rows    []row
}

// pointEvery is the time between points. In a long run the time is longer, so there are at most
// maxPoints. A window has windowSteps points.
const (
	pointEvery  = 250 * time.Millisecond
	maxPoints   = 480
	windowSteps = 2
)

// stepFor returns the time between the points of a run.
func stepFor(duration time.Duration) time.Duration { return max(pointEvery, duration/maxPoints) }

// A recorder records the points of a play for the page.
type recorder struct {
	play    *play
	samples []sample // the samples of the last window, oldest first
	points  []point
}

// run records a point at each step, and a last point when done is closed.
func (r *recorder) run(done <-chan struct{}) {
	ticker := time.NewTicker(stepFor(r.play.cfg.duration))
	defer ticker.Stop()
	r.samples = append(r.samples, r.play.sample())
	for {
		select {
		case <-ticker.C:
			r.record()
		case <-done:
			r.record()
			return
		}
	}
}

func (r *recorder) record() {
	now := r.play.sample()
	r.points = append(r.points, point{elapsed: now.at.Sub(r.play.news.start), rows: r.play.rows(r.samples[0], now)})
	r.samples = append(r.samples[max(0, len(r.samples)-windowSteps+1):], now)
}
