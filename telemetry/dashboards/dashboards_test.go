package dashboards

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/earnorm/poolstack/middleware/metrics"
	"github.com/earnorm/poolstack/pool/pooltest"
	"github.com/earnorm/poolstack/telemetry/internal/promql"
	"github.com/earnorm/poolstack/telemetry/rules"
)

func TestMain(m *testing.M) { os.Exit(pooltest.Main(m)) }

func newDashboards(t testing.TB) *Dashboards {
	t.Helper()
	d, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func newRules(t testing.TB) *rules.Rules {
	t.Helper()
	r, err := rules.New(rules.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// promtool runs the real one on a file with the content. Where there is none, the test is skipped;
// on CI it fails.
func promtool(t *testing.T, content string, args ...string) (output string, err error) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("promtool is missing: apt-get install prometheus")
		}
		t.Skip("promtool is not on PATH: apt-get install prometheus")
	}
	file := filepath.Join(t.TempDir(), "file.yaml")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), path, append(args, file)...).CombinedOutput()
	return string(out), err
}

// The real promtool parses every query: as a file of recording rules.
func TestQueriesParse(t *testing.T) {
	var b strings.Builder
	b.WriteString("groups:\n  - name: queries\n    rules:\n")
	queries := newDashboards(t).Queries()
	for i, q := range queries {
		expr, err := json.Marshal(q.PromQL(time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "      - record: query:%d\n        expr: %s # %s, %s, %s\n", i, expr, q.Dashboard, q.Panel, q.RefID)
	}
	out, err := promtool(t, b.String(), "check", "rules")
	if err != nil || !strings.Contains(out, fmt.Sprintf("SUCCESS: %d rules", len(queries))) {
		t.Errorf("%v\n%s\n%s", err, out, b.String())
	}
}

// What is refused is fast, and no panel of durations shows refusals: a pool is not at its best
// while its server is dead.
func TestDurationsAreNotOfRefusals(t *testing.T) {
	// For five minutes uses take 100 to 500 ms. Then the server is dead: a few uses time out after
	// more than a second, and the breaker refuses a hundred times as many within a millisecond.
	series := func(labels string, le string, values string) string {
		return fmt.Sprintf("      - series: 'db_client_operation_duration_seconds_bucket{job=\"j\", instance=\"i\", db_client_connection_pool_name=\"p\", "+
			"db_operation_name=\"GET\"%s, le=%q}'\n        values: '%s'\n", labels, le, values)
	}
	var input strings.Builder
	for _, kind := range []struct {
		labels  string
		fastest int // of the bounds: the first bucket that has uses
		values  string
	}{
		{"", 2, "0+20x20 400x20"},
		{`, error_type="timeout_attempt"`, 3, "0x20 0+10x20"},
		{`, error_type="breaker_open"`, 0, "0x20 0+1000x20"},
		{`, error_type="breaker_half_open"`, 0, "0x20 0+10x20"},
		{`, error_type="pool_exhausted"`, 0, "0x20 0+10x20"},
		{`, error_type="timeout_begin"`, 0, "0x20 0+10x20"},
	} {
		for i, le := range []string{"0.001", "0.1", "0.5", "5", "+Inf"} {
			if i < kind.fastest {
				input.WriteString(series(kind.labels, le, "0x40"))
			} else {
				input.WriteString(series(kind.labels, le, kind.values))
			}
		}
	}
	var tests strings.Builder
	expect := func(q Query, at, condition string, holds bool) {
		expr, err := json.Marshal(fmt.Sprintf("count((%s) %s)", q.PromQL(2*time.Minute), condition))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&tests, "      - eval_time: %s\n        expr: %s\n", at, expr)
		if holds {
			tests.WriteString("        exp_samples: [{labels: '{}', value: 1}]\n")
		}
	}
	durations := 0
	for _, q := range newDashboards(t).Queries() {
		switch buckets := strings.Contains(q.Expr, "db_client_operation_duration_seconds_bucket"); {
		case buckets && strings.HasPrefix(q.Expr, "histogram_quantile("):
			failures := strings.Contains(q.Expr, `error_type!~"|`)
			expect(q, "5m", "> 0.1 < 0.5", !failures)
			expect(q, "10m", "< 1", false)
			expect(q, "10m", "> 1", failures)
			durations++
		case buckets: // the heatmap: all of its buckets, of which the fastest are empty
			expect(q, "10m", "> 0", false)
			durations++
		}
	}
	if durations != 7 {
		t.Errorf("%d queries are about durations, want 7", durations)
	}
	file := "evaluation_interval: 15s\ntests:\n  - interval: 15s\n    input_series:\n" + input.String() + "    promql_expr_test:\n" + tests.String()
	if out, err := promtool(t, file, "test", "rules"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// series describes a series in Prometheus: its labels, and its metric in the catalogue, or "" for
// none.
type series struct {
	labels []string
	metric string
}

func known(t testing.TB) map[string]series {
	t.Helper()
	all := map[string]series{"up": {labels: []string{"job", "instance"}}}
	for _, name := range newRules(t).Recorded() {
		all[name] = series{labels: []string{"job", "instance", "pool"}}
	}
	for _, i := range metrics.Catalogue() {
		labels := []string{"job", "instance"}
		for _, a := range i.Attributes {
			labels = append(labels, promql.Label(a))
		}
		if i.Kind != metrics.Histogram {
			all[i.PrometheusName()] = series{labels, i.Name}
			continue
		}
		for _, suffix := range []string{"_count", "_sum"} {
			all[i.PrometheusName()+suffix] = series{labels, i.Name}
		}
		all[i.PrometheusName()+"_bucket"] = series{append(slices.Clone(labels), "le"), i.Name}
	}
	return all
}

var (
	quoted   = regexp.MustCompile(`"[^"]*"`)
	selector = regexp.MustCompile(`([a-zA-Z_:][a-zA-Z0-9_:]*)\{([^}]*)\}`)
	duration = regexp.MustCompile(`\[[^\]]*\]`)
	grouping = regexp.MustCompile(`\b(?:by|on) \(([^)]*)\)`)
	word     = regexp.MustCompile(`[a-zA-Z_:][a-zA-Z0-9_:]*`)
	matcherL = regexp.MustCompile(`([a-z_]+)\s*(?:=~|!~|!=|=)`)
	list     = regexp.MustCompile(`, *`)
)

// functions are all used PromQL keywords and functions.
var functions = strings.Fields(`sum min max count group rate increase histogram_quantile label_replace avg_over_time present_over_time vector
and or unless by on label_values`)

// check returns the unknown names in query, and records the used metrics.
func check(query string, all map[string]series, used map[string]bool) (wrong []string) {
	query = quoted.ReplaceAllString(query, `""`)
	have := []string{"pool", "le"} // label_replace creates pool
	for _, found := range selector.FindAllStringSubmatch(query, -1) {
		s, ok := all[found[1]]
		if !ok {
			wrong = append(wrong, "the name "+found[1])
		}
		used[s.metric], used[found[1]] = true, true
		have = append(have, s.labels...)
		for _, m := range matcherL.FindAllStringSubmatch(found[2], -1) {
			if !slices.Contains(s.labels, m[1]) {
				wrong = append(wrong, "the label "+m[1]+" of "+found[1])
			}
		}
	}
	query = selector.ReplaceAllString(query, "")
	rest := duration.ReplaceAllString(grouping.ReplaceAllString(query, ""), "")
	for _, w := range word.FindAllString(rest, -1) {
		if s, ok := all[w]; ok { // a name without braces, as in the rules
			used[s.metric], used[w] = true, true
			have = append(have, s.labels...)
		} else if !slices.Contains(functions, w) {
			wrong = append(wrong, "the word "+w)
		}
	}
	for _, found := range grouping.FindAllStringSubmatch(query, -1) {
		for _, label := range list.Split(found[1], -1) {
			if !slices.Contains(have, label) {
				wrong = append(wrong, "the label "+label)
			}
		}
	}
	return wrong
}

var expr = regexp.MustCompile(`(?m)^        expr: \|-\n((?: {10}.*\n)+)`)

// Every name in a query is a catalogue name with its suffix, or a recorded name. Every label
// belongs to its series. Every collected or recorded series is used in a panel or a rule.
func TestQueriesAgreeWithTheCatalogue(t *testing.T) {
	all, used := known(t), map[string]bool{}
	d := newDashboards(t)
	for _, q := range d.Queries() {
		if wrong := check(q.Expr, all, used); wrong != nil {
			t.Errorf("%s, %s, %s: there is not %s:\n%s", q.Dashboard, q.Panel, q.RefID, strings.Join(wrong, ", "), q.Expr)
		}
	}
	for _, one := range d.all {
		for _, v := range one.model().Templating.List {
			if v.Type != "query" {
				continue
			}
			_, label, _ := strings.Cut(strings.TrimSuffix(v.Definition, ")"), ", ")
			label = label[strings.LastIndex(label, " ")+1:]
			if wrong := check(strings.TrimSuffix(v.Definition, label+")")+`"")`, all, used); wrong != nil {
				t.Errorf("%s, variable %s: there is not %s", one.title, v.Name, strings.Join(wrong, ", "))
			}
		}
	}
	inRules := 0
	files := newRules(t).Files()
	for _, name := range []string{"poolstack-recording.yaml", "poolstack-alerts.yaml"} {
		for _, e := range expr.FindAllStringSubmatch(string(files[name]), -1) {
			inRules++
			if wrong := check(e[1], all, used); wrong != nil {
				t.Errorf("%s: there is not %s:\n%s", name, strings.Join(wrong, ", "), e[1])
			}
		}
	}
	if inRules != 24 {
		t.Errorf("%d expressions are in the rules, want 24", inRules)
	}
	for _, i := range metrics.Catalogue() {
		if !used[i.Name] {
			t.Errorf("%s is collected, and neither in a panel nor in a rule", i.Name)
		}
	}
	for _, name := range newRules(t).Recorded() {
		if !used[name] {
			t.Errorf("%s is recorded, and neither in a panel nor in an alert", name)
		}
	}
}

// The check above finds mistakes.
func TestCheckSees(t *testing.T) {
	for query, want := range map[string]string{
		`sum(poolstack_timeouts{job="a"})`:                                 "the name poolstack_timeouts",
		`sum(poolstack_timeouts_total{poolstack_reason="a"})`:              "the label poolstack_reason of poolstack_timeouts_total",
		`sum by (poolstack_layer) (poolstack_timeouts_total{job=~"$job"})`: "the label poolstack_layer",
		`rate(poolstack_timeout_total[5m])`:                                "the word poolstack_timeout_total",
		`db_client_operation_duration_seconds_count{le="1"}`:               "the label le of db_client_operation_duration_seconds_count",
		`stddev(poolstack_leaks_total)`:                                    "the word stddev",
	} {
		if wrong := check(query, known(t), map[string]bool{}); !slices.Contains(wrong, want) {
			t.Errorf("%s: found %q, want %q", query, wrong, want)
		}
	}
	if wrong := check(`sum by (poolstack_stage) (rate(poolstack_timeouts_total{job="a"}[5m]))`, known(t), map[string]bool{}); wrong != nil {
		t.Errorf("found %q where nothing is wrong", wrong)
	}
}

// The panels named in the runbook exist.
func TestRunbookPanels(t *testing.T) {
	titles := newDashboards(t).Titles()
	named := 0
	for _, a := range newRules(t).Alerts() {
		for _, q := range quoted.FindAllString(a.Look+" "+a.Change, -1) {
			if !slices.Contains(titles, strings.Trim(q, `"`)) {
				t.Errorf("%s: there is no panel %s", a.Name, q)
			}
			named++
		}
	}
	if named < 10 {
		t.Errorf("only %d panels are named", named)
	}
}

// Each panel has a description, panels of durations link to traces, and no panels overlap.
func TestPanels(t *testing.T) {
	for name, content := range newDashboards(t).Files() {
		var m model
		if err := json.Unmarshal(content, &m); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		ids, taken := map[int]bool{}, map[[2]int]string{}
		for _, p := range m.Panels {
			if ids[p.ID] {
				t.Errorf("%s: two panels have the number %d", name, p.ID)
			}
			ids[p.ID] = true
			for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
				for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
					if other := taken[[2]int{x, y}]; other != "" || x >= fullWidth {
						t.Fatalf("%s: %s lies upon %s, or beyond the edge", name, p.Title, other)
					}
					taken[[2]int{x, y}] = p.Title
				}
			}
			if p.Type == "row" {
				continue
			}
			if len(p.Description) < 60 || !strings.HasSuffix(p.Description, ".") {
				t.Errorf("%s: %s says too little: %q", name, p.Title, p.Description)
			}
			for _, target := range p.Targets {
				latency := strings.Contains(target.Expr, "operation_duration_seconds_bucket")
				if latency && (!target.Exemplar || len(p.FieldConfig.Defaults.Links) != 2) {
					t.Errorf("%s: %s has no exemplars, or no links", name, p.Title)
				}
				if target.Datasource.UID != "${datasource}" {
					t.Errorf("%s: %s asks %s", name, p.Title, target.Datasource.UID)
				}
			}
		}
	}
}

func TestExplore(t *testing.T) {
	got := explore("tempo", map[string]any{"query": `{ a = "${pool}" && b }`})
	want := `/explore?schemaVersion=1&panes=%7B%22a%22%3A%7B%22datasource%22%3A%22${tempo}%22%2C%22queries%22%3A%5B%7B%22datasource%22%3A%7B` +
		`%22type%22%3A%22tempo%22%2C%22uid%22%3A%22${tempo}%22%7D%2C%22query%22%3A%22%7B%20a%20%3D%20%5C%22${pool}%5C%22%20%5Cu0026%5Cu0026%20b%20%7D%22` +
		`%2C%22refId%22%3A%22A%22%7D%5D%2C%22range%22%3A%7B%22from%22%3A%22${__from}%22%2C%22to%22%3A%22${__to}%22%7D%7D%7D`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestValidate(t *testing.T) {
	for _, objective := range []float64{-1, 50, 100, math.Inf(1), math.NaN()} {
		if _, err := New(Config{Objective: objective}); err == nil || !strings.Contains(err.Error(), "Objective is") {
			t.Errorf("%v: got %v", objective, err)
		}
	}
}
