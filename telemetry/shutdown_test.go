package telemetry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
)

// deadPort returns a URL without a listener.
func deadPort(t *testing.T) string {
	t.Helper()
	lis, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := lis.Close(); err != nil {
		t.Fatal(err)
	}
	return "http://" + lis.Addr().String()
}

// silentListener returns the URL of a listener that accepts connections and never answers.
func silentListener(t *testing.T) string {
	t.Helper()
	lis, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var readers sync.WaitGroup
	readers.Go(func() {
		for {
			conn, err := lis.Accept()
			if err != nil {
				return
			}
			context.AfterFunc(ctx, func() { _ = conn.Close() })
			readers.Go(func() { _, _ = io.Copy(io.Discard, conn); _ = conn.Close() })
		}
	})
	t.Cleanup(func() { _ = lis.Close(); cancel(); readers.Wait() })
	return "http://" + lis.Addr().String()
}

func TestCollectorAway(t *testing.T) {
	const patience = 300 * time.Millisecond
	for _, where := range []struct {
		name string
		url  func(*testing.T) string
	}{{"dead port", deadPort}, {"silent listener", silentListener}} {
		for _, protocol := range protocols {
			t.Run(where.name+" "+protocol, func(t *testing.T) {
				setenv(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+where.url(t), "OTEL_EXPORTER_OTLP_PROTOCOL="+protocol,
					"OTEL_BSP_SCHEDULE_DELAY=10", "OTEL_METRIC_EXPORT_INTERVAL=10", "OTEL_BSP_MAX_QUEUE_SIZE=64")
				start := time.Now()
				tel := setup(t, Config{Logger: slog.New(slog.DiscardHandler)})
				for range 2000 {
					use(t, tel)
				}
				if took := time.Since(start); took > 5*time.Second {
					t.Errorf("Setup and 2000 spans took %v: something waits for the collector", took)
				}

				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				start = time.Now()
				err := tel.Shutdown(ctx)
				if took := time.Since(start); took > patience+2*time.Second {
					t.Errorf("Shutdown took %v, with %v to go", took, patience)
				}
				if err == nil {
					t.Error("Shutdown returned no error, although nothing can have been sent")
				}
				if where.name == "silent listener" && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Shutdown: %v, want it to wrap context.DeadlineExceeded", err)
				}
				if err := tel.Shutdown(ctx); err != nil {
					t.Errorf("second Shutdown: %v, want nil", err)
				}
			})
		}
	}
}

// A collector that comes back receives all later telemetry, without any restart.
func TestCollectorComesBack(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			url := deadPort(t)
			setenv(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+url, "OTEL_EXPORTER_OTLP_PROTOCOL="+protocol, "OTEL_EXPORTER_OTLP_TIMEOUT=200",
				"OTEL_BSP_SCHEDULE_DELAY=10", "OTEL_METRIC_EXPORT_INTERVAL=10")
			var log lockedBuffer
			tel := setup(t, Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			use(t, tel)
			eventually(t, "the failures are noticed", func() bool { return strings.Count(log.String(), "telemetry export failed") == 2 })
			r := newReceiverAt(t, strings.TrimPrefix(url, "http://"), protocol, nil, nil)
			eventually(t, "spans and metrics arrive, and that is logged", func() bool {
				use(t, tel)
				return len(r.spanNames()) > 0 && r.metric("test.count") != nil &&
					strings.Count(log.String(), "telemetry export works again") == 2
			})
			shutdown(t, tel)
		})
	}
}

// After a Shutdown that gave up, no goroutine may remain. The exporters' own timeouts are much
// longer than this test.
func TestShutdownLeavesNothingBehind(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			setenv(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+silentListener(t), "OTEL_EXPORTER_OTLP_PROTOCOL="+protocol,
				"OTEL_EXPORTER_OTLP_TIMEOUT=600000", "OTEL_BSP_EXPORT_TIMEOUT=600000", "OTEL_METRIC_EXPORT_TIMEOUT=600000")
			before := runtime.NumGoroutine()
			tel := setup(t, Config{})
			for range 1500 { // three batches
				use(t, tel)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			if err := tel.Shutdown(ctx); err == nil {
				t.Error("Shutdown returned no error, although nothing can have been sent")
			}
			eventually(t, "the goroutines of the exports are gone", func() bool { return runtime.NumGoroutine() <= before })
		})
	}
}

