package main

import (
	"fmt"
	"math"
	"strings"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"

	"github.com/earnorm/poolstack/examples/servers/control"
	"github.com/earnorm/poolstack/middleware/breaker"
)

// A figure is a chart with a heading and a note below the chart.
type figure struct {
	chart
	heading string
	note    string
}

// figuresOf returns the figures of a server. The stack's panel is above the bare client's, with the
// same scale.
func (r result) figuresOf(s serverResult) []figure {
	series := seriesOf(r.points, s.status.Name)
	figures := []figure{
		throughput(series, s.rate), latency(series, stepFor(r.cfg.duration)), callers(series), within(series, s, r),
	}
	said := []string{"none"}
	for _, b := range r.bands(s) {
		said = append(said, fmt.Sprintf("%s from %.1f to %.1f s", b.text, b.from, b.to))
	}
	if len(said) > 1 {
		said = said[1:]
	}
	for i := range figures {
		f := &figures[i]
		f.id = s.status.Name + "-" + f.id
		f.bands, f.time = r.bands(s), r.timeAxis()
		f.title = properName(s.status.Name) + ": " + f.heading
		f.desc += fmt.Sprintf(" Over %.0f s. Faults: %s.", r.seconds(), strings.Join(said, ", "))
	}
	return figures
}

// seconds returns the width of the charts: the duration of the load, and at least 1.
func (r result) seconds() float64 { return max(r.took.Seconds(), 1) }

// timeAxis returns the axis of time with ticks at round numbers of seconds.
func (r result) timeAxis() axis {
	a := axis{label: "seconds since the load began", max: r.seconds()}
	step := roundStep(a.max / 12)
	for t := 0.0; t <= a.max; t += step {
		a.ticks = append(a.ticks, plot.Tick{Value: t, Label: fmt.Sprintf("%g", t)})
	}
	return a
}

// bands returns the times of the server's faults.
func (r result) bands(s serverResult) (all []band) {
	for _, i := range s.incidents {
		all = append(all, band{
			from: i.sinceStart(r).Seconds(), to: i.back.Sub(r.start).Seconds(), colour: i.fault.kind.tint(), text: string(i.fault.kind),
		})
	}
	return all
}

// tint returns the colour of the fault's band.
func (t trouble) tint() string {
	switch t {
	case slow:
		return "#FFF0C2"
	case resets:
		return "#FBDDE3"
	case killed:
		return "#DDDDE3"
	case frozen:
		return "#D3ECF7"
	case steppedDown:
		return "#DFF0D0"
	case primaryKilled:
		return "#E8DDF5"
	}
	return faint
}

// series holds the points of a server.
type series struct{ stack, bare laneSeries }

// laneSeries holds the points of a lane. Only the stack has inUse, idle and waiters.
type laneSeries struct {
	ok, failed, p50, p99, inFlight plotter.XYs
	inUse, idle, waiters           plotter.XYs
}

func seriesOf(points []point, server string) (s series) {
	for _, p := range points {
		for _, r := range p.rows {
			if r.server != server {
				continue
			}
			if r.side == stacked {
				s.stack.add(p.elapsed.Seconds(), r)
			} else {
				s.bare.add(p.elapsed.Seconds(), r)
			}
		}
	}
	return s
}

func (l *laneSeries) add(at float64, r row) {
	for _, one := range []struct {
		to *plotter.XYs
		y  float64
	}{
		{&l.ok, r.ok}, {&l.failed, r.failed}, {&l.p50, known(r.p50)}, {&l.p99, known(r.p99)}, {&l.inFlight, float64(r.inFlight)},
		{&l.inUse, float64(r.inUse)}, {&l.idle, float64(r.idle)}, {&l.waiters, float64(r.waiters)},
	} {
		*one.to = append(*one.to, plotter.XY{X: at, Y: one.y})
	}
}

// known returns a quantile in seconds, or NaN if no operation succeeded.
func known(d time.Duration) float64 {
	if d <= 0 {
		return math.NaN()
	}
	return d.Seconds()
}

// The titles of the panels.
const (
	stackTitle = "through poolstack"
	bareTitle  = "bare client"
)

// pair returns the panels of both sides with the same axis.
func pair(y axis, of func(l laneSeries) []trace, s series) []panel {
	return []panel{{stackTitle, y, of(s.stack)}, {bareTitle, y, of(s.bare)}}
}

// room limits the height of the throughput panels to this multiple of the rate. A bare client
// executes its whole backlog at once after a fault. That peak would flatten the rest of the chart,
// so the peak is cut off.
const room = 2

