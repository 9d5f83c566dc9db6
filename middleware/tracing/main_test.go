package tracing

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

func TestMain(m *testing.M) { os.Exit(pooltest.Main(m)) }

// server is a fake driver that says it is something else.
type server struct {
	pooltest.Fake
	id driver.Identity
}

func (s *server) Identity() driver.Identity { return s.id }

var (
	redis   = driver.Identity{Name: "cache", System: "redis", Address: "10.0.0.1", Port: 6379, Namespace: "3"}
	mongodb = driver.Identity{Name: "orders-db", System: "mongodb", Address: "db.example", Port: 27018, Namespace: "shop"}
)

// rig is a pool whose spans are recorded.
type rig struct {
	t        testing.TB
	server   *server
	layer    *Tracing
	pool     *pool.Pool[*pooltest.Conn]
	provider *sdktrace.TracerProvider
	recorder *tracetest.SpanRecorder
	start    time.Time
}

func newRig(t testing.TB, id driver.Identity, cfg Config, poolCfg pool.Config, inner ...pool.Middleware) *rig {
	t.Helper()
	r := &rig{t: t, server: &server{id: id}, recorder: tracetest.NewSpanRecorder(), start: time.Now()}
	r.provider = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(r.recorder))
	if cfg.TracerProvider == nil {
		cfg.TracerProvider = r.provider
	}
	var err error
	if r.layer, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	r.pool, err = pool.New(r.server, poolCfg, append([]pool.Middleware{r.layer}, inner...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.pool.Close(context.Background()); err != nil {
			t.Error(err)
		}
		for _, v := range r.server.Violations() {
			t.Error(v)
		}
	})
	return r
}

// warm opens a resource, so that no use has to wait for one.
func (r *rig) warm() *rig {
	r.t.Helper()
	if err := r.pool.Warm(context.Background(), 1); err != nil {
		r.t.Fatal(err)
	}
	return r
}

// tree draws the ended spans. The times count from the creation of the rig and are exact only in a
// synctest bubble.
func (r *rig) tree(times bool) string {
	spans := r.recorder.Ended()
	slices.SortStableFunc(spans, func(a, b sdktrace.ReadOnlySpan) int {
		return cmp.Or(a.StartTime().Compare(b.StartTime()), cmp.Compare(a.Name(), b.Name()))
	})
	children := map[trace.SpanID][]sdktrace.ReadOnlySpan{}
	for _, s := range spans {
		children[s.Parent().SpanID()] = append(children[s.Parent().SpanID()], s)
	}
	var b strings.Builder
	drawn := 0
	var draw func(parent trace.SpanID, indent string)
	draw = func(parent trace.SpanID, indent string) {
		for _, s := range children[parent] {
			drawn++
			fmt.Fprintf(&b, "\n%s%s", indent, s.Name())
			if times {
				fmt.Fprintf(&b, " %v-%v", s.StartTime().Sub(r.start), s.EndTime().Sub(r.start))
			}
			fmt.Fprintf(&b, " %v %s%s%s", s.SpanKind(), s.Status().Code, s.Status().Description, attributes(s.Attributes()))
			for _, e := range s.Events() {
				fmt.Fprintf(&b, "\n%s* %s%s", indent+"  ", e.Name, attributes(e.Attributes))
			}
			draw(s.SpanContext().SpanID(), indent+"  ")
		}
	}
	draw(trace.SpanID{}, "")
	if drawn != len(spans) {
		r.t.Errorf("%d of %d spans are orphans", len(spans)-drawn, len(spans))
	}
	return b.String()
}

func (r *rig) want(times bool, lines ...string) {
	r.t.Helper()
	want := ""
	for _, l := range lines {
		want += "\n" + l
	}
	if got := r.tree(times); got != want {
		r.t.Errorf("got spans%s\nwant%s", got, want)
	}
}

// repeat is a small retry layer.
type repeat struct {
	attempts int
	pause    time.Duration
}

func (l repeat) Wrap(next pool.Handler) pool.Handler {
	return func(ctx context.Context, c *pool.Call) error {
		for n := 1; ; n++ {
			c.SetAttempt(n)
			err := next(ctx, c)
			if err == nil || n == l.attempts {
				return err
			}
			begin := time.Now()
			select {
			case <-time.After(l.pause):
			case <-ctx.Done():
				e := pool.Event{Kind: pool.EventGaveUp, Layer: "retry", Duration: time.Since(begin), Reason: "canceled", Err: err}
				c.Emit(ctx, e)
				return errors.Join(err, ctx.Err())
			}
			c.Emit(ctx, pool.Event{Kind: pool.EventRetry, Layer: "retry", Duration: l.pause, Reason: c.Classify(err).Type, Err: err})
		}
	}
}

func attributes(attrs []attribute.KeyValue) string {
	var list []string
	for _, a := range attrs {
		list = append(list, fmt.Sprintf(" %s=%s", a.Key, a.Value.String()))
	}
	slices.Sort(list)
	return strings.Join(list, "")
}
