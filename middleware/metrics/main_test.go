package metrics

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

func TestMain(m *testing.M) { os.Exit(pooltest.Main(m)) }

var (
	redis   = driver.Identity{Name: "cache", System: "redis", Address: "10.0.0.1", Port: 6379, Namespace: "3"}
	mongodb = driver.Identity{Name: "orders-db", System: "mongodb", Address: "db.example", Port: 27018, Namespace: "shop"}

	get = pool.Op{Name: "GET", Target: "sessions", Key: "a-key", Idempotent: true}
)

func ping(ctx context.Context, c *pooltest.Conn) error { return c.Use(ctx) }
func nothing(context.Context, *pooltest.Conn) error    { return nil }

// server is a fake driver that says it is something else.
type server struct {
	pooltest.Fake
	id            driver.Identity
	subscriptions atomic.Int64
}

func (s *server) Identity() driver.Identity { return s.id }

// Levels tells the connections of subscriptions, once there are any.
func (s *server) Levels() []pool.Level {
	return []pool.Level{{
		Layer: "subscription", Name: "connections", Unit: "{connection}",
		Help: "Open connections of subscriptions. These connections are not part of the pool. Reported for Redis only.",
		Read: func() (float64, bool) { return float64(s.subscriptions.Load()), s.subscriptions.Load() > 0 },
	}}
}

// Describe declares an event, as the driver of Redis does.
func (*server) Describe() pool.LayerInfo {
	return pool.LayerInfo{Layer: "server", Events: []pool.Event{{Kind: "subscription_opened"}, {Kind: "primary_changed", Reason: "mymaster"}}}
}

// reader is a provider and what it has collected.
type reader struct {
	t        testing.TB
	manual   *sdkmetric.ManualReader
	provider *sdkmetric.MeterProvider
}

func newReader(t testing.TB) *reader {
	manual := sdkmetric.NewManualReader()
	return &reader{t, manual, sdkmetric.NewMeterProvider(sdkmetric.WithReader(manual))}
}

func (r *reader) collect() []metricdata.Metrics {
	r.t.Helper()
	var rm metricdata.ResourceMetrics
	if err := r.manual.Collect(context.Background(), &rm); err != nil {
		r.t.Fatal(err)
	}
	var all []metricdata.Metrics
	for _, scope := range rm.ScopeMetrics {
		if scope.Scope.Name != ScopeName {
			r.t.Errorf("a metric is in the scope %s", scope.Scope.Name)
		}
		all = append(all, scope.Metrics...)
	}
	return all
}

// lines returns every series of the instruments, sorted. A histogram is shown as the number of its
// measurements.
func (r *reader) lines(names ...string) []string {
	r.t.Helper()
	var lines []string
	for _, m := range r.collect() {
		if len(names) == 0 || slices.Contains(names, m.Name) {
			for _, p := range points(r.t, m) {
				lines = append(lines, m.Name+p.labels()+" "+p.value)
			}
		}
	}
	slices.Sort(lines)
	return lines
}

// has says how the series that begins with prefix stands, "" if there is none.
func (r *reader) has(series string) (value string) {
	r.t.Helper()
	for _, l := range r.lines() {
		if v, ok := strings.CutPrefix(l, series+" "); ok {
			return v
		}
	}
	return ""
}

func (r *reader) want(series, value string) {
	r.t.Helper()
	if got := r.has(series); got != value {
		r.t.Errorf("%s is %q, want %q", series, got, value)
	}
}

// point is one series, whatever the instrument.
type point struct {
	attrs  attribute.Set
	value  string
	bounds []float64
}

func (p point) labels() string {
	var b strings.Builder
	for _, a := range p.attrs.ToSlice() {
		if a.Key == attribute.Key(poolNameKey) {
			continue // it is everywhere
		}
		fmt.Fprintf(&b, " %s=%s", a.Key, a.Value.String())
	}
	return b.String()
}

func points(t testing.TB, m metricdata.Metrics) (all []point) {
	t.Helper()
	switch data := m.Data.(type) {
	case metricdata.Sum[int64]:
		for _, p := range data.DataPoints {
			all = append(all, point{attrs: p.Attributes, value: fmt.Sprint(p.Value)})
		}
	case metricdata.Gauge[int64]:
		for _, p := range data.DataPoints {
			all = append(all, point{attrs: p.Attributes, value: fmt.Sprint(p.Value)})
		}
	case metricdata.Gauge[float64]:
		for _, p := range data.DataPoints {
			all = append(all, point{attrs: p.Attributes, value: fmt.Sprint(p.Value)})
		}
	case metricdata.Histogram[float64]:
		for _, p := range data.DataPoints {
			all = append(all, point{p.Attributes, fmt.Sprint(p.Count), p.Bounds})
		}
	default:
		t.Errorf("%s has data of type %T", m.Name, data)
	}
	return all
}

// rig is a pool with the layer and its metrics.
type rig struct {
	*reader
	server *server
	layer  *Metrics
	pool   *pool.Pool[*pooltest.Conn]
}

func newRig(t testing.TB, id driver.Identity, poolCfg pool.Config, inner ...pool.Middleware) *rig {
	t.Helper()
	return newRigOn(newReader(t), id, Config{}, poolCfg, inner...)
}

func newRigOn(r *reader, id driver.Identity, cfg Config, poolCfg pool.Config, inner ...pool.Middleware) *rig {
	r.t.Helper()
	if cfg.MeterProvider == nil {
		cfg.MeterProvider = r.provider
	}
	layer, err := New(cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	g := &rig{reader: r, server: &server{id: id}, layer: layer}
	g.pool, err = pool.New(g.server, poolCfg, append([]pool.Middleware{layer}, inner...)...)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(g.close)
	return g
}

func (g *rig) close() {
	if err := g.pool.Close(context.Background()); err != nil {
		g.t.Error(err)
	}
	for _, v := range g.server.Violations() {
		g.t.Error(v)
	}
}
