package main

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// A row holds the results of a scenario for a single deadline.
type row struct {
	scenario
	deadline time.Duration
	runs     []run
	verdicts []verdict
}

func newRow(sc scenario, deadline time.Duration, runs []run) row {
	r := row{scenario: sc, deadline: deadline, runs: runs}
	for _, g := range sc.gates {
		r.verdicts = append(r.verdicts, g.judge(runs))
	}
	return r
}

// short returns the gates that fall short.
func (r row) short() (short []verdict) {
	for _, v := range r.verdicts {
		if v.fallsShort() {
			short = append(short, v)
		}
	}
	return short
}

// of returns the median of a figure of a side, or "-" for an absent side.
func (r row) of(side string, figure func(figures) float64) string {
	var all []float64
	for _, run := range r.runs {
		if f, ok := run[side]; ok {
			all = append(all, figure(f))
		}
	}
	if m := median(all); !math.IsInf(m, 0) {
		return number(m)
	}
	return "never" // only the return of a server can take that long
}

// headlines are the scenarios without an outage in the README.
var headlines = []string{
	"cold start, four dials fail", "10 idle connections silently dead", "load of 300 % of capacity",
}

// headline reports whether the README contains the row: scenarios of each kind, and long outages
// with callers who wait for 1 s.
func (r row) headline() bool {
	if r.dies {
		return r.deadline == time.Second && strings.HasSuffix(r.name, " for 12s")
	}
	return slices.ContainsFunc(headlines, func(name string) bool { return strings.HasSuffix(r.name, name) })
}

// A column is a column of a table. The README contains the columns with short, and the headlines.
type column struct {
	title string
	cell  func(row) string
	short bool
}

func figureOf(title, side string, short bool, figure func(figures) float64) column {
	return column{title, func(r row) string { return r.of(side, figure) }, short}
}

func served(f figures) float64   { return float64(f.served) }
func uses(f figures) float64     { return float64(f.uses) }
func refusals(f figures) float64 { return float64(f.refused) }
func twice(f figures) float64    { return float64(f.twice) }
func dials(f figures) float64    { return float64(f.dials) }
func useless(f figures) float64  { return float64(f.useless) }
func waited(f figures) float64   { return float64(int(f.waited*10+0.5)) / 10 }
func backAt(f figures) float64   { return f.back }

var title = column{"scenario", row.title, true}

var gatesColumn = column{"gates", func(r row) string {
	short := r.short()
	if len(short) == 0 {
		return "hold"
	}
	texts := make([]string, len(short))
	for i, v := range short {
		texts[i] = v.String()
	}
	return "**fall short**: " + strings.Join(texts, "; ")
}, false}

var verdictColumn = column{"gates", func(r row) string {
	if len(r.short()) == 0 {
		return "hold"
	}
	return "**fall short**"
}, true}

var callers = column{"callers wait", func(r row) string { return r.deadline.String() }, true}

// servingColumns are the columns for scenarios without an outage.
var servingColumns = []column{
	title, callers, figureOf("uses", stacked, false, uses),
	figureOf("served in time: stack", stacked, true, served), figureOf("bare", bare, true, served),
	figureOf("bare, ctx", bareCtx, false, served), figureOf("refused needlessly", stacked, true, refusals),
	figureOf("done twice: stack", stacked, false, twice), figureOf("bare", bare, false, twice),
	figureOf("dials: stack", stacked, false, dials), figureOf("bare", bare, false, dials), figureOf("bare, ctx", bareCtx, false, dials),
}

// outageColumns are the columns for scenarios with an outage.
var outageColumns = []column{
	title, callers, figureOf("uses", stacked, false, uses),
	figureOf("served in time: stack", stacked, true, served), figureOf("bare", bare, true, served),
	figureOf("useless calls: stack", stacked, true, useless), figureOf("bare", bare, true, useless),
	figureOf("seconds waited: stack", stacked, true, waited), figureOf("bare", bare, true, waited),
	figureOf("back after s: stack", stacked, true, backAt), figureOf("bare", bare, true, backAt),
	figureOf("refused needlessly", stacked, false, refusals),
}

// table writes the rows with an outage, or the rows without an outage.
func table(b *strings.Builder, rows []row, outage, short bool) {
	columns := servingColumns
	if outage {
		columns = outageColumns
	}
	last := gatesColumn
	if short {
		last = verdictColumn
	}
	var shown []column
	for _, c := range append(slices.Clip(columns), last) {
		if c.short || !short {
			shown = append(shown, c)
		}
	}
	line := func(cell func(column) string) {
		for _, c := range shown {
			b.WriteString("| " + cell(c) + " ")
		}
		b.WriteString("|\n")
	}
	line(func(c column) string { return c.title })
	line(func(column) string { return "---" })
	for _, r := range rows {
		if r.dies == outage && (!short || r.headline()) {
			line(func(c column) string { return c.cell(r) })
		}
	}
}

const (
	canServe    = "The server can serve"
	cannotServe = "The server cannot serve for a while"
)

// report returns the whole page.
func report(rows []row) string {
	var b strings.Builder
	b.WriteString("# The default stack beside the bare clients\n\n" + about() + method + "\n## " + canServe + "\n\n")
	table(&b, rows, false, false)
	b.WriteString("\n## " + cannotServe + "\n\n")
	table(&b, rows, true, false)
	b.WriteString("\n## The scenarios\n\n")
	said := map[string]bool{}
	for _, r := range rows {
		if !said[r.name] {
			said[r.name] = true
			fmt.Fprintf(&b, "- %s: %s\n", r.name, r.about)
		}
	}
	return b.String()
}

