package dashboards

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/earnorm/poolstack/telemetry/internal/promql"
)

// The kinds of panels, as Grafana's type names.
const (
	graph    = "timeseries"
	timeline = "state-timeline"
	bars     = "bargauge"
	heatmap  = "heatmap"
	table    = "table"
)

// The units, as Grafana's unit names.
const (
	perSecond = "ops"
	seconds   = "s"
	share     = "percentunit"
	number    = "short"
)

// The width of a dashboard, and the heights of panels and rows, in units of Grafana's grid.
const (
	fullWidth   = 24
	panelHeight = 8
	rowHeight   = 1
)

// section is a row and the panels below the row.
type section struct {
	title  string
	panels []panel
}

// panel describes a panel.
type panel struct {
	title string
	about string // the description: the meaning, and the recommended action
	kind  string // "" means graph
	unit  string
	width int // of 24; 0 means a third of the dashboard
	stack bool
	// limits are warning thresholds. A graph shows lines for the limits.
	limits []float64
	// traces are links to further traces. Only panels of durations have traces and exemplars.
	traces  []link
	queries []target
}

// target is a query of a panel.
type target struct {
	legend string
	expr   string
	limit  bool // drawn as a dashed line
}

// q returns an ordinary target.
func q(legend, expr string) target { return target{legend: legend, expr: expr} }

// limit returns a target for a limit, which other targets should not reach.
func limit(legend, expr string) target { return target{legend: legend, expr: expr, limit: true} }

// quantiles returns targets for the 50th, 95th and 99th percentile of a histogram's series with the
// matchers.
func quantiles(histogram, matchers string) []target {
	var all []target
	for _, p := range []string{"50", "95", "99"} {
		all = append(all, q("p"+p, quantile(p, "le", histogram+"_bucket{"+matchers+"}")))
	}
	return all
}

// quantile is one percentile of buckets. The labels, with le, tell the buckets apart.
func quantile(percent, labels, buckets string) string {
	return fmt.Sprintf(`histogram_quantile(0.%s, sum by (%s) (rate(%s[$__rate_interval])))`, percent, labels, buckets)
}

// The uses in panels of durations. A refusal by the pool or a layer takes no time: with refusals in
// the quantiles, a pool would be at its fastest while the server is dead. Failures after a wait or
// a try have quantiles of their own, because a timeout takes as long as the limit allows.
const (
	succeeded = `$sel, error.type=""`
	failed    = `$sel, error.type!~"|(breaker|pool)_.+|timeout_begin"` // but not refused
)

// macros replaces the abbreviations of queries. $sel matches the variables, and $recorded matches
// the variables on recorded series. $each are the labels of an instance's pool, and $pools are the
// labels of a pool.
var macros = strings.NewReplacer(
	"$sel", `job=~"$job", instance=~"$instance", db.client.connection.pool.name=~"$pool"`,
	"$recorded", `job=~"$job", instance=~"$instance", pool=~"$pool"`,
	"$each", `job, instance, db.client.connection.pool.name`,
	"$pools", `job, db.client.connection.pool.name`,
)

func (t target) query() string { return promql.Translate(macros.Replace(strings.TrimSpace(t.expr))) }

// Legends.
const (
	eachPool     = "{{job}} {{db_client_connection_pool_name}}"
	eachInstance = "{{job}} {{instance}} {{db_client_connection_pool_name}}"
	eachBreaker  = eachInstance + " {{poolstack_layer}}"
)

var prometheus = &datasource{Type: "prometheus", UID: "${datasource}"}

// lay arranges the panels from left to right and from top to bottom.
func lay(sections []section) []panelModel {
	var all []panelModel
	y := 0
	open := false
	for _, s := range sections {
		all = append(all, panelModel{
			ID: len(all) + 1, Type: "row", Title: s.title, Collapsed: &open, Panels: &[]panelModel{},
			GridPos: gridPos{H: rowHeight, W: fullWidth, Y: y},
		})
		y += rowHeight
		x := 0
		for _, p := range s.panels {
			if p.width == 0 {
				p.width = fullWidth / 3
			}
			if x+p.width > fullWidth {
				x, y = 0, y+panelHeight
			}
			m := p.model()
			m.ID = len(all) + 1
			m.GridPos = gridPos{H: panelHeight, W: p.width, X: x, Y: y}
			all = append(all, m)
			x += p.width
		}
		y += panelHeight
	}
	return all
}

func (p panel) model() panelModel {
	if p.kind == "" {
		p.kind = graph
	}
	m := panelModel{
		Type: p.kind, Title: p.title, Description: p.about, Datasource: prometheus, FieldConfig: &fieldConfig{Overrides: []override{}},
		Options: json.RawMessage(options[p.kind]),
	}
	for i, t := range p.queries {
		now := p.kind == bars || p.kind == table
		target := targetModel{
			RefID: string(rune('A' + i)), Datasource: prometheus, Expr: t.query(), LegendFormat: t.legend, Format: "time_series",
			Exemplar: p.traces != nil && !t.limit, Instant: now, Range: !now,
		}
		if p.kind == heatmap || p.kind == table {
			target.Format = p.kind
		}
		m.Targets = append(m.Targets, target)
		if t.limit {
			m.FieldConfig.Overrides = append(m.FieldConfig.Overrides, override{
				matcher{"byFrameRefID", target.RefID}, []property{
					{"color", json.RawMessage(`{"mode":"fixed","fixedColor":"red"}`)},
					{"custom.lineStyle", json.RawMessage(`{"fill":"dash","dash":[10,10]}`)},
					{"custom.fillOpacity", json.RawMessage(`0`)},
					{"custom.stacking", json.RawMessage(`{"mode":"none","group":"A"}`)},
				},
			})
		}
	}
	m.FieldConfig.Defaults = p.defaults()
	return m
}

