package observed

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/earnorm/poolstack/examples/servers/local"
	"github.com/earnorm/poolstack/examples/tools"
)

// A collector is an OpenTelemetry Collector that sends traces to a Jaeger and serves metrics to a
// Prometheus. It may be stopped and started again at the same addresses.
type collector struct {
	*program
	otlpHTTP, otlpGRPC string // addresses for traces and metrics, HOST:PORT
	metrics            string // address of the metrics page
	start              func() // starts the Collector again and waits until it is ready
}

// startCollector starts a collector.
func startCollector(t *testing.T, servers *local.Servers, jaeger *jaeger) *collector {
	t.Helper()
	path := tools.Need(t, tools.Collector)
	c := &collector{otlpHTTP: freeAddr(t), otlpGRPC: freeAddr(t), metrics: freeAddr(t)}
	health, config := freeAddr(t), filepath.Join(t.TempDir(), "collector.yml")
	text := fmt.Sprintf(`
receivers:
  otlp: {protocols: {http: {endpoint: %q}, grpc: {endpoint: %q}}}
processors:
  memory_limiter: {check_interval: 1s, limit_mib: 256}
  batch: {timeout: 100ms}
exporters:
  otlp: {endpoint: "${env:JAEGER_ENDPOINT}", tls: {insecure: true}}
  prometheus: {endpoint: %q, enable_open_metrics: true, without_scope_info: true}
extensions:
  health_check: {endpoint: %q}
service:
  extensions: [health_check]
  telemetry: {metrics: {level: none}}
  pipelines:
    traces: {receivers: [otlp], processors: [memory_limiter, batch], exporters: [otlp]}
    metrics: {receivers: [otlp], processors: [memory_limiter, batch], exporters: [prometheus]}
`, c.otlpHTTP, c.otlpGRPC, c.metrics, health)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c.start = func() {
		t.Helper()
		c.program = run(t, servers, []string{"JAEGER_ENDPOINT=" + jaeger.otlpGRPC}, path, "--config", config)
		c.awaitReady(t, "http://"+health+"/")
	}
	c.start()
	return c
}

// stop ends the Collector with a signal, like an operator or a crash.
func (c *collector) stop(t *testing.T, by syscall.Signal) {
	t.Helper()
	if !c.end(by) {
		t.Errorf("%s had to be killed:\n%s", c.name, c.lastWords())
	}
}
