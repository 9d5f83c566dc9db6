package metrics

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/earnorm/poolstack/middleware/timeout"
	"github.com/earnorm/poolstack/middleware/tracing"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

const duration = "db.client.operation.duration"

func TestConforms(t *testing.T) {
	for name, provider := range map[string]func(testing.TB) metric.MeterProvider{
		"SDK":   func(t testing.TB) metric.MeterProvider { return newReader(t).provider },
		"no-op": func(testing.TB) metric.MeterProvider { return noop.NewMeterProvider() },
	} {
		t.Run(name, func(t *testing.T) {
			pooltest.RunMiddleware(t, func(t testing.TB) pool.Middleware {
				layer, err := New(Config{MeterProvider: provider(t)})
				if err != nil {
					t.Fatal(err)
				}
				return layer
			})
		})
	}
}

func TestDuration(t *testing.T) {
	const (
		redisAttrs = " db.namespace=3 db.operation.name=GET db.query.summary=GET sessions%s db.system.name=redis%s server.address=10.0.0.1"
		mongoAttrs = " db.collection.name=orders db.namespace=shop db.operation.name=find%s db.system.name=mongodb%s" +
			" server.address=db.example server.port=27018"
	)
	find := pool.Op{Name: "find", Target: "orders"}
	for _, c := range []struct {
		name  string
		id    driver.Identity
		op    pool.Op
		err   error
		attrs string
		fault string
	}{
		{"success", redis, get, nil, fmt.Sprintf(redisAttrs, "", ""), ""},
		{"miss", redis, get, pooltest.ErrMiss, fmt.Sprintf(redisAttrs, "", ""), ""},
		{"reply", redis, get, pooltest.ErrReply, fmt.Sprintf(redisAttrs, " db.response.status_code=REPLY", " error.type=REPLY"), "none"},
		{"server", redis, get, pooltest.ErrBroken, fmt.Sprintf(redisAttrs, "", " error.type=broken"), "server"},
		{"timeout", mongodb, find, context.DeadlineExceeded, fmt.Sprintf(mongoAttrs, "", " error.type=timeout"), "server"},
		{"caller", mongodb, find, context.Canceled, fmt.Sprintf(mongoAttrs, "", " error.type=canceled"), "caller"},
		{"local", mongodb, find, pooltest.ErrClosed, fmt.Sprintf(mongoAttrs, "", " error.type=_OTHER"), "local"},
		{"no target", redis, pool.Op{Name: "PING"}, nil,
			" db.namespace=3 db.operation.name=PING db.query.summary=PING db.system.name=redis server.address=10.0.0.1", ""},
		{"nothing known", driver.Identity{}, pool.Op{}, nil, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, c.id, pool.Config{})
			_ = r.pool.Do(context.Background(), c.op, func(context.Context, *pooltest.Conn) error { return c.err })
			if got, want := r.lines(duration), []string{duration + c.attrs + " 1"}; !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
			for _, fault := range []string{"none", "server", "caller", "local"} {
				want := "0"
				if fault == c.fault {
					want = "1"
				}
				r.want("poolstack.failures poolstack.fault="+fault, want)
			}
		})
	}
}

// times returns the sum of a histogram.
func (r *reader) sum(name string) (seconds float64) {
	for _, m := range r.collect() {
		if h, ok := m.Data.(metricdata.Histogram[float64]); ok && m.Name == name {
			for _, p := range h.DataPoints {
				seconds += p.Sum
			}
		}
	}
	return seconds
}