func throughput(s series, rate int) figure {
	of := func(l laneSeries) []trace {
		return []trace{
			{name: "succeeded", xy: l.ok, style: solid, filled: true},
			{name: "failed", xy: l.failed, style: dashed},
		}
	}
	top := min(topOf(1, append(of(s.stack), of(s.bare)...)...), float64(room*rate))
	return figure{
		heading: "throughput and errors",
		note: fmt.Sprintf("The load is %d operations a second. An arrow has the height of a peak that is cut off: what had piled up, and came "+
			"all at once.", rate),
		chart: chart{
			id: "throughput", panels: pair(upTo(top, "operations / s"), of, s),
			desc: "Operations that succeeded and that failed, per second, poolstack above the bare client in the same scale.",
		},
	}
}

func latency(s series, step time.Duration) figure {
	of := func(l laneSeries) []trace {
		return []trace{
			{name: "half took at most (p50)", xy: l.p50, style: solid},
			{name: "99 % took at most (p99)", xy: l.p99, style: dashed},
		}
	}
	low, high := rangeOf(append(of(s.stack), of(s.bare)...))
	return figure{
		heading: "latency",
		note: fmt.Sprintf("Of the operations that succeeded in the last %s; no line where none did. The scale is logarithmic: each grid line "+
			"is ten times the one below.", windowSteps*step),
		chart: chart{
			id: "latency", panels: pair(decades(low, high), of, s),
			desc: "How long operations that succeeded took, median and 99th percentile, poolstack above the bare client in the same scale.",
		},
	}
}

func callers(s series) figure {
	of := func(l laneSeries) []trace {
		return []trace{{name: "calls in flight", xy: l.inFlight, style: solid, filled: true}}
	}
	top := topOf(1, append(of(s.stack), of(s.bare)...)...)
	return figure{
		heading: "callers kept waiting",
		note:    "Each is a goroutine that holds on to whatever it was doing.",
		chart: chart{
			id: "callers", panels: pair(upTo(top, "calls in flight"), of, s),
			desc: "Operations that were in flight, poolstack above the bare client in the same scale.",
		},
	}
}

// breakerTrace is the name of the only trace without an entry in the key. The labels of the axis
// explain the trace.
const breakerTrace = "state of the breaker"

// breakerStates are the breaker's states, from the bottom of the panel to the top.
var breakerStates = []breaker.State{breaker.StateClosed, breaker.StateHalfOpen, breaker.StateOpen}

// within returns the figure of the stack's breaker and pool. The bare client has neither.
func within(s series, of serverResult, r result) figure {
	connections := []trace{
		{name: "connections in use", xy: s.stack.inUse, style: solid},
		{name: "idle", xy: s.stack.idle, style: dotted},
		{name: "callers waiting for one", xy: s.stack.waiters, style: dashed},
	}
	states := axis{max: 2 / (1 - headroom)}
	for i, state := range breakerStates {
		states.ticks = append(states.ticks, plot.Tick{Value: float64(i), Label: state.String()})
	}
	return figure{
		heading: "inside the stack: breaker and pool",
		note:    "While the breaker is open, operations are refused at once; half-open, one is let through as a probe. The bare client has no breaker.",
		chart: chart{
			id: "stack", desc: "The state of the circuit breaker, and below it the pool's connections and the callers that wait for one.",
			panels: []panel{
				{"circuit breaker", states, []trace{{name: breakerTrace, xy: of.breakerSteps(r), style: solid, steps: true, filled: true}}},
				{"pool", upTo(topOf(1, connections...), "connections"), connections},
			},
		},
	}
}

// breakerSteps returns the breaker's states as heights in the panel. The steps come from the
// recorded transitions, not from the sampled points.
func (s *serverResult) breakerSteps(r result) plotter.XYs {
	heights := map[string]float64{}
	for i, state := range breakerStates {
		heights[state.String()] = float64(i)
	}
	steps := plotter.XYs{{}}
	for _, c := range s.figures.changes {
		if at := c.at.Sub(r.start).Seconds(); at <= r.seconds() {
			steps = append(steps, plotter.XY{X: at, Y: heights[c.to]})
		}
	}
	return append(steps, plotter.XY{X: r.seconds(), Y: steps[len(steps)-1].Y})
}

// rangeOf returns the range of the durations in seconds, including at least 1 ms to 1 s.
func rangeOf(traces []trace) (low, high float64) {
	low, high = 1e-3, 1
	for _, t := range traces {
		for _, xy := range t.xy {
			if !math.IsNaN(xy.Y) {
				low, high = min(low, xy.Y), max(high, xy.Y)
			}
		}
	}
	return low, high
}

// topOf returns the highest value of the traces, and at least least.
func topOf(least float64, traces ...trace) float64 {
	for _, t := range traces {
		for _, xy := range t.xy {
			least = max(least, xy.Y)
		}
	}
	return least
}

// properName returns the usual spelling of the server's name.
func properName(server string) string {
	switch server {
	case control.Redis:
		return "Redis"
	case control.MongoDB:
		return "MongoDB"
	}
	return server
}
