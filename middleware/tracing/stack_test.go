package tracing_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	meternoop "go.opentelemetry.io/otel/metric/noop"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/earnorm/poolstack/middleware"
	"github.com/earnorm/poolstack/middleware/breaker"
	"github.com/earnorm/poolstack/middleware/logging"
	"github.com/earnorm/poolstack/middleware/metrics"
	"github.com/earnorm/poolstack/middleware/retry"
	"github.com/earnorm/poolstack/middleware/timeout"
	"github.com/earnorm/poolstack/middleware/tracing"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

type use = func(context.Context, *pooltest.Conn) error

// What the real layers of the standard stack do, as it shows in a trace.
func TestStandardStack(t *testing.T) {
	hang := func(ctx context.Context, _ *pooltest.Conn) error { <-ctx.Done(); return context.Cause(ctx) }
	fail := func(context.Context, *pooltest.Conn) error { return pooltest.ErrRefused }
	ok := func(context.Context, *pooltest.Conn) error { return nil }
	for _, c := range []struct {
		name string
		uses [][]use // of each use, what its attempts do
		want []string
	}{
		{"all is well", [][]use{{ok}}, []string{
			"GET 0s-0s client Unset",
		}},
		{"an attempt takes too long", [][]use{{hang, ok}}, []string{
			"GET 0s-1.1s client Unset attempts=2",
			"  * timeout by timeout.attempt attempt 1s",
			"  * retry by retry timeout_attempt 100ms",
			"  attempt 0s-1s internal Error timeout_attempt 1",
			"  attempt 1.1s-1.1s internal Unset 2",
		}},
		{"no time is left for another attempt", [][]use{{fail, hang, hang}}, []string{
			"GET 0s-1.1s client Error timeout_attempt attempts=2",
			"  * retry by retry REFUSED 100ms",
			"  * timeout by timeout.attempt attempt 1s",
			"  * state_changed by breaker consecutive_failures closed-open because of timeout_attempt 1m0s",
			"  * gave_up by retry deadline 0s",
			"  attempt 0s-0s internal Error REFUSED 1",
			"  attempt 100ms-1.1s internal Error timeout_attempt 2",
		}},
		// The second attempt has a tenth of a second. The total limit ends the attempt, and the breaker
		// learns nothing about the server.
		{"the use takes too long", [][]use{{hang, hang}}, []string{
			"GET 0s-1.2s client Error timeout_total attempts=2",
			"  * timeout by timeout.attempt attempt 1s",
			"  * retry by retry timeout_attempt 100ms",
			"  * gave_up by retry deadline 0s",
			"  * timeout by timeout.total total 1.2s",
			"  attempt 0s-1s internal Error timeout_attempt 1",
			"  attempt 1.1s-1.2s internal Error timeout_total 2",
		}},
		{"the breaker opens, and refuses", [][]use{{fail, fail, fail}, nil}, []string{
			"GET 0s-300ms client Error REFUSED attempts=2",
			"  * retry by retry REFUSED 100ms",
			"  * state_changed by breaker consecutive_failures closed-open because of REFUSED 1m0s",
			"  * rejected by breaker breaker_open because of REFUSED 59.8s",
			"  * gave_up by retry refused 200ms",
			"  attempt 0s-0s internal Error REFUSED 1",
			"  attempt 100ms-100ms internal Error REFUSED 2",
			"GET 300ms-300ms client Error breaker_open",
			"  > GET 0s-300ms because of breaker_open",
			"  * rejected by breaker breaker_open because of REFUSED 59.8s",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				exporter := tracetest.NewInMemoryExporter()
				stack, err := middleware.Standard(middleware.Options{
					Tracing: tracing.Config{TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))},
					Metrics: metrics.Config{MeterProvider: meternoop.NewMeterProvider()},
					Logging: logging.Config{Logger: slog.New(slog.DiscardHandler)},
					Total:   timeout.Config{Limit: 1200 * time.Millisecond},
					Attempt: timeout.Config{Limit: time.Second},
					Retry:   retry.Config{MaxAttempts: 3, InitialDelay: 100 * time.Millisecond, MaxDelay: time.Second, Multiplier: 2, Jitter: -1},
					Breaker: breaker.Config{ConsecutiveFailures: 2, OpenFor: time.Minute, Jitter: -1},
				})
				if err != nil {
					t.Fatal(err)
				}
				p, err := pool.New(&pooltest.Fake{}, pool.Config{Name: "p"}, stack.Layers()...)
				if err != nil {
					t.Fatal(err)
				}
				if err := p.Warm(context.Background(), 1); err != nil {
					t.Fatal(err)
				}
				for _, attempts := range c.uses {
					n := -1
					_ = p.Do(context.Background(), pool.Op{Name: "GET", Idempotent: true}, func(ctx context.Context, c *pooltest.Conn) error {
						if n++; n >= len(attempts) {
							return errors.New("this attempt should not have been made")
						}
						return attempts[n](ctx, c)
					})
				}
				if err := p.Close(context.Background()); err != nil {
					t.Error(err)
				}
				if got := drawn(exporter.GetSpans(), start); !slices.Equal(got, c.want) {
					t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
				}
			})
		})
	}
}

