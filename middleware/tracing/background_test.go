package tracing

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// work makes the pool do its background work while a use waits: an open that fails, an open that
// succeeds, a check that fails, and the end of a pause. The pool holds at most 1 connection, so no
// second dial replaces the slow dial.
func work(t *testing.T, r *rig) {
	t.Helper()
	r.server.Inject(pooltest.Open, 1, pooltest.Fail(pooltest.ErrRefused))
	_ = r.pool.Warm(context.Background(), 1)
	r.server.Inject(pooltest.Open, 1, pooltest.Slow(time.Second))
	ctx, span := r.provider.Tracer("caller").Start(context.Background(), "request")
	if err := r.pool.Do(ctx, get, ping); err != nil {
		t.Error(err)
	}
	span.End()
	time.Sleep(time.Minute)
	r.server.Inject(pooltest.Check, 1, pooltest.Fail(pooltest.ErrBroken))
	if err := r.pool.Do(context.Background(), get, ping); err != nil {
		t.Error(err)
	}
	r.pool.Pause(errors.New("maintenance"))
	r.pool.Resume()
}

// Background work is in nobody's trace: it makes no spans, or roots if asked for.
func TestBackground(t *testing.T) {
	for _, asked := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, driver.Identity{Name: "p"}, Config{Background: asked}, pool.Config{MaxSize: 1, CheckAfter: time.Second})
			work(t, r)
			synctest.Wait()
			var roots []string
			for _, s := range r.recorder.Ended() {
				if s.Parent().IsValid() || s.Name() == "request" || s.Name() == "GET sessions" {
					continue
				}
				roots = append(roots, s.Name()+" "+s.SpanKind().String()+" "+s.Status().Code.String()+attributes(s.Attributes())+
					" "+s.EndTime().Sub(s.StartTime()).String())
			}
			want := []string{
				"open internal Error db.client.connection.pool.name=p error.type=REFUSED 0s",
				"open internal Unset db.client.connection.pool.name=p 1s",
				"check internal Error db.client.connection.pool.name=p error.type=check 0s",
				"open internal Unset db.client.connection.pool.name=p 0s",
			}
			if !asked {
				want = nil
			}
			slices.Sort(roots) // the failed check and the dial after the check end in the same instant
			slices.Sort(want)
			if len(roots) != len(want) {
				t.Fatalf("asked for %t: got %q, want %q", asked, roots, want)
			}
			for i := range want {
				if roots[i] != want[i] {
					t.Errorf("got %s, want %s", roots[i], want[i])
				}
			}
			_ = r.tree(false) // no orphans
		})
	}
}

// What a driver reports of its sockets is background work as well; other facts make no spans.
func TestBackgroundOfDrivers(t *testing.T) {
	r := newRig(t, driver.Identity{Name: "p"}, Config{Background: true}, pool.Config{})
	for _, kind := range []pool.EventKind{"socket_opened", "socket_closed", pool.EventStateChanged, pool.EventLeaked, pool.EventConfigured} {
		observer{r.layer}.Observe(context.Background(), pool.Event{Kind: kind, Pool: "p", Duration: time.Second})
	}
	r.want(false, "open socket internal Unset db.client.connection.pool.name=p")
}

// Nor do the pool's own methods make any.
func TestMaintenanceMakesNoSpans(t *testing.T) {
	r := newRig(t, driver.Identity{Name: "p"}, Config{Commands: true}, pool.Config{MaxSize: 2})
	ctx := trace.ContextWithSpanContext(context.Background(),
		trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, TraceFlags: trace.FlagsSampled}))
	if err := r.pool.Warm(ctx, 2); err != nil {
		t.Fatal(err)
	}
	r.pool.Clear()
	if h := r.pool.Check(ctx); h.Err != nil {
		t.Fatal(h.Err)
	}
	if n := len(r.recorder.Started()); n != 0 {
		t.Errorf("%d spans were started, want none", n)
	}
}
