package logging

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

func TestConforms(t *testing.T) {
	for name, logger := range map[string]*slog.Logger{
		"all":     (&log{t: t}).logger(slog.LevelDebug),
		"none":    (&log{t: t}).logger(slog.LevelError + 1),
		"discard": slog.New(slog.DiscardHandler),
	} {
		t.Run(name, func(t *testing.T) {
			pooltest.RunMiddleware(t, func(t testing.TB) pool.Middleware {
				layer, err := New(Config{Logger: logger})
				if err != nil {
					t.Fatal(err)
				}
				return layer
			})
		})
	}
}

type refusal struct{}

func (refusal) Error() string { return "refused" }
func (refusal) Class() driver.Class {
	return driver.Class{Fault: driver.FaultLocal, Type: "breaker_open"}
}

func TestFailedUses(t *testing.T) {
	const failed = ` msg="use failed" pool=cache operation=GET target=sessions `
	for _, c := range []struct {
		err        error
		want, text string
	}{
		{err: nil},
		{err: pooltest.ErrMiss},
		{pooltest.ErrReply, "level=DEBUG" + failed + "error_type=REPLY fault=none duration=2s", ` error="pooltest: a healthy server's error reply"`},
		{
			pooltest.ErrRefused, "level=ERROR" + failed + "error_type=REFUSED fault=server duration=2s",
			` error="pooltest: the server refused it unexecuted"`,
		},
		{context.Canceled, "level=DEBUG" + failed + "error_type=canceled fault=caller duration=2s", ` error="context canceled"`},
		{refusal{}, "level=WARN" + failed + "error_type=breaker_open fault=local duration=2s", " error=refused"},
	} {
		for _, asked := range []bool{false, true} {
			t.Run(fmt.Sprint(c.err, asked), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t, slog.LevelDebug, Config{ErrorText: asked}, pool.Config{})
					if err := r.pool.Warm(context.Background(), 1); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
					r.want("level=DEBUG msg=\"connection opened\" pool=cache")
					_ = r.pool.Do(context.Background(), get, func(context.Context, *pooltest.Conn) error {
						time.Sleep(2 * time.Second)
						return c.err
					})
					want := c.want
					if asked {
						want += c.text
					}
					// Connections are closed in the background.
					got := slices.DeleteFunc(r.take(), func(l string) bool { return strings.Contains(l, "connection closed") })
					if strings.Join(got, "\n") != want {
						t.Errorf("got %q, want %q", got, want)
					}
				})
			})
		}
	}
}

// A use that got no resource is told with how things stood.
func TestPoolState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, slog.LevelInfo, Config{}, pool.Config{MaxSize: 1, AcquireTimeout: time.Second})
		l, err := r.pool.Acquire(context.Background(), get)
		if err != nil {
			t.Fatal(err)
		}
		_ = r.pool.Do(context.Background(), pool.Op{}, func(context.Context, *pooltest.Conn) error { return nil })
		l.Release(nil)
		r.want("level=WARN msg=\"use failed\" pool=cache error_type=acquire_timeout fault=local duration=1s" +
			" state.in_use=1 state.max=1 state.idle=0 state.opening=0 state.waiters=0 state.oldest_lease=1s")
	})
}

func TestPanic(t *testing.T) {
	r := newRig(t, slog.LevelInfo, Config{}, pool.Config{})
	func() {
		defer func() { _ = recover() }()
		_ = r.pool.Do(context.Background(), pool.Op{}, func(context.Context, *pooltest.Conn) error { panic("secret") })
	}()
	lines := r.take()
	if len(lines) != 1 || !strings.HasPrefix(lines[0], `level=WARN msg="use failed" pool=cache error_type=aborted fault=caller`) {
		t.Errorf("got %q", lines)
	}
}

// The lines of a use lead to its trace, in two steps too.
func TestTraceIDs(t *testing.T) {
	r := newRig(t, slog.LevelInfo, Config{}, pool.Config{}, say{pool.Event{Kind: pool.EventTimeout, Layer: "timeout.attempt", Attempt: 2}})
	sc := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{0xa}, SpanID: trace.SpanID{0xb}})
	l, err := r.pool.Acquire(trace.ContextWithSpanContext(context.Background(), sc), pool.Op{})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { l.Release(pooltest.ErrBroken) })
	wg.Wait()
	lines := r.take()
	if len(lines) != 2 || !strings.HasPrefix(lines[0], `level=INFO msg="time limit hit" pool=cache attempt=2 layer=timeout.attempt`) {
		t.Fatalf("got %q", lines)
	}
	for _, l := range lines {
		if !strings.HasSuffix(l, " trace_id=0a000000000000000000000000000000 span_id=0b00000000000000") {
			t.Errorf("%s does not lead to the trace", l)
		}
	}
}

