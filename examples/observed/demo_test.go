package observed

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/earnorm/poolstack/examples/servers/local"
)

// password is in the URLs given to the demo. Neither server requires a password, and both accept
// any.
const password = "hunter2-of-the-demo"

// The outage demo, as played by `make demo`, is visible in Jaeger and in Prometheus.
func TestOutage(t *testing.T) {
	servers := startServers(t)
	jaeger := startJaeger(t, servers)
	metrics := freeAddr(t)
	prometheus := startPrometheus(t, servers, "outage", metrics, writeRules(t))
	notes := playOutage(t, servers, jaeger, prometheus, metrics)

	traces := awaitTraces(t, jaeger, prometheus)
	t.Run("traces", func(t *testing.T) { checkTraces(t, traces, uses(t, servers)) })
	t.Run("metrics", func(t *testing.T) { checkCatalogue(t, prometheus, notes, true) })
	t.Run("exemplars", func(t *testing.T) { checkExemplars(t, prometheus, traces) })
	t.Run("rules", func(t *testing.T) { checkRules(t, prometheus) })
	t.Run("alerts", func(t *testing.T) { checkBreakerAlert(t, prometheus) })
	t.Run("dashboards", func(t *testing.T) { checkDashboards(t, prometheus) })
	t.Run("secrets", func(t *testing.T) { checkSecrets(t, jaeger, prometheus) })
}

// playOutage builds and runs the demo. It returns the metadata which Prometheus has received.
func playOutage(t *testing.T, servers *local.Servers, jaeger *jaeger, prometheus *prometheus, metrics string) *notebook {
	t.Helper()
	path := filepath.Join(t.TempDir(), "outage")
	if out, err := exec.Command("go", "build", "-o", path, "../outage").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	env := append(servers.Env(),
		"REDIS_URL="+withPassword(t, servers.RedisURL(), "default", ""),
		"MONGODB_URI="+withPassword(t, servers.MongoDBURI(), "outage", "authMechanism=PLAIN"),
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://"+jaeger.otlpHTTP+"/v1/traces",
		// No span may be dropped, because the test checks every trace.
		"OTEL_BSP_MAX_QUEUE_SIZE=100000", "OTEL_BSP_SCHEDULE_DELAY=500",
	)
	page := filepath.Join(t.TempDir(), "outage.html")
	demo := run(t, servers, env, path, "-duration", "30s", "-metrics", metrics, "-page", page)
	notes := &notebook{}
	looks, late := time.NewTicker(500*time.Millisecond), time.After(2*time.Minute)
	defer looks.Stop()
	for !demo.over() {
		if err := notes.note(prometheus); err != nil {
			t.Fatal(err)
		}
		select {
		case <-demo.ended:
		case <-looks.C:
		case <-late:
			t.Fatalf("the demo does not come to its end:\n%s", demo.lastWords())
		}
	}
	// The demo's own test checks the invariants, with tolerance for a busy machine. Status 1 means an
	// invariant did not hold.
	if status := demo.cmd.ProcessState.ExitCode(); status > 1 || status < 0 {
		t.Fatalf("the demo ended with %v:\n%s", demo.cmd.ProcessState, demo.lastWords())
	}
	if text, err := os.ReadFile(page); err != nil || strings.Contains(string(text), password) || strings.Contains(string(text), "://") {
		t.Errorf("the page is not there, or holds the password or a URL: %d bytes, %v", len(text), err)
	}
	for _, unwanted := range []string{"could be sent", "is taken"} {
		if strings.Contains(demo.output(), unwanted) {
			t.Errorf("the demo says %q:\n%s", unwanted, demo.output())
		}
	}
	return notes
}

func withPassword(t *testing.T, server, user, query string) string {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	u.User, u.RawQuery = url.UserPassword(user, password), query
	return u.String()
}