// While the collector hangs, spans wait in a bounded queue, and further spans are dropped. The
// waiting spans arrive after the collector's return.
func TestQueueIsBounded(t *testing.T) {
	const queue, batch = 50, 10
	gate := make(chan struct{})
	r := newReceiver(t, protocolGRPC, nil, gate)
	setenv(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+r.url, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "OTEL_METRICS_EXPORTER=none",
		"OTEL_BSP_MAX_QUEUE_SIZE=50", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE=10")
	tel := setup(t, Config{})
	for r.requests() == 0 { // fills a batch, and waits until the batch hangs
		use(t, tel)
	}
	for range 5000 {
		use(t, tel)
	}
	close(gate)
	shutdown(t, tel)
	// A single batch hung, and the processor may have taken another batch from the queue.
	if got := len(r.spanNames()); got < queue || got > queue+2*batch {
		t.Errorf("%d of more than 5000 spans arrived, want the %d that fit the queue and at most two batches of %d", got, queue, batch)
	}
}

// An export in progress at Shutdown is reported as lost, unless the final export contains the same
// data.
func TestShutdownInterruptsPeriodicExport(t *testing.T) {
	for _, tc := range []struct {
		temporality string
		lost        bool
	}{{"cumulative", false}, {"delta", true}} {
		t.Run(tc.temporality, func(t *testing.T) {
			gate := make(chan struct{})
			r := newReceiver(t, protocolHTTP, nil, gate)
			setenv(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+r.url, "OTEL_TRACES_EXPORTER=none", "OTEL_METRIC_EXPORT_INTERVAL=10",
				"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE="+tc.temporality)
			tel := setup(t, Config{Logger: slog.New(slog.DiscardHandler)})
			use(t, tel)
			eventually(t, "a periodic export hangs", func() bool { return r.requests() == 1 })
			use(t, tel)
			done := make(chan error)
			go func() { done <- tel.Shutdown(t.Context()) }()
			eventually(t, "the final export has begun", func() bool { return r.requests() == 2 })
			close(gate)
			if err := <-done; (err != nil) != tc.lost {
				t.Errorf("Shutdown: %v, want an error: %t", err, tc.lost)
			}
			if r.metric("test.count") == nil {
				t.Error("test.count did not arrive")
			}
		})
	}
}

// A hanging callback of the program does not delay Shutdown.
func TestShutdownDoesNotWaitForACallback(t *testing.T) {
	r := newReceiver(t, protocolHTTP, nil, nil)
	setenv(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+r.url)
	tel := setup(t, Config{NoPrometheus: true})
	release := make(chan struct{})
	defer close(release)
	_, err := tel.MeterProvider().Meter("test").Int64ObservableGauge("test.hanging",
		metric.WithInt64Callback(func(context.Context, metric.Int64Observer) error { <-release; return nil }))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- tel.Shutdown(ctx) }()
	select {
	case err := <-done:
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown: %v, want context.DeadlineExceeded", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("Shutdown waits for a callback beyond its deadline")
	}
}

func TestShutdownWithEndedContext(t *testing.T) {
	r := newReceiver(t, protocolHTTP, nil, nil)
	setenv(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+r.url)
	tel := setup(t, Config{})
	use(t, tel)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := tel.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown: %v, want context.Canceled", err)
	}
	use(t, tel) // dropped without harm
}

func TestShutdownConcurrently(t *testing.T) {
	r := newReceiver(t, protocolGRPC, nil, nil)
	setenv(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+r.url, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc")
	tel := setup(t, Config{})
	use(t, tel)
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			if err := tel.Shutdown(t.Context()); err != nil {
				t.Errorf("Shutdown: %v", err)
			}
		})
		callers.Go(func() { use(t, tel) })
	}
	callers.Wait()
	if len(r.spanNames()) == 0 {
		t.Error("the span made before did not arrive")
	}
}