func (p panel) defaults() fieldDefaults {
	d := fieldDefaults{Unit: p.unit, Links: p.traces}
	switch p.kind {
	case graph:
		zero := 0.0
		d.Min = &zero
		stacking, fill, lines := "none", 10, "off"
		if p.stack {
			stacking, fill = "normal", 40
		}
		if len(p.limits) > 0 {
			lines = "dashed"
		}
		d.Custom = json.RawMessage(fmt.Sprintf(`{"drawStyle":"line","lineWidth":1,"fillOpacity":%d,"showPoints":"auto","spanNulls":false,`+
			`"stacking":{"mode":%q,"group":"A"},"thresholdsStyle":{"mode":%q}}`, fill, stacking, lines))
		d.Color = json.RawMessage(`{"mode":"palette-classic"}`)
	case timeline:
		d.Custom = json.RawMessage(`{"lineWidth":0,"fillOpacity":80}`)
		d.Color = json.RawMessage(`{"mode":"thresholds"}`)
		d.Mappings = json.RawMessage(`[{"type":"value","options":{` +
			`"0":{"index":0,"text":"closed","color":"green"},"1":{"index":1,"text":"half-open","color":"yellow"},` +
			`"2":{"index":2,"text":"open","color":"red"}}}]`)
	case bars:
		d.Color = json.RawMessage(`{"mode":"thresholds"}`)
	}
	if len(p.limits) > 0 {
		d.Thresholds = &thresholds{Mode: "absolute", Steps: []step{{Color: "green"}}}
		for _, l := range p.limits {
			d.Thresholds.Steps = append(d.Thresholds.Steps, step{"red", &l})
		}
	}
	return d
}

// legend is below the panel.
const legend = `"legend":{"calcs":[],"displayMode":"list","placement":"bottom","showLegend":true}`

// options are the options of each kind of panel: all that Grafana's schema requires, also where the
// value is Grafana's default.
var options = map[string]string{
	graph:    `{` + legend + `,"tooltip":{"mode":"multi","sort":"desc"}}`,
	timeline: `{"mergeValues":true,"showValue":"never","rowHeight":0.9,"tooltip":{"mode":"single","sort":"none"},` + legend + `}`,
	bars: `{"orientation":"horizontal","displayMode":"basic","valueMode":"color","namePlacement":"auto","showUnfilled":true,"sizing":"auto",` +
		`"minVizWidth":8,"minVizHeight":16,"maxVizHeight":300,"legend":{"calcs":[],"displayMode":"list","placement":"bottom","showLegend":false},` +
		`"reduceOptions":{"calcs":["lastNotNull"],"fields":"","values":false}}`,
	heatmap: `{"calculate":false,"color":{"mode":"scheme","scheme":"Oranges","steps":64,"fill":"dark-orange","exponent":0.5,"reverse":false},` +
		`"yAxis":{"unit":"s"},"exemplars":{"color":"rgba(0,120,255,0.9)"},"tooltip":{"mode":"single"},"showValue":"never","legend":{"show":true}}`,
	table: `{"showHeader":true,"frameIndex":0}`,
}

// traceLinks returns links to a search for the pool's traces in the displayed time range.
func traceLinks(job, pool string) []link {
	return []link{
		{Title: "Traces in Tempo", TargetBlank: true, URL: explore("tempo", map[string]any{
			"queryType": "traceql", "query": `{ span.db.client.connection.pool.name = "` + pool + `" }`,
		})},
		{Title: "Traces in Jaeger", TargetBlank: true, URL: explore("jaeger", map[string]any{
			"queryType": "search", "service": job, "tags": `db.client.connection.pool.name="` + pool + `"`,
		})},
	}
}

// The links for a dashboard of many pools and for a dashboard of a single pool. bySeries takes the
// pool from the clicked series, and byVariable takes the pool from the dashboard's variables.
var (
	bySeries   = traceLinks("${__field.labels.job}", "${__field.labels.db_client_connection_pool_name}")
	byVariable = traceLinks("${job}", "${pool}")
)

// explore returns the address of Grafana's Explore with a query. The variable selects the data
// source.
func explore(variable string, query map[string]any) string {
	uid := "${" + variable + "}"
	query["refId"] = "A"
	query["datasource"] = datasource{Type: variable, UID: uid}
	panes, err := json.Marshal(map[string]any{"a": map[string]any{
		"datasource": uid, "queries": []any{query}, "range": timeRange{From: "${__from}", To: "${__to}"},
	}})
	if err != nil {
		panic(err) // cannot happen: the value consists of strings
	}
	return "/explore?schemaVersion=1&panes=" + escape(string(panes))
}

// escape escapes s for an address, except for variables, which Grafana must find.
func escape(s string) string {
	var b strings.Builder
	for s != "" {
		before, rest, found := strings.Cut(s, "${")
		b.WriteString(strings.ReplaceAll(url.QueryEscape(before), "+", "%20"))
		if !found {
			break
		}
		name, after, _ := strings.Cut(rest, "}")
		b.WriteString("${" + name + "}")
		s = after
	}
	return b.String()
}
