package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"os"
	"slices"
	"strings"
	"time"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

// writePage writes a page with the charts and the report. The page needs no other file and no
// script.
func writePage(file string, r result, invariants []invariant) error {
	p, err := newPage(r, invariants)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, p); err != nil {
		return err
	}
	return os.WriteFile(file, b.Bytes(), 0o644)
}

// A page is the data of the template.
type page struct {
	When       string
	Texts      []string // the setup, and the limits of the findings
	Verdict    string
	Held       bool
	Faults     []pageFault
	Servers    []pageServer
	Columns    []string // of Sides
	Sides      []pageLine
	Invariants []pageInvariant
	Log        string
}

// A pageFault is an entry of the legend.
type pageFault struct{ Word, Tint, Text string }

// A pageServer is the part of the page about a server.
type pageServer struct {
	ID, Name, Kind, BottomLine string
	Figures                    []pageFigure
	Faults                     []string // the headings of Taken's columns
	Taken                      []pageLine
	Layers                     []layerText
}

// A pageFigure is a chart in all formats.
type pageFigure struct {
	Heading, Note string
	Keys          []pageKey
	Drawings      []template.HTML
}

// A pageKey explains the style of a line.
type pageKey struct{ Name, Colour, Dashes string }

// A pageLine is a line of a table. A line without values is the heading of the following lines.
type pageLine struct {
	Title  string
	Part   bool // the line is a part of the line above
	Values []string
}

type pageInvariant struct {
	What, Detail string
	Held         bool
}

func newPage(r result, invariants []invariant) (page, error) {
	p := page{
		When: r.start.UTC().Format("2 January 2006, 15:04 UTC"), Texts: loadTexts(r), Held: !broken(invariants), Faults: pageFaults(r.cfg.acts()),
		Sides: pageSides(r), Log: strings.Join(r.log, ", "),
	}
	held := 0
	for _, i := range invariants {
		p.Invariants = append(p.Invariants, pageInvariant{i.what, i.detail, i.held})
		if i.held {
			held++
		}
	}
	p.Verdict = fmt.Sprintf("%d of the stack's %d invariants held", held, len(invariants))
	for _, s := range r.servers {
		one := pageServer{
			ID: s.status.Name, Name: properName(s.status.Name), Kind: s.status.Kind, BottomLine: capital(s.bottomLine()),
			Taken: taken(r, s), Layers: s.layers(),
		}
		for _, i := range s.incidents {
			one.Faults = append(one.Faults, string(i.fault.kind))
		}
		for _, f := range r.figuresOf(s) {
			drawn, err := f.page()
			if err != nil {
				return p, err
			}
			one.Figures = append(one.Figures, drawn)
		}
		p.Servers = append(p.Servers, one)
		p.Columns = append(p.Columns, string(stacked), string(bare))
	}
	return p, nil
}

// page draws the figure in all formats.
func (f figure) page() (pageFigure, error) {
	p := pageFigure{Heading: capital(f.heading), Note: f.note}
	seen := map[string]bool{breakerTrace: true}
	for _, panel := range f.panels {
		for _, t := range panel.traces {
			if !seen[t.name] {
				p.Keys = append(p.Keys, pageKey{t.name, t.style.colour, strings.Trim(fmt.Sprint(t.style.dashes), "[]")})
				seen[t.name] = true
			}
		}
	}
	for _, format := range formats {
		svg, err := f.svg(format)
		if err != nil {
			return p, err
		}
		// The text consists of constants, numbers and escaped strings.
		p.Drawings = append(p.Drawings, template.HTML(svg))
	}
	return p, nil
}