func TestEvents(t *testing.T) {
	for _, c := range []struct {
		event pool.Event
		want  string
	}{
		{pool.Event{Kind: pool.EventAcquired, Fresh: true}, ""},
		{pool.Event{Kind: pool.EventReleased}, ""},
		{pool.Event{Kind: pool.EventAcquireFailed, Reason: "pool_exhausted", Duration: 5},
			`DEBUG msg="no connection acquired" pool=p reason=pool_exhausted duration=5ns`},
		{pool.Event{Kind: pool.EventOpened, Duration: 5}, `DEBUG msg="connection opened" pool=p duration=5ns`},
		{pool.Event{Kind: pool.EventOpenFailed, Err: errors.New("refused")}, `WARN msg="connection could not be opened" pool=p error=refused`},
		{pool.Event{Kind: pool.EventCheckFailed, Reason: "check"}, `INFO msg="connection check failed" pool=p reason=check`},
		{pool.Event{Kind: pool.EventClosed, Reason: "idle"}, `DEBUG msg="connection closed" pool=p reason=idle`},
		{pool.Event{Kind: pool.EventLeaked, Duration: 5, Stack: "main.main"},
			`WARN msg="lease is out for too long" pool=p held=5ns stack=main.main`},
		{pool.Event{Kind: pool.EventPaused, Err: errors.New("maintenance")}, `WARN msg="pool paused" pool=p error=maintenance`},
		{pool.Event{Kind: pool.EventResumed}, `INFO msg="pool resumed" pool=p`},
		{pool.Event{Kind: pool.EventCleared}, `INFO msg="pool cleared" pool=p`},
		{pool.Event{Kind: pool.EventConfigured, Layer: "breaker"}, `INFO msg="configuration changed" pool=p layer=breaker`},
		{pool.Event{Kind: pool.EventWarning, Reason: "two of them"}, `WARN msg="possibly unwanted effect" pool=p reason="two of them"`},
		{pool.Event{Kind: pool.EventRetry, Layer: "retry", Attempt: 2, Reason: "timeout", Duration: 5},
			`DEBUG msg="repeating a failed attempt" pool=p attempt=2 layer=retry reason=timeout pause=5ns`},
		{pool.Event{Kind: pool.EventGaveUp, Layer: "retry", Reason: "budget"}, `DEBUG msg="gave up repeating" pool=p layer=retry reason=budget`},
		{pool.Event{Kind: pool.EventStateChanged, Layer: "breaker", From: "closed", To: "open", Reason: "failure_ratio", Duration: 5},
			`WARN msg="state changed" pool=p layer=breaker reason=failure_ratio from=closed to=open next_probe=5ns`},
		{pool.Event{Kind: pool.EventStateChanged, Layer: "breaker", From: "half-open", To: "closed"},
			`INFO msg="state changed" pool=p layer=breaker from=half-open to=closed`},
		{pool.Event{Kind: pool.EventRejected, Layer: "breaker", Reason: "breaker_open", Duration: 5},
			`DEBUG msg="use refused" pool=p layer=breaker reason=breaker_open retry_after=5ns`},
		{pool.Event{Kind: pool.EventTimeout, Layer: "timeout.total", Reason: "total", Duration: 5},
			`INFO msg="time limit hit" pool=p layer=timeout.total reason=total limit=5ns`},
		{pool.Event{Kind: "mine", Layer: "my", Op: pool.Op{Name: "GET", Target: "x", Key: "hunter2"}},
			`DEBUG msg=event pool=p operation=GET target=x layer=my kind=mine`},
		{pool.Event{Kind: "server_changed", Layer: "my", From: "Unknown", To: "RSPrimary", Reason: "10.0.0.1:27017"},
			`INFO msg="state changed" pool=p layer=my kind=server_changed reason=10.0.0.1:27017 from=Unknown to=RSPrimary`},
	} {
		t.Run(string(c.event.Kind), func(t *testing.T) {
			l := &log{t: t}
			layer, err := New(Config{Logger: l.logger(slog.LevelDebug)})
			if err != nil {
				t.Fatal(err)
			}
			c.event.Pool = "p"
			if c.event.Layer == "" {
				c.event.Layer = "pool"
			}
			layer.writer.Observe(context.Background(), c.event)
			if c.want == "" {
				l.want()
			} else {
				l.want("level=" + c.want)
			}
		})
	}
}

// An outage writes the first line, then every n-th line with the number of suppressed lines. Other
// lines are not suppressed.
func TestSampling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, slog.LevelInfo, Config{Interval: time.Minute, Every: 10}, pool.Config{})
		fail := func(n int, err error) {
			for range n {
				_ = r.pool.Do(context.Background(), pool.Op{}, func(context.Context, *pooltest.Conn) error { return err })
			}
		}
		const refused = `level=ERROR msg="use failed" pool=cache error_type=REFUSED fault=server duration=0s`
		fail(25, pooltest.ErrRefused)
		r.want(refused, refused+" suppressed=9", refused+" suppressed=9")
		fail(1, pooltest.ErrDenied)
		r.want(`level=ERROR msg="use failed" pool=cache error_type=DENIED fault=server duration=0s`)
		time.Sleep(time.Minute)
		fail(2, pooltest.ErrRefused)
		r.want(refused + " suppressed=4")
		time.Sleep(time.Hour)
		fail(1, pooltest.ErrRefused)
		r.want(refused + " suppressed=1")
	})
}

