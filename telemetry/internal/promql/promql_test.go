package promql

import (
	"os"
	"testing"

	"github.com/earnorm/poolstack/pool/pooltest"
)

func TestMain(m *testing.M) { os.Exit(pooltest.Main(m)) }

func TestTranslate(t *testing.T) {
	for query, want := range map[string]string{
		`rate(poolstack.timeouts{poolstack.stage="acquire"}[5m])`:                `rate(poolstack_timeouts_total{poolstack_stage="acquire"}[5m])`,
		`db.client.operation.duration_count{error.type="1.5"} > 0.5`:             `db_client_operation_duration_seconds_count{error_type="1.5"} > 0.5`,
		`poolstack.breaker.failure_ratio - poolstack.breaker.threshold`:          `poolstack_breaker_failure_ratio - poolstack_breaker_threshold_ratio`,
		`by (le, db.client.connection.pool.name) (pool:recorded:rate5m)`:         `by (le, db_client_connection_pool_name) (pool:recorded:rate5m)`,
		`label_replace(a, "pool", "", "db.client.connection.pool.name", "(.+)")`: `label_replace(a, "pool", "", "db_client_connection_pool_name", "(.+)")`,
	} {
		if got := Translate(query); got != want {
			t.Errorf("%s becomes %s, want %s", query, got, want)
		}
	}
}

func TestTranslateUnknown(t *testing.T) {
	for _, query := range []string{"poolstack.nothing", "poolstack.timeouts_bucket", `up{server.name="x"}`} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s is taken to be known", query)
				}
			}()
			Translate(query)
		}()
	}
}
