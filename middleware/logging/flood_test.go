package logging_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/earnorm/poolstack/middleware/breaker"
	"github.com/earnorm/poolstack/middleware/logging"
	"github.com/earnorm/poolstack/middleware/tracing"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// An outage of 10,000 uses, with a breaker that opens and without a breaker: all lines written at
// the level INFO.
func TestNoFlood(t *testing.T) {
	const (
		refused = `level=ERROR msg="use failed" pool=cache operation=GET error_type=REFUSED fault=server duration=0s`
		open    = `level=WARN msg="state changed" pool=cache operation=GET layer=breaker reason=consecutive_failures cause=REFUSED ` +
			`from=closed to=open next_probe=1m0s`
		turned = `level=WARN msg="use failed" pool=cache operation=GET error_type=breaker_open fault=server cause=REFUSED duration=0s`
	)
	every := func(line string) []string { // the first of 10,000, and 9 more
		list := []string{line}
		for range 9 {
			list = append(list, line+" suppressed=999")
		}
		return list
	}
	for _, c := range []struct {
		name    string
		breaker bool
		uses    int
		want    []string
	}{
		{"no breaker", false, 10_000, every(refused)},
		{"breaker", true, 10_005, append([]string{refused, open}, every(turned)...)},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := &strings.Builder{}
				layers := []pool.Middleware{newLayer(t, log)}
				if c.breaker {
					b, err := breaker.New(breaker.Config{ConsecutiveFailures: 5, OpenFor: time.Minute, Jitter: -1})
					if err != nil {
						t.Fatal(err)
					}
					layers = append(layers, b)
				}
				p, err := pool.New(&pooltest.Fake{}, pool.Config{Name: "cache"}, layers...)
				if err != nil {
					t.Fatal(err)
				}
				for range c.uses {
					_ = p.Do(context.Background(), pool.Op{Name: "GET", Key: "s3cret"}, fail)
				}
				_ = p.Close(context.Background())
				if got, want := log.String(), strings.Join(c.want, "\n")+"\n"; got != want {
					t.Errorf("got\n%swant\n%s", got, want)
				}
			})
		})
	}
}

// fail returns an error whose text must not be logged.
func fail(context.Context, *pooltest.Conn) error {
	return fmt.Errorf("SET user:7 s3cret: %w", pooltest.ErrRefused)
}

// newLayer returns a layer that writes to log without the time.
func newLayer(t testing.TB, log *strings.Builder) pool.Middleware {
	t.Helper()
	handler := slog.NewTextHandler(log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	layer, err := logging.New(logging.Config{Logger: slog.New(handler)})
	if err != nil {
		t.Fatal(err)
	}
	return layer
}

// The same failures from many goroutines at once are counted together.
func TestNoFloodInParallel(t *testing.T) {
	log := &strings.Builder{}
	p, err := pool.New(&pooltest.Fake{}, pool.Config{MaxSize: 8}, newLayer(t, log))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1250 {
				_ = p.Do(context.Background(), pool.Op{}, fail)
			}
		})
	}
	wg.Wait()
	_ = p.Close(context.Background())
	// More lines only if the test takes longer than an interval.
	if n := strings.Count(log.String(), "\n"); n < 10 || n > 20 {
		t.Errorf("%d lines:\n%s", n, log)
	}
}

// A line leads to the span that tracing has made for the use, and holds nothing secret.
func TestLinesLeadToSpans(t *testing.T) {
	spans, err := tracing.New(tracing.Config{TracerProvider: sdktrace.NewTracerProvider()})
	if err != nil {
		t.Fatal(err)
	}
	log := &strings.Builder{}
	fake := &pooltest.Fake{}
	p, err := pool.New(fake, pool.Config{}, spans, newLayer(t, log))
	if err != nil {
		t.Fatal(err)
	}
	var ids string
	_ = p.Do(context.Background(), pool.Op{Name: "GET", Key: "s3cret"}, func(ctx context.Context, c *pooltest.Conn) error {
		span := trace.SpanContextFromContext(ctx)
		ids = fmt.Sprintf(" trace_id=%s span_id=%s", span.TraceID(), span.SpanID())
		return fail(ctx, c)
	})
	func() {
		defer func() { _ = recover() }()
		_ = p.Do(context.Background(), pool.Op{Name: "GET"}, func(context.Context, *pooltest.Conn) error { panic("s3cret") })
	}()
	_ = p.Close(context.Background())
	first, _, _ := strings.Cut(log.String(), "\n")
	if !strings.HasSuffix(first, ids) || strings.Contains(log.String(), "s3cret") {
		t.Errorf("got\n%swhich should lead to%s", log, ids)
	}
}
