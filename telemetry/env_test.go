package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/earnorm/poolstack/telemetry/internal/linked"
	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
)

func TestExporterSelection(t *testing.T) {
	const endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318"
	for _, tc := range []struct {
		name            string
		env             []string
		noPrometheus    bool
		traces, metrics []string
		prometheus      bool
	}{
		{"nothing set", nil, false, nil, nil, true},
		{"nothing set, no Prometheus", nil, true, nil, nil, false},
		{"empty is unset", []string{"OTEL_TRACES_EXPORTER=", "OTEL_METRICS_EXPORTER= ", "OTEL_EXPORTER_OTLP_ENDPOINT="}, false, nil, nil, true},
		{"an endpoint", []string{endpoint}, false, []string{"otlp"}, []string{"otlp"}, true},
		{"an endpoint, no Prometheus", []string{endpoint}, true, []string{"otlp"}, []string{"otlp"}, false},
		{"an endpoint for traces", []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://c/v1/traces"}, false, []string{"otlp"}, nil, true},
		{"an endpoint for metrics", []string{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=http://c/v1/metrics"}, false, nil, []string{"otlp"}, true},
		{"none", []string{endpoint, "OTEL_TRACES_EXPORTER=none", "OTEL_METRICS_EXPORTER=none"}, false, nil, nil, false},
		{"the environment wins", []string{"OTEL_METRICS_EXPORTER=prometheus"}, true, nil, nil, true},
		{"only otlp", []string{endpoint, "OTEL_METRICS_EXPORTER=otlp"}, false, []string{"otlp"}, []string{"otlp"}, false},
		{
			"lists", []string{"OTEL_TRACES_EXPORTER=console, OTLP", "OTEL_METRICS_EXPORTER=otlp,prometheus,otlp,console"},
			false, []string{"console", "otlp"}, []string{"otlp", "console"}, true,
		},
		{"disabled", []string{"OTEL_SDK_DISABLED=TRUE", endpoint, "OTEL_TRACES_EXPORTER=nonsense"}, false, nil, nil, false},
		{"not disabled", []string{"OTEL_SDK_DISABLED=false"}, false, nil, nil, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			setenv(t, tc.env...)
			env, err := readEnvironment(tc.noPrometheus)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(env.traces.exporters, tc.traces) || !slices.Equal(env.metrics.exporters, tc.metrics) ||
				env.prometheus != tc.prometheus {
				t.Errorf("got traces %q, metrics %q, prometheus %t; want %q, %q, %t",
					env.traces.exporters, env.metrics.exporters, env.prometheus, tc.traces, tc.metrics, tc.prometheus)
			}
		})
	}
}

// Where each signal goes: over HTTP the whole address, over gRPC only a default.
func TestEndpoints(t *testing.T) {
	_, ca := selfSigned(t)
	for _, tc := range []struct {
		env             []string
		traces, metrics string
	}{
		{nil, "http://localhost:4318/v1/traces", "http://localhost:4318/v1/metrics"},
		{[]string{"OTEL_EXPORTER_OTLP_METRICS_PROTOCOL=grpc"}, "http://localhost:4318/v1/traces", "http://localhost:4317"},
		{[]string{"OTEL_EXPORTER_OTLP_PROTOCOL=GRPC", "OTEL_EXPORTER_OTLP_CERTIFICATE=" + ca}, "https://localhost:4317", "https://localhost:4317"},
		{[]string{"OTEL_EXPORTER_OTLP_CERTIFICATE=" + ca}, "https://localhost:4318/v1/traces", "https://localhost:4318/v1/metrics"},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://c:1"}, "http://c:1/v1/traces", "http://c:1/v1/metrics"},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=https://c/base/"}, "https://c/base/v1/traces", "https://c/base/v1/metrics"},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://c:1", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}, "", ""},
		{[]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://c:1"}, "http://c:1/", "http://localhost:4318/v1/metrics"},
		{
			[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://c:1", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=https://d/x/?key=1"},
			"http://c:1/v1/traces", "https://d/x/?key=1",
		},
	} {
		setenv(t, append(tc.env, "OTEL_TRACES_EXPORTER=otlp", "OTEL_METRICS_EXPORTER=otlp")...)
		env, err := readEnvironment(false)
		if err != nil {
			t.Errorf("%q: %v", tc.env, err)
		}
		address := func(o otlp) string {
			if o.protocol == protocolHTTP {
				return o.http.URL.String()
			}
			return o.defaultURL
		}
		if got := [2]string{address(env.traces), address(env.metrics)}; got != [2]string{tc.traces, tc.metrics} {
			t.Errorf("%q: got %q, want %q and %q", tc.env, got, tc.traces, tc.metrics)
		}
	}
}

func TestValuesRefused(t *testing.T) {
	_, ca := selfSigned(t)
	noPEM := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(noPEM, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	const on = "OTEL_EXPORTER_OTLP_ENDPOINT=https://collector:4318"
	for _, tc := range []struct {
		env  []string
		want string
	}{
		{[]string{"OTEL_SDK_DISABLED=yes"}, `OTEL_SDK_DISABLED is "yes": must be true or false`},
		{[]string{"OTEL_TRACES_EXPORTER=zipkin"}, `OTEL_TRACES_EXPORTER is "zipkin": must be none, or some of otlp, console,`},
		{[]string{"OTEL_TRACES_EXPORTER=prometheus"}, `OTEL_TRACES_EXPORTER is "prometheus": must be none, or some of otlp, console,`},
		{[]string{"OTEL_TRACES_EXPORTER=none,console"}, `OTEL_TRACES_EXPORTER is "none,console": must be`},
		{[]string{"OTEL_METRICS_EXPORTER=otlp,"}, `OTEL_METRICS_EXPORTER is "otlp,": must be none, or some of otlp, prometheus, console,`},
		{[]string{"OTEL_EXPORTER_OTLP_PROTOCOL=http/json"}, `OTEL_EXPORTER_OTLP_PROTOCOL is "http/json": must be grpc or http/protobuf`},
		{[]string{"OTEL_EXPORTER_OTLP_METRICS_PROTOCOL=tcp"}, `OTEL_EXPORTER_OTLP_METRICS_PROTOCOL is "tcp": must be grpc or http/protobuf`},
		{[]string{"OTEL_EXPORTER_OTLP_TRACES_COMPRESSION=GZIP"}, `OTEL_EXPORTER_OTLP_TRACES_COMPRESSION is "GZIP": must be gzip or none`},
		{[]string{"OTEL_EXPORTER_OTLP_TIMEOUT=10s"}, `OTEL_EXPORTER_OTLP_TIMEOUT is "10s": must be milliseconds, or 0 for no limit`},
		{[]string{"OTEL_EXPORTER_OTLP_INSECURE=1"}, `OTEL_EXPORTER_OTLP_INSECURE is "1": must be true or false`},
		{[]string{"OTEL_TRACES_SAMPLER=jaeger_remote"}, `OTEL_TRACES_SAMPLER is "jaeger_remote": must be always_on, `},
		{
			[]string{"OTEL_TRACES_SAMPLER=traceidratio", "OTEL_TRACES_SAMPLER_ARG=1.5"},
			`OTEL_TRACES_SAMPLER_ARG is "1.5": must be a number from 0 to 1`,
		},
		{[]string{"OTEL_TRACES_SAMPLER=ParentBased_TraceIDRatio", "OTEL_TRACES_SAMPLER_ARG=NaN"}, `OTEL_TRACES_SAMPLER_ARG is "NaN": must be`},
		{[]string{"OTEL_BSP_MAX_QUEUE_SIZE=-1"}, `OTEL_BSP_MAX_QUEUE_SIZE is "-1": must be a whole number, 1 or more`},
		{[]string{"OTEL_BSP_SCHEDULE_DELAY=0"}, `OTEL_BSP_SCHEDULE_DELAY is "0": must be milliseconds, 1 or more`},
		{[]string{"OTEL_SPAN_EVENT_COUNT_LIMIT= 5"}, `OTEL_SPAN_EVENT_COUNT_LIMIT is " 5": must be a whole number, or -1 for no limit`},
		{[]string{"OTEL_METRIC_EXPORT_INTERVAL=60s"}, `OTEL_METRIC_EXPORT_INTERVAL is "60s": must be milliseconds, 1 or more`},
		{[]string{"OTEL_METRICS_EXEMPLAR_FILTER=on"}, `OTEL_METRICS_EXEMPLAR_FILTER is "on": must be trace_based, always_on or always_off`},
		{
			[]string{"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=low"},
			`OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE is "low": must be cumulative, delta or lowmemory`,
		},
		{
			[]string{"OTEL_CONFIG_FILE=/etc/otel.yaml"},
			`OTEL_CONFIG_FILE is "/etc/otel.yaml": must not be set: declarative configuration is not supported`,
		},
		{[]string{"OTEL_EXPERIMENTAL_CONFIG_FILE=otel.yaml"}, `OTEL_EXPERIMENTAL_CONFIG_FILE is "otel.yaml": must not be set`},
		{[]string{"OTEL_RESOURCE_ATTRIBUTES=a=1,b"}, `OTEL_RESOURCE_ATTRIBUTES: entry 2 is "b": must be key=value`},
		{[]string{"OTEL_RESOURCE_ATTRIBUTES=a=%zz"}, `OTEL_RESOURCE_ATTRIBUTES: entry 1 is "a=%zz": must be key=value`},
		{
			[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=collector:4318"},
			`OTEL_EXPORTER_OTLP_ENDPOINT is "collector:4318": must be a URL such as http://collector:4318`,
		},
		{[]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://"}, `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is "http://": must be a URL`},
		{
			[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=127.0.0.1:4317", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"},
			`OTEL_EXPORTER_OTLP_ENDPOINT is "127.0.0.1:4317": must be a URL such as http://collector:4317, or a target of gRPC`,
		},
		{
			[]string{on, "OTEL_EXPORTER_OTLP_INSECURE=true"},
			`OTEL_EXPORTER_OTLP_INSECURE is "true": must not contradict OTEL_EXPORTER_OTLP_ENDPOINT`,
		},
		{
			[]string{on, "OTEL_EXPORTER_OTLP_CERTIFICATE=" + noPEM},
			`OTEL_EXPORTER_OTLP_CERTIFICATE is "` + noPEM + `": must be a file with certificates`,
		},
		{
			[]string{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=http://c:1", "OTEL_EXPORTER_OTLP_CERTIFICATE=" + ca},
			`OTEL_EXPORTER_OTLP_METRICS_ENDPOINT is "http://c:1": must be https, or else no certificates be set`,
		},
		{[]string{on, "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE=/no/such/file"}, `OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE: open /no/such/file`},
		{
			[]string{on, "OTEL_EXPORTER_OTLP_CLIENT_KEY=/no/such/file"},
			`OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY must be a pair`,
		},
		{[]string{on, "OTEL_EXPORTER_OTLP_HEADERS=a=1,b"}, `OTEL_EXPORTER_OTLP_HEADERS: entry 2 (not shown) must be key=value`},
		{[]string{on, "OTEL_EXPORTER_OTLP_METRICS_HEADERS=a key=1"}, `OTEL_EXPORTER_OTLP_METRICS_HEADERS: entry 1 (not shown) must be key=value`},
		{
			[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://me:pw@c:1"},
			`OTEL_EXPORTER_OTLP_ENDPOINT (not shown: it may hold a password): must not name a user`,
		},
	} {
		t.Run(strings.Join(tc.env, " "), func(t *testing.T) {
			setenv(t, tc.env...)
			tel, err := Setup(t.Context(), Config{})
			if err == nil {
				_ = tel.Shutdown(t.Context())
				t.Fatal("Setup accepted it")
			}
			if !strings.HasPrefix(err.Error(), "telemetry: "+tc.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got  %v\nwant %s", err, tc.want)
			}
		})
	}
}

// complaints returns a buffer with the messages of the SDK and the exporters about their variables.
// It collects messages until the end of the test.
func complaints(tb testing.TB) *lockedBuffer {
	tb.Helper()
	var said lockedBuffer
	previous := otel.GetErrorHandler()
	// Level -1 includes the warnings of OpenTelemetry.
	otel.SetLogger(logr.FromSlogHandler(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.Level(-1)})))
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { _, _ = fmt.Fprintln(&said, err) }))
	tb.Cleanup(func() { otel.SetLogger(logr.Discard()); otel.SetErrorHandler(previous) })
	return &said
}

// The SDK and the exporters accept every value that Setup accepts. Otherwise they would use their
// own default instead.
func TestValuesAccepted(t *testing.T) {
	_, ca := selfSigned(t)
	for _, env := range [][]string{
		{"OTEL_EXPORTER_OTLP_ENDPOINT=collector:4317", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=collector:4317", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "OTEL_EXPORTER_OTLP_INSECURE=true"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=dns:///collector:4317", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=unix:///run/otel.sock", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=https://collector", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "OTEL_EXPORTER_OTLP_CERTIFICATE=" + ca},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=HTTP://collector", "OTEL_EXPORTER_OTLP_INSECURE=True", "OTEL_EXPORTER_OTLP_COMPRESSION=none"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://collector", "OTEL_EXPORTER_OTLP_HEADERS=api-key=a%20b==, x_y = 2 ,z="},
		{"OTEL_EXPORTER_OTLP_HEADERS=not looked at without an exporter"},
		{"OTEL_TRACES_EXPORTER=otlp", "OTEL_METRICS_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=DELTA"},
		{"OTEL_TRACES_EXPORTER=console", "OTEL_TRACES_SAMPLER=parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG=0.25"},
		{"OTEL_TRACES_EXPORTER=console", "OTEL_TRACES_SAMPLER=ALWAYS_ON", "OTEL_TRACES_SAMPLER_ARG=for another one"},
		{"OTEL_TRACES_EXPORTER=console", "OTEL_BSP_EXPORT_TIMEOUT=0", "OTEL_BSP_MAX_QUEUE_SIZE=1", "OTEL_SPAN_LINK_COUNT_LIMIT=-1"},
		{"OTEL_METRICS_EXPORTER=console", "OTEL_METRIC_EXPORT_TIMEOUT=1", "OTEL_METRICS_EXEMPLAR_FILTER=Always_Off"},
	} {
		t.Run(strings.Join(env, " "), func(t *testing.T) {
			said := complaints(t)
			setenv(t, env...)
			tel := setup(t, Config{Console: io.Discard})
			if said.String() != "" {
				t.Errorf("accepted, but the SDK says %s", said)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel() // there is no collector
			_ = tel.Shutdown(ctx)
		})
	}
}

func TestAllMistakesAtOnce(t *testing.T) {
	setenv(t, "OTEL_TRACES_EXPORTER=x", "OTEL_METRICS_EXPORTER=y", "OTEL_BSP_SCHEDULE_DELAY=z")
	_, err := Setup(t.Context(), Config{})
	for _, name := range []string{"OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_BSP_SCHEDULE_DELAY"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want it to name %s too", err, name)
		}
	}
}

// If an exporter cannot be created, Setup closes the exporters created before. Otherwise the leak
// check of TestMain would find a gRPC client.
func TestSetupFailsHalfWay(t *testing.T) {
	grpc := linked.GRPC
	t.Cleanup(func() { linked.GRPC = grpc })
	linked.GRPC = &linked.Protocol{Traces: grpc.Traces, Metrics: func(context.Context, string) (sdkmetric.Exporter, error) {
		return nil, errors.New("no metrics today")
	}}
	setenv(t, "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc")
	_, err := Setup(t.Context(), Config{})
	if err == nil || err.Error() != "telemetry: otlp metrics: no metrics today" {
		t.Errorf("got %v, want the exporter's refusal", err)
	}
}

// A program without package otlpgrpc is told what to do about gRPC, whichever variable asks for
// gRPC.
func TestNoGRPCInTheProgram(t *testing.T) {
	grpc := linked.GRPC
	t.Cleanup(func() { linked.GRPC = grpc })
	linked.GRPC = nil
	for _, name := range []string{"OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL"} {
		setenv(t, "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1", name+"=gRPC")
		_, err := Setup(t.Context(), Config{})
		want := "telemetry: " + name + ` is "gRPC": must be http/protobuf in this program; for grpc, add to the program: ` +
			`import _ "github.com/earnorm/poolstack/telemetry/otlpgrpc"`
		if err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
	setenv(t, "OTEL_SDK_DISABLED=true", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc")
	if _, err := Setup(t.Context(), Config{}); err != nil {
		t.Errorf("disabled: %v", err)
	}
}

func TestSetupWithEndedContext(t *testing.T) {
	setenv(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Setup(ctx, Config{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func TestConfigValidate(t *testing.T) {
	if err := (Config{}).Validate(); err != nil {
		t.Errorf("the zero value: %v", err)
	}
	err := Config{Attributes: []attribute.KeyValue{attribute.String("a", "b"), attribute.String("", "c")}, Views: []sdkmetric.View{nil}}.Validate()
	want := "telemetry: Attributes[1] is \"\": must have a key and a value\ntelemetry: Views[0] is nil: must be a view"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestDocumentationNamesEveryVariable(t *testing.T) {
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	words := strings.FieldsFunc(string(text), func(r rune) bool { return !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZ_", r) })
	for _, name := range append(checkedNames(), "OTEL_CONFIG_FILE", "OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_SERVICE_NAME",
		"OTEL_RESOURCE_ATTRIBUTES", "OTEL_TRACES_SAMPLER_ARG", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS",
		"OTEL_EXPORTER_OTLP_CERTIFICATE", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "OTEL_EXPORTER_OTLP_CLIENT_KEY") {
		forAll := strings.NewReplacer(otlpPrefix+"TRACES_", otlpPrefix, otlpPrefix+"METRICS_", otlpPrefix).Replace(name)
		if !slices.Contains(words, name) && !slices.Contains(words, forAll) {
			t.Errorf("doc.go does not name %s", name)
		}
	}
}

// For every list of headers, an error does not quote the list, or the exporter accepts the list.
func FuzzHeaders(f *testing.F) {
	for _, s := range []string{"a=1", "a=1,b=%20", "s3cret", "=s3cret", "a b=s3cret", "a=%zz", ",", "ü=1", "a=1,,b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, list string) {
		if strings.ContainsRune(list, 0) {
			t.Skip("not possible in an environment")
		}
		said := complaints(t)
		setenv(t, "OTEL_EXPORTER_OTLP_HEADERS="+list)
		if err := checkPairs("OTEL_EXPORTER_OTLP_HEADERS", true); err == nil {
			if otlptracegrpc.NewClient(); said.String() != "" {
				t.Errorf("accepted, but the exporter over gRPC says %s", said)
			}
		} else if !regexp.MustCompile(`^telemetry: OTEL_EXPORTER_OTLP_HEADERS: entry \d+ \(not shown\) must be [a-z=, -]+$`).MatchString(err.Error()) {
			t.Errorf("the error says %q", err)
		}
	})
}

// For every endpoint, Setup rejects an endpoint with a user and does not show the endpoint. The
// exporters accept every accepted endpoint.
func FuzzEndpoint(f *testing.F) {
	for _, s := range []string{"http://c:4318", "c:4317", "127.0.0.1:4317", "http://u:p@c", "unix:///x", "://", "http://%zz"} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, endpoint string, grpc bool) {
		if strings.ContainsRune(endpoint, 0) {
			t.Skip("not possible in an environment")
		}
		said := complaints(t)
		setenv(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+endpoint)
		protocol := protocolHTTP
		if grpc {
			protocol = protocolGRPC
		}
		err := checkEndpoint(traces, protocol)
		if strings.Contains(endpoint, "@") && (err == nil || strings.Contains(err.Error(), "@")) {
			t.Errorf("%q: got %v, want it refused and not shown", endpoint, err)
		}
		if err != nil {
			return
		}
		if protocol == protocolGRPC {
			if otlptracegrpc.NewClient(); said.String() != "" {
				t.Errorf("accepted, but the exporter says %s", said)
			}
			return
		}
		cfg, err := readHTTP(traces, nil)
		if _, bad := http.NewRequestWithContext(t.Context(), http.MethodPost, cfg.URL.String(), http.NoBody); err != nil || bad != nil {
			t.Errorf("accepted, but nothing can be sent there: %v, %v", err, bad)
		}
	})
}
