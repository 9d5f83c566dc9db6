package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/earnorm/poolstack/backends/mongopool"
	"github.com/earnorm/poolstack/backends/redispool"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

func TestMain(m *testing.M) { os.Exit(pooltest.Main(m)) }

// A request has the spans shown in README.md. The first reply of Redis is lost.
func TestSpans(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	line := &cutter{}
	cache, err := redispool.ParseURL(env(t, "REDIS_URL"))
	if err != nil {
		t.Fatal(err)
	}
	cache.Dialer = line.dial
	s, err := newShop(cache, mongopool.Options{URI: env(t, "MONGODB_URI"), Database: "tracing"}, provider)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close(context.Background())
	id := fmt.Sprint(time.Now().UnixNano())
	if err := s.store.Do(t.Context(), pool.Op{Name: "insert"}, func(ctx context.Context, c *mongopool.Conn) error {
		_, err := c.Collection("orders").InsertOne(ctx, bson.D{{Key: "_id", Value: id}, {Key: "total", Value: 42}})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.cache.Warm(t.Context(), 2); err != nil { // the second attempt finds a connection
		t.Fatal(err)
	}
	spans.Reset()

	line.cut.Store(true)
	ask(t, s, id, http.StatusOK)
	first := tree(spans.GetSpans())
	spans.Reset()
	ask(t, s, id, http.StatusOK)
	second := tree(spans.GetSpans())
	for _, got := range []string{first, second} {
		if page := page(t); !strings.Contains(page, "```text\n"+got+"```\n") {
			t.Errorf("the page does not show this tree:\n%s", got)
		}
	}
	ask(t, s, "no such order", http.StatusNotFound)
}

// The program serves requests, and has exported their spans when it has ended.
func TestProgram(t *testing.T) {
	env(t, "REDIS_URL")
	env(t, "MONGODB_URI")
	t.Setenv("OTEL_TRACES_EXPORTER", "console")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var console strings.Builder
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, listener, &console) }()
	resp, err := http.Get("http://" + listener.Addr().String() + "/orders/none")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	stop()
	if err := <-ended; err != nil || resp.StatusCode != http.StatusNotFound {
		t.Errorf("an unknown order: %s, and the program ends with %v", resp.Status, err)
	}
	for _, name := range []string{"GET /orders/{id}", "GET order", "find orders"} {
		if !strings.Contains(console.String(), `"Name":"`+name+`"`) {
			t.Errorf("the console has no span %q:\n%s", name, console.String())
		}
	}
}

// ask sends a request with a trace of the caller, and checks that the spans belong to the trace.
func ask(t *testing.T, s *shop, id string, want int) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/orders/x", http.NoBody)
	r.URL.Path = "/orders/" + id
	r.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	w := httptest.NewRecorder()
	s.handler().ServeHTTP(w, r)
	if w.Code != want {
		t.Errorf("GET /orders/%s: %d %s, want %d", id, w.Code, w.Body, want)
	}
}

// tree draws the spans of a single trace. tree leaves out the waits for connections, because their
// number differs from run to run.
func tree(spans tracetest.SpanStubs) string {
	spans = slices.DeleteFunc(spans, func(s tracetest.SpanStub) bool { return s.Name == "acquire" })
	slices.SortFunc(spans, func(a, b tracetest.SpanStub) int { return a.StartTime.Compare(b.StartTime) })
	known := map[trace.SpanID]bool{}
	for _, s := range spans {
		known[s.SpanContext.SpanID()] = true
	}
	var out strings.Builder
	var draw func(parent trace.SpanID, indent string)
	draw = func(parent trace.SpanID, indent string) {
		for _, s := range spans {
			if s.Parent.SpanID() != parent {
				continue
			}
			fmt.Fprintf(&out, "%s%s  %s%s\n", indent, s.Name, strings.ToUpper(s.SpanKind.String()), notes(s))
			draw(s.SpanContext.SpanID(), indent+"    ")
		}
	}
	for _, s := range spans {
		if parent := s.Parent.SpanID(); !known[parent] {
			draw(parent, "")
			break
		}
	}
	return out.String()
}

// notes returns the parts of a span worth a look.
func notes(s tracetest.SpanStub) string {
	var out strings.Builder
	for _, a := range s.Attributes {
		switch a.Key {
		case "db.client.connection.pool.name", "poolstack.attempt", "error.type", "http.response.status_code":
			fmt.Fprintf(&out, "  %s=%s", a.Key, a.Value.String())
		}
	}
	if s.Status.Code == codes.Error {
		out.WriteString("  status=error")
	}
	for _, e := range s.Events {
		fmt.Fprintf(&out, "  event:%s", e.Name)
	}
	return out.String()
}

// cutter dials. After cut has been set, the next GET is sent, and its reply is lost.
type cutter struct{ cut atomic.Bool }

func (c *cutter) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	return &cutConn{Conn: conn, cutter: c}, err
}

type cutConn struct {
	net.Conn

	cutter *cutter
	lost   atomic.Bool
}

func (c *cutConn) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("\r\nget\r\n")) && c.cutter.cut.CompareAndSwap(true, false) {
		c.lost.Store(true)
	}
	return c.Conn.Write(b)
}

func (c *cutConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.lost.Load() {
		c.Close()
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}

func page(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func env(t *testing.T, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is not set, and CI is true", name)
		}
		t.Skipf("%s is not set: run the tests by make test", name)
	}
	return value
}
