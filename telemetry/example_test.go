package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	"github.com/earnorm/poolstack/telemetry"
	"go.opentelemetry.io/otel/attribute"
)

// A program sets telemetry up first, passes the providers to its components, and serves the
// metrics. It shuts telemetry down last, with a deadline.
func Example() {
	run := func(ctx context.Context) (err error) {
		tel, err := telemetry.Setup(ctx, telemetry.Config{
			ServiceName: "orders",
			Attributes:  []attribute.KeyValue{attribute.String("service.version", "1.4.0")},
		})
		if err != nil {
			return err
		}
		defer func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			err = errors.Join(err, tel.Shutdown(ctx))
		}()

		orders, err := tel.MeterProvider().Meter("example").Int64Counter("orders.placed")
		if err != nil {
			return err
		}
		orders.Add(ctx, 2)

		mux := http.NewServeMux()
		mux.Handle("GET /metrics", tel.MetricsHandler())
		page := httptest.NewRecorder()
		mux.ServeHTTP(page, httptest.NewRequestWithContext(ctx, http.MethodGet, "/metrics", http.NoBody))
		for line := range strings.Lines(page.Body.String()) {
			if strings.HasPrefix(line, "orders_placed") {
				fmt.Print(line)
			}
		}
		return nil
	}
	if err := run(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output: orders_placed_total 2
}

// The error contains all invalid values together.
func ExampleSetup_mistakes() {
	_ = os.Setenv("OTEL_TRACES_EXPORTER", "zipkin")
	_ = os.Setenv("OTEL_METRIC_EXPORT_INTERVAL", "60s")
	defer func() { _ = os.Unsetenv("OTEL_TRACES_EXPORTER"); _ = os.Unsetenv("OTEL_METRIC_EXPORT_INTERVAL") }()

	_, err := telemetry.Setup(context.Background(), telemetry.Config{})
	fmt.Println(err)
	// Output:
	// telemetry: OTEL_METRIC_EXPORT_INTERVAL is "60s": must be milliseconds, 1 or more
	// telemetry: OTEL_TRACES_EXPORTER is "zipkin": must be none, or some of otlp, console, separated by commas
}