// With a logger, failures go to the logger at a limited rate, and not to the global handler.
func TestFailuresAreLogged(t *testing.T) {
	var global lockedErrors
	previous := otel.GetErrorHandler()
	otel.SetErrorHandler(&global)
	t.Cleanup(func() { otel.SetErrorHandler(previous) })

	url := deadPort(t)
	setenv(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+url, "OTEL_METRIC_EXPORT_INTERVAL=5", "OTEL_BSP_SCHEDULE_DELAY=5",
		"OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20s3cret")
	var log lockedBuffer
	tel := setup(t, Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	use(t, tel)
	eventually(t, "both failures are logged", func() bool {
		return strings.Contains(log.String(), `exporter="otlp traces"`) && strings.Contains(log.String(), `exporter="otlp metrics"`)
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := tel.Shutdown(ctx)
	if err == nil || !strings.Contains(err.Error(), "otlp metrics") {
		t.Errorf("Shutdown: %v, want the failure of the metrics", err)
	}
	if text := log.String(); strings.Count(text, "\n") != 2 {
		t.Errorf("logged, want one line for each exporter:\n%s", text)
	}
	if strings.Contains(log.String()+err.Error(), "s3cret") {
		t.Error("a header's value was shown")
	}
	for _, e := range global.get() {
		// The SDK's own error, when its ticker fires during Shutdown.
		if e != context.Canceled.Error() {
			t.Errorf("the global handler got %q", e)
		}
	}
}

func TestFailuresWithoutLoggerGoToTheGlobalHandler(t *testing.T) {
	var global lockedErrors
	previous := otel.GetErrorHandler()
	otel.SetErrorHandler(&global)
	t.Cleanup(func() { otel.SetErrorHandler(previous) })

	setenv(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+deadPort(t), "OTEL_TRACES_EXPORTER=none", "OTEL_METRIC_EXPORT_INTERVAL=5")
	tel := setup(t, Config{})
	use(t, tel)
	eventually(t, "a failure is handled", func() bool { return len(global.get()) > 0 })
}

func TestHealthDoesNotFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lockedBuffer
		h := newHealth("otlp traces", slog.New(slog.NewTextHandler(&log, nil)))
		fail := func(n int, every time.Duration) {
			for range n {
				if err := h.note(errors.New("away")); err != nil {
					t.Errorf("note handed %v back although there is a logger", err)
				}
				time.Sleep(every) // the clock of the synctest bubble
			}
		}
		fail(25, 5*time.Second) // logged at 0 s, 60 s and 120 s
		_ = h.note(nil)
		_ = h.note(nil)
		fail(2, time.Second)
		var lines []string
		for line := range strings.Lines(log.String()) {
			_, line, _ = strings.Cut(line, " ") // the time
			lines = append(lines, strings.TrimSpace(line))
		}
		want := []string{
			`level=WARN msg="telemetry export failed" exporter="otlp traces" failures=1 error=away`,
			`level=WARN msg="telemetry export failed" exporter="otlp traces" failures=12 error=away`,
			`level=WARN msg="telemetry export failed" exporter="otlp traces" failures=12 error=away`,
			`level=INFO msg="telemetry export works again" exporter="otlp traces" failures=25`,
			`level=WARN msg="telemetry export failed" exporter="otlp traces" failures=1 error=away`,
		}
		if got := strings.Join(lines, "\n"); got != strings.Join(want, "\n") {
			t.Errorf("logged\n%s\nwant\n%s", got, strings.Join(want, "\n"))
		}
	})
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// lockedErrors is an error handler that stores the errors.
type lockedErrors struct {
	mu   sync.Mutex
	errs []string
}

func (l *lockedErrors) Handle(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.errs = append(l.errs, err.Error())
}

func (l *lockedErrors) get() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.errs...)
}
