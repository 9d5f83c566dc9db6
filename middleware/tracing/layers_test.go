package tracing

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// say is a layer that reports an event in each use, and may refuse the use with it.
type say struct {
	event  pool.Event
	refuse bool
}

func (l say) Wrap(next pool.Handler) pool.Handler {
	return func(ctx context.Context, c *pool.Call) error {
		c.Emit(ctx, l.event)
		if l.refuse {
			return refusal{}
		}
		return next(ctx, c)
	}
}

type refusal struct{}

func (refusal) Error() string { return "refused: password=hunter2" }
func (refusal) Class() driver.Class {
	return driver.Class{Fault: driver.FaultLocal, Type: "breaker_open"}
}

func TestLayersEvents(t *testing.T) {
	for _, c := range []struct {
		layer say
		want  []string
	}{
		{say{pool.Event{Kind: pool.EventRejected, Layer: "breaker", Reason: "breaker_open", Duration: 2e9, Err: refusal{}}, true}, []string{
			"GET client Error db.client.connection.pool.name=p db.operation.name=GET error.type=breaker_open",
			"  * poolstack.rejected poolstack.attempt=1 poolstack.duration=2 poolstack.layer=breaker poolstack.reason=breaker_open",
		}},
		{say{pool.Event{Kind: pool.EventStateChanged, Layer: "breaker", From: "closed", To: "open", Reason: "ratio"}, false}, []string{
			"GET client Unset db.client.connection.pool.name=p db.operation.name=GET",
			"  * poolstack.state_changed poolstack.attempt=1 poolstack.from=closed poolstack.layer=breaker poolstack.reason=ratio" +
				" poolstack.to=open",
		}},
		{say{pool.Event{Kind: pool.EventTimeout, Layer: "timeout.attempt", Reason: "attempt", Duration: 5e8, Err: refusal{}}, false}, []string{
			"GET client Unset db.client.connection.pool.name=p db.operation.name=GET",
			"  * poolstack.timeout poolstack.attempt=1 poolstack.duration=0.5 poolstack.layer=timeout.attempt poolstack.reason=attempt",
		}},
		{say{pool.Event{Kind: pool.EventGaveUp, Layer: "retry", Attempt: 3, Reason: "budget"}, false}, []string{
			"GET client Unset db.client.connection.pool.name=p db.operation.name=GET",
			"  * poolstack.gave_up poolstack.attempt=3 poolstack.layer=retry poolstack.reason=budget",
		}},
		{say{pool.Event{Kind: "third_party", Layer: "mine"}, false}, []string{
			"GET client Unset db.client.connection.pool.name=p db.operation.name=GET",
			"  * poolstack.third_party poolstack.attempt=1 poolstack.layer=mine",
		}},
	} {
		t.Run(string(c.layer.event.Kind), func(t *testing.T) {
			r := newRig(t, driver.Identity{Name: "p"}, Config{}, pool.Config{}, c.layer).warm()
			_ = r.pool.Do(context.Background(), pool.Op{Name: "GET", Key: "hunter2"}, ping)
			r.want(false, c.want...)
		})
	}
}

// No text of an error, no key and nothing else that may be secret comes into a trace.
func TestSecrets(t *testing.T) {
	const secret = "hunter2"
	failure := fmt.Errorf("SET user:7 %s: %w", secret, pooltest.ErrRefused)
	r := newRig(t, redis, Config{Commands: true}, pool.Config{}, repeat{2, 0},
		say{event: pool.Event{Kind: pool.EventTimeout, Layer: "x", Err: failure, Stack: secret, Op: pool.Op{Key: secret}}})
	r.server.Inject(pooltest.Open, 1, pooltest.Fail(failure))
	op := pool.Op{Name: "SET", Key: secret}
	_ = r.pool.Do(context.Background(), op, func(ctx context.Context, _ *pooltest.Conn) error {
		return command(ctx, driver.Command{Name: "SET"}, 0, failure)
	})
	func() {
		defer func() { _ = recover() }()
		_ = r.pool.Do(context.Background(), op, func(context.Context, *pooltest.Conn) error { panic(secret) })
	}()
	if got := r.tree(false); strings.Contains(got, secret) || strings.Contains(got, "user:7") || !strings.Contains(got, "attempt=2") {
		t.Errorf("the spans hold a secret, or there is no second attempt:%s", got)
	}
}

