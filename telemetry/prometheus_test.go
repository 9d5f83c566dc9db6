package telemetry

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	noopmetric "go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/trace"
	nooptrace "go.opentelemetry.io/otel/trace/noop"
)

// scrape returns the handler's response to a request with the header Accept.
func scrape(t *testing.T, h http.Handler, accept string) (int, string) {
	t.Helper()
	srv := httptest.NewServer(h)
	defer srv.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", accept)
	res, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	err = errors.Join(err, res.Body.Close())
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

const openMetrics = "application/openmetrics-text;version=1.0.0"

func TestPrometheus(t *testing.T) {
	setenv(t, "OTEL_SERVICE_NAME=shop")
	tel := setup(t, Config{})
	use(t, tel)
	status, page := scrape(t, tel.MetricsHandler(), "text/plain")
	if status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	for _, want := range []string{
		"# TYPE test_count_total counter\ntest_count_total 3\n", // without scope labels
		`test_duration_seconds_bucket{le="5"} 1` + "\n",
		`service_name="shop"`,
		`target_info{`,
		`service_instance_id="`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %q:\n%s", want, page)
		}
	}
	shutdown(t, tel)
	if status, page := scrape(t, tel.MetricsHandler(), "text/plain"); status != http.StatusOK || page != "" {
		t.Errorf("after Shutdown: status %d, page %q; want an empty page", status, page)
	}
}

func TestExemplar(t *testing.T) {
	setenv(t, "OTEL_TRACES_EXPORTER=console")
	tel := setup(t, Config{Console: io.Discard})
	ctx, span := tel.TracerProvider().Tracer("test").Start(t.Context(), "slow")
	defer span.End()
	histogram, err := tel.MeterProvider().Meter("test").Float64Histogram("test.duration", metric.WithUnit("s"))
	if err != nil {
		t.Fatal(err)
	}
	histogram.Record(ctx, 0.25)
	_, page := scrape(t, tel.MetricsHandler(), openMetrics)
	want := regexp.MustCompile(`test_duration_seconds_bucket\{le="5\.0"\} 1 # \{(span_id="` + span.SpanContext().SpanID().String() +
		`"|,|trace_id="` + span.SpanContext().TraceID().String() + `"){3}\} 0\.25 `)
	if !want.MatchString(page) || !strings.HasSuffix(page, "# EOF\n") {
		t.Errorf("no exemplar like %s in\n%s", want, page)
	}
	if _, page := scrape(t, tel.MetricsHandler(), "text/plain"); strings.Contains(page, "trace_id") {
		t.Error("an exemplar in the plain format, which has none")
	}
}

// An exemplar may have 128 characters. The ids of the trace are there in any case; the attributes
// that a view takes off a measurement follow as far as there is room. A collector gets everything.
func TestExemplarWithLongAttributes(t *testing.T) {
	var global lockedErrors
	previous := otel.GetErrorHandler()
	otel.SetErrorHandler(&global)
	t.Cleanup(func() { otel.SetErrorHandler(previous) })

	r := newReceiver(t, protocolHTTP, nil, nil)
	setenv(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+r.url)
	tel := setup(t, Config{Views: []sdkmetric.View{sdkmetric.NewView(
		sdkmetric.Instrument{Name: "test.*"}, sdkmetric.Stream{AttributeFilter: attribute.NewAllowKeysFilter("kept")},
	)}})
	ctx, span := tel.TracerProvider().Tracer("test").Start(t.Context(), "slow")
	defer span.End()
	meter := tel.MeterProvider().Meter("test")
	attributes := metric.WithAttributes(
		attribute.String("kept", "a"), attribute.String("a.long.one", strings.Repeat("ä", 65)), attribute.String("broken", "\xff"),
		attribute.String("fits", strings.Repeat("ü", 61)), attribute.String("short", "x"),
	)
	ints, err1 := meter.Int64Histogram("test.ints")
	floats, err2 := meter.Float64Histogram("test.floats")
	counts, err3 := meter.Int64Counter("test.counts")
	sums, err4 := meter.Float64Counter("test.sums")
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	ints.Record(ctx, 1, attributes)
	floats.Record(ctx, 0.25, attributes)
	counts.Add(ctx, 1, attributes)
	sums.Add(ctx, 0.5, attributes)
	_, page := scrape(t, tel.MetricsHandler(), openMetrics)
	for _, series := range []string{"test_ints_bucket", "test_floats_bucket", "test_counts_total", "test_sums_total"} {
		ids := `span_id="` + span.SpanContext().SpanID().String() + `"|trace_id="` + span.SpanContext().TraceID().String() + `"`
		want := regexp.MustCompile(`(?m)^` + series + `\{kept="a".*\} \S+ # \{(` + ids + `|,|fits="ü{61}"){5}\} `)
		if !want.MatchString(page) {
			t.Errorf("no exemplar like %s in\n%s", want, page)
		}
	}
	if got := global.get(); len(got) > 0 {
		t.Errorf("the global handler got %q", got)
	}
	shutdown(t, tel)
	sent := r.metric("test.ints").GetHistogram().GetDataPoints()[0].GetExemplars()
	if len(sent) != 1 || len(sent[0].GetFilteredAttributes()) != 4 {
		t.Errorf("the collector was sent the exemplars %v, want one with all four attributes", sent)
	}
}

