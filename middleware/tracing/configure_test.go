package tracing

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/settings"
)

// New settings hold for the uses of an open pool.
func TestConfigure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, driver.Identity{Name: "p"}, Config{}, pool.Config{MaxSize: 1}).warm()
		unsampled := trace.ContextWithSpanContext(context.Background(),
			trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}}))
		started := func(ctx context.Context, op pool.Op) int {
			before := len(r.recorder.Started())
			held, err := r.pool.Acquire(context.WithValue(ctx, driver.CommandsKey{}, nil), pool.Op{Name: "held"})
			if err != nil {
				t.Fatal(err)
			}
			go func() { time.Sleep(time.Second); held.Release(nil) }()
			if err := r.pool.Do(ctx, op, ping); err != nil { // waits for a second
				t.Error(err)
			}
			return len(r.recorder.Started()) - before
		}
		configure := func(change func(c *Config)) {
			cfg := r.layer.Config()
			change(&cfg)
			if err := r.layer.Configure(cfg); err != nil {
				t.Fatal(err)
			}
		}
		check := func(what string, ctx context.Context, op pool.Op, want int) {
			t.Helper()
			if n := started(ctx, op); n != want {
				t.Errorf("%s: %d spans, want %d", what, n, want)
			}
		}
		check("at first", context.Background(), get, 3) // two uses and a wait
		configure(func(c *Config) { c.WaitThreshold = time.Minute })
		check("no wait is long enough", context.Background(), get, 2)
		configure(func(c *Config) { c.Filter = func(op pool.Op) bool { return op.Name != get.Name } })
		check("filtered", context.Background(), get, 1)
		configure(func(c *Config) { c.Filter, c.SkipUnsampled = nil, true })
		check("skipped", unsampled, get, 0)
		if info := r.layer.Describe(); info.Settings["wait_threshold"] != "1m0s" || info.Settings["skip_unsampled"] != "true" {
			t.Errorf("described as %+v", info)
		}
		warm := func() {
			t.Helper()
			if err := r.pool.Warm(context.Background(), 1); err != nil {
				t.Fatal(err)
			}
			synctest.Wait() // the observers are told after Warm has ended
		}
		before := len(r.recorder.Started())
		r.pool.Clear()
		warm()
		state := r.layer.Tuning().Read()
		if _, err := r.layer.Tuning().Apply(settings.Request{
			Source: settings.Fleet, Values: map[string]string{"background": "true"}, Revision: state.Revision,
		}); err != nil {
			t.Fatal(err)
		}
		r.pool.Clear()
		warm()
		if n := len(r.recorder.Started()) - before; n != 1 {
			t.Errorf("an open before and an open after the change make %d spans, want 1", n)
		}
	})
}