// What happens in an untraced use inside of a traced one is not shown as the outer one's.
func TestNestedPools(t *testing.T) {
	filter := Config{Filter: func(op pool.Op) bool { return op.Name != "quiet" }}
	told := say{event: pool.Event{Kind: pool.EventTimeout, Layer: "x"}}
	r := newRig(t, driver.Identity{Name: "outer"}, filter, pool.Config{}, told).warm()
	filter.TracerProvider = r.provider
	layer, err := New(filter)
	if err != nil {
		t.Fatal(err)
	}
	inner, err := pool.New(&server{id: driver.Identity{Name: "inner"}}, pool.Config{}, layer, told)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = inner.Close(context.Background()) }()
	if err := inner.Warm(context.Background(), 1); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"quiet", "loud"} {
		err = r.pool.Do(context.Background(), pool.Op{Name: "GET"}, func(ctx context.Context, _ *pooltest.Conn) error {
			return inner.Do(ctx, pool.Op{Name: name}, ping)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	const told1 = "* poolstack.timeout poolstack.attempt=1 poolstack.layer=x"
	r.want(false,
		"GET client Unset db.client.connection.pool.name=outer db.operation.name=GET",
		"  "+told1,
		"GET client Unset db.client.connection.pool.name=outer db.operation.name=GET",
		"  "+told1,
		"  loud client Unset db.client.connection.pool.name=inner db.operation.name=loud",
		"    "+told1)
}

// However much a layer has to say, a span holds only so much of it, and says how much is missing.
func TestEventsAreBounded(t *testing.T) {
	chatty := pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
		return func(ctx context.Context, c *pool.Call) error {
			for range maxNotes + 10 {
				c.Emit(ctx, pool.Event{Kind: "chat", Layer: "x"})
			}
			return next(ctx, c)
		}
	})
	r := newRig(t, redis, Config{}, pool.Config{}, chatty).warm()
	for range 2 { // the second with a record that has been used
		_ = r.pool.Do(context.Background(), get, ping)
	}
	for _, s := range r.recorder.Ended() {
		if n := len(s.Events()); n != maxNotes || !strings.Contains(attributes(s.Attributes()), " poolstack.events.dropped=10") {
			t.Errorf("%d events, attributes%s", n, attributes(s.Attributes()))
		}
	}
}

func TestSkipUnsampled(t *testing.T) {
	r := newRig(t, redis, Config{SkipUnsampled: true}, pool.Config{}).warm()
	sc := trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}}
	for _, c := range []struct {
		name string
		ctx  context.Context
		want int
	}{
		{"no parent", context.Background(), 1},
		{"unsampled parent", trace.ContextWithSpanContext(context.Background(), trace.NewSpanContext(sc)), 0},
		{"sampled remote parent", trace.ContextWithRemoteSpanContext(context.Background(),
			trace.NewSpanContext(sc).WithTraceFlags(trace.FlagsSampled)), 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(r.recorder.Ended())
			_ = r.pool.Do(c.ctx, get, ping)
			if n := len(r.recorder.Ended()) - before; n != c.want {
				t.Errorf("%d spans, want %d", n, c.want)
			}
		})
	}
}

// Below an unsampled parent no span is recorded, but the trace goes on.
func TestUnsampled(t *testing.T) {
	r := newRig(t, redis, Config{Commands: true}, pool.Config{}, repeat{2, 0})
	parent := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{7}, SpanID: trace.SpanID{1}})
	_ = r.pool.Do(trace.ContextWithSpanContext(context.Background(), parent), get, func(ctx context.Context, _ *pooltest.Conn) error {
		if got := trace.SpanContextFromContext(ctx); got.TraceID() != parent.TraceID() || got.SpanID() == parent.SpanID() || got.IsSampled() {
			t.Errorf("the function's span context is %v", got)
		}
		return command(ctx, driver.Command{Name: "GET"}, 0, pooltest.ErrReply)
	})
	if n := len(r.recorder.Ended()); n != 0 {
		t.Errorf("%d spans were recorded, want none", n)
	}
}

