package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/earnorm/poolstack/backends/mongopool"
	"github.com/earnorm/poolstack/backends/redispool"
	"github.com/earnorm/poolstack/middleware"
	"github.com/earnorm/poolstack/middleware/metrics"
	"github.com/earnorm/poolstack/middleware/tracing"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/telemetry"
)

type service struct {
	cache *pool.Pool[*redispool.Conn]
	store *pool.Pool[*mongopool.Conn]
	ready atomic.Bool // warm, and not draining
}

func newService(redisURL, mongoURI string, tel *telemetry.Telemetry) (*service, error) {
	// Each pool has a stack of its own, because each server has a breaker of its own.
	opts := middleware.Options{
		Tracing: tracing.Config{TracerProvider: tel.TracerProvider()},
		Metrics: metrics.Config{MeterProvider: tel.MeterProvider()},
	}
	forCache, err := middleware.Standard(opts)
	if err != nil {
		return nil, err
	}
	forStore, err := middleware.Standard(opts)
	if err != nil {
		return nil, err
	}
	redis, err := redispool.ParseURL(redisURL)
	if err != nil {
		return nil, err
	}
	cache, err := redispool.New(redis, pool.Config{Name: "cache", MaxSize: 20, MinIdle: 2}, forCache.Layers()...)
	if err != nil {
		return nil, err
	}
	mongo := mongopool.Options{URI: mongoURI, Database: "visits"}
	store, err := mongopool.New(mongo, pool.Config{Name: "store", MaxSize: 20, MinIdle: 2}, forStore.Layers()...)
	if err != nil {
		return nil, errors.Join(err, cache.Close(context.Background())) // no use is in progress
	}
	return &service{cache: cache, store: store}, nil
}

// warm opens the first connections. A server that is down now may come back later, so a failure
// ends nothing: the readiness tells the state.
func (s *service) warm(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	var pools sync.WaitGroup
	for _, warm := range []func(context.Context, int) error{s.cache.Warm, s.store.Warm} {
		pools.Go(func() {
			if err := warm(ctx, 0); err != nil { // 0 means MinIdle
				slog.Warn("a pool is cold", "error", err)
			}
		})
	}
	pools.Wait()
}

// close closes both pools at the same time, and waits for their last uses.
func (s *service) close(ctx context.Context) error {
	var first, second error
	var pools sync.WaitGroup
	pools.Go(func() { first = s.cache.Close(ctx) })
	pools.Go(func() { second = s.store.Close(ctx) })
	pools.Wait()
	return errors.Join(first, second)
}

func (s *service) handler(tel *telemetry.Telemetry) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /visits/{page}", s.visit)
	mux.HandleFunc("GET /livez", func(http.ResponseWriter, *http.Request) {})
	mux.Handle("GET /readyz", readiness(s.ready.Load, map[string]check{"cache": s.cache.Check, "store": s.store.Check}))
	mux.Handle("GET /metrics", tel.MetricsHandler())
	return mux
}

// check is the method Check of a pool.
type check func(context.Context) pool.Health

// readiness answers 200 if the service is ready and no pool is down. A degraded pool still serves.
func readiness(ready func() bool, checks map[string]check) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !ready() {
			http.Error(w, "starting or draining", http.StatusServiceUnavailable)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), 800*time.Millisecond) // a probe of Kubernetes waits for 1 s
		defer cancel()
		var mu sync.Mutex
		var pools sync.WaitGroup
		code, report := http.StatusOK, map[string]any{}
		for name, check := range checks {
			pools.Go(func() {
				health := check(ctx)
				mu.Lock()
				defer mu.Unlock()
				report[name] = map[string]any{"status": health.Status, "reasons": health.Reasons}
				if health.Status == pool.StatusDown {
					code = http.StatusServiceUnavailable
				}
			})
		}
		pools.Wait()
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(report) // an error means that the prober has gone
	})
}

// visit counts a visit. INCR is not idempotent, and so no layer repeats INCR after a lost reply.
func (s *service) visit(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	page := r.PathValue("page")
	n, err := pool.Get(ctx, s.cache, pool.Op{Name: "INCR", Target: "visits"}, func(ctx context.Context, c *redispool.Conn) (int64, error) {
		return c.Incr(ctx, "visits:"+page).Result()
	})
	if err == nil {
		update := pool.Op{Name: "update", Target: "pages", Idempotent: true} // $max: a second time changes nothing
		err = s.store.Do(ctx, update, func(ctx context.Context, c *mongopool.Conn) error {
			_, err := c.Collection("pages").UpdateOne(ctx, bson.D{{Key: "_id", Value: page}},
				bson.D{{Key: "$max", Value: bson.D{{Key: "visits", Value: n}}}}, options.UpdateOne().SetUpsert(true))
			return err
		})
	}
	if err != nil {
		http.Error(w, "try again later", http.StatusServiceUnavailable) // the layers have logged and counted the error
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"page": page, "visits": n}) // an error means that the client has gone
}
