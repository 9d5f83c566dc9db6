package main

import (
	"bytes"
	"fmt"
	"html"
	"image/color"
	"math"
	"strings"

	weight "golang.org/x/image/font"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	vgdraw "gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// A chart has panels above each other, with a common axis of time and the same shaded faults.
type chart struct {
	id, title, desc string // title and desc are for screen readers
	panels          []panel
	bands           []band
	time            axis
}

// A panel is a pair of axes and the traces between the axes.
type panel struct {
	title  string
	y      axis
	traces []trace
}

// A trace is a series of points. A y of NaN interrupts the line.
type trace struct {
	name   string
	xy     plotter.XYs
	style  lineStyle
	steps  bool // the value is constant until the next point
	filled bool
}

// A lineStyle has a colour and dashes. Readers who cannot see colours can distinguish the dashes.
type lineStyle struct {
	colour string
	dashes []float64
}

// The styles for good, bad and neutral values.
var (
	solid  = lineStyle{colour: "#0B5CAD"}
	dashed = lineStyle{colour: "#C2410C", dashes: []float64{5, 3}}
	dotted = lineStyle{colour: "#15803D", dashes: []float64{1.5, 2.5}}
)

// A band is a shaded time range.
type band struct {
	from, to float64
	colour   string
	text     string
}

// An axis extends from min to max. A logarithmic axis begins above 0.
type axis struct {
	label       string
	min, max    float64
	logarithmic bool
	ticks       []plot.Tick
}

// A format is the size of a chart in CSS pixels at a scale of 1.
type format struct {
	name                       string
	width, panelHeight, letter float64
	ticks                      int // maximum on the axis of time
}

// The formats for half the width of a wide screen, and for the full width of a phone.
var formats = []format{
	{name: "wide", width: 600, panelHeight: 172, letter: 12.5, ticks: 12},
	{name: "narrow", width: 358, panelHeight: 150, letter: 11.5, ticks: 6},
}

const (
	ink       = "#1F2933"
	faint     = "#C3CBD3"
	lineWidth = 1.4
)

// svg draws the chart as an svg element for a page.
func (c chart) svg(f format) (string, error) {
	plots := make([][]*plot.Plot, len(c.panels))
	for i, p := range c.panels {
		one, err := c.plot(p, f, i == len(c.panels)-1)
		if err != nil {
			return "", fmt.Errorf("%s: %w", c.id, err)
		}
		plots[i] = []*plot.Plot{one}
	}
	room := vg.Length(f.letter * 1.8) // space above each panel, for its title
	canvas := vgsvg.New(vg.Length(f.width), vg.Length(f.panelHeight*float64(len(plots))))
	tiles := vgdraw.Tiles{Cols: 1, Rows: len(plots), PadTop: room, PadY: room, PadRight: 8, PadBottom: 2}
	for i, tile := range plot.Align(plots, tiles, vgdraw.New(canvas)) {
		plots[i][0].Draw(tile[0])
	}
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return "", err
	}
	// The output before the first <g is for a separate file with a fixed size.
	_, inner, ok := strings.Cut(b.String(), "<g ")
	if !ok {
		return "", fmt.Errorf("%s: nothing was drawn", c.id)
	}
	id := html.EscapeString(c.id + "-" + f.name)
	head := fmt.Sprintf(`<svg class="%s" id="%s" viewBox="0 0 %g %g" role="img" aria-labelledby="%s-title" aria-describedby="%s-desc">`+
		"\n<title id=\"%s-title\">%s</title>\n<desc id=\"%s-desc\">%s</desc>\n<g ", f.name, id, f.width, f.panelHeight*float64(len(plots)),
		id, id, id, html.EscapeString(c.title), id, html.EscapeString(c.desc))
	return head + inner, nil
}