// What took how long is told apart, and how things stand is read at collection.
func TestTimesAndLevels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, redis, pool.Config{MaxSize: 2})
		if err := r.pool.Warm(context.Background(), 1); err != nil {
			t.Fatal(err)
		}
		r.server.Inject(pooltest.Open, 1, pooltest.Slow(time.Second)) // the second connection
		ctx := context.Background()
		l, err := r.pool.Acquire(ctx, get)
		if err != nil {
			t.Fatal(err)
		}
		r.want("db.client.connection.count db.client.connection.state=used", "1")
		second := make(chan pool.Lease[*pooltest.Conn])
		go func() {
			l, err := r.pool.Acquire(ctx, get)
			if err != nil {
				t.Error(err)
			}
			second <- l
		}()
		synctest.Wait()
		r.want("db.client.connection.pending_requests", "1")
		r.want("poolstack.connection.maintenance poolstack.state=opening", "1")
		l2 := <-second // after a second
		time.Sleep(2 * time.Second)
		r.want("poolstack.lease.oldest", "3")
		r.want("db.client.connection.count db.client.connection.state=used", "2")
		var wg sync.WaitGroup
		wg.Go(func() { l.Release(nil) }) // the end of a two-step use is in any goroutine
		wg.Go(func() { l2.Release(pooltest.ErrReply) })
		wg.Wait()
		for name, want := range map[string]float64{
			"db.client.connection.create_time": 1, "db.client.connection.wait_time": 1, "db.client.connection.use_time": 3 + 2, duration: 3 + 3,
		} {
			if got := r.sum(name); got != want {
				t.Errorf("%s adds up to %v s, want %v s", name, got, want)
			}
		}
		r.want("poolstack.acquire.waits", "1")
		r.want("db.client.connection.count db.client.connection.state=idle", "2")
		r.want("poolstack.failures poolstack.fault=none", "1")
	})
}

func TestPanic(t *testing.T) {
	r := newRig(t, driver.Identity{Name: "p"}, pool.Config{})
	func() {
		defer func() { _ = recover() }()
		_ = r.pool.Do(context.Background(), pool.Op{}, func(context.Context, *pooltest.Conn) error { panic("secret") })
	}()
	r.want(duration+" error.type=aborted", "1")
	r.want("poolstack.failures poolstack.fault=caller", "1")
}

// Two pools of the same name do not add up, with a single layer and with two layers. When a pool is
// closed its levels end, and the next pool continues its counters.
func TestPoolsOfOneName(t *testing.T) {
	r := newReader(t)
	first := newRigOn(r, redis, Config{}, pool.Config{})
	other := newRigOn(r, redis, Config{}, pool.Config{})
	third, err := pool.New(&server{id: redis}, pool.Config{}, first.layer)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		_ = third.Do(context.Background(), get, ping)
	}
	_ = first.pool.Do(context.Background(), get, ping)
	const most = "db.client.connection.max 10"
	if got := r.lines("db.client.connection.max"); !slices.Equal(got, []string{most, most, most}) {
		t.Errorf("the maxima of three pools are %q, want 10 of each", got)
	}
	if got := r.lines(duration); len(got) != 2 || !strings.HasSuffix(got[0], " 1") || !strings.HasSuffix(got[1], " 3") {
		t.Errorf("the uses of three pools are %q, want 1, 3 and none", got)
	}
	if err := third.Close(context.Background()); err != nil {
		t.Error(err)
	}

	_ = first.pool.Do(context.Background(), get, reply)
	stood := first.counters()
	first.close()
	other.close()
	const opened = "db.client.connection.create_time"
	for _, l := range r.lines() {
		for _, i := range Catalogue() {
			if (i.Kind == UpDownCounter || i.Kind == Gauge) && strings.HasPrefix(l, i.Name+" ") {
				t.Errorf("after Close there is %s", l)
			}
		}
	}
	r.want(opened, "1")
	for series, value := range r.counters() {
		if stood[series] != value && !strings.HasPrefix(series, "poolstack.connection.closed ") {
			t.Errorf("after Close, %s is %d, was %d", series, value, stood[series])
		}
	}

	again := newRigOn(r, redis, Config{}, pool.Config{})
	_ = again.pool.Do(context.Background(), get, ping)
	r.want("db.client.connection.max", "10")
	_ = again.pool.Do(context.Background(), get, reply)
	if n := r.counters()["poolstack.failures poolstack.fault=none"]; n != 2 {
		t.Errorf("%d failures, want one of each pool", n)
	}
	again.close() // all that goes on in the background has been reported then
	if got := r.lines(opened); len(got) != 2 || got[1] != opened+" 2" {
		t.Errorf("the connections opened are %q, want 2 of the first name and 1 of another", got)
	}
}

