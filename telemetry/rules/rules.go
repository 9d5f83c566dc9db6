package rules

import (
	"bytes"
	_ "embed" // files.tmpl
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"text/template"
)

// Rules holds the rules and the runbook for a [Config]. It is immutable and safe for concurrent
// use.
type Rules struct {
	cfg       Config
	recording []recording
	alerts    []Alert
}

// New generates the rules for cfg. It returns an error if cfg is not valid.
func New(cfg Config) (*Rules, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	q := newQuery(cfg)
	return &Rules{cfg: cfg, recording: q.recordings(), alerts: q.alerts()}, nil
}

// Alerts returns the alerts in the order of the files.
func (r *Rules) Alerts() []Alert { return slices.Clone(r.alerts) }

// Recorded returns the names of the recorded series.
func (r *Rules) Recorded() []string {
	recorded := make([]string, len(r.recording))
	for i, rule := range r.recording {
		recorded[i] = rule.Record
	}
	return recorded
}

// RunbookURL returns the address of an alert's paragraph in the runbook.
func (r *Rules) RunbookURL(alert string) string { return r.cfg.Runbooks + "#" + strings.ToLower(alert) }

// Files returns the contents of the files by name: poolstack-recording.yaml, poolstack-alerts.yaml
// and RUNBOOK.md.
func (r *Rules) Files() map[string][]byte {
	return map[string][]byte{
		"poolstack-recording.yaml": r.render("recording"),
		"poolstack-alerts.yaml":    r.render("alerts"),
		"RUNBOOK.md":               r.render("runbook"),
	}
}

// setting matches a field of a Config in the runbook's text.
var setting = regexp.MustCompile(`\b[a-z]+\.Config\.[A-Z]\w*`)

//go:embed files.tmpl
var filesText string

var files = template.Must(template.New("").Funcs(template.FuncMap{
	"indent": func(n int, prefix, s string) string {
		margin := strings.Repeat(" ", n) + prefix
		return margin + strings.ReplaceAll(s, "\n", "\n"+margin)
	},
	"quote": quote,
	"mark":  func(s string) string { return setting.ReplaceAllString(s, "`$0`") },
	"short": short,
}).Parse(filesText))

// quote returns s as a YAML string. A JSON string is also a YAML string.
func quote(s string) (string, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(s)
	return strings.TrimSpace(b.String()), err
}

// render executes the template with the given name.
func (r *Rules) render(name string) []byte {
	type alert struct {
		Alert
		Conditions []condition
		URL        string
	}
	view := struct {
		Config    Config
		Recording []recording
		Alerts    []alert
	}{Config: r.cfg, Recording: r.recording}
	for _, a := range r.alerts {
		view.Alerts = append(view.Alerts, alert{a, a.conditions, r.RunbookURL(a.Name)})
	}
	var b bytes.Buffer
	if err := files.ExecuteTemplate(&b, name, view); err != nil {
		panic(err) // a mistake in the template, which every test would find
	}
	return b.Bytes()
}
