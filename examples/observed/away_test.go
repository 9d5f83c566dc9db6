package observed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/earnorm/poolstack/examples/servers/local"
	"github.com/earnorm/poolstack/telemetry"
	_ "github.com/earnorm/poolstack/telemetry/otlpgrpc" // traces go by gRPC, metrics by HTTP
)

// The effects of an absent Collector on the application. Ideally there are none, but the machine
// may be busy.
const (
	leastRate = 0.3 // part of the uses per second with the Collector
	// A use that waits for the Collector takes longer, because the exporters' timeouts begin at 10 s.
	longestUse     = 3 * time.Second
	moreGoroutines = 16 // more than with the Collector
	// In bytes: a full queue of spans. All spans made meanwhile would take twice as much.
	moreHeap = 6 << 20
	// Time until spans and metrics arrive again. Package telemetry promises to reconnect in half the
	// time.
	backWithin = 20 * time.Second
)

// A Collector is between a program under load and Jaeger and Prometheus. The test stops, freezes
// and kills the Collector, which comes back each time.
func TestCollectorAway(t *testing.T) {
	servers := startServers(t)
	jaeger := startJaeger(t, servers)
	collector := startCollector(t, servers, jaeger)
	prometheus := startPrometheus(t, servers, "collector", collector.metrics)
	tel := setUp(t, collector)
	defer shutDown(t, tel)
	l := newLoad(t, servers, tel)
	l.begin(t.Context())
	defer l.end()

	awaitArrival(t, l, jaeger, prometheus)
	t.Run("traces", func(t *testing.T) { checkRequests(t, servers, l, jaeger) })
	t.Run("exemplars", func(t *testing.T) { checkExemplarsBehind(t, jaeger, prometheus) })
	t.Run("metrics", func(t *testing.T) {
		notes := &notebook{}
		if err := notes.note(prometheus); err != nil {
			t.Fatal(err)
		}
		checkCatalogue(t, prometheus, notes, false)
	})
	with := l.watch(4 * time.Second)
	t.Logf("with the Collector: %v", with)

	for _, outage := range []struct {
		name       string
		begin, end func()
	}{
		{"stopped", func() { collector.stop(t, syscall.SIGTERM) }, collector.start},
		{"frozen", func() { collector.signal(syscall.SIGSTOP) }, func() { collector.signal(syscall.SIGCONT) }},
		{"killed", func() { collector.stop(t, syscall.SIGKILL) }, collector.start},
	} {
		outage.begin()
		stop := l.flood(t.Context())
		without := l.watch(5 * time.Second)
		stop()
		t.Logf("%s: %v", outage.name, without)
		outage.end()
		start := time.Now()
		awaitArrival(t, l, jaeger, prometheus)
		t.Logf("spans and metrics arrive %v after its return", time.Since(start).Round(time.Millisecond))
		compare(t, outage.name, with, without)
	}
}

