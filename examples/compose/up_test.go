package compose_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/earnorm/poolstack/examples/tools"
)

// underRace reports whether the race detector is on. The detector does not see the containers, so
// the test skips under the detector.
var underRace bool

// The services available in the test. Grafana and Tempo have no replacement images.
var services = []string{"collector", "demo", "jaeger", "mongo", "prometheus", "redis"}

// A stack is a project started by docker compose.
type stack struct {
	docker  docker
	compose string // the program
	project string
}

// run runs a command of docker compose.
func (s stack) run(ctx context.Context, args ...string) (string, error) {
	args = append([]string{"--project-name", s.project, "--file", composeFile, "--file", overrideFile}, args...)
	return output(ctx, s.docker.env, nil, s.compose, args...)
}

// projectPrefix is followed by the process id of the test. The project and the images' tag have
// this name.
const projectPrefix = "poolstack-test-"

// sweep removes projects of earlier tests that were killed.
func sweep(t *testing.T, d docker, compose string) {
	t.Helper()
	// The project of each container.
	projects := d.lines(t, "ps", "--all", "--format", `{{.Label "com.docker.compose.project"}}`)
	slices.Sort(projects)
	for _, project := range slices.Compact(projects) {
		if pid, ok := strings.CutPrefix(project, projectPrefix); ok && hasEnded(pid) {
			stack{docker: d, compose: compose, project: project}.down(t)
		}
	}
	for _, name := range d.lines(t, "images", "--format", "{{.Repository}}:{{.Tag}}") {
		if repository, tag, _ := strings.Cut(name, ":"); strings.HasPrefix(repository, imagePrefix) && hasEnded(tag) {
			d.lines(t, "image", "rm", name)
		}
	}
}

// hasEnded reports whether pid is the id of an ended process.
func hasEnded(pid string) bool {
	id, err := strconv.Atoi(pid)
	return err == nil && errors.Is(syscall.Kill(id, 0), syscall.ESRCH)
}

// up does the same as make up, but with replacement images, on free ports, and as a separate
// project. The project is removed after the test.
func up(t *testing.T) stack {
	t.Helper()
	d := needDocker(t)
	tag := strconv.Itoa(os.Getpid())
	s := stack{docker: d, compose: tools.Need(t, tools.Compose), project: projectPrefix + tag}
	sweep(t, d, s.compose)
	makeImages(t, d, tag)
	s.docker.env = append(slices.Clip(d.env), "STANDIN="+tag)
	for _, port := range []string{"MONGO", "REDIS", "OTLP_GRPC", "OTLP_HTTP", "JAEGER", "PROMETHEUS"} {
		s.docker.env = append(s.docker.env, port+"_PORT=0")
	}
	t.Cleanup(func() { s.down(t) })
	args := append([]string{"up", "--wait", "--wait-timeout", "180", "--no-build", "--pull", "never", "--quiet-pull"}, services...)
	if _, err := s.run(t.Context(), args...); err != nil {
		logs, logsErr := s.run(t.Context(), "logs", "--no-color", "--tail", "40")
		t.Fatalf("%v\n%s%v", err, logs, logsErr)
	}
	return s
}

// down does the same as make down, and checks that nothing remains.
func (s stack) down(t *testing.T) {
	t.Helper()
	mine := []string{"--quiet", "--filter", "label=com.docker.compose.project=" + s.project}
	all := append([]string{"ps", "--all"}, mine...)
	volumes := s.volumes(t, s.docker.lines(t, all...))
	if _, err := s.run(context.WithoutCancel(t.Context()), "down", "--volumes"); err != nil {
		t.Error(err)
	}
	for _, kind := range [][]string{{"ps", "--all"}, {"network", "ls"}, {"volume", "ls"}} {
		if left := s.docker.lines(t, append(kind, mine...)...); len(left) > 0 {
			t.Errorf("%q after down: %v", kind, left)
		}
	}
	for _, name := range s.docker.lines(t, "volume", "ls", "--quiet") {
		if slices.Contains(volumes, name) {
			t.Errorf("volume %s is left after down", name)
		}
	}
}

