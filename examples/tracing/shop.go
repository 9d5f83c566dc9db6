package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/redis/go-redis/v9"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/earnorm/poolstack/backends/mongopool"
	"github.com/earnorm/poolstack/backends/redispool"
	"github.com/earnorm/poolstack/middleware"
	"github.com/earnorm/poolstack/middleware/tracing"
	"github.com/earnorm/poolstack/pool"
)

// shop serves orders from a store, through a cache.
type shop struct {
	tracer trace.Tracer
	cache  *pool.Pool[*redispool.Conn]
	store  *pool.Pool[*mongopool.Conn]
}

type order struct {
	ID    string `bson:"_id"   json:"id"`
	Total int    `bson:"total" json:"total"`
}

func newShop(cache redispool.Options, store mongopool.Options, provider trace.TracerProvider) (_ *shop, err error) {
	s := &shop{tracer: provider.Tracer("shop")}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close(context.Background())) // nothing has been opened yet
		}
	}()
	// Each pool has a stack of its own: the breaker of a server says nothing about another server.
	options := middleware.Options{Tracing: tracing.Config{TracerProvider: provider, Commands: true}}
	forCache, err := middleware.Standard(options)
	if err != nil {
		return nil, err
	}
	forStore, err := middleware.Standard(options)
	if err != nil {
		return nil, err
	}
	if s.cache, err = redispool.New(cache, pool.Config{Name: "cache", MaxSize: 10}, forCache.Layers()...); err != nil {
		return nil, err
	}
	s.store, err = mongopool.New(store, pool.Config{Name: "store", MaxSize: 10}, forStore.Layers()...)
	return s, err
}

func (s *shop) close(ctx context.Context) (err error) {
	if s.cache != nil {
		err = s.cache.Close(ctx)
	}
	if s.store != nil {
		err = errors.Join(err, s.store.Close(ctx))
	}
	return err
}

func (s *shop) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /orders/{id}", s.serveOrder)
	return mux
}

// serveOrder makes the span of the request. Everything inside runs in the context of the span.
func (s *shop) serveOrder(w http.ResponseWriter, r *http.Request) {
	ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header)) // the caller's trace
	ctx, span := s.tracer.Start(ctx, "GET /orders/{id}", trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(attribute.String("http.request.method", r.Method), attribute.String("http.route", "/orders/{id}")))
	defer span.End()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()

	status := http.StatusOK
	found, err := s.find(ctx, r.PathValue("id"))
	switch {
	case errors.Is(err, mongo.ErrNoDocuments):
		status = http.StatusNotFound
	case err != nil:
		status = http.StatusServiceUnavailable
		span.SetStatus(codes.Error, "") // the span of the failed use has the error.type
	}
	span.SetAttributes(attribute.Int("http.response.status_code", status))
	if status != http.StatusOK {
		http.Error(w, http.StatusText(status), status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(found) // an error means that the client has gone
}

// find asks the cache, and then the store. A failure of the cache is no failure of the request.
func (s *shop) find(ctx context.Context, id string) (found order, err error) {
	get := pool.Op{Name: "GET", Target: "order", Idempotent: true}
	text, err := pool.Get(ctx, s.cache, get, func(ctx context.Context, c *redispool.Conn) (string, error) {
		return c.Get(ctx, "order:"+id).Result()
	})
	if err == nil && json.Unmarshal([]byte(text), &found) == nil {
		return found, nil
	}
	missing := errors.Is(err, redis.Nil)

	find := pool.Op{Name: "find", Target: "orders", Idempotent: true}
	found, err = pool.Get(ctx, s.store, find, func(ctx context.Context, c *mongopool.Conn) (o order, err error) {
		err = c.Collection("orders").FindOne(ctx, bson.D{{Key: "_id", Value: id}}).Decode(&o)
		return o, err
	})
	if err != nil || !missing {
		return found, err
	}
	set := pool.Op{Name: "SET", Target: "order", Idempotent: true}
	_ = s.cache.Do(ctx, set, func(ctx context.Context, c *redispool.Conn) error { // the layers report a failure
		text, err := json.Marshal(found)
		if err != nil {
			return err
		}
		return c.Set(ctx, "order:"+id, text, time.Minute).Err()
	})
	return found, nil
}
