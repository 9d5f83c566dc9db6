package observed

import (
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/earnorm/poolstack/examples/servers/local"
)

// A prometheus is a running Prometheus.
type prometheus struct {
	*program
	url     string
	started time.Time
}

// startPrometheus starts a Prometheus that scrapes target every second.
func startPrometheus(t *testing.T, servers *local.Servers, job, target string, more ...string) *prometheus {
	t.Helper()
	path := needPrometheus(t)
	addr, dir := freeAddr(t), t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	text := fmt.Sprintf("global: {scrape_interval: 1s, evaluation_interval: 1s}\n"+
		"scrape_configs:\n- job_name: %s\n  honor_labels: true\n  static_configs: [{targets: [%q]}]\n%s", job, target, strings.Join(more, "\n"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &prometheus{url: "http://" + addr, started: time.Now()}
	p.program = run(t, servers, nil, path, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+addr, "--enable-feature=exemplar-storage", "--log.level=warn")
	p.awaitReady(t, p.url+"/-/ready")
	return p
}

// api returns the address of an API call. The parameters are in pairs.
func (p *prometheus) api(call string, pairs ...string) string {
	values := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		values.Add(pairs[i], pairs[i+1])
	}
	return p.url + "/api/v1/" + call + "?" + values.Encode()
}

// window returns the time from the start until now, as parameters.
func (p *prometheus) window() []string {
	return []string{"start", p.started.UTC().Format(time.RFC3339), "end", time.Now().Add(time.Second).UTC().Format(time.RFC3339)}
}

// labels are a series' name and labels.
type labels map[string]string

// series returns all matching series, including ended series.
func (p *prometheus) series(match string) (all []labels, err error) {
	err = ask(p.api("series", append(p.window(), "match[]", match)...), &all)
	return all, err
}

// exemplar is an exemplar with a trace.
type exemplar struct {
	series labels
	labels labels
}

// exemplars returns the exemplars of all matching series.
func (p *prometheus) exemplars(match string) ([]exemplar, error) {
	var answer []struct {
		SeriesLabels labels `json:"seriesLabels"`
		Exemplars    []struct {
			Labels labels `json:"labels"`
		} `json:"exemplars"`
	}
	if err := ask(p.api("query_exemplars", append(p.window(), "query", match)...), &answer); err != nil {
		return nil, err
	}
	var all []exemplar
	for _, series := range answer {
		for _, e := range series.Exemplars {
			all = append(all, exemplar{series.SeriesLabels, e.Labels})
		}
	}
	return all, nil
}

// A sample is a value in the response to an instant query.
type sample struct {
	Metric labels `json:"metric"`
	Value  [2]any `json:"value"` // time, and value as a string
}

// query returns the value of an expression for each set of labels.
func (p *prometheus) query(expression string) ([]sample, error) {
	var answer struct {
		Result []sample `json:"result"`
	}
	err := ask(p.api("query", "query", expression), &answer)
	return answer.Result, err
}

// metadata is a target's metadata of a metric.
type metadata struct{ Type, Help, Unit string }

// A notebook collects metadata while the target exists. Prometheus forgets the metadata with the
// target.
type notebook struct {
	mu   sync.Mutex
	seen map[string]map[metadata]bool // by metric
}

// note adds the metadata in Prometheus.
func (n *notebook) note(p *prometheus) error {
	var answer map[string][]metadata
	if err := ask(p.api("metadata"), &answer); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.seen == nil {
		n.seen = map[string]map[metadata]bool{}
	}
	for name, all := range answer {
		if n.seen[name] == nil {
			n.seen[name] = map[metadata]bool{}
		}
		for _, m := range all {
			n.seen[name][m] = true
		}
	}
	return nil
}

// of returns the collected metadata of a metric.
func (n *notebook) of(metric string) map[metadata]bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.seen[metric])
}