func TestNoOpInstallsNothing(t *testing.T) {
	layer, err := New(Config{TracerProvider: noop.NewTracerProvider(), Commands: true})
	if err != nil {
		t.Fatal(err)
	}
	if faces := layer.Unwrap(); len(faces) != 0 {
		t.Errorf("it has %d optional faces, want none", len(faces))
	}
	called := false
	next := func(ctx context.Context, c *pool.Call) error { called = ctx == nil && c == nil; return nil }
	// A layer that did anything would panic.
	if err := layer.Wrap(next)(nil, nil); err != nil || !called {
		t.Error("Wrap did not return next itself")
	}
}

func TestValidate(t *testing.T) {
	_, err := New(Config{WaitThreshold: -1, CommandText: true})
	const want = "tracing: WaitThreshold is -1ns: must be 0 (default 1ms) or more\n" +
		"tracing: CommandText is true: must be false unless Commands is true"
	if err == nil || err.Error() != want {
		t.Errorf("New returned %v, want %s", err, want)
	}
	layer, err := New(Config{Background: true})
	if err != nil {
		t.Fatal(err)
	}
	const settings = "map[background:true command_text:false commands:false filter:false skip_unsampled:false wait_threshold:1ms]"
	info := layer.Describe()
	if info.Layer != "tracing" || info.Role != pool.RoleObserve || fmt.Sprint(info.Settings) != settings {
		t.Errorf("Describe returned %+v", info)
	}
}

// More operations than there is room for plans make the same spans.
func TestManyOperations(t *testing.T) {
	r := newRig(t, redis, Config{}, pool.Config{}).warm()
	for i := range maxPlans + 10 {
		_ = r.pool.Do(context.Background(), pool.Op{Name: fmt.Sprint("op", i)}, ping)
	}
	last := r.recorder.Ended()[maxPlans+9]
	if want := fmt.Sprint("op", maxPlans+9); last.Name() != want || !strings.Contains(attributes(last.Attributes()), "operation.name="+want) {
		t.Errorf("the last span is %s%s", last.Name(), attributes(last.Attributes()))
	}
}

// twice makes two attempts at once and takes the first.
func twice(next pool.Handler) pool.Handler {
	return func(ctx context.Context, c *pool.Call) error {
		first, second := c.Fork(), c.Fork()
		var err error
		var wg sync.WaitGroup
		wg.Go(func() { err = next(ctx, first) })
		wg.Go(func() { _ = next(ctx, second) })
		wg.Wait()
		second.Drop()
		c.Adopt(first)
		return err
	}
}

// Attempts made at once share the use's span, and what happened in each is below it.
func TestHedgedAttempts(t *testing.T) {
	r := newRig(t, redis, Config{Commands: true, WaitThreshold: 1}, pool.Config{}, pool.MiddlewareFunc(twice))
	for range 100 {
		_, err := pool.Get(context.Background(), r.pool, get, func(ctx context.Context, _ *pooltest.Conn) (int, error) {
			return 0, command(ctx, driver.Command{Name: "GET"}, 0, nil)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	commands := 0
	for _, s := range r.recorder.Ended() {
		if s.Name() == "GET" {
			commands++
		}
	}
	if _ = r.tree(false); commands != 200 {
		t.Errorf("%d commands were traced, want 200", commands)
	}
}

func TestConcurrency(t *testing.T) {
	r := newRig(t, redis, Config{Commands: true, WaitThreshold: 1}, pool.Config{MaxSize: 2}, repeat{2, 0})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 100 {
				ctx, cancel := context.WithCancel(context.Background())
				if i%10 == g {
					cancel()
				}
				_ = r.pool.Do(ctx, get, func(ctx context.Context, _ *pooltest.Conn) error {
					return command(ctx, driver.Command{Name: "GET"}, 0, []error{nil, pooltest.ErrReply}[i%2])
				})
				cancel()
			}
		})
	}
	wg.Wait()
	_ = r.tree(false) // no orphans
	uses := 0
	for _, s := range r.recorder.Ended() {
		if !s.Parent().IsValid() {
			uses++
		}
	}
	if uses != 800 {
		t.Errorf("%d uses were traced, want 800", uses)
	}
}
