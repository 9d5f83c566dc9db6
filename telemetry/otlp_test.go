package telemetry

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
)

var protocols = []string{protocolGRPC, protocolHTTP}

// setup calls Setup for a test. An error fails the test. The end of the test shuts telemetry down,
// unless the test has already done so.
func setup(t testing.TB, cfg Config) *Telemetry {
	t.Helper()
	tel, err := Setup(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = tel.Shutdown(ctx) // some tests have already called Shutdown
	})
	return tel
}

// use creates a span named "used", counts to 3, and records in a histogram inside the span.
func use(t testing.TB, tel *Telemetry) {
	t.Helper()
	ctx, span := tel.TracerProvider().Tracer("test").Start(t.Context(), "used")
	defer span.End()
	meter := tel.MeterProvider().Meter("test")
	counter, err := meter.Int64Counter("test.count", metric.WithUnit("{use}"))
	if err != nil {
		t.Fatal(err)
	}
	counter.Add(ctx, 3)
	histogram, err := meter.Float64Histogram("test.duration", metric.WithUnit("s"))
	if err != nil {
		t.Fatal(err)
	}
	histogram.Record(ctx, 0.25)
}

func shutdown(t testing.TB, tel *Telemetry) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := tel.Shutdown(ctx); err != nil {
		t.Fatalf("Shutdown: %v", err)
	}
}

func TestOTLPDeliversOnShutdown(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			r := newReceiver(t, protocol, nil, nil)
			setenv(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+r.url, "OTEL_EXPORTER_OTLP_PROTOCOL="+protocol,
				"OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20s3cret", "OTEL_EXPORTER_OTLP_COMPRESSION=gzip",
				"OTEL_SERVICE_NAME=from-env", "OTEL_RESOURCE_ATTRIBUTES=team=data%20base,service.version=2")
			before := runtime.NumGoroutine()
			tel := setup(t, Config{ServiceName: "from-code", Attributes: []attribute.KeyValue{
				attribute.String("service.version", "1"), attribute.String("tier", "gold"),
			}})
			use(t, tel)
			// The intervals are 5 and 60 seconds, so everything received below was flushed by Shutdown.
			if r.requests() != 0 {
				t.Fatal("something was sent before Shutdown")
			}
			shutdown(t, tel)

			if got := r.spanNames(); !slices.Equal(got, []string{"used"}) {
				t.Errorf("spans received: %q, want one that is named used", got)
			}
			if sum := r.metric("test.count").GetSum(); len(sum.GetDataPoints()) != 1 || sum.GetDataPoints()[0].GetAsInt() != 3 {
				t.Errorf("test.count received: %v, want 3", sum)
			}
			if got := len(r.metric("test.duration").GetHistogram().GetDataPoints()[0].GetExemplars()); got != 1 {
				t.Errorf("test.duration has %d exemplars, want 1", got)
			}
			if want := []string{"Bearer s3cret", "Bearer s3cret"}; !slices.Equal(r.headers, want) {
				t.Errorf("authorization was %q, want %q", r.headers, want)
			}
			if protocol == protocolHTTP && !slices.Equal(r.encoding, []string{"gzip", "gzip"}) {
				t.Errorf("encodings were %q, want gzip twice", r.encoding)
			}
			checkResource(t, r)
			eventually(t, "the connections to the receiver are closed", func() bool { return runtime.NumGoroutine() <= before })
		})
	}
}

func checkResource(t *testing.T, r *receiver) {
	t.Helper()
	spans, metrics := r.resources()
	if len(spans) != 1 || len(metrics) != 1 {
		t.Fatalf("received %d resources of spans and %d of metrics, want 1 and 1", len(spans), len(metrics))
	}
	uuid := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	for _, attrs := range []map[string]string{spans[0], metrics[0]} {
		for key, want := range map[string]string{
			"service.name": "from-env", "service.version": "2", "team": "data base", "tier": "gold",
			"telemetry.sdk.name": "opentelemetry", "telemetry.sdk.language": "go", "process.runtime.name": "go",
		} {
			if attrs[key] != want {
				t.Errorf("resource attribute %s is %q, want %q", key, attrs[key], want)
			}
		}
		for _, key := range []string{"host.name", "os.type", "process.pid", "process.executable.name", "process.runtime.version"} {
			if attrs[key] == "" {
				t.Errorf("resource attribute %s is missing", key)
			}
		}
		if !uuid.MatchString(attrs["service.instance.id"]) {
			t.Errorf("service.instance.id is %q, want a random UUID", attrs["service.instance.id"])
		}
		for key, value := range attrs {
			if strings.Contains(key, "command") || strings.Contains(key, "owner") || strings.Contains(value, os.Args[0]) {
				t.Errorf("resource attribute %s=%q tells too much", key, value)
			}
		}
	}
	if spans[0]["service.instance.id"] != metrics[0]["service.instance.id"] {
		t.Error("traces and metrics come from two instances")
	}
}

func TestInstanceID(t *testing.T) {
	setenv(t, "OTEL_TRACES_EXPORTER=none")
	first, second := newResource(t.Context(), Config{}), newResource(t.Context(), Config{})
	if a, b := first.String(), second.String(); a == b {
		t.Errorf("two Setups have the same resource: %s", a)
	}
	setenv(t, "OTEL_RESOURCE_ATTRIBUTES=service.instance.id=pod-7")
	if v, _ := newResource(t.Context(), Config{}).Set().Value("service.instance.id"); v.AsString() != "pod-7" {
		t.Errorf("service.instance.id is %q, want the environment's", v.AsString())
	}
}

