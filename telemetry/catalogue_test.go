package telemetry

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/earnorm/poolstack/middleware"
	"github.com/earnorm/poolstack/middleware/breaker"
	poolmetrics "github.com/earnorm/poolstack/middleware/metrics"
	"github.com/earnorm/poolstack/middleware/tracing"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// prometheusNames are the catalogue's names in dashboards, rules and documentation.
var prometheusNames = map[string]string{
	"db.client.operation.duration":          "db_client_operation_duration_seconds",
	"db.client.connection.count":            "db_client_connection_count",
	"db.client.connection.max":              "db_client_connection_max",
	"db.client.connection.idle.max":         "db_client_connection_idle_max",
	"db.client.connection.idle.min":         "db_client_connection_idle_min",
	"db.client.connection.pending_requests": "db_client_connection_pending_requests",
	"db.client.connection.timeouts":         "db_client_connection_timeouts_total",
	"db.client.connection.create_time":      "db_client_connection_create_time_seconds",
	"db.client.connection.wait_time":        "db_client_connection_wait_time_seconds",
	"db.client.connection.use_time":         "db_client_connection_use_time_seconds",
	"poolstack.failures":                    "poolstack_failures_total",
	"poolstack.retry.attempts":              "poolstack_retry_attempts_total",
	"poolstack.retry.give_ups":              "poolstack_retry_give_ups_total",
	"poolstack.retry.uses":                  "poolstack_retry_uses_total",
	"poolstack.retry.budget":                "poolstack_retry_budget",
	"poolstack.breaker.state":               "poolstack_breaker_state",
	"poolstack.transitions":                 "poolstack_transitions_total",
	"poolstack.breaker.failure_ratio":       "poolstack_breaker_failure_ratio",
	"poolstack.breaker.threshold":           "poolstack_breaker_threshold_ratio",
	"poolstack.breaker.slow_ratio":          "poolstack_breaker_slow_ratio",
	"poolstack.breaker.admitted":            "poolstack_breaker_admitted_ratio",
	"poolstack.rejections":                  "poolstack_rejections_total",
	"poolstack.events":                      "poolstack_events_total",
	"poolstack.timeouts":                    "poolstack_timeouts_total",
	"poolstack.acquire.waits":               "poolstack_acquire_waits_total",
	"poolstack.acquire.timeout":             "poolstack_acquire_timeout_seconds",
	"poolstack.connection.maintenance":      "poolstack_connection_maintenance",
	"poolstack.connection.closed":           "poolstack_connection_closed_total",
	"poolstack.open.failures":               "poolstack_open_failures_total",
	"poolstack.check.failures":              "poolstack_check_failures_total",
	"poolstack.leaks":                       "poolstack_leaks_total",
	"poolstack.lease.oldest":                "poolstack_lease_oldest_seconds",
	"poolstack.subscription.connections":    "poolstack_subscription_connections",

	"poolstack.store.memory": "poolstack_store_memory_bytes",
	"poolstack.store.age":    "poolstack_store_age_seconds",
	"poolstack.store.lag":    "poolstack_store_lag_milliseconds",
	"poolstack.store.load":   "poolstack_store_load_ratio",
	"poolstack.store.fill":   "poolstack_store_fill_percent",
	"poolstack.store.count":  "poolstack_store_count",
}

// store is a fake driver with a configurable identity.
type store struct {
	pooltest.Fake
	id driver.Identity
}

func (s *store) Identity() driver.Identity { return s.id }

// Levels returns the connections of subscriptions, and levels of another package in all units with
// a suffix in Prometheus.
func (s *store) Levels() []pool.Level {
	read := func() (float64, bool) { return 1, true }
	levels := []pool.Level{{
		Layer: "subscription", Name: "connections", Unit: "{connection}", Read: read,
		Help: "Open connections of subscriptions. These connections are not part of the pool. Reported for Redis only.",
	}}
	for name, unit := range map[string]string{"memory": "By", "age": "s", "lag": "ms", "load": "1", "fill": "%", "count": ""} {
		levels = append(levels, pool.Level{Layer: "store", Name: name, Unit: unit, Help: "The " + name + ".", Read: read})
	}
	return levels
}

// Describe returns an event with a reason.
func (*store) Describe() pool.LayerInfo {
	return pool.LayerInfo{Layer: "store", Events: []pool.Event{{Kind: "socket_closed", Reason: "idle"}}}
}

