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

// Config says what the dashboards are to be like. The zero Config works.
type Config struct {
	// Objective is the percentage of good uses that the error budget's panels are drawn for; it must be that of the rules. 0 means
	// [rules.DefaultObjective].
	Objective float64
}

// Dashboards are the dashboards for one [Config]. They do not change and may be used concurrently.
type Dashboards struct {
	all []dashboard
}

// dashboard is what a file is made of.
type dashboard struct {
	file, uid, title, about string
	onePool                 bool // the variables choose one job and one pool
	sections                []section
}

// New makes the dashboards. It fails when cfg is not valid.
func New(cfg Config) (*Dashboards, error) {
	r := rules.Config{Objective: cfg.Objective}
	if err := r.Validate(); err != nil {
		return nil, fmt.Errorf("dashboards: %w", err)
	}
	budget := strconv.FormatFloat(r.Budget(), 'g', -1, 64)
	return &Dashboards{all: []dashboard{overview(budget), onePool(budget), breakers()}}, nil
}

// Files returns the files by their names.
func (d *Dashboards) Files() map[string][]byte {
	files := map[string][]byte{}
	for _, one := range d.all {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		if err := e.Encode(one.model()); err != nil {
			panic(err) // a mistake in the raw parts of panel.go, which every test would meet
		}
		files[one.file] = b.Bytes()
	}
	return files
}

// Query is one query of a panel.
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

// PromQL returns the query for all jobs, instances and pools, over ranges of the given length, in whole seconds: it can be asked of
// Prometheus as it is.
func (q Query) PromQL(over time.Duration) string {
	interval := strconv.Itoa(int(over.Seconds())) + "s"
	return strings.NewReplacer(
		"$__rate_interval", interval, "$__range", interval, "$job", everyTarget, "$instance", everyTarget, "$pool", everyPool,
	).Replace(q.Expr)
}

// Titles returns the titles of all panels, each once, by the alphabet.
func (d *Dashboards) Titles() []string {
	var titles []string
	for _, q := range d.Queries() {
		titles = append(titles, q.Panel)
	}
	slices.Sort(titles)
	return slices.Compact(titles)
}

// What a variable is when everything is chosen.
const (
	everyTarget = ".*" // also series without the label, which those of rules without instances are
	everyPool   = ".+" // not the operations that others report, without a pool
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
		Links: []link{{Title: "poolstack", Type: "dashboards", Tags: []string{"poolstack"}, IncludeVars: true, KeepTime: true}},
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

// source is a variable for a data source.
func source(name, label, kind string) variable {
	return variable{Name: name, Label: label, Type: "datasource", Query: kind}
}

// choice is a variable for the values of a label: for several of them, and for every if that is not "".
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