func TestProtocolPerSignal(t *testing.T) {
	traceSide, metricSide := newReceiver(t, protocolGRPC, nil, nil), newReceiver(t, protocolHTTP, nil, nil)
	setenv(t, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="+traceSide.url, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=grpc",
		"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT="+metricSide.url+"/v1/metrics")
	tel := setup(t, Config{})
	use(t, tel)
	shutdown(t, tel)
	if len(traceSide.spanNames()) != 1 || traceSide.metric("test.count") != nil {
		t.Error("the gRPC side should have got the span and nothing else")
	}
	if metricSide.metric("test.count") == nil || len(metricSide.spanNames()) != 0 {
		t.Error("the HTTP side should have got the metrics and nothing else")
	}
}

func TestTemporalityPreference(t *testing.T) {
	const delta, cumulative = metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_DELTA,
		metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE
	for _, tc := range []struct {
		preference           string
		counter, observable  metricspb.AggregationTemporality
		histogram, upAndDown metricspb.AggregationTemporality
	}{
		{"", cumulative, cumulative, cumulative, cumulative},
		{"cumulative", cumulative, cumulative, cumulative, cumulative},
		{"delta", delta, delta, delta, cumulative},
		{"LowMemory", delta, cumulative, delta, cumulative},
	} {
		for _, protocol := range protocols {
			t.Run(tc.preference+" "+protocol, func(t *testing.T) {
				r := newReceiver(t, protocol, nil, nil)
				setenv(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+r.url, "OTEL_EXPORTER_OTLP_PROTOCOL="+protocol,
					"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE="+tc.preference)
				tel := setup(t, Config{})
				use(t, tel)
				meter := tel.MeterProvider().Meter("test")
				_, err := meter.Int64ObservableCounter("test.observed",
					metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error { o.Observe(1); return nil }))
				if err != nil {
					t.Fatal(err)
				}
				level, err := meter.Int64UpDownCounter("test.level")
				if err != nil {
					t.Fatal(err)
				}
				level.Add(t.Context(), 1)
				shutdown(t, tel)
				for name, got := range map[string][2]metricspb.AggregationTemporality{
					"test.count":    {r.metric("test.count").GetSum().GetAggregationTemporality(), tc.counter},
					"test.observed": {r.metric("test.observed").GetSum().GetAggregationTemporality(), tc.observable},
					"test.duration": {r.metric("test.duration").GetHistogram().GetAggregationTemporality(), tc.histogram},
					"test.level":    {r.metric("test.level").GetSum().GetAggregationTemporality(), tc.upAndDown},
				} {
					if got[0] != got[1] {
						t.Errorf("%s came as %v, want %v", name, got[0], got[1])
					}
				}
			})
		}
	}
}

func TestExponentialHistogramsByEnvironment(t *testing.T) {
	r := newReceiver(t, protocolGRPC, nil, nil)
	setenv(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+r.url, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc",
		"OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION=base2_exponential_bucket_histogram")
	tel := setup(t, Config{})
	use(t, tel)
	shutdown(t, tel)
	if r.metric("test.duration").GetExponentialHistogram() == nil {
		t.Errorf("got %v, want an exponential histogram", r.metric("test.duration"))
	}
}

func TestExportInterval(t *testing.T) {
	r := newReceiver(t, protocolHTTP, nil, nil)
	setenv(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+r.url, "OTEL_METRIC_EXPORT_INTERVAL=20", "OTEL_BSP_SCHEDULE_DELAY=20")
	tel := setup(t, Config{})
	use(t, tel)
	eventually(t, "a span and a metric arrive without a Shutdown", func() bool {
		return len(r.spanNames()) == 1 && r.metric("test.count") != nil
	})
}

func TestSampler(t *testing.T) {
	r := newReceiver(t, protocolHTTP, nil, nil)
	setenv(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+r.url, "OTEL_TRACES_SAMPLER=always_off", "OTEL_METRICS_EXPORTER=none")
	tel := setup(t, Config{})
	use(t, tel)
	shutdown(t, tel)
	if r.requests() != 0 {
		t.Errorf("always_off sent %d requests", r.requests())
	}
}

func TestTLS(t *testing.T) {
	cert, file := selfSigned(t)
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			r := newReceiver(t, protocol, cert, nil)
			setenv(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+r.url, "OTEL_EXPORTER_OTLP_PROTOCOL="+protocol, "OTEL_EXPORTER_OTLP_CERTIFICATE="+file)
			tel := setup(t, Config{})
			use(t, tel)
			shutdown(t, tel)
			if len(r.spanNames()) != 1 || r.metric("test.count") == nil {
				t.Error("span or metric did not arrive over TLS")
			}
		})
	}
	t.Run("untrusted", func(t *testing.T) {
		r := newReceiver(t, protocolHTTP, cert, nil)
		setenv(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+r.url, "OTEL_METRICS_EXPORTER=none")
		tel := setup(t, Config{})
		use(t, tel)
		if err := tel.Shutdown(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("Shutdown: %v, want an error about the certificate", err)
		}
	})
}

// selfSigned returns a certificate for 127.0.0.1, and a file with the certificate for clients.
func selfSigned(t *testing.T) (*tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}