func newPool(t *testing.T, tel *Telemetry, id driver.Identity, inner ...pool.Middleware) *pool.Pool[*pooltest.Conn] {
	t.Helper()
	stack, err := middleware.Standard(middleware.Options{
		Tracing: tracing.Config{TracerProvider: tel.TracerProvider()},
		Metrics: poolmetrics.Config{MeterProvider: tel.MeterProvider()},
		Without: []string{middleware.KindLogging},
	})
	if err != nil {
		t.Fatal(err)
	}
	p, err := pool.New(&store{id: id}, pool.Config{}, append(stack.Layers(), inner...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return p
}

var (
	cache  = driver.Identity{Name: "cache", System: "redis", Address: "10.0.0.1", Port: 6380, Namespace: "3"}
	orders = driver.Identity{Name: "orders", System: "mongodb", Address: "db.example", Port: 27018, Namespace: "shop"}
)

// Prometheus receives the catalogue's names, types, descriptions, buckets and labels.
func TestCatalogueInPrometheus(t *testing.T) {
	setenv(t)
	tel := setup(t, Config{})
	// Each pool has its own buckets and attributes, with the same metric names.
	for _, id := range []driver.Identity{cache, orders} {
		named, err := breaker.New(breaker.Config{Name: "shards", SlowCall: time.Second}) // beside the breaker of the stack
		if err != nil {
			t.Fatal(err)
		}
		p := newPool(t, tel, id, named)
		for _, err := range []error{nil, pooltest.ErrReply} {
			_ = p.Do(t.Context(), pool.Op{Name: "get", Target: "sessions"}, func(context.Context, *pooltest.Conn) error { return err })
		}
	}
	var page string
	eventually(t, "create times are reported", func() bool { // reported in the background
		_, page = scrape(t, tel.MetricsHandler(), "text/plain")
		return strings.Count(page, "db_client_connection_create_time_seconds_count") == 2
	})
	families := parse(t, page)
	for _, i := range poolmetrics.Catalogue((&store{}).Levels()...) {
		name := prometheusNames[i.Name]
		if got := i.PrometheusName(); got != name {
			t.Errorf("PrometheusName of %s is %q, want %q", i.Name, got, name)
		}
		f := families[name]
		if f == nil {
			t.Errorf("there is no %s", name)
			continue
		}
		delete(families, name)
		kind := map[poolmetrics.InstrumentKind]string{poolmetrics.Counter: "counter", poolmetrics.Histogram: "histogram"}[i.Kind]
		if kind == "" {
			kind = "gauge"
		}
		if f.kind != kind || f.help != i.Description {
			t.Errorf("%s is a %s, %q; want a %s, %q", name, f.kind, f.help, kind, i.Description)
		}
		var labels []string
		for _, a := range i.Attributes {
			labels = append(labels, strings.ReplaceAll(a, ".", "_"))
		}
		slices.Sort(labels)
		if got := slices.Sorted(maps.Keys(f.labels)); !slices.Equal(got, labels) {
			t.Errorf("%s has the labels %v, want %v", name, got, labels)
		}
		f.wantBuckets(t, i)
	}
	delete(families, "target_info")
	for name := range families {
		t.Errorf("%s is not in the catalogue", name)
	}
}

// family is a metric on a Prometheus page.
type family struct {
	kind, help string
	labels     map[string]bool
	buckets    map[string][]string // by the pool's name
}

func parse(t *testing.T, page string) map[string]*family {
	t.Helper()
	all := map[string]*family{}
	sample := regexp.MustCompile(`^(\w+)\{(.*)\} \S+$`)
	label := regexp.MustCompile(`(\w+)="((?:[^"\\]|\\.)*)"`)
	name := ""
	for line := range strings.Lines(page) {
		line = strings.TrimSuffix(line, "\n")
		if help, ok := strings.CutPrefix(line, "# HELP "); ok {
			name, help, _ = strings.Cut(help, " ")
			all[name] = &family{help: help, labels: map[string]bool{}, buckets: map[string][]string{}}
			continue
		}
		if kind, ok := strings.CutPrefix(line, "# TYPE "+name+" "); ok {
			all[name].kind = kind
			continue
		}
		m := sample.FindStringSubmatch(line)
		if m == nil || !strings.HasPrefix(m[1], name) {
			t.Fatalf("a line that is not understood: %q, of %s", line, name)
		}
		labels := map[string]string{}
		for _, l := range label.FindAllStringSubmatch(m[2], -1) {
			labels[l[1]] = l[2]
		}
		if le, ok := labels["le"]; ok {
			delete(labels, "le")
			of := labels["db_client_connection_pool_name"]
			if _, failed := labels["error_type"]; !failed && le != "+Inf" {
				all[name].buckets[of] = append(all[name].buckets[of], le)
			}
		}
		for l := range labels {
			all[name].labels[l] = true
		}
	}
	return all
}

func (f *family) wantBuckets(t *testing.T, i poolmetrics.Instrument) {
	t.Helper()
	for _, id := range []driver.Identity{cache, orders} {
		bounds := i.Buckets
		if i.RedisBuckets != nil && id.System == "redis" {
			bounds = i.RedisBuckets
		}
		var want []string
		for _, b := range bounds {
			want = append(want, fmt.Sprint(b))
		}
		if got := f.buckets[id.Name]; !slices.Equal(got, want) {
			t.Errorf("%s of %s has the buckets %v, want %v", i.Name, id.Name, got, want)
		}
	}
}

// Before the first use the breaker's state is reported, and all counters are 0. After Close the
// gauges are gone and counters do not change, until a new pool has the same name.
func TestPoolInPrometheusFromBeginningToEnd(t *testing.T) {
	setenv(t)
	tel := setup(t, Config{})
	want := func(when string, present bool, series string) {
		t.Helper()
		if _, page := scrape(t, tel.MetricsHandler(), "text/plain"); strings.Contains(page, "\n"+series+"\n") != present {
			t.Errorf("%s: %s is there: %v, want %v, in\n%s", when, series, !present, present, page)
		}
	}
	const (
		of     = `db_client_connection_pool_name="cache"`
		closed = `poolstack_breaker_state{` + of + `,poolstack_layer="breaker",poolstack_state="closed"} 1`
		budget = `poolstack_retry_budget{` + of + `,poolstack_layer="retry"} 100`
	)
	p := newPool(t, tel, cache)
	for _, series := range []string{
		closed,
		`poolstack_breaker_state{` + of + `,poolstack_layer="breaker",poolstack_state="open"} 0`,
		`poolstack_breaker_state{` + of + `,poolstack_layer="breaker",poolstack_state="half-open"} 0`,
		budget,
		`poolstack_transitions_total{` + of + `,poolstack_from="closed",poolstack_layer="breaker",poolstack_reason="failure_ratio",poolstack_to="open"} 0`,
		`poolstack_retry_give_ups_total{` + of + `,poolstack_reason="budget"} 0`,
		`poolstack_rejections_total{` + of + `,poolstack_layer="breaker",poolstack_reason="breaker_open"} 0`,
		`poolstack_timeouts_total{` + of + `,poolstack_stage="acquire"} 0`,
	} {
		want("at first", true, series)
	}
	failures := func(n int) string {
		return fmt.Sprintf(`poolstack_failures_total{%s,poolstack_fault="server"} %d`, of, n)
	}
	fail := func() {
		_ = p.Do(t.Context(), pool.Op{Name: "SET"}, func(context.Context, *pooltest.Conn) error { return pooltest.ErrDenied })
	}
	fail()
	want("after a failure", true, failures(1))
	if err := p.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	want("after Close", false, closed)
	want("after Close", false, budget)
	want("after Close", true, failures(1))
	p = newPool(t, tel, cache)
	want("in the second pool", true, closed)
	want("in the second pool", true, failures(1))
	fail()
	want("after another failure", true, failures(2))
}

// An exemplar of a latency bucket leads to the span of a use with that latency. A counter also has
// an exemplar.
func TestExemplarsOfAPool(t *testing.T) {
	setenv(t, "OTEL_TRACES_EXPORTER=console")
	var out lockedBuffer
	tel := setup(t, Config{Console: &out})
	p := newPool(t, tel, cache)
	ctx, caller := tel.TracerProvider().Tracer("test").Start(t.Context(), "caller")
	_ = p.Do(ctx, pool.Op{Name: "GET"}, func(context.Context, *pooltest.Conn) error { return pooltest.ErrReply })
	caller.End()
	_, page := scrape(t, tel.MetricsHandler(), openMetrics)
	shutdown(t, tel)
	var use string
	for line := range strings.Lines(out.String()) {
		var span struct {
			Name        string
			SpanContext struct{ TraceID, SpanID string }
		}
		if err := json.Unmarshal([]byte(line), &span); err != nil {
			t.Fatal(err)
		}
		if span.Name == "GET" && span.SpanContext.TraceID == caller.SpanContext().TraceID().String() {
			use = span.SpanContext.SpanID
		}
	}
	if use == "" {
		t.Fatalf("the use has no span in\n%s", out.String())
	}
	for _, series := range []string{
		"db_client_operation_duration_seconds_bucket", "db_client_connection_wait_time_seconds_bucket", "poolstack_failures_total",
	} {
		want := regexp.MustCompile(`(?m)^` + series + `\{.*\} 1(\.0)? # \{(span_id="` + use + `"|,|trace_id="` +
			caller.SpanContext().TraceID().String() + `"){3}\} `)
		if !want.MatchString(page) {
			t.Errorf("no exemplar like %s in\n%s", want, page)
		}
	}
}
