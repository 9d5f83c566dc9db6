package redispool_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/earnorm/poolstack/backends/redispool"
	"github.com/earnorm/poolstack/middleware/tracing"
	"github.com/earnorm/poolstack/pool"
)

// The trace of a use with a real server and with the texts of commands. Some of the commands hold
// secrets.
func TestTraceOfCommands(t *testing.T) {
	s := launch(t, "--requirepass", "s3cret")
	exporter := tracetest.NewInMemoryExporter()
	layer, err := tracing.New(tracing.Config{
		TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter)), Commands: true, CommandText: true, Background: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	opts := redispool.Options{Address: s.addr, Password: "s3cret", DB: 2, ClientName: "tester"}
	p := open(t, opts, pool.Config{Name: "cache", MaxSize: 1}, layer)
	if err := p.Warm(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	err = p.Do(t.Context(), pool.Op{Name: "mix", Target: "sessions"}, func(ctx context.Context, c *redispool.Conn) error {
		c.Set(ctx, "user:s3cret", "s3cret", 0)
		c.Get(ctx, "missing:s3cret")
		c.LPush(ctx, "user:s3cret", "s3cret")
		c.Do(ctx, "AUTH", "default", "s3cret")
		c.Do(ctx, "AUTH", "default", "wrong-s3cret")
		c.Do(ctx, "HELLO", 3, "AUTH", "default", "s3cret")
		c.Do(ctx, "CONFIG", "SET", "masterauth", "s3cret")
		c.Do(ctx, "s3cret", "s3cret")
		_, _ = c.Pipelined(ctx, func(p redis.Pipeliner) error { p.Get(ctx, "s3cret"); p.Get(ctx, "s3cret"); return nil })
		_, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Set(ctx, "s3cret", 1, 0); p.Incr(ctx, "s3cret"); return nil })
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	// After Close all background work of the pool has been reported.
	if err := p.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, span := range exporter.GetSpans() {
		if strings.Contains(fmt.Sprintf("%+v", span), "s3cret") {
			t.Errorf("a secret is in %+v", span)
		}
		attrs := map[string]string{}
		for _, a := range span.Attributes {
			attrs[string(a.Key)] = a.Value.String()
		}
		line := fmt.Sprintf("%s %s: %s", span.SpanKind, span.Name, attrs["db.query.text"])
		if span.SpanKind.String() == "client" {
			if attrs["db.namespace"] != "2" || attrs["server.address"] != "127.0.0.1" || attrs["server.port"] == "" ||
				attrs["db.query.summary"] != span.Name || attrs["db.operation.name"] != span.Name || !span.Parent.IsValid() {
				t.Errorf("%s has attributes %v", span.Name, attrs)
			}
		}
		for _, key := range []string{"db.operation.batch.size", "db.response.status_code", "error.type"} {
			if attrs[key] != "" {
				line += " " + key + "=" + attrs[key]
			}
		}
		got = append(got, line)
	}
	want := []string{
		"internal open: ",
		"client SET: SET ? ?",
		"client GET: GET ?", // a miss is no error
		"client LPUSH: LPUSH ? ? db.response.status_code=WRONGTYPE error.type=WRONGTYPE",
		"client AUTH: AUTH ? ?",
		"client AUTH: AUTH ? ? db.response.status_code=WRONGPASS error.type=WRONGPASS",
		"client HELLO: HELLO ? ? ? ?",
		"client CONFIG: CONFIG SET ? ?",
		"client _OTHER: _OTHER ? db.response.status_code=ERR error.type=ERR",
		"client PIPELINE GET: GET ? db.operation.batch.size=2",
		"client MULTI: SET ? ?; INCR ? db.operation.batch.size=2",
		"internal mix sessions: ",
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got spans\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
