package observed

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.opentelemetry.io/otel/trace"

	"github.com/earnorm/poolstack/backends/mongopool"
	"github.com/earnorm/poolstack/backends/redispool"
	"github.com/earnorm/poolstack/examples/servers/local"
	"github.com/earnorm/poolstack/middleware"
	"github.com/earnorm/poolstack/middleware/metrics"
	"github.com/earnorm/poolstack/middleware/timeout"
	"github.com/earnorm/poolstack/middleware/tracing"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/telemetry"
)

// A load uses two pools steadily. Each use is within its own span, as in a service for requests.
type load struct {
	redis   *pool.Pool[*redispool.Conn]
	mongo   *pool.Pool[*mongopool.Conn]
	tracer  trace.Tracer
	counted counts

	stop    chan struct{}
	workers sync.WaitGroup
}

// counts are the counts of a load.
type counts struct{ uses, failures, slowest atomic.Int64 }

// limitOfUse is the timeout of a use. Without faults, hardly any use comes near the timeout.
const limitOfUse = 10 * time.Second

// newLoad creates the pools, with the standard stack and a span for each command.
func newLoad(t *testing.T, servers *local.Servers, tel *telemetry.Telemetry) *load {
	t.Helper()
	layers := func() []pool.Middleware {
		stack, err := middleware.Standard(middleware.Options{
			Tracing: tracing.Config{TracerProvider: tel.TracerProvider(), Commands: true},
			Metrics: metrics.Config{MeterProvider: tel.MeterProvider()},
			Total:   timeout.Config{Limit: limitOfUse},
			Attempt: timeout.Config{Limit: limitOfUse / 2},
		})
		if err != nil {
			t.Fatal(err)
		}
		return stack.Layers()
	}
	l := &load{tracer: tel.TracerProvider().Tracer("load"), stop: make(chan struct{})}
	redis, err := redispool.ParseURL(servers.RedisURL())
	if err != nil {
		t.Fatal(err)
	}
	if l.redis, err = redispool.New(redis, pool.Config{Name: "redis", MaxSize: 4}, layers()...); err != nil {
		t.Fatal(err)
	}
	mongodb, err := mongopool.ParseURI(servers.MongoDBURI())
	if err != nil {
		t.Fatal(err)
	}
	mongodb.Database = "load"
	if l.mongo, err = mongopool.New(mongodb, pool.Config{Name: "mongodb", MaxSize: 2}, layers()...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if err := errors.Join(l.redis.Close(ctx), l.mongo.Close(ctx)); err != nil {
			t.Error(err)
		}
	})
	return l
}

// begin starts the workers, and end waits for the workers. The workers mostly sleep, so the machine
// does not limit their rate.
func (l *load) begin(ctx context.Context) {
	for range 8 {
		l.workers.Go(func() { l.work(ctx, l.set, 15*time.Millisecond) })
	}
	l.workers.Go(func() { l.work(ctx, l.find, 30*time.Millisecond) })
}

func (l *load) end() {
	close(l.stop)
	l.workers.Wait()
}

// work makes one use after another, with a pause between them.
func (l *load) work(ctx context.Context, use func(context.Context) error, pause time.Duration) {
	for {
		select {
		case <-l.stop:
			return
		case <-time.After(pause):
		}
		start := time.Now()
		_, err := l.request(ctx, use)
		took := int64(time.Since(start))
		l.counted.uses.Add(1)
		if err != nil {
			l.counted.failures.Add(1)
		}
		for {
			slowest := l.counted.slowest.Load()
			if took <= slowest || l.counted.slowest.CompareAndSwap(slowest, took) {
				break
			}
		}
	}
}

// flood creates many more spans than the queue can hold, until stop is called.
func (l *load) flood(ctx context.Context) (stop func()) {
	const spans, every = 100, 20 * time.Millisecond
	ctx, cancel := context.WithCancel(ctx)
	var flooding sync.WaitGroup
	flooding.Go(func() {
		for ctx.Err() == nil {
			for range spans {
				_, span := l.tracer.Start(ctx, "flood")
				span.End()
			}
			time.Sleep(every)
		}
	})
	return func() {
		cancel()
		flooding.Wait()
	}
}

// request makes a use within a span, and returns the id of the trace.
func (l *load) request(ctx context.Context, use func(context.Context) error) (traceID string, err error) {
	ctx, span := l.tracer.Start(ctx, "request", trace.WithSpanKind(trace.SpanKindServer))
	defer span.End()
	return span.SpanContext().TraceID().String(), use(ctx)
}

func (l *load) set(ctx context.Context) error {
	return l.redis.Do(ctx, pool.Op{Name: "SET", Target: "counter", Idempotent: true}, func(ctx context.Context, c *redispool.Conn) error {
		return c.Set(ctx, "load:counter", "a value", 0).Err()
	})
}

// mistake sends a command which the server rejects with its own error.
func (l *load) mistake(ctx context.Context) error {
	return l.redis.Do(ctx, pool.Op{Name: "LPUSH", Target: "counter"}, func(ctx context.Context, c *redispool.Conn) error {
		return c.LPush(ctx, "load:counter", "a value").Err()
	})
}

func (l *load) find(ctx context.Context) error {
	return l.mongo.Do(ctx, pool.Op{Name: "find", Target: "things", Idempotent: true}, func(ctx context.Context, c *mongopool.Conn) error {
		err := c.Collection("things").FindOne(ctx, bson.D{{Key: "_id", Value: bson.ObjectID{1}}}).Err()
		if errors.Is(err, mongo.ErrNoDocuments) {
			return nil
		}
		return err
	})
}

// A chapter is the activity of a load in a period, and the process's resources at the end.
type chapter struct {
	rate       float64 // uses per second
	failures   int64
	slowest    time.Duration
	goroutines int // maximum
	heap       int // bytes, after a garbage collection
}

func (c chapter) String() string {
	return fmt.Sprintf("%.0f uses a second, %d failed, the slowest took %v; %d goroutines, %d KiB",
		c.rate, c.failures, c.slowest.Round(time.Millisecond), c.goroutines, c.heap>>10)
}

// watch measures for d.
func (l *load) watch(d time.Duration) (c chapter) {
	uses, failures, start := l.counted.uses.Load(), l.counted.failures.Load(), time.Now()
	l.counted.slowest.Store(0)
	for time.Since(start) < d {
		time.Sleep(50 * time.Millisecond)
		c.goroutines = max(c.goroutines, runtime.NumGoroutine())
	}
	c.rate = float64(l.counted.uses.Load()-uses) / time.Since(start).Seconds()
	c.failures = l.counted.failures.Load() - failures
	c.slowest = time.Duration(l.counted.slowest.Load())
	runtime.GC()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	c.heap = int(memory.HeapAlloc)
	return c
}