// pageFaults returns the legend for the faults of acts.
func pageFaults(acts []act) (all []pageFault) {
	for _, f := range []struct {
		kind trouble
		text string
	}{
		{slow, fmt.Sprintf("Every answer comes %s late: more than an attempt of the stack may take (%s on Redis, %s on MongoDB).",
			slowness, redisAttempt, mongoAttempt)},
		{resets, fmt.Sprintf("Every %s, half of the connections are cut when their next answer is due: the server has done what it was asked, "+
			"and the client does not know.", pulse)},
		{killed, "The server's process is killed, and started again in the end. Connections are refused meanwhile."},
		{frozen, "The server's process is stopped in its tracks: connections stay open, nothing answers, until it goes on."},
		{steppedDown, "The primary of the replica set becomes a secondary, and refuses writes and reads. In the end another member is elected."},
		{primaryKilled, "The primary of the replica set is killed. In the end another member is elected, and the killed one is started again."},
	} {
		if slices.ContainsFunc(acts, func(a act) bool { return a.redis == f.kind || a.mongodb == f.kind }) {
			all = append(all, pageFault{string(f.kind), f.kind.tint(), f.text})
		}
	}
	return all
}

// taken returns the table of the server's faults, with a column for each fault. It shows the
// reaction of the stack, and the results for the callers of both sides.
func taken(r result, s serverResult) []pageLine {
	var lines []pageLine
	for _, l := range []struct {
		title string
		of    func(i incident, stack, bare tallied) string
	}{
		{"began", func(i incident, _, _ tallied) string { return fmt.Sprintf("%.1f s", i.sinceStart(r).Seconds()) }},
		{"lasted", func(i incident, _, _ tallied) string { return between(i.began, i.back, "") }},
		{"The stack", nil},
		{"first sign of it after", func(i incident, _, _ tallied) string { return between(i.began, i.sign, "none") }},
		{"breaker open after", func(i incident, _, _ tallied) string { return between(i.began, i.opened, "not needed") }},
		{"whole again after the return", func(i incident, _, _ tallied) string { return between(i.back, i.whole, i.neverWhole()) }},
		{"errors", func(_ incident, x, _ tallied) string { return fmt.Sprint(x.failed) }},
		{"slowest", func(_ incident, x, _ tallied) string { return show(x.slowest) }},
		{"hung over " + hanging.String(), func(_ incident, x, _ tallied) string { return fmt.Sprint(x.hung) }},
		{"most in flight", func(_ incident, x, _ tallied) string { return fmt.Sprint(x.crowd) }},
		{"The bare client", nil},
		{"errors", func(_ incident, _, y tallied) string { return fmt.Sprint(y.failed) }},
		{"slowest", func(_ incident, _, y tallied) string { return show(y.slowest) }},
		{"hung over " + hanging.String(), func(_ incident, _, y tallied) string { return fmt.Sprint(y.hung) }},
		{"most in flight", func(_ incident, _, y tallied) string { return fmt.Sprint(y.crowd) }},
	} {
		line := pageLine{Title: l.title}
		for _, i := range s.incidents {
			if l.of != nil {
				line.Values = append(line.Values, l.of(i, i.meters[stacked].tallied(), i.meters[bare].tallied()))
			}
		}
		lines = append(lines, line)
	}
	return lines
}

// pageSides returns the table that compares the stack with the bare clients, as in the report.
func pageSides(r result) []pageLine {
	kept := pageLine{Title: "acknowledged writes that were there in the end"}
	lanes := []laneResult{}
	for _, s := range r.servers {
		lanes = append(lanes, s.stack, s.bare)
	}
	for _, l := range lanes {
		kept.Values = append(kept.Values, fmt.Sprintf("%d of %d", l.acknowledged-l.lost, l.acknowledged))
	}
	lines := []pageLine{kept}
	for _, side := range sideLines {
		line := pageLine{Title: strings.TrimSpace(side.title), Part: strings.HasPrefix(side.title, " ")}
		for _, l := range lanes {
			line.Values = append(line.Values, side.of(l))
		}
		lines = append(lines, line)
	}
	return lines
}

// capital returns s with a capital first letter. The first letter must be ASCII.
func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// Deadline returns the stack's deadline for the template.
func (page) Deadline() time.Duration { return deadline }
