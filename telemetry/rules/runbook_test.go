package rules

import (
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/earnorm/poolstack/middleware/breaker"
	"github.com/earnorm/poolstack/middleware/retry"
	"github.com/earnorm/poolstack/middleware/timeout"
	"github.com/earnorm/poolstack/pool"
)

// Each alert has a paragraph, and each paragraph has an alert.
func TestRunbook(t *testing.T) {
	r := newRules(t, Config{})
	files := r.Files()
	var anchors, wanted []string
	for _, heading := range regexp.MustCompile(`(?m)^## (\w+)$`).FindAllStringSubmatch(string(files["RUNBOOK.md"]), -1) {
		// The anchors as generated from headings.
		anchors = append(anchors, DefaultRunbooks+"#"+strings.ToLower(heading[1]))
	}
	for _, url := range regexp.MustCompile(`runbook_url: "(.+)"`).FindAllStringSubmatch(string(files["poolstack-alerts.yaml"]), -1) {
		wanted = append(wanted, url[1])
	}
	slices.Sort(wanted)
	wanted = slices.Compact(wanted) // an alert may have several rules
	slices.Sort(anchors)
	if !slices.Equal(anchors, wanted) {
		t.Errorf("the alerts point to\n%q,\nthe runbook has\n%q", wanted, anchors)
	}
	for _, a := range r.Alerts() {
		if a.Meaning == "" || a.Look == "" || a.Change == "" || a.Summary == "" {
			t.Errorf("%s: something is missing", a.Name)
		}
	}
}

// The settings named in the runbook exist.
func TestRunbookSettings(t *testing.T) {
	configs := map[string]reflect.Type{
		"pool": reflect.TypeFor[pool.Config](), "retry": reflect.TypeFor[retry.Config](),
		"breaker": reflect.TypeFor[breaker.Config](), "timeout": reflect.TypeFor[timeout.Config](),
	}
	named := 0
	for _, a := range newRules(t, Config{}).Alerts() {
		for _, s := range setting.FindAllString(a.Meaning+" "+a.Look+" "+a.Change, -1) {
			parts := strings.Split(s, ".")
			config, ok := configs[parts[0]]
			if ok {
				_, ok = config.FieldByName(parts[2])
			}
			if !ok {
				t.Errorf("%s: there is no %s", a.Name, s)
			}
			named++
		}
	}
	if named < 10 {
		t.Errorf("only %d settings are named", named)
	}
}
