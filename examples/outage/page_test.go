package main

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/html"
	"gonum.org/v1/plot/plotter"

	"github.com/earnorm/poolstack/examples/servers/control"
	"github.com/earnorm/poolstack/middleware/breaker"
)

// drawn returns a result in which every invariant holds, with n points for each server, a quarter
// of a second apart.
func drawn(n int) result {
	r := good()
	for i := range n {
		p := point{elapsed: time.Duration(i+1) * pointEvery}
		for _, s := range r.servers {
			away := i >= 8 && i < 16 // the incident of good
			stack := row{server: s.status.Name, side: stacked, ok: 2, p50: time.Millisecond, p99: 20 * time.Millisecond, managed: true, inUse: 1, idle: 7}
			bare := row{server: s.status.Name, side: bare, ok: 2, p50: time.Millisecond, p99: 30 * time.Millisecond, inFlight: 1}
			if away {
				stack.ok, stack.failed, stack.p50, stack.p99, stack.waiters, stack.breaker = 0, 2, 0, 0, 3, breaker.StateOpen
				bare.ok, bare.p50, bare.p99, bare.inFlight = 0, 0, 0, int64(i)
			}
			if i == 17 {
				bare.ok = 90 // the backlog
			}
			p.rows = append(p.rows, stack, bare)
		}
		r.points = append(r.points, p)
	}
	for i := range r.servers {
		inc := r.servers[i].incidents[0]
		r.servers[i].figures.changes = []change{
			{at: inc.opened, from: "closed", to: "open"}, {at: inc.back, from: "open", to: "half-open"}, {at: inc.whole, from: "half-open", to: "closed"},
		}
	}
	return r
}

// write writes the page of r, and returns its text and its HTML tree.
func write(t *testing.T, r result) (string, *html.Node) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "outage.html")
	if err := writePage(file, r, judge(r)); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := html.Parse(strings.NewReader(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return string(text), tree
}

// drawings returns the charts of a page by id. Each chart must be well-formed XML.
func drawings(t *testing.T, text string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, m := range regexp.MustCompile(`(?s)<svg class="(?:wide|narrow)" id="([^"]+)".*?</svg>`).FindAllStringSubmatch(text, -1) {
		all[m[1]] = m[0]
		for d := xml.NewDecoder(strings.NewReader(m[0])); ; {
			_, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", m[1], err)
			}
		}
	}
	return all
}

// A path is a drawn path with its coordinates: x, y, x, y.
type path struct {
	style  string
	filled bool
	at     []float64
}

func paths(t *testing.T, svg string) (all []path) {
	t.Helper()
	for _, m := range regexp.MustCompile(`<path d="([^"]+)" style="([^"]+)"`).FindAllStringSubmatch(svg, -1) {
		p := path{style: m[2], filled: strings.HasPrefix(m[2], "fill:#")}
		for _, number := range strings.FieldsFunc(m[1], func(r rune) bool { return strings.ContainsRune("MLZ,", r) }) {
			x, err := strconv.ParseFloat(number, 64)
			if err != nil {
				t.Fatalf("%q: %v", m[1], err)
			}
			p.at = append(p.at, x)
		}
		all = append(all, p)
	}
	return all
}

// with returns the lines in a style, or the areas in the style's colour.
func with(all []path, s lineStyle, filled bool) (some []path) {
	for _, p := range all {
		dashes := strings.Join(strings.Fields(strings.Trim(fmt.Sprint(s.dashes), "[]")), ",")
		if p.filled == filled && strings.Contains(p.style, s.colour) && (filled || strings.Contains(p.style, "dasharray:"+dashes) == (dashes != "")) {
			some = append(some, p)
		}
	}
	return some
}