// plot creates the plot of a panel. Only the last panel has a label on the axis of time.
func (c chart) plot(p panel, f format, last bool) (*plot.Plot, error) {
	one := plot.New()
	one.BackgroundColor = nil
	c.time.thinned(f.ticks).put(&one.X, f)
	p.y.put(&one.Y, f)
	if !last {
		one.X.Label.Text = ""
	}
	if p.y.logarithmic {
		one.Y.Scale = plot.LogScale{}
	}
	grid := plotter.NewGrid()
	for _, l := range []*vgdraw.LineStyle{&grid.Horizontal, &grid.Vertical} {
		l.Color, l.Width = hex(faint), 0.5
	}
	one.Add(shades{c.bands, f}, grid)
	for _, t := range p.traces {
		for _, run := range t.runs() {
			line, err := plotter.NewLine(run)
			if err != nil {
				return nil, err
			}
			line.LineStyle = t.style.line()
			if t.steps {
				line.StepStyle = plotter.PostStep
			}
			if t.filled {
				line.FillColor = fainter(t.style.colour)
			}
			one.Add(line)
		}
	}
	one.Add(caption{p.title, f}, peaks{p.traces, f})
	// Values outside the axes are cut off.
	one.X.Min, one.X.Max, one.Y.Min, one.Y.Max = c.time.min, c.time.max, p.y.min, p.y.max
	return one, nil
}

// runs returns the pieces of the line between interruptions. A single point becomes a short,
// visible line.
func (t trace) runs() (runs []plotter.XYs) {
	var run plotter.XYs
	end := func() {
		if len(run) == 1 {
			run = append(run, plotter.XY{X: run[0].X + t.spacing()/2, Y: run[0].Y})
			run[0].X -= t.spacing() / 2
		}
		if len(run) > 0 {
			runs = append(runs, run)
		}
		run = nil
	}
	for _, xy := range t.xy {
		if math.IsNaN(xy.Y) {
			end()
			continue
		}
		run = append(run, xy)
	}
	end()
	return runs
}

// spacing returns the distance between two points.
func (t trace) spacing() float64 {
	if len(t.xy) < 2 {
		return pointEvery.Seconds()
	}
	return (t.xy[len(t.xy)-1].X - t.xy[0].X) / float64(len(t.xy)-1)
}

func (s lineStyle) line() vgdraw.LineStyle {
	l := vgdraw.LineStyle{Color: hex(s.colour), Width: lineWidth}
	for _, d := range s.dashes {
		l.Dashes = append(l.Dashes, vg.Length(d))
	}
	return l
}

// put applies a to an axis of the plot library.
func (a axis) put(to *plot.Axis, f format) {
	to.Label.Text = a.label
	to.Label.TextStyle.Font, to.Tick.Label.Font = sans(f.letter), sans(f.letter)
	to.Label.TextStyle.Color, to.Tick.Label.Color = hex(ink), hex(ink)
	to.Label.Padding = 3
	to.Color, to.Tick.Color = hex(ink), hex(ink)
	to.Tick.Length, to.Padding = 4, 0
	to.Tick.Marker = plot.ConstantTicks(a.ticks)
}

// thinned removes ticks until at most n remain.
func (a axis) thinned(n int) axis {
	for len(a.ticks) > n {
		var fewer []plot.Tick
		for i, t := range a.ticks {
			if i%2 == 0 {
				fewer = append(fewer, t)
			}
		}
		a.ticks = fewer
	}
	return a
}

// headroom is the part of a panel's height reserved for the names of the faults.
const headroom = 0.16

// upTo returns an axis from 0 to a round number not less than top.
func upTo(top float64, label string) axis {
	step := roundStep(top / 4)
	n := max(1, math.Ceil(top/step-1e-9))
	a := axis{label: label, max: n * step / (1 - headroom)}
	for i := 0.0; i <= n; i++ {
		a.ticks = append(a.ticks, plot.Tick{Value: i * step, Label: fmt.Sprintf("%g", i*step)})
	}
	return a
}

// roundStep returns the smallest number not less than x with the form 1, 2 or 5 times a power of
// ten. It returns at least 1.
func roundStep(x float64) float64 {
	if x <= 1 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(x)))
	for _, m := range []float64{1, 2, 5} {
		if m*power >= x {
			return m * power
		}
	}
	return 10 * power
}

// decades returns a logarithmic axis of durations in seconds between powers of ten.
func decades(low, high float64) axis {
	first, last := math.Floor(math.Log10(low)), math.Ceil(math.Log10(high))
	last = max(last, first+1)
	a := axis{logarithmic: true, min: math.Pow(10, first), max: math.Pow(10, first+(last-first)/(1-headroom))}
	for e := first; e <= last; e++ {
		a.ticks = append(a.ticks, plot.Tick{Value: math.Pow(10, e), Label: power(int(e))})
	}
	return a
}

