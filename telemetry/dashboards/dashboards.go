package dashboards

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/earnorm/poolstack/telemetry/internal/promql"
	"github.com/earnorm/poolstack/telemetry/rules"
)

// Config holds the parameters of the dashboards. The zero value works.
type Config struct {
	// Objective is the required percentage of good uses, for the panels of the error budget. It must
	// equal the objective of the rules. Zero means [rules.DefaultObjective].
	Objective float64
}

// Dashboards holds the dashboards for a [Config]. It is immutable and safe for concurrent use.
type Dashboards struct {
	all []dashboard
}

// dashboard describes a dashboard and its file.
type dashboard struct {
	file, uid, title, about string
	onePool                 bool // the variables select a single job and a single pool
	sections                []section
}

// New generates the dashboards for cfg. It returns an error if cfg is not valid.
func New(cfg Config) (*Dashboards, error) {
	r := rules.Config{Objective: cfg.Objective}
	if err := r.Validate(); err != nil {
		return nil, fmt.Errorf("dashboards: %w", err)
	}
	budget := strconv.FormatFloat(r.Budget(), 'g', -1, 64)
	return &Dashboards{all: []dashboard{overview(budget), onePool(budget), breakers()}}, nil
}

// Files returns the contents of the files by name.
func (d *Dashboards) Files() map[string][]byte {
	files := map[string][]byte{}
	for _, one := range d.all {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		if err := e.Encode(one.model()); err != nil {
			panic(err) // a mistake in panel.go's raw JSON, which every test would find
		}
		files[one.file] = b.Bytes()
	}
	return files
}

// Query is a query of a panel.
type Query struct {
	Dashboard string // the title
	Panel     string
	RefID     string
	Expr      string // PromQL with Grafana's variables
}

// Queries returns every query of every panel.
func (d *Dashboards) Queries() []Query {
	var all []Query
	for _, one := range d.all {
		for _, p := range one.model().Panels {
			for _, t := range p.Targets {
				all = append(all, Query{one.title, p.Title, t.RefID, t.Expr})
			}
		}
	}
	return all
}

// PromQL returns the query for all jobs, instances and pools, without Grafana's variables. The
// parameter over is the length of the ranges, truncated to whole seconds. Prometheus can execute
// the result.
func (q Query) PromQL(over time.Duration) string {
	interval := strconv.Itoa(int(over.Seconds())) + "s"
	return strings.NewReplacer(
		"$__rate_interval", interval, "$__range", interval, "$job", everyTarget, "$instance", everyTarget, "$pool", everyPool,
	).Replace(q.Expr)
}

// Titles returns the titles of all panels in alphabetical order, without duplicates.
func (d *Dashboards) Titles() []string {
	var titles []string
	for _, q := range d.Queries() {
		titles = append(titles, q.Panel)
	}
	slices.Sort(titles)
	return slices.Compact(titles)
}

// The value of a variable if everything is selected.
const (
	// everyTarget also matches series without the label, such as series of rules without instance.
	everyTarget = ".*"
	// everyPool does not match other instrumentation's operations, which have no pool.
	everyPool = ".+"
)

func (d dashboard) model() model {
	all := func(value string) string {
		if d.onePool {
			return ""
		}
		return value
	}
	return model{
		UID: d.uid, Title: d.title, Description: d.about, Tags: []string{"poolstack"}, SchemaVersion: schemaVersion, Editable: true,
		GraphTooltip: 1, Refresh: "30s", Time: timeRange{From: "now-1h", To: "now"}, Timezone: "browser",
		Links: []dashboardLink{{
			Title: "poolstack", Type: "dashboards", Icon: "external link", Tags: []string{"poolstack"}, IncludeVars: true, KeepTime: true,
		}},
		Templating: templating{List: []variable{
			source("datasource", "Prometheus", "prometheus"), source("tempo", "Tempo", "tempo"), source("jaeger", "Jaeger", "jaeger"),
			choice("job", "Job", `label_values(poolstack.lease.oldest, job)`, all(everyTarget)),
			choice("instance", "Instance", `label_values(poolstack.lease.oldest{job=~"$job"}, instance)`, everyTarget),
			choice("pool", "Pool",
				`label_values(poolstack.lease.oldest{job=~"$job", instance=~"$instance"}, db.client.connection.pool.name)`, all(everyPool)),
		}},
		Annotations: annotations{List: []struct{}{}},
		Panels:      lay(d.sections),
	}
}

// source returns a variable for a data source.
func source(name, label, kind string) variable {
	return variable{Name: name, Label: label, Type: "datasource", Query: kind}
}

// choice returns a variable for the values of a label. If every is not empty, the variable selects
// several values, and every is the value for all of them.
func choice(name, label, values, every string) variable {
	values = promql.Translate(values)
	v := variable{
		Name: name, Label: label, Type: "query", Definition: values, Query: variableQuery{QueryType: 1, Query: values, RefID: name},
		Datasource: prometheus, Refresh: 2, Sort: 1, AllValue: every, Multi: every != "", IncludeAll: every != "",
	}
	if every != "" {
		v.Current = &current{Text: []string{"All"}, Value: []string{"$__all"}}
	}
	return v
}