// setUp sets up the telemetry of the load like a production service, but with shorter intervals.
func setUp(t *testing.T, c *collector) *telemetry.Telemetry {
	t.Helper()
	for name, value := range map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": "http://" + c.otlpHTTP, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://" + c.otlpGRPC,
		"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc", "OTEL_BSP_SCHEDULE_DELAY": "200", "OTEL_METRIC_EXPORT_INTERVAL": "500",
	} {
		t.Setenv(name, value)
	}
	tel, err := telemetry.Setup(t.Context(), telemetry.Config{ServiceName: "load", NoPrometheus: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return tel
}

// shutDown ends the telemetry while the Collector is running. Everything must reach the Collector.
func shutDown(t *testing.T, tel *telemetry.Telemetry) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	if err := tel.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

// compare checks the effects on the load.
func compare(t *testing.T, name string, with, without chapter) {
	t.Helper()
	switch {
	case without.failures > 0:
		t.Errorf("%s: %d uses failed", name, without.failures)
	case without.rate < leastRate*with.rate:
		t.Errorf("%s: %.0f uses a second, %.0f with it", name, without.rate, with.rate)
	case without.slowest > longestUse:
		t.Errorf("%s: a use took %v", name, without.slowest)
	case without.goroutines > with.goroutines+moreGoroutines:
		t.Errorf("%s: %d goroutines, %d with it", name, without.goroutines, with.goroutines)
	case without.heap > with.heap+moreHeap:
		t.Errorf("%s: %d KiB, %d with it", name, without.heap>>10, with.heap>>10)
	}
}

// awaitArrival waits until a trace begun from now on is in Jaeger, and until Prometheus has counted
// all uses so far.
func awaitArrival(t *testing.T, l *load, jaeger *jaeger, prometheus *prometheus) {
	t.Helper()
	uses := l.counted.uses.Load()
	var ids []string
	eventually(t, backWithin, "a trace is in Jaeger", func() error {
		id, err := l.request(t.Context(), l.set)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
		for _, id := range ids {
			if _, err = jaeger.trace(id); err == nil {
				return nil
			}
		}
		return err
	})
	eventually(t, backWithin, "the uses are counted in Prometheus", func() error {
		got, err := prometheus.query("sum(db_client_operation_duration_seconds_count)")
		if err != nil || len(got) != 1 {
			return errors.Join(fmt.Errorf("the answer is %v", got), err)
		}
		if n, err := strconv.ParseInt(got[0].Value[1].(string), 10, 64); err != nil || n < uses {
			return errors.Join(fmt.Errorf("%d of %d are", n, uses), err)
		}
		return nil
	})
}

// checkRequests checks the traces of single requests: the caller's span, the use below it, and the
// command below that.
func checkRequests(t *testing.T, servers *local.Servers, l *load, jaeger *jaeger) {
	redis, mongodb := port(t, servers.RedisURL()), port(t, servers.MongoDBURI())
	for _, tt := range []struct {
		use  string
		pool string
		ask  func() (string, error)
		want tags // of the command
		name string
		code string // of the server's answer
	}{
		{
			use: "SET counter", pool: "redis", ask: func() (string, error) { return l.request(t.Context(), l.set) }, name: "SET",
			want: tags{"db.system.name": "redis", "db.namespace": "0", "db.operation.name": "SET", "db.query.summary": "SET",
				"server.address": "127.0.0.1", "server.port": redis, "network.peer.address": "127.0.0.1", "network.peer.port": redis},
		},
		{
			use: "LPUSH counter", pool: "redis", ask: func() (string, error) { return l.request(t.Context(), l.mistake) }, name: "LPUSH",
			want: tags{"db.system.name": "redis", "db.namespace": "0", "db.operation.name": "LPUSH", "db.query.summary": "LPUSH",
				"server.address": "127.0.0.1", "server.port": redis, "network.peer.address": "127.0.0.1", "network.peer.port": redis,
				"db.response.status_code": "WRONGTYPE", "error.type": "WRONGTYPE"},
			code: "WRONGTYPE",
		},
		{
			use: "find things", pool: "mongodb", ask: func() (string, error) { return l.request(t.Context(), l.find) }, name: "find things",
			want: tags{"db.system.name": "mongodb", "db.namespace": "load", "db.operation.name": "find", "db.collection.name": "things",
				"server.address": "127.0.0.1", "server.port": mongodb, "network.peer.address": "127.0.0.1", "network.peer.port": mongodb},
		},
	} {
		id, err := tt.ask()
		if (err != nil) != (tt.code != "") {
			t.Errorf("%s: %v", tt.use, err)
		}
		var trace jaegerTrace
		eventually(t, patience, "the trace of "+tt.use, func() (err error) {
			if trace, err = jaeger.trace(id); err == nil && len(trace.Spans) < 3 {
				err = fmt.Errorf("%s", describe(trace))
			}
			return err
		})
		if err := checkRequest(trace, tt.use, tt.pool, tt.name, tt.code, tt.want); err != nil {
			t.Errorf("%v\n%s", err, describe(trace))
		}
	}
}

// checkRequest checks a trace of a single request with a single use and a single command.
func checkRequest(trace jaegerTrace, use, pool, command, code string, want tags) error {
	root, children, err := family(trace)
	if err != nil {
		return err
	}
	uses := children[root.SpanID]
	if root.OperationName != "request" || len(uses) != 1 || uses[0].OperationName != use {
		return errors.New("the use is not the one child of the request")
	}
	commands := named(children[uses[0].SpanID], command)
	if len(commands) != 1 {
		return errors.New("the command is not below the use")
	}
	for _, s := range children[uses[0].SpanID] {
		if s != commands[0] && s.OperationName != "acquire" {
			return fmt.Errorf("%s does not belong here", s.OperationName)
		}
	}
	ofUse := tags{"db.client.connection.pool.name": pool}
	if code != "" {
		if got := uses[0].Tags.get("error.type"); got != code {
			return fmt.Errorf("the use failed with error.type %q", got)
		}
		delete(want, "error.type") // checkSpan checks it
		if got := commands[0].Tags.get("error.type"); got != code {
			return fmt.Errorf("the command failed with error.type %q", got)
		}
	}
	want["db.client.connection.pool.name"] = pool
	return errors.Join(checkSpan(uses[0], "internal", ofUse, "poolstack.acquire.wait"), checkSpan(commands[0], "client", want))
}

// checkExemplarsBehind follows the exemplars received through the Collector. A few exemplars may
// not have their trace yet.
func checkExemplarsBehind(t *testing.T, jaeger *jaeger, prometheus *prometheus) {
	eventually(t, patience, "exemplars lead to traces", func() error {
		exemplars, err := prometheus.exemplars("db_client_operation_duration_seconds_bucket")
		if err != nil || len(exemplars) == 0 {
			return errors.Join(errors.New("there are none"), err)
		}
		for _, e := range exemplars {
			trace, err := jaeger.trace(e.labels["trace_id"])
			if err != nil {
				return err
			}
			if err := leads(e, map[string]jaegerTrace{trace.TraceID: trace}); err != nil {
				return err
			}
		}
		return nil
	})
}