// A pool that did not come about leaves its name to another, and no levels.
func TestNameOfAFailedNew(t *testing.T) {
	r := newReader(t)
	taken := newStack(t, stackConfig{}).breaker
	newRigOn(r, mongodb, Config{}, pool.Config{}, taken)
	layer := made(New(Config{MeterProvider: r.provider}))(t)
	// The breaker serves only 1 pool.
	if _, err := pool.New(&server{id: redis}, pool.Config{}, layer, taken); err == nil {
		t.Fatal("New did not fail")
	}
	const level = "db.client.connection.max"
	if n := len(r.lines(level)); n != 1 {
		t.Errorf("%s is told of %d pools, want 1", level, n)
	}
	newRigOn(r, redis, Config{}, pool.Config{})
	if n := len(r.lines(level)); n != 2 {
		t.Errorf("%s is told of %d pools, want 2", level, n)
	}
}

// All scopes have the version of the module.
func TestScopeVersion(t *testing.T) {
	module := scopeVersion
	scopeVersion = func() string { return "v1.2.3" }
	defer func() { scopeVersion = module }()
	r := newRig(t, redis, pool.Config{})
	_ = r.pool.Do(t.Context(), get, ping)
	var rm metricdata.ResourceMetrics
	if err := r.manual.Collect(t.Context(), &rm); err != nil {
		t.Fatal(err)
	}
	if n := len(rm.ScopeMetrics); n != 2 {
		t.Errorf("%d scopes, want 2", n)
	}
	for _, scope := range rm.ScopeMetrics {
		if scope.Scope.Name != ScopeName || scope.Scope.Version != "v1.2.3" {
			t.Errorf("there is a scope %q with the version %q", scope.Scope.Name, scope.Scope.Version)
		}
	}
}

// Two systems keep their own buckets on one provider, whichever comes first.
func TestBucketsOfSeveralSystems(t *testing.T) {
	r := newReader(t)
	for _, id := range []driver.Identity{mongodb, redis} {
		g := newRigOn(r, id, Config{}, pool.Config{})
		_ = g.pool.Do(context.Background(), get, ping)
	}
	spec := Catalogue()[operationDuration]
	for _, m := range r.collect() {
		for _, p := range points(t, m) {
			want := spec.Buckets
			if system, _ := p.attrs.Value("db.system.name"); system.AsString() == systemRedis {
				want = spec.RedisBuckets
			}
			if m.Name == duration && !slices.Equal(p.bounds, want) {
				t.Errorf("%s%s has the buckets %v, want %v", m.Name, p.labels(), p.bounds, want)
			}
		}
	}
}

// However many names a program invents, there is a bounded number of series, and one warning.
func TestCardinality(t *testing.T) {
	var warned warnings
	r := newRigOn(newReader(t), redis, Config{MaxOperations: 3}, pool.Config{}, &warned)
	do := func(name, target string, err error) {
		_ = r.pool.Do(context.Background(), pool.Op{Name: name, Target: target}, func(context.Context, *pooltest.Conn) error { return err })
	}
	for i := range 1000 {
		do("GET", fmt.Sprint("user:", i), nil)
	}
	do("SET", "a", nil)
	do("SET", "b", nil)
	do("PING", "", nil)
	for i := range 10 {
		do(fmt.Sprint("op", i), "x", nil)
	}
	const system = " db.namespace=3 db.operation.name=%s db.query.summary=%s db.system.name=redis server.address=10.0.0.1 %d"
	var want []string
	for summary, n := range map[string]int{
		"GET user:0": 1, "GET user:1": 1, "GET user:2": 1, "GET _OTHER": 997, "SET _OTHER": 2, "PING": 1, "_OTHER": 10,
	} {
		name, _, _ := strings.Cut(summary, " ")
		want = append(want, duration+fmt.Sprintf(system, name, summary, n))
	}
	slices.Sort(want)
	if got := r.lines(duration); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if n := warned.Load(); n != 1 {
		t.Errorf("%d warnings, want 1", n)
	}
}