// power returns the name of 10^e seconds.
func power(e int) string {
	for _, unit := range []struct {
		exponent int
		name     string
	}{{0, "s"}, {-3, "ms"}, {-6, "µs"}} {
		if e >= unit.exponent {
			return "1" + strings.Repeat("0", e-unit.exponent) + " " + unit.name
		}
	}
	return fmt.Sprintf("1e%d s", e)
}

// shades draws the bands over the whole height, with their texts at the top.
type shades struct {
	bands []band
	format
}

// Plot implements plot.Plotter.
func (s shades) Plot(c vgdraw.Canvas, p *plot.Plot) {
	x, _ := p.Transforms(&c)
	style := s.text()
	style.XAlign, style.YAlign = vgdraw.XCenter, vgdraw.YTop
	style.Font.Size *= 0.92
	for _, b := range s.bands {
		from, to := max(x(b.from), c.Min.X), min(x(b.to), c.Max.X)
		if from > to {
			continue
		}
		c.FillPolygon(hex(b.colour), []vg.Point{{X: from, Y: c.Min.Y}, {X: to, Y: c.Min.Y}, {X: to, Y: c.Max.Y}, {X: from, Y: c.Max.Y}})
		c.FillText(style, vg.Point{X: (from + to) / 2, Y: c.Max.Y - 2}, b.text)
	}
}

// A caption draws a text above the left edge of a panel.
type caption struct {
	title string
	format
}

// Plot implements plot.Plotter.
func (t caption) Plot(c vgdraw.Canvas, _ *plot.Plot) {
	style := t.text()
	style.Font.Weight = weight.WeightBold
	c.FillText(style, vg.Point{X: c.Min.X, Y: c.Max.Y + vg.Length(t.letter*0.55)}, t.title)
}

// peaks writes the height of each cut-off peak beside the peak.
type peaks struct {
	traces []trace
	format
}

// Plot implements plot.Plotter.
func (h peaks) Plot(c vgdraw.Canvas, p *plot.Plot) {
	x, _ := p.Transforms(&c)
	style := h.text()
	style.YAlign = vgdraw.YTop
	style.Font.Size *= 0.92
	for _, t := range h.traces {
		for _, b := range t.beyond(p.Y.Max) {
			text := fmt.Sprintf("↑ %.0f", b.height)
			at := vg.Point{X: x(b.to) + 6, Y: c.Max.Y - 2 - style.Font.Size}
			if at.X+style.Width(text) > c.Max.X {
				at.X = x(b.from) - 6 - style.Width(text)
				at.Y -= 1.2 * style.Font.Size // below the previous peak's text
			}
			c.FillText(style, at, text)
		}
	}
}

// A peak is a piece of a trace above a limit.
type peak struct{ from, to, height float64 }

func (t trace) beyond(limit float64) (all []peak) {
	above := false
	for _, xy := range t.xy {
		switch last := len(all) - 1; {
		case xy.Y <= limit || math.IsNaN(xy.Y):
			above = false
		case !above:
			all, above = append(all, peak{xy.X, xy.X, xy.Y}), true
		default:
			all[last].to, all[last].height = xy.X, max(all[last].height, xy.Y)
		}
	}
	return all
}

func (f format) text() vgdraw.TextStyle {
	return vgdraw.TextStyle{Color: hex(ink), Font: sans(f.letter), Handler: plot.DefaultTextHandler}
}

func sans(size float64) font.Font {
	return font.Font{Typeface: "Liberation", Variant: "Sans", Size: vg.Length(size)}
}

// hex returns the colour of a string in the form #RRGGBB.
func hex(s string) color.Color {
	var c color.NRGBA
	c.A = 0xff
	if _, err := fmt.Sscanf(s, "#%02x%02x%02x", &c.R, &c.G, &c.B); err != nil {
		panic(fmt.Sprintf("no colour: %q", s)) // a mistake in a constant
	}
	return c
}

// fainter returns the colour of the area below a line.
func fainter(s string) color.Color {
	c := hex(s).(color.NRGBA)
	c.A = 0x2e
	return c
}