// drawn returns a line for each span and span event, in the order of their beginnings. A line has
// the attributes that tell how the span ended.
func drawn(spans tracetest.SpanStubs, start time.Time) (lines []string) {
	slices.SortStableFunc(spans, func(a, b tracetest.SpanStub) int { return cmp.Compare(a.StartTime.UnixNano(), b.StartTime.UnixNano()) })
	var draw func(parent trace.SpanID, indent string)
	draw = func(parent trace.SpanID, indent string) {
		for _, s := range spans {
			if s.Parent.SpanID() != parent {
				continue
			}
			a := values(s.Attributes)
			lines = append(lines, indent+words(s.Name, fmt.Sprintf("%v-%v", s.StartTime.Sub(start), s.EndTime.Sub(start)),
				s.SpanKind.String(), s.Status.Code.String(), a["error.type"], a["poolstack.attempt"], prefixed("attempts=", a["poolstack.attempts"])))
			for _, l := range s.Links {
				to := slices.IndexFunc(spans, func(s tracetest.SpanStub) bool { return s.SpanContext.Equal(l.SpanContext) })
				lines = append(lines, indent+"  > "+words(spans[to].Name, fmt.Sprintf("%v-%v", spans[to].StartTime.Sub(start), spans[to].EndTime.Sub(start)),
					because(values(l.Attributes)["poolstack.reason"])))
			}
			for _, e := range s.Events {
				a := values(e.Attributes)
				seconds, _ := time.ParseDuration(a["poolstack.duration"] + "s")
				change := strings.Trim(a["poolstack.from"]+"-"+a["poolstack.to"], "-")
				lines = append(lines, indent+"  * "+words(strings.TrimPrefix(e.Name, "poolstack."), "by", a["poolstack.layer"],
					a["poolstack.reason"], change, because(a["poolstack.cause"]), seconds.String()))
			}
			draw(s.SpanContext.SpanID(), indent+"  ")
		}
	}
	draw(trace.SpanID{}, "")
	return lines
}

func values(attrs []attribute.KeyValue) map[attribute.Key]string {
	m := map[attribute.Key]string{}
	for _, a := range attrs {
		m[a.Key] = a.Value.String()
	}
	return m
}

func because(cause string) string { return prefixed("because of ", cause) }

// prefixed puts prefix before value, unless value is empty.
func prefixed(prefix, value string) string {
	if value == "" {
		return ""
	}
	return prefix + value
}

// words joins those that are not empty.
func words(list ...string) string {
	return strings.Join(slices.DeleteFunc(list, func(s string) bool { return s == "" }), " ")
}