func TestExemplarFilter(t *testing.T) {
	setenv(t, "OTEL_TRACES_EXPORTER=console", "OTEL_METRICS_EXEMPLAR_FILTER=always_off")
	tel := setup(t, Config{Console: io.Discard})
	use(t, tel)
	if _, page := scrape(t, tel.MetricsHandler(), openMetrics); strings.Contains(page, "trace_id") {
		t.Errorf("an exemplar although they are off:\n%s", page)
	}
}

func TestTwoSetups(t *testing.T) {
	setenv(t)
	first, second := setup(t, Config{}), setup(t, Config{})
	use(t, first)
	if _, page := scrape(t, first.MetricsHandler(), "text/plain"); !strings.Contains(page, "test_count_total 3") {
		t.Errorf("the first has lost its counter:\n%s", page)
	}
	if _, page := scrape(t, second.MetricsHandler(), "text/plain"); strings.Contains(page, "test_count") {
		t.Errorf("the second shows the first's counter:\n%s", page)
	}
}

// Two libraries have a metric with the same name. The page contains the metric once and all other
// metrics, and the clash is reported.
func TestClashingMetrics(t *testing.T) {
	setenv(t)
	var log lockedBuffer
	tel := setup(t, Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	use(t, tel)
	for _, library := range []string{"one", "another"} {
		counter, err := tel.MeterProvider().Meter(library).Int64Counter("clash")
		if err != nil {
			t.Fatal(err)
		}
		counter.Add(t.Context(), 1)
	}
	status, page := scrape(t, tel.MetricsHandler(), "text/plain")
	if status != http.StatusOK || strings.Count(page, "\nclash_total 1") != 1 || !strings.Contains(page, "test_count_total 3") {
		t.Errorf("status %d, page:\n%s", status, page)
	}
	if !strings.Contains(log.String(), "exporter=prometheus") || !strings.Contains(log.String(), "clash_total") {
		t.Errorf("not reported: %q", log.String())
	}
}

func TestScrapeErrorsWithoutLoggerGoToTheGlobalHandler(t *testing.T) {
	var global lockedErrors
	previous := otel.GetErrorHandler()
	otel.SetErrorHandler(&global)
	t.Cleanup(func() { otel.SetErrorHandler(previous) })
	newHealth("prometheus", nil).Println("error gathering metrics:", errors.New("two of them"))
	if got := global.get(); len(got) != 1 || !strings.Contains(got[0], "two of them") {
		t.Errorf("handled %q, want the one error", got)
	}
}

func TestViews(t *testing.T) {
	setenv(t)
	tel := setup(t, Config{Views: []sdkmetric.View{sdkmetric.NewView(
		sdkmetric.Instrument{Name: "test.duration"},
		sdkmetric.Stream{Aggregation: sdkmetric.AggregationExplicitBucketHistogram{Boundaries: []float64{0.2, 0.3}}},
	)}})
	use(t, tel)
	_, page := scrape(t, tel.MetricsHandler(), "text/plain")
	if !strings.Contains(page, `test_duration_seconds_bucket{le="0.3"} 1`) || strings.Contains(page, `le="5"`) {
		t.Errorf("the view did not apply:\n%s", page)
	}
}

func TestPrometheusOff(t *testing.T) {
	for _, tc := range []struct {
		env    []string
		cfg    Config
		reason string
	}{
		{[]string{"OTEL_METRICS_EXPORTER=none"}, Config{}, "OTEL_METRICS_EXPORTER"},
		{nil, Config{NoPrometheus: true}, "NoPrometheus"},
		{[]string{"OTEL_SDK_DISABLED=true"}, Config{}, "OTEL_SDK_DISABLED"},
	} {
		setenv(t, tc.env...)
		tel := setup(t, tc.cfg)
		use(t, tel)
		if status, page := scrape(t, tel.MetricsHandler(), ""); status != http.StatusNotFound || !strings.Contains(page, tc.reason) {
			t.Errorf("%q: status %d, %q; want 404 and %q", tc.env, status, page, tc.reason)
		}
		if _, ok := tel.MeterProvider().(noopmetric.MeterProvider); !ok {
			t.Errorf("%q: the meter provider is a %T, want a no-op one", tc.env, tel.MeterProvider())
		}
		if _, ok := tel.TracerProvider().(nooptrace.TracerProvider); !ok {
			t.Errorf("%q: the tracer provider is a %T, want a no-op one", tc.env, tel.TracerProvider())
		}
		shutdown(t, tel)
	}
}

// Without an exporter of traces, the caller's trace context still passes through.
func TestNoTracesPassesContextOn(t *testing.T) {
	setenv(t)
	tel := setup(t, Config{})
	parent := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled})
	ctx, span := tel.TracerProvider().Tracer("test").Start(trace.ContextWithSpanContext(t.Context(), parent), "x")
	defer span.End()
	if got := trace.SpanContextFromContext(ctx); !got.Equal(parent) {
		t.Errorf("got %v, want the caller's %v", got, parent)
	}
}

