package promql_test

import (
	"fmt"

	"github.com/earnorm/poolstack/telemetry/internal/promql"
)

// Queries use the catalogue's names.
func ExampleTranslate() {
	fmt.Println(promql.Translate(`sum by (poolstack.stage) (rate(poolstack.timeouts[5m]))`))
	fmt.Println(promql.Translate(`rate(db.client.operation.duration_count{error.type=""}[5m])`))
	// Output:
	// sum by (poolstack_stage) (rate(poolstack_timeouts_total[5m]))
	// rate(db_client_operation_duration_seconds_count{error_type=""}[5m])
}