func TestPage(t *testing.T) {
	r := drawn(40)
	text, tree := write(t, r)
	charts := drawings(t, text)
	for _, server := range []string{control.Redis, control.MongoDB} {
		for _, size := range []string{"wide", "narrow"} {
			// The number of pieces of each line. The fault interrupts the lines of latency.
			for id, lines := range map[string]map[*lineStyle]int{
				"throughput": {&solid: 2, &dashed: 2},
				"latency":    {&solid: 4, &dashed: 4},
				"callers":    {&solid: 2},
				"stack":      {&solid: 2, &dashed: 1, &dotted: 1},
			} {
				id = server + "-" + id + "-" + size
				all := paths(t, charts[id])
				for style, want := range lines {
					if id == server+"-throughput-"+size && style == &solid {
						want++ // a line cut at the top has two pieces
					}
					if got := len(with(all, *style, false)); got != want {
						t.Errorf("%s: %d lines %s, want %d", id, got, style.colour, want)
					}
				}
				if got := len(with(all, lineStyle{colour: killed.tint()}, true)); got != 2 {
					t.Errorf("%s: the fault is shaded in %d panels", id, got)
				}
			}
		}
	}
	if n := len(charts); n != 16 {
		t.Errorf("%d charts", n)
	}
	for _, want := range []string{
		"15 of the stack&#39;s 15 invariants held", "10 of 10", "breaker_open 6", "40.0ms", "↑ 90", "operations / s", "calls in flight", "connections",
		"seconds since the load began", "half-open", "100 ms", "Faults: killed from 2.0 to 4.0 s.",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("nothing says %q", want)
		}
	}
	selfContained(t, text, tree)
}

// selfContained requires a page that loads nothing and runs nothing.
func selfContained(t *testing.T, text string, tree *html.Node) {
	t.Helper()
	ids := map[string]bool{}
	for n := range tree.Descendants() {
		switch n.Data {
		case "script", "link", "iframe", "img", "image", "object", "embed", "base", "form", "use":
			t.Errorf("there is a %s", n.Data)
		}
		for _, a := range n.Attr {
			switch {
			case a.Key == "href" || a.Key == "src" || strings.HasPrefix(a.Key, "on"):
				t.Errorf("%s has %s=%q", n.Data, a.Key, a.Val)
			case a.Key == "id" && ids[a.Val]:
				t.Errorf("%q is the id of two", a.Val)
			case a.Key == "id":
				ids[a.Val] = true
			}
		}
	}
	for n := range tree.Descendants() {
		for _, a := range n.Attr {
			if strings.HasPrefix(a.Key, "aria-") && a.Key != "aria-hidden" && !ids[a.Val] {
				t.Errorf("%s=%q, which is nowhere", a.Key, a.Val)
			}
		}
	}
	for _, never := range []string{"http:", "https:", "url(", "@import", "NaN", "Inf", "ZgotmplZ"} {
		if strings.Contains(text, never) {
			t.Errorf("the page has %q", never)
		}
	}
}

// The band of a fault begins and ends at the x coordinates of the lines.
func TestFaultsAreShadedWhereTheyWere(t *testing.T) {
	text, _ := write(t, drawn(40))
	for id, svg := range drawings(t, text) {
		if !strings.Contains(id, "callers") {
			continue
		}
		all := paths(t, svg)
		line, shade := with(all, solid, false)[0], with(all, lineStyle{colour: killed.tint()}, true)[0]
		// The eighth point is at 2 s, and the sixteenth point is at 4 s.
		from, to := line.at[2*7], line.at[2*15]
		if math.Abs(shade.at[0]-from) > 0.02 || math.Abs(shade.at[2]-to) > 0.02 {
			t.Errorf("%s: from %g to %g, want from %g to %g", id, shade.at[0], shade.at[2], from, to)
		}
	}
}

// The panels of the stack and the bare client have the same scale, even if only the stack or only
// the bare client has high values.
func TestOneScaleForBothSides(t *testing.T) {
	text, _ := write(t, drawn(40))
	for id, svg := range drawings(t, text) {
		if strings.Contains(id, "-stack-") { // what only the stack has
			continue
		}
		var tall []float64
		for _, shade := range with(paths(t, svg), lineStyle{colour: killed.tint()}, true) {
			tall = append(tall, shade.at[5]-shade.at[1])
		}
		ticks := map[string]int{}
		for _, m := range regexp.MustCompile(`>([^<>]+)</text>`).FindAllStringSubmatch(svg, -1) {
			ticks[m[1]]++
		}
		for label, n := range ticks {
			if n%2 != 0 && label != stackTitle && label != bareTitle && label != "seconds since the load began" && !strings.HasPrefix(label, "↑") {
				t.Errorf("%s: %q is there %d times", id, label, n)
			}
		}
		if len(tall) != 2 || math.Abs(tall[0]-tall[1]) > 0.02 {
			t.Errorf("%s: the panels are %v high", id, tall)
		}
	}
}

