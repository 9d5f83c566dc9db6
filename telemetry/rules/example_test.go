package rules_test

import (
	"fmt"
	"strings"

	"github.com/earnorm/poolstack/telemetry/rules"
)

// A team has its own objective and a wiki.
func Example() {
	r, err := rules.New(rules.Config{Objective: 99.95, Runbooks: "https://wiki.example.com/pools"})
	if err != nil {
		fmt.Println(err)
		return
	}
	for line := range strings.Lines(string(r.Files()["poolstack-alerts.yaml"])) {
		if strings.Contains(line, "ratio_rate1h >") || strings.Contains(line, "#poolstackbreakeropen") {
			fmt.Println(strings.TrimSpace(line))
		}
	}
	_, err = rules.New(rules.Config{Objective: 0.9995})
	fmt.Println(err)
	// Output:
	// runbook_url: "https://wiki.example.com/pools#poolstackbreakeropen"
	// pool:poolstack_errors_per_use:ratio_rate1h > 14.4 * 0.0005
	// rules: Objective is 0.9995: must be 0 (default 99.9) or from 94 up to, but not, 100 percent
}