// volumes returns the names of all volumes mounted by containers. Unnamed volumes have no label, so
// a search by label would not find them.
func (s stack) volumes(t *testing.T, containers []string) []string {
	t.Helper()
	if len(containers) == 0 {
		return nil
	}
	return s.docker.lines(t, append([]string{"inspect", "--format", "{{range .Mounts}}{{.Name}} {{end}}"}, containers...)...)
}

// at returns the URL of a service's port.
func (s stack) at(t *testing.T, service string, port int) string {
	t.Helper()
	out, err := s.run(t.Context(), "port", service, strconv.Itoa(port))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(out, "127.0.0.1:") {
		t.Fatalf("%s: port %d is at %s", service, port, out)
	}
	return "http://" + strings.TrimSpace(out)
}

// TestUp starts the services of docker-compose.yml with replaced images, and follows the demo's
// telemetry.
func TestUp(t *testing.T) {
	if testing.Short() || underRace {
		t.Skip("it takes a minute, and has nothing for the race detector")
	}
	s := up(t)
	s.checkHealthy(t)
	jaeger, prometheus := s.at(t, "jaeger", 16686), s.at(t, "prometheus", 9090)
	t.Run("traces", func(t *testing.T) { checkTraces(t, jaeger) })
	t.Run("metrics", func(t *testing.T) { checkMetrics(t, prometheus) })
	t.Run("exemplars", func(t *testing.T) { checkExemplars(t, prometheus, jaeger) })
	t.Run("rules", func(t *testing.T) { checkRules(t, prometheus) })
}

func (s stack) checkHealthy(t *testing.T) {
	t.Helper()
	out, err := s.run(t.Context(), "ps", "--all", "--format", "{{.Service}} {{.State}} {{.Health}}")
	if err != nil {
		t.Fatal(err)
	}
	var states []string
	for line := range strings.Lines(out) {
		states = append(states, strings.TrimSpace(line))
	}
	slices.Sort(states)
	want := []string{"collector running", "demo running healthy", "jaeger running healthy", "mongo running healthy",
		"prometheus running healthy", "redis running healthy"}
	if !slices.Equal(states, want) {
		t.Errorf("the services are %q, want %q", states, want)
	}
}

// patience bounds the arrival of the demo's data. Prometheus scrapes every five seconds, and the
// machine may be busy.
const patience = time.Minute

// checkTraces requires traces of both pools.
func checkTraces(t *testing.T, jaeger string) {
	for _, system := range []string{"redis", "mongodb"} {
		tags, err := json.Marshal(map[string]string{"db.system.name": system, "span.kind": "client"})
		if err != nil {
			t.Fatal(err)
		}
		query := jaeger + "/api/traces?" + url.Values{"service": {"outage"}, "limit": {"5"}, "tags": {string(tags)}}.Encode()
		eventually(t, patience, "Jaeger has spans of "+system, func(ctx context.Context) error {
			var found struct{ Data []struct{ TraceID string } }
			if err := get(ctx, query, &found); err != nil || len(found.Data) > 0 {
				return err
			}
			return errors.New("there is none")
		})
	}
}

// A series is a result of a Prometheus query.
type series struct {
	Metric map[string]string
	Value  [2]any // time, and value as a string
}

// ask evaluates an expression in Prometheus.
func ask(ctx context.Context, prometheus, expression string) ([]series, error) {
	var answer struct{ Data struct{ Result []series } }
	err := get(ctx, prometheus+"/api/v1/query?"+url.Values{"query": {expression}}.Encode(), &answer)
	return answer.Data.Result, err
}

// expectSeries waits until an expression has a result.
func expectSeries(t *testing.T, prometheus, expression string) {
	t.Helper()
	eventually(t, patience, expression, func(ctx context.Context) error {
		found, err := ask(ctx, prometheus, expression)
		if err != nil || len(found) > 0 {
			return err
		}
		return errors.New("there is none")
	})
}