// awaitTraces returns all traces of the demo, after every use counted by Prometheus is in Jaeger.
func awaitTraces(t *testing.T, jaeger *jaeger, prometheus *prometheus) (traces []jaegerTrace) {
	t.Helper()
	counted, err := prometheus.query("sum(max_over_time(db_client_operation_duration_seconds_count[10m]))")
	if err != nil || len(counted) != 1 {
		t.Fatalf("how many uses there were: %v, %v", counted, err)
	}
	var uses int
	if _, err := fmt.Sscan(counted[0].Value[1].(string), &uses); err != nil {
		t.Fatal(err)
	}
	if uses < 2000 {
		t.Errorf("Prometheus has counted only %d uses", uses)
	}
	eventually(t, patience, "all traces are in Jaeger", func() error {
		if traces, err = jaeger.traces("outage"); err == nil && len(traces) < uses {
			err = fmt.Errorf("%d traces for %d uses", len(traces), uses)
		}
		return err
	})
	t.Logf("%d uses counted by the last scrape, %d traces", uses, len(traces))
	return traces
}

// checkExemplars follows every exemplar to its trace.
func checkExemplars(t *testing.T, prometheus *prometheus, traces []jaegerTrace) {
	exemplars, err := prometheus.exemplars("db_client_operation_duration_seconds_bucket")
	if err != nil {
		t.Fatal(err)
	}
	byID := map[string]jaegerTrace{}
	for _, trace := range traces {
		byID[trace.TraceID] = trace
	}
	pools := map[string]int{}
	for _, e := range exemplars {
		if err := leads(e, byID); err != nil {
			t.Errorf("the exemplar %v of %v: %v", e.labels, e.series, err)
		}
		pools[e.series["db_client_connection_pool_name"]]++
	}
	if pools["redis"] == 0 || pools["mongodb"] == 0 {
		t.Errorf("exemplars by pool: %v", pools)
	}
	t.Logf("exemplars by pool: %v", pools)
}

// leads returns an error unless an exemplar leads to a span of its series.
func leads(e exemplar, traces map[string]jaegerTrace) error {
	trace, ok := traces[e.labels["trace_id"]]
	if !ok {
		return errors.New("no such trace in Jaeger")
	}
	for _, s := range trace.Spans {
		if s.SpanID != e.labels["span_id"] {
			continue
		}
		for label, tag := range map[string]string{
			"db_client_connection_pool_name": "db.client.connection.pool.name", "error_type": "error.type",
		} {
			if s.Tags.get(tag) != e.series[label] {
				return fmt.Errorf("the span has %s %q", tag, s.Tags.get(tag))
			}
		}
		if operation := e.series["db_operation_name"]; !strings.HasPrefix(s.OperationName, operation+" ") {
			return fmt.Errorf("the span is of %q", s.OperationName)
		}
		return nil
	}
	return errors.New("no such span in the trace")
}

// checkSecrets searches all data of Jaeger and Prometheus for texts written by the demo and for the
// password.
func checkSecrets(t *testing.T, jaeger *jaeger, prometheus *prometheus) {
	for name, url := range map[string]string{
		"Jaeger":        jaeger.tracesURL("outage"),
		"Prometheus":    prometheus.api("series", append(prometheus.window(), "match[]", `{__name__!=""}`)...),
		"its exemplars": prometheus.api("query_exemplars", append(prometheus.window(), "query", "db_client_operation_duration_seconds_bucket")...),
	} {
		text, err := get(url)
		if err != nil || len(text) < 10_000 {
			t.Errorf("%s: %d bytes, %v", name, len(text), err)
		}
		for what, secret := range map[string]string{
			"the password": password, "a URL": "redis:/", "a URI": "mongodb:/", "a key": "outage:", "a collection": "_stack_",
			"a value": "written by put", "a statement": "$inc", "an error's text": "connection refused",
		} {
			if i := strings.Index(string(text), secret); i >= 0 {
				t.Errorf("%s holds %s: %s", name, what, text[max(0, i-200):min(len(text), i+200)])
			}
		}
	}
}