func TestPageOfVeryLittle(t *testing.T) {
	for name, r := range map[string]result{"no point": drawn(0), "one point": drawn(1), "two points": drawn(2)} {
		t.Run(name, func(t *testing.T) {
			r.took = time.Duration(len(r.points)) * pointEvery
			text, tree := write(t, r)
			selfContained(t, text, tree)
			for id, svg := range drawings(t, text) {
				if got := len(with(paths(t, svg), solid, false)); strings.Contains(id, "callers") && got != 2*min(1, len(r.points)) {
					t.Errorf("%s: %d lines of %d points", id, got, len(r.points))
				}
			}
		})
	}
	t.Run("nothing at all", func(t *testing.T) {
		r := result{servers: []serverResult{{status: control.Status{Name: control.Redis}}}}
		text, tree := write(t, r)
		selfContained(t, text, tree)
		if !strings.Contains(text, "BROKEN") {
			t.Error("nothing is said to be broken")
		}
	})
}

func TestPageEscapes(t *testing.T) {
	r := drawn(4)
	r.log = []string{`1 ERROR "<script>alert(1)</script>"`}
	r.servers[0].status.Kind = "<img src=x>"
	r.servers[0].status.Name = `<b>"redis"&`
	text, tree := write(t, r)
	selfContained(t, text, tree)
	drawings(t, text)
}

func TestWritePageNowhere(t *testing.T) {
	r := drawn(0)
	if err := writePage(filepath.Join(t.TempDir(), "no", "outage.html"), r, judge(r)); err == nil {
		t.Error("it was written")
	}
}

// The number of the recorder's points follows from the duration.
func TestRecorder(t *testing.T) {
	for duration, want := range map[time.Duration]int{15 * time.Second: 60, time.Minute: 240, time.Hour: maxPoints} {
		synctest.Test(t, func(t *testing.T) {
			l := newLane(control.Redis, bare, nil, nil, duration)
			p := &play{cfg: config{duration: duration}, stations: []*station{{bare: l}}, news: &news{start: time.Now()}}
			rec, done := &recorder{play: p}, make(chan struct{})
			go func() {
				time.Sleep(duration - time.Millisecond)
				close(done)
			}()
			go func() {
				l.whole.begin()
				time.Sleep(stepFor(duration) * 5 / 2)
				l.whole.end(30*time.Millisecond, nil)
			}()
			rec.run(done)
			if n := len(rec.points); n != want {
				t.Fatalf("%v: %d points, want %d", duration, n, want)
			}
			window := (windowSteps * stepFor(duration)).Seconds()
			for i, want := range []row{{inFlight: 1}, {inFlight: 1}, {ok: 1 / window}, {ok: 1 / window}, {}} {
				got := rec.points[i].rows[0]
				if got.ok != want.ok || got.inFlight != want.inFlight || (got.p99 > 0) != (want.ok > 0) {
					t.Errorf("%v: point %d is %+v", duration, i, got)
				}
			}
		})
	}
}

func TestPeaks(t *testing.T) {
	line := trace{xy: plotter.XYs{{X: 1, Y: 9}, {X: 2, Y: 3}, {X: 3, Y: 7}, {X: 4, Y: 8}, {X: 5, Y: math.NaN()}, {X: 6, Y: 5}, {X: 7, Y: 6}}}
	if got, want := line.beyond(5), []peak{{1, 1, 9}, {3, 4, 8}, {7, 7, 6}}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestAxes(t *testing.T) {
	for top, want := range map[float64]float64{0: 1, 1: 1, 4: 4, 16: 20, 50: 60, 400: 400, 717: 800, 1496: 1500} {
		a := upTo(top, "")
		if last := a.ticks[len(a.ticks)-1].Value; last != want || a.max <= last {
			t.Errorf("up to %g: the last tick is %g of %g, want %g", top, last, a.max, want)
		}
	}
	a := decades(0.0004, 3.6)
	var labels []string
	for _, tick := range a.ticks {
		labels = append(labels, tick.Label)
	}
	if got, want := strings.Join(labels, ", "), "100 µs, 1 ms, 10 ms, 100 ms, 1 s, 10 s"; got != want {
		t.Errorf("decades %s, want %s", got, want)
	}
	for _, seconds := range []float64{1, 15, 60, 61, 3600} {
		r := result{took: time.Duration(seconds * float64(time.Second))}
		if n := len(r.timeAxis().thinned(6).ticks); n < 2 || n > 6 {
			t.Errorf("%g s: %d ticks", seconds, n)
		}
	}
}