// summary returns the tables for the README.
func summary(rows []row) string {
	var b strings.Builder
	b.WriteString(canServe + ":\n\n")
	table(&b, rows, false, true)
	b.WriteString("\n" + cannotServe + ":\n\n")
	table(&b, rows, true, true)
	return b.String()
}

// about describes the machine and the versions.
func about() string {
	version, err := exec.Command("redis-server", "--version").Output()
	if err != nil {
		version = []byte("no redis-server")
	}
	return fmt.Sprintf("- %s, %s/%s, GOMAXPROCS %d\n- %s\n- %s\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0),
		strings.TrimSpace(string(version)), strings.Join(modules(), ", "))
}

// modules returns the versions of the clients and of the MongoDB server.
func modules() (versions []string) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil
	}
	for _, m := range info.Deps {
		switch m.Path {
		case "github.com/redis/go-redis/v9", "go.mongodb.org/mongo-driver/v2", "github.com/FerretDB/FerretDB":
			versions = append(versions, m.Path+" "+m.Version)
		}
	}
	return versions
}

// The markers of the README.
const (
	beginMarker = "<!-- judge: make judge writes these tables, from examples/judge -->\n"
	endMarker   = "<!-- end of judge -->\n"
)

// between replaces the text between the markers.
func between(page []byte, text string) ([]byte, error) {
	before, rest, found := bytes.Cut(page, []byte(beginMarker))
	_, behind, ended := bytes.Cut(rest, []byte(endMarker))
	if !found || !ended {
		return nil, errors.New("the file has no markers for the tables")
	}
	return append(append(append(bytes.Clone(before), beginMarker...), "\n"+text+"\n"...), append([]byte(endMarker), behind...)...), nil
}

// method describes the measurement of the figures. The text is part of the page.
const method = `
Written by ` + "`make judge`" + `. The stack is middleware.Standard with zero Options, but for telemetry, which goes nowhere; over redispool or
mongopool. The bare client is go-redis v9 or mongo-driver v2 with its default options; "bare, ctx" is go-redis with
ContextTimeoutEnabled. Both sides have the same number of connections, for that number belongs to the load.

Both sides run at the same time against the same server, each through a proxy of its own: so they meet the same event, and the proxy
counts what each side sends. The loads are light, so that no side starves the other. A scenario of a few seconds is run three times;
a figure is the median, and a gate looks at the median of its own figure over the runs.

- Served in time: the server answered as expected within the caller's time. A read that the server answers with "not there" is served. An
  increment that the server carried out twice is not; the counters are read from the server when the run is over.
- Refused needlessly: ended by an open breaker, by a full queue or by the pool's word that no connection can be opened, while the server
  could serve. In outages: before the fault, or later than 1.5 s after the return.
- Useless calls: connections dialled and commands sent while the server could not answer. Commands that were under way when the fault
  began are not counted, nor is the greeting on a connection beside its dial. Background checks are counted. Of a silent fault (all but
  "killed"), calls count from the first caller's deadline on, on both sides: nobody can know of such a fault before.
- Seconds waited: by callers whose uses met the outage, all of them together.
- Back after: from the server's return to the first 100 ms from which on 99 % of a second's callers are served in time.

Gates, as medians over the runs. While the server can serve: served in time at least 0.99 of the bare client's, needless refusals at most
0.005 of the uses. While the server cannot: useless calls at most a tenth of the bare client's or the uses of 0.4 s, ten, and four in three seconds;
caller-seconds at most a third of the bare client's in outages of ten seconds and more; back within 1.5 s. Gates that are not what was
first asked for, and why:

- Useless calls of a silent fault count from the first caller's deadline on. Before, each side sends what its connections allow, and no
  client could do otherwise: with 20 connections and callers of 1 s, 20 calls were more than the gate allows, whatever the stack did.
- A deadline has to pass, of 0.1 s at least, and a run of failures has to last for 0.3 s before the breaker believes the run: a shorter gap is
  bridged. So the uses of 0.4 s are allowed where a tenth of the bare client's calls is less, as in an outage of 2 s.
- The pool looks for its server about once a second while the breaker is open: that is how the server is found again. A tenth and ten
  would allow 0.2 looks a second in an outage of a minute, when the bare client's callers all hang and send nothing. The pauses are drawn
  between half a second and a second, so four calls in three seconds are allowed. The MongoDB driver's own monitor makes two a second
  more, beneath the stack as beneath the bare driver.
- Where failures are drawn at random, the two sides draw differently: three standard deviations of the difference are allowed.
- Refusals above capacity count as needless only as far as capacity was left: who cannot be served in time is refused with reason.
- Where the server refuses writes, no read is refused at all. Writes count for nothing on either side, for no client can serve them.
- A third of the replies late: at least twice what go-redis serves that obeys the same deadlines, no refusal, fewer than 50 connections.
  Twice go-redis is asked of deadlines only: go-redis obeys no cancel, and serves the same as without. Of MongoDB, connections are
  compared with the driver's a served use, if they are 50 or more: the driver itself closes a connection whose caller cancels.
`
