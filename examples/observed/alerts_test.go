package observed

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/earnorm/poolstack/telemetry/dashboards"
	"github.com/earnorm/poolstack/telemetry/rules"
)

// hasty are rules for outages of a few seconds.
var hasty = rules.Config{
	For: time.Second, BreakerFor: time.Second, AbsentFor: time.Second, KeepFiring: time.Second, MinErrors: 1,
}

// writeRules writes the rules to files and returns the part of Prometheus' configuration that loads
// them.
func writeRules(t *testing.T) string {
	t.Helper()
	made, err := rules.New(hasty)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, content := range made.Files() {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return fmt.Sprintf("rule_files: [%q]\n", filepath.Join(dir, "*.yaml"))
}

// checkRules checks that Prometheus could evaluate all rules, and that it has all of them.
func checkRules(t *testing.T, p *prometheus) {
	made, err := rules.New(hasty)
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError string }
		}
	}
	if err := ask(p.api("rules"), &answer); err != nil {
		t.Fatal(err)
	}
	healthy := map[string]bool{}
	for _, group := range answer.Groups {
		for _, rule := range group.Rules {
			healthy[rule.Name] = true
			if rule.Health != "ok" {
				t.Errorf("%s is %s: %s", rule.Name, rule.Health, rule.LastError)
			}
		}
	}
	for _, alert := range made.Alerts() {
		if !healthy[alert.Name] {
			t.Errorf("Prometheus does not know the alert %s", alert.Name)
		}
	}
	for _, name := range made.Recorded() {
		if !healthy[name] {
			t.Errorf("Prometheus does not record %s", name)
		}
	}
}

// checkBreakerAlert checks the alert of each pool's breaker. The alert fired, and ended while the
// pool still reported.
func checkBreakerAlert(t *testing.T, p *prometheus) {
	for _, pool := range []string{"redis", "mongodb"} {
		firing, err := p.history(fmt.Sprintf(`ALERTS{alertname="PoolstackBreakerOpen", alertstate="firing", pool=%q}`, pool))
		if err != nil {
			t.Fatal(err)
		}
		closed, err := p.history(fmt.Sprintf(`poolstack_breaker_state{poolstack_state="closed", db_client_connection_pool_name=%q} == 1`, pool))
		if err != nil {
			t.Fatal(err)
		}
		if len(firing) == 0 {
			t.Errorf("%s: PoolstackBreakerOpen did not fire", pool)
			continue
		}
		first, resolved := firing.first(), 0
		for at := range closed {
			if at > first && !firing[at] {
				resolved++
			}
		}
		if resolved == 0 {
			t.Errorf("%s: PoolstackBreakerOpen fired and was not resolved when the breaker had closed", pool)
		}
		t.Logf("%s: the breaker's alert fired for %d s, and was resolved for %d s with the breaker closed", pool, len(firing), resolved)
	}
}

// checkDashboards asks every query of every dashboard.
func checkDashboards(t *testing.T, p *prometheus) {
	made, err := dashboards.New(dashboards.Config{Objective: hasty.Objective})
	if err != nil {
		t.Fatal(err)
	}
	const over = 10 * time.Second // enough scrapes for a rate
	for _, q := range made.Queries() {
		answer, err := p.history(q.PromQL(over))
		if err == nil && len(answer) == 0 && q.Panel != "Slow calls" { // the breakers of the demo have no SlowCall
			err = errors.New("no data")
		}
		if err != nil {
			t.Errorf("%s, %s, %s: %v: %s", q.Dashboard, q.Panel, q.RefID, err, q.PromQL(over))
		}
	}
	t.Logf("%d queries", len(made.Queries()))
}

// moments are the seconds since 1970 in which an expression had a value.
type moments map[int64]bool

func (m moments) first() int64 {
	first := int64(0)
	for at := range m {
		if first == 0 || at < first {
			first = at
		}
	}
	return first
}

// history returns the moments since the start in which an expression had a number as its value.
func (p *prometheus) history(expression string) (moments, error) {
	var answer struct {
		Result []struct{ Values [][2]any }
	}
	if err := ask(p.api("query_range", append(p.window(), "step", "1", "query", expression)...), &answer); err != nil {
		return nil, err
	}
	m := moments{}
	for _, series := range answer.Result {
		for _, v := range series.Values {
			if n, err := strconv.ParseFloat(v[1].(string), 64); err == nil && n == n { // not NaN
				m[int64(v[0].(float64))] = true
			}
		}
	}
	return m, nil
}
