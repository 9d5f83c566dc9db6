package metrics_test

import (
	"context"
	"fmt"
	"strings"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/earnorm/poolstack/middleware/metrics"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

func Example() {
	reader := sdkmetric.NewManualReader() // in a program: an exporter
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))

	layer, err := metrics.New(metrics.Config{MeterProvider: provider})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	// A real pool has a real driver, and more layers.
	p, err := pool.New(&pooltest.Fake{}, pool.Config{Name: "cache", MaxSize: 4}, layer)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = p.Close(ctx) }()

	for range 3 {
		_ = p.Do(ctx, pool.Op{Name: "GET", Target: "sessions"}, func(ctx context.Context, c *pooltest.Conn) error { return c.Use(ctx) })
	}

	var all metricdata.ResourceMetrics
	if err := reader.Collect(ctx, &all); err != nil {
		fmt.Println(err)
		return
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Histogram[float64]:
				if m.Name == "db.client.operation.duration" {
					fmt.Println(m.Name, "of", data.DataPoints[0].Count)
				}
			case metricdata.Sum[int64]:
				if strings.HasSuffix(m.Name, ".max") {
					fmt.Println(m.Name, "is", data.DataPoints[0].Value)
				}
			}
		}
	}
	// Unordered output:
	// db.client.operation.duration of 3
	// db.client.connection.max is 4
	// db.client.connection.idle.max is 4
}

func ExampleCatalogue() {
	for _, i := range metrics.Catalogue()[:2] {
		fmt.Println(i.Name, i.Kind, i.Unit, i.Attributes[0])
	}
	// Output:
	// db.client.operation.duration Histogram s db.client.connection.pool.name
	// db.client.connection.count UpDownCounter {connection} db.client.connection.pool.name
}