// The same holds for ways to fail, and for what layers report.
func TestCardinalityOfFailures(t *testing.T) {
	var warned warnings
	r := newRig(t, redis, pool.Config{}, &warned)
	for i := range 100 {
		if n := warned.Load(); (i > maxFailures) != (n == 1) {
			t.Errorf("%d warnings after %d ways to fail", n, i)
		}
		_ = r.pool.Do(context.Background(), get, func(context.Context, *pooltest.Conn) error { return strange(fmt.Sprint("type", i)) })
		r.layer.recorder.Observe(context.Background(), pool.Event{Kind: pool.EventRetry, Pool: "cache", Reason: fmt.Sprint("type", i)})
	}
	if n := len(r.lines(duration)); n != maxFailures+1 {
		t.Errorf("%d series, want %d", n, maxFailures+1)
	}
	for i := range 2 * maxSeries {
		r.layer.recorder.Observe(context.Background(), pool.Event{Kind: pool.EventRejected, Pool: "cache", Layer: fmt.Sprint("layer", i)})
	}
	if n := len(r.lines()); n > maxSeries+100 {
		t.Errorf("%d series, want about %d", n, maxSeries)
	}
	if r.has("poolstack.rejections poolstack.layer=_OTHER poolstack.reason=_OTHER") == "" {
		t.Error("what is too much is not added up")
	}
}

type strange string

func (s strange) Error() string       { return string(s) }
func (s strange) Class() driver.Class { return driver.Class{Type: string(s)} }

// warnings is a layer that counts what metrics warns of.
type warnings struct{ atomic.Int32 }

func (w *warnings) Wrap(next pool.Handler) pool.Handler { return next }

func (w *warnings) Observe(_ context.Context, e pool.Event) {
	if e.Kind == pool.EventWarning && e.Layer == "metrics" {
		w.Add(1)
	}
}

// A measurement leads to the span of its use, not to the caller's span. Tracing, outside of
// metrics, begins the span of the use.
func TestExemplars(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spans := tracetest.NewInMemoryExporter()
		tracers := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
		outer := made(tracing.New(tracing.Config{TracerProvider: tracers}))(t)
		r := newReader(t)
		layer := made(New(Config{MeterProvider: r.provider}))(t)
		s := newStack(t, stackConfig{attempt: timeout.Config{Limit: time.Second}})
		p := made(pool.New(&server{id: redis}, pool.Config{}, append([]pool.Middleware{outer, layer}, s.layers()...)...))(t)
		ctx, caller := tracers.Tracer("caller").Start(t.Context(), "caller")
		_ = p.Do(ctx, get, func(ctx context.Context, _ *pooltest.Conn) error {
			<-ctx.Done()
			return ctx.Err()
		})
		caller.End()
		if err := p.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(spans.GetSpans(), func(s tracetest.SpanStub) bool { return s.Parent.SpanID() == caller.SpanContext().SpanID() })
		if i < 0 {
			t.Fatal("the use has no span")
		}
		use := spans.GetSpans()[i].SpanContext
		led := map[string]bool{}
		for _, m := range r.collect() {
			for _, e := range exemplars(m) {
				led[m.Name] = true
				if trace.TraceID(e.traceID) != use.TraceID() || trace.SpanID(e.spanID) != use.SpanID() {
					t.Errorf("%s leads to the span %x of trace %x, want %v of %v", m.Name, e.spanID, e.traceID, use.SpanID(), use.TraceID())
				}
			}
		}
		for _, name := range []string{
			duration, "db.client.connection.wait_time", "db.client.connection.use_time",
			"poolstack.failures", "poolstack.retry.attempts", "poolstack.retry.give_ups", "poolstack.timeouts",
		} {
			if !led[name] {
				t.Errorf("%s does not lead to a trace", name)
			}
		}
	})
}

// exemplar is what one leads to.
type exemplar struct{ traceID, spanID []byte }

func exemplars(m metricdata.Metrics) (all []exemplar) {
	switch data := m.Data.(type) {
	case metricdata.Histogram[float64]:
		for _, p := range data.DataPoints {
			for _, e := range p.Exemplars {
				all = append(all, exemplar{e.TraceID, e.SpanID})
			}
		}
	case metricdata.Sum[int64]:
		for _, p := range data.DataPoints {
			for _, e := range p.Exemplars {
				all = append(all, exemplar{e.TraceID, e.SpanID})
			}
		}
	}
	return all
}