// checkMetrics requires the metrics of both pools, with the names and labels used by rules and
// dashboards. The faults must be visible.
func checkMetrics(t *testing.T, prometheus string) {
	for _, pool := range []string{"redis", "mongodb"} {
		labels := fmt.Sprintf(`{job="outage", instance="demo", db_client_connection_pool_name="%s"}`, pool)
		for _, expression := range []string{
			"db_client_operation_duration_seconds_count" + labels + " > 0",
			"db_client_operation_duration_seconds_bucket" + strings.Replace(labels, "}", `, le="0.005"}`, 1),
			"sum(db_client_connection_count" + labels + ") > 0",
			"poolstack_breaker_state" + strings.Replace(labels, "}", `, poolstack_state="closed"}`, 1),
			// The first fault comes after five seconds.
			"sum(poolstack_failures_total" + labels + ") > 0",
		} {
			expectSeries(t, prometheus, expression)
		}
	}
	found, err := ask(t.Context(), prometheus, `{__name__=~"(db|poolstack)_.+", otel_scope_name!=""}`)
	if err != nil || len(found) > 0 {
		t.Errorf("series with the scope as a label: %v, %v", found, err)
	}
}

// checkExemplars follows an exemplar from a pool's latency to its trace.
func checkExemplars(t *testing.T, prometheus, jaeger string) {
	eventually(t, patience, "an exemplar leads to its trace", func(ctx context.Context) error {
		var answer struct {
			Data []struct {
				Exemplars []struct{ Labels map[string]string }
			}
		}
		now := time.Now()
		err := get(ctx, prometheus+"/api/v1/query_exemplars?"+url.Values{
			"query": {`db_client_operation_duration_seconds_bucket{job="outage"}`},
			"start": {now.Add(-time.Minute).Format(time.RFC3339)}, "end": {now.Format(time.RFC3339)},
		}.Encode(), &answer)
		if err != nil || len(answer.Data) == 0 {
			return errors.Join(err, errors.New("there is no exemplar"))
		}
		newest := answer.Data[0].Exemplars[len(answer.Data[0].Exemplars)-1]
		var trace struct{ Data []struct{ TraceID string } }
		if err := get(ctx, jaeger+"/api/traces/"+newest.Labels["trace_id"], &trace); err != nil {
			return err
		}
		if len(trace.Data) != 1 || trace.Data[0].TraceID != newest.Labels["trace_id"] {
			return fmt.Errorf("for exemplar %v Jaeger has %v", newest, trace.Data)
		}
		return nil
	})
}

// checkRules requires every group of the mounted rules to be loaded and evaluated without an error.
// The rules must find the demo's pools.
func checkRules(t *testing.T, prometheus string) {
	want := 0
	for _, file := range files(t, "../../telemetry/rules") {
		var rules struct{ Groups []struct{ Name string } }
		if err := parse(file, &rules); err != nil {
			t.Fatal(err)
		}
		want += len(rules.Groups)
	}
	expectSeries(t, prometheus, `pool:poolstack_uses:sum{job="outage", instance="demo", pool="redis"} > 0`)
	expectSeries(t, prometheus, `pool:poolstack_uses:sum{job="outage", instance="demo", pool="mongodb"} > 0`)
	eventually(t, patience, "all rules are evaluated", func(ctx context.Context) error {
		var answer struct {
			Data struct {
				Groups []struct {
					Name  string
					Rules []struct{ Name, Health, LastError string }
				}
			}
		}
		if err := get(ctx, prometheus+"/api/v1/rules", &answer); err != nil {
			return err
		}
		if got := len(answer.Data.Groups); got != want || want == 0 {
			return fmt.Errorf("it has %d groups, want %d", got, want)
		}
		for _, g := range answer.Data.Groups {
			for _, r := range g.Rules {
				if r.Health != "ok" {
					return fmt.Errorf("%s, %s is %s: %s", g.Name, r.Name, r.Health, r.LastError)
				}
			}
		}
		return nil
	})
}

// get fetches JSON.
func get(ctx context.Context, from string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", from, resp.Status, body)
	}
	return json.Unmarshal(body, into)
}
