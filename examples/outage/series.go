package main

import "time"

// A point is what the lanes did at one moment of a run, and in the window before it.
type point struct {
	elapsed time.Duration
	rows    []row
}

// The points are this far apart, or farther in a run so long that there would be more than maxPoints; a window is windowSteps of them.
const (
	pointEvery  = 250 * time.Millisecond
	maxPoints   = 480
	windowSteps = 2
)

// stepFor returns how far apart the points of a run are.
func stepFor(duration time.Duration) time.Duration { return max(pointEvery, duration/maxPoints) }

// A recorder keeps the points of a play, for the page.
type recorder struct {
	play    *play
	samples []sample // the latest, the oldest first: no more than a window is about
	points  []point
}

// run records until done is closed, and once more.
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
