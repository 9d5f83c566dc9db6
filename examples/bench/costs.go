package main

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/earnorm/poolstack/middleware"
	"github.com/earnorm/poolstack/pool"
)

// pingers is the number of goroutines that ping.
const pingers = 8

// costScenarios measure the cost of telemetry in a call to a server.
func costScenarios(s *servers) []scenario { return []scenario{pingScenario(s), namesScenario(s)} }

func pingScenario(s *servers) scenario {
	const byHand = "sampled, by hand"
	about := "Through the standard stack with and without its telemetry layers. By hand is without them, and one span with as many attributes " +
		"and three histograms recorded around the call with the SDK: what any sampled telemetry like ours costs at least."
	return compare("Redis PING, 8 goroutines: telemetry", about, func() []contestant {
		var all []contestant
		variants := append(telemetryVariants(), telemetryVariant{byHand, func(*providers) middleware.Options { return unwatched() }, 1, handmade})
		for _, v := range variants {
			all = append(all, ourRedis(s, v, pingCommand, pingers))
		}
		return all
	},
		ratio(noop, untold, 1.05), ratio(unsampled, untold, 1.10), ratio(sampled, untold, 1.25),
		ratio(onePer100, untold, unbound), ratio(notSkip, untold, unbound), ratio(byHand, untold, unbound), ratio(sampled, byHand, unbound),
		cpu(byHand, untold, unbound), cpu(noop, untold, unbound), cpu(unsampled, untold, unbound), cpu(sampled, untold, unbound))
}

// handmadeTelemetry records a span and three histograms directly with the SDK.
type handmadeTelemetry struct {
	tracer         trace.Tracer
	start          []trace.SpanStartOption
	duration       metric.Float64Histogram
	wait, use      metric.Float64Histogram
	ofCall, ofPool []metric.RecordOption
}

func handmade(p *providers) []pool.Middleware {
	meter := p.meters.Meter("bench")
	histogram := func(name string) metric.Float64Histogram {
		h, err := meter.Float64Histogram(name, metric.WithUnit("s"),
			metric.WithExplicitBucketBoundaries(.0001, .0005, .001, .005, .01, .05, .1, .5, 1, 5, 10))
		check(err)
		return h
	}
	name := attribute.String("db.client.connection.pool.name", "redis 127.0.0.1")
	attrs := []attribute.KeyValue{
		name, attribute.String("db.system.name", "redis"), attribute.String("db.namespace", "0"), attribute.String("db.operation.name", "PING"),
		attribute.String("db.query.summary", "PING"), attribute.String("server.address", "127.0.0.1"), attribute.Int("server.port", 1),
	}
	return []pool.Middleware{pool.Bracket(&handmadeTelemetry{
		tracer:   p.traces.Tracer("bench"),
		start:    []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attrs...)},
		duration: histogram("duration"), wait: histogram("wait"), use: histogram("use"),
		ofCall: []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(attrs...))},
		ofPool: []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(name))},
	})}
}

// begunByHand is the state passed from Begin to End.
type begunByHand struct {
	span trace.Span
	at   time.Time
}

func (h *handmadeTelemetry) Begin(ctx context.Context, _ *pool.Call) (context.Context, begunByHand, error) {
	ctx, span := h.tracer.Start(ctx, "PING", h.start...) //nolint:spancheck // End ends the span
	return ctx, begunByHand{span, time.Now()}, nil       //nolint:spancheck // as above
}

func (h *handmadeTelemetry) End(ctx context.Context, _ *pool.Call, b begunByHand, _ error) {
	took := time.Since(b.at).Seconds()
	h.wait.Record(ctx, took, h.ofPool...)
	h.use.Record(ctx, took, h.ofPool...)
	h.duration.Record(ctx, took, h.ofCall...)
	b.span.End()
}

// namesScenario compares few operation names with many operation names. The many names exceed the
// number of names distinguished by a pool's metrics, and the number of cached span settings.
func namesScenario(s *servers) scenario {
	const few, many = 10, 1000
	called := func(v string, n int) string { return fmt.Sprintf("%d names, %s", n, v) }
	return compare("Redis PING, 8 goroutines: names of operations", "Every call has the next name, in turn.", func() []contestant {
		var all []contestant
		for _, v := range telemetryVariants() {
			if v.name == unsampled || v.name == sampled {
				for _, n := range []int{few, many} {
					named := v
					named.name = called(v.name, n)
					ping := pingCommand
					ping.names = n
					all = append(all, ourRedis(s, named, ping, pingers))
				}
			}
		}
		return all
	}, ratio(called(unsampled, many), called(unsampled, few), 1), ratio(called(sampled, many), called(sampled, few), 1),
		cpu(called(unsampled, many), called(unsampled, few), unbound), cpu(called(sampled, many), called(sampled, few), unbound))
}
