package dashboards_test

import (
	"fmt"
	"strings"
	"time"

	"github.com/earnorm/poolstack/telemetry/dashboards"
)

// The queries of the dashboards also work without Grafana.
func Example() {
	d, err := dashboards.New(dashboards.Config{Objective: 99.95})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, q := range d.Queries() {
		if q.Panel == "Timeouts, by what was cut short" {
			fmt.Println(q.Dashboard)
			fmt.Println(strings.ReplaceAll(q.PromQL(time.Minute), "[", "\n["))
		}
	}
	// Output:
	// Pools: one pool
	// sum by (poolstack_stage) (rate(poolstack_timeouts_total{job=~".*", instance=~".*", db_client_connection_pool_name=~".+"}
	// [60s]))
}