func TestConsole(t *testing.T) {
	setenv(t, "OTEL_TRACES_EXPORTER=console", "OTEL_METRICS_EXPORTER=console")
	var out lockedBuffer
	tel := setup(t, Config{Console: &out})
	use(t, tel)
	shutdown(t, tel)
	var spans, metrics int
	for line := range strings.Lines(out.String()) {
		var doc struct {
			Name         string
			ScopeMetrics []any
		}
		if err := json.Unmarshal([]byte(line), &doc); err != nil {
			t.Errorf("a line that is not JSON: %v\n%s", err, line)
		}
		switch {
		case doc.Name == "used":
			spans++
		case len(doc.ScopeMetrics) > 0 && strings.Contains(line, "test.count"):
			metrics++
		default:
			t.Errorf("unexpected line %s", line)
		}
	}
	if spans != 1 || metrics != 1 {
		t.Errorf("the console got %d spans and %d metrics, want 1 and 1", spans, metrics)
	}
}

// Traces and metrics share the console. The program's writer receives a single call at a time.
func TestConsoleWritesOneAtATime(t *testing.T) {
	var busy atomic.Bool
	b := builder{cfg: Config{Console: writerFunc(func(p []byte) (int, error) {
		if busy.Swap(true) {
			t.Error("two writes at once")
		}
		runtime.Gosched()
		busy.Store(false)
		return len(p), nil
	})}}
	console := b.console()
	var exporters sync.WaitGroup
	for range 4 {
		exporters.Go(func() {
			for range 500 {
				_, _ = console.Write([]byte("x"))
			}
		})
	}
	exporters.Wait()
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestGlobals(t *testing.T) {
	setenv(t)
	tracers, meters := otel.GetTracerProvider(), otel.GetMeterProvider()
	t.Cleanup(func() {
		otel.SetTracerProvider(nooptrace.NewTracerProvider())
		otel.SetMeterProvider(noopmetric.NewMeterProvider())
	})
	setup(t, Config{})
	if otel.GetTracerProvider() != tracers || otel.GetMeterProvider() != meters {
		t.Error("Setup touched the globals unasked")
	}
	tel := setup(t, Config{SetGlobal: true})
	if otel.GetTracerProvider() != tel.TracerProvider() || otel.GetMeterProvider() != tel.MeterProvider() {
		t.Error("SetGlobal did not make the providers global")
	}
}
