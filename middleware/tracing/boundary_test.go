package tracing

import (
	"context"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/trace"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// A use of an inner pool runs within a use of an outer pool. The commands of the inner pool do not
// belong to the outer use. If nobody observes the inner pool, its commands have no span, and never
// a span with the outer pool's system. Span, baggage and deadline belong to no pool and pass
// through.
func TestCommandsOfAnInnerPool(t *testing.T) {
	outer := newRig(t, mongodb, Config{Commands: true}, pool.Config{}).warm()
	for name, inner := range map[string]*rig{
		"bare":            {server: &server{id: redis}},
		"without tracing": newRig(t, redis, Config{}, pool.Config{}),
		"with commands":   newRig(t, redis, Config{Commands: true}, pool.Config{}),
	} {
		t.Run(name, func(t *testing.T) {
			if inner.pool == nil {
				p, err := pool.New(inner.server, pool.Config{})
				if err != nil {
					t.Fatal(err)
				}
				inner.pool = p
				defer func() { _ = p.Close(context.Background()) }()
			}
			member, err := baggage.NewMember("tenant", "7")
			if err != nil {
				t.Fatal(err)
			}
			bag, err := baggage.New(member)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(baggage.ContextWithBaggage(context.Background(), bag), time.Minute)
			defer cancel()
			send := func(ctx context.Context) { _ = command(ctx, driver.Command{Name: "SET"}, 0, nil) }
			err = outer.pool.Do(ctx, get, func(around context.Context, _ *pooltest.Conn) error {
				within := func(ctx context.Context) {
					t.Helper()
					if name != "with commands" && driver.Observing(ctx) {
						t.Error("the outer pool observes")
					}
					if !trace.SpanFromContext(ctx).SpanContext().IsValid() || baggage.FromContext(ctx).Member("tenant").Value() != "7" {
						t.Error("span or baggage are lost")
					}
					if d, ok := ctx.Deadline(); !ok || time.Until(d) > time.Minute {
						t.Error("the deadline is lost")
					}
					send(ctx)
				}
				l, err := inner.pool.Acquire(around, get)
				if err != nil {
					return err
				}
				within(l.Context())
				l.Release(nil)
				return inner.pool.Do(around, get, func(ctx context.Context, _ *pooltest.Conn) error {
					within(ctx)
					return outer.pool.Do(ctx, get, func(ctx context.Context, _ *pooltest.Conn) error { send(ctx); return nil })
				})
			})
			if err != nil {
				t.Error(err)
			}
			sets := 0
			for _, s := range outer.recorder.Ended() {
				attrs := attributes(s.Attributes())
				if s.SpanKind() == trace.SpanKindClient && strings.HasPrefix(s.Name(), "SET") {
					sets++
					if !strings.Contains(attrs, "db.system.name=mongodb") {
						t.Errorf("%s %s", s.Name(), attrs)
					}
				}
			}
			if sets != 1 {
				t.Errorf("the outer pool has %d spans of SETs, want that of the use which is its own", sets)
			}
			outer.recorder.Reset()
		})
	}
}