// An error type may be the caller's fault in one use and the server's fault in another. At DEBUG,
// callers that give up do not suppress failures of the server, even with more than maxCounts
// counts.
func TestSamplingKeepsLevelsAndFaultsApart(t *testing.T) {
	for _, full := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, slog.LevelDebug, Config{Interval: time.Hour, Every: 1000}, pool.Config{})
			if full {
				for i := range 3 * maxCounts {
					_ = r.pool.Do(context.Background(), pool.Op{}, func(context.Context, *pooltest.Conn) error {
						return &classed{driver.Class{Type: fmt.Sprint(i)}}
					})
				}
				r.take()
			}
			faults := []driver.Fault{driver.FaultCaller, driver.FaultServer, driver.FaultElsewhere, driver.FaultServer, driver.FaultLocal}
			for _, fault := range faults {
				_ = r.pool.Do(context.Background(), pool.Op{}, func(context.Context, *pooltest.Conn) error {
					return &classed{driver.Class{Fault: fault, Type: "timeout"}}
				})
			}
			line := func(level, fault string) string {
				return `level=` + level + ` msg="use failed" pool=cache error_type=timeout fault=` + fault + ` duration=0s`
			}
			want := []string{line("DEBUG", "caller"), line("ERROR", "server"), line("DEBUG", "elsewhere"), line("WARN", "local")}
			failed := slices.DeleteFunc(r.take(), func(l string) bool { return !strings.Contains(l, "use failed") })
			if got, want := strings.Join(failed, "\n"), strings.Join(want, "\n"); got != want {
				t.Errorf("full %t: got\n%s\nwant\n%s", full, got, want)
			}
		})
	}
}

// classed is an error with a class of its own.
type classed struct{ class driver.Class }

func (e *classed) Error() string       { return "classed" }
func (e *classed) Class() driver.Class { return e.class }

// Changes of state are never left out.
func TestStateChangesAreNotSampled(t *testing.T) {
	r := newRig(t, slog.LevelInfo, Config{}, pool.Config{}, say{pool.Event{Kind: pool.EventStateChanged, Layer: "breaker", To: "open"}})
	for range 50 {
		_ = r.pool.Do(context.Background(), get, func(context.Context, *pooltest.Conn) error { return nil })
	}
	if n := len(r.take()); n != 50 {
		t.Errorf("%d lines, want 50", n)
	}
}

// However many reasons there are, only so much is remembered.
func TestSamplerIsBounded(t *testing.T) {
	s := newSampler(time.Hour, 1000)
	written := 0
	for i := range 3 * maxCounts {
		if _, ok := s.admit(about{kind: "k", reason: fmt.Sprint(i)}); ok {
			written++
		}
	}
	if len(s.counts) != maxCounts+1 || written != maxCounts+2 {
		t.Errorf("%d counts, %d written, want %d and %d", len(s.counts), written, maxCounts+1, maxCounts+2)
	}
}

// A leaked lease is reported with its borrower.
func TestLeak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, slog.LevelWarn, Config{}, pool.Config{LeakAfter: time.Minute})
		l, err := r.pool.Acquire(context.Background(), get)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		lines := r.take()
		if len(lines) != 1 || !strings.Contains(lines[0], "lease is out for too long") || !strings.Contains(lines[0], "TestLeak") {
			t.Errorf("got %q", lines)
		}
		l.Release(nil)
	})
}

// The default logger is the one of the moment.
func TestDefaultLogger(t *testing.T) {
	layer, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	l := &log{t: t}
	before := slog.Default()
	slog.SetDefault(l.logger(slog.LevelInfo))
	defer slog.SetDefault(before)
	layer.writer.Observe(context.Background(), pool.Event{Kind: pool.EventResumed, Pool: "p", Layer: "pool"})
	l.want(`level=INFO msg="pool resumed" pool=p`)
}

func TestDiscardInstallsNothing(t *testing.T) {
	layer, err := New(Config{Logger: slog.New(slog.DiscardHandler)})
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
	_, err := New(Config{Interval: -1, Every: -2})
	want := "logging: Interval is -1ns: must be 0 (default 10s) or more\nlogging: Every is -2: must be 0 (default 1000) or more"
	if err == nil || err.Error() != want {
		t.Errorf("New returned %v, want %s", err, want)
	}
	layer, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	info := layer.Describe()
	if info.Layer != "logging" || info.Role != pool.RoleObserve || fmt.Sprint(info.Settings) != "map[error_text:false every:1000 interval:10s]" {
		t.Errorf("Describe returned %+v", info)
	}
}

func TestConcurrency(t *testing.T) {
	r := newRig(t, slog.LevelDebug, Config{Every: 1}, pool.Config{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				_ = r.pool.Do(context.Background(), get, func(context.Context, *pooltest.Conn) error { return pooltest.ErrReply })
			}
		})
	}
	wg.Wait()
	failed := 0
	for _, l := range r.take() {
		if strings.Contains(l, "use failed") {
			failed++
		}
		if strings.Contains(l, get.Key) {
			t.Errorf("the key is in %s", l)
		}
	}
	if failed != 800 {
		t.Errorf("%d failed uses were logged, want 800", failed)
	}
}