// A use whose duration nobody collects does not look at the clock.
func TestNoClockForNobody(t *testing.T) {
	for name, c := range map[string]struct {
		provider metric.MeterProvider
		read     bool
	}{
		"read": {newReader(t).provider, true}, "not read": {sdkmetric.NewMeterProvider(), false},
	} {
		l := &layer{r: made(newRecorder(c.provider, 1))(t)}
		p := made(pool.New(&server{id: redis}, pool.Config{}, pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
			return func(ctx context.Context, call *pool.Call) error {
				if _, began, _ := l.Begin(ctx, call); began.IsZero() == c.read {
					t.Errorf("%s: the use began at %v", name, began)
				}
				return next(ctx, call)
			}
		})))(t)
		if err := errors.Join(p.Do(t.Context(), get, nothing), p.Close(t.Context())); err != nil {
			t.Error(err)
		}
	}
}

func TestNoOpInstallsNothing(t *testing.T) {
	layer, err := New(Config{MeterProvider: noop.NewMeterProvider()})
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
	_, err := New(Config{MaxOperations: -3})
	if want := "metrics: MaxOperations is -3: must be 0 (default 200) or more"; err == nil || err.Error() != want {
		t.Errorf("New returned %v, want %s", err, want)
	}
	layer, err := New(Config{}) // on the global provider, which does nothing yet
	if err != nil {
		t.Fatal(err)
	}
	info := layer.Describe()
	if info.Layer != "metrics" || info.Role != pool.RoleObserve || info.Settings["max_operations"] != "200" {
		t.Errorf("Describe returned %+v", info)
	}
	p, err := pool.New(&server{id: redis}, pool.Config{}, layer)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.Do(context.Background(), get, ping), p.Close(context.Background())); err != nil {
		t.Error(err)
	}
}

// broken is a provider whose instruments cannot be made.
type broken struct{ noop.MeterProvider }

func (b broken) Meter(string, ...metric.MeterOption) metric.Meter { return brokenMeter{} }

type brokenMeter struct{ noop.Meter }

var errBroken = errors.New("cannot be made")

func (brokenMeter) Int64Counter(string, ...metric.Int64CounterOption) (metric.Int64Counter, error) {
	return noop.Int64Counter{}, errBroken
}

func TestUnwillingProvider(t *testing.T) {
	if _, err := New(Config{MeterProvider: broken{}}); !errors.Is(err, errBroken) {
		t.Errorf("New returned %v, want %v", err, errBroken)
	}
}

// A layer that is hidden within another one records uses all the same.
func TestHidden(t *testing.T) {
	r := newReader(t)
	layer, err := New(Config{MeterProvider: r.provider})
	if err != nil {
		t.Fatal(err)
	}
	p, err := pool.New(&server{id: driver.Identity{Name: "p"}}, pool.Config{}, pool.MiddlewareFunc(layer.Wrap))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.Do(context.Background(), pool.Op{}, nothing), p.Close(context.Background())); err != nil {
		t.Error(err)
	}
	if got := r.lines(); !slices.Equal(got, []string{duration + " 1"}) {
		t.Errorf("got %q", got)
	}
}

func TestConcurrency(t *testing.T) {
	r := newRig(t, redis, pool.Config{MaxSize: 4}, newStack(t, stackConfig{}).layers()...)
	stop := make(chan struct{})
	var collecting, using sync.WaitGroup
	collecting.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				r.collect()
			}
		}
	})
	for g := range 8 {
		using.Go(func() {
			for i := range 200 {
				op := pool.Op{Name: fmt.Sprint("op", i%50), Target: fmt.Sprint(g)}
				_ = r.pool.Do(context.Background(), op, func(context.Context, *pooltest.Conn) error {
					return []error{nil, pooltest.ErrReply, pooltest.ErrMiss}[i%3]
				})
			}
		})
	}
	using.Wait()
	close(stop)
	collecting.Wait()
	total := 0
	for _, l := range r.lines(duration) {
		n := 0
		if _, err := fmt.Sscan(l[strings.LastIndexByte(l, ' '):], &n); err != nil {
			t.Fatal(err)
		}
		total += n
	}
	if total != 1600 {
		t.Errorf("%d uses were recorded, want 1600", total)
	}
}

func reply(context.Context, *pooltest.Conn) error { return pooltest.ErrReply }
