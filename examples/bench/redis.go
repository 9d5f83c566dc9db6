package main

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/redis/go-redis/extra/redisotel/v9"
	"github.com/redis/go-redis/v9"

	"github.com/earnorm/poolstack/backends/redispool"
	"github.com/earnorm/poolstack/middleware"
	"github.com/earnorm/poolstack/pool"
)

// sockets is the number of connections of each client.
const sockets = 16

// The names of the subjects.
const (
	goRedis  = "go-redis"
	goOTel   = "go-redis + redisotel"
	goFS     = "failsafe-go + go-redis"
	ourPlain = "ours, without telemetry"
)

// command is a Redis command for any client.
type command struct {
	op    pool.Op
	names int // number of operation names; 0: only the name of op
	run   func(ctx context.Context, c redis.Cmdable) (string, error)
}

var (
	getCommand = command{op: opGet, run: func(ctx context.Context, c redis.Cmdable) (string, error) {
		return c.Get(ctx, key).Result()
	}}
	setCommand = command{op: pool.Op{Name: "SET", Idempotent: true}, run: func(ctx context.Context, c redis.Cmdable) (string, error) {
		return c.Set(ctx, key, value, 0).Result()
	}}
	pingCommand = command{op: pool.Op{Name: "PING", Idempotent: true}, run: func(ctx context.Context, c redis.Cmdable) (string, error) {
		return c.Ping(ctx).Result()
	}}
)

// ops returns a function that returns the operation of the next call.
func (c command) ops() func() pool.Op {
	if c.names == 0 {
		return func() pool.Op { return c.op }
	}
	all := make([]pool.Op, c.names)
	for i := range all {
		all[i] = c.op
		all[i].Name += strconv.Itoa(i)
	}
	var n atomic.Uint64
	return func() pool.Op { return all[n.Add(1)%uint64(len(all))] }
}

// redisScenarios compare GET and SET with three alternatives: bare go-redis, go-redis with its own
// telemetry, and go-redis with another resilience library.
func redisScenarios(s *servers) []scenario {
	var all []scenario
	for _, c := range []command{getCommand, setCommand} {
		for _, callers := range []int{1, 8, 64} {
			all = append(all, redisScenario(s, c, callers))
		}
	}
	return append(all, clientScenario(s))
}

// clientScenario compares a redispool.Client with direct uses of the pool. Both use the same stack.
func clientScenario(s *servers) scenario {
	const byClient = "ours, by a redispool.Client"
	about := fmt.Sprintf("Through the standard stack without telemetry, %d sockets: a use by pool.Get, and rdb.Get of the pool's client.", sockets)
	plain := telemetryVariant{ourPlain, func(*providers) middleware.Options { return unwatched() }, 0, nil}
	return compare("Redis GET, 8 goroutines: the client", about, func() []contestant {
		return []contestant{ourRedis(s, plain, getCommand, 8), ourClient(s, byClient, 8)}
	}, ratio(byClient, ourPlain, 1.10), cpu(byClient, ourPlain, unbound))
}

// ourClient calls rdb.Get through the standard stack.
func ourClient(s *servers, name string, callers int) contestant {
	told := newProviders()
	p, err := redispool.New(redispool.Options{Address: s.redis}, busyPool(), standard(unwatched(), patience, attemptPatience)...)
	check(err)
	check(p.Warm(context.Background(), sockets))
	rdb, err := redispool.NewClient(p, redispool.ClientConfig{})
	check(err)
	all := calls(name, callers, longer, func() *requests { return newRequests(told, 0) }, func(ctx context.Context) error {
		return rdb.Get(ctx, key).Err()
	})
	return contestant{all.subject, func() { all.close(); check(rdb.Close()); check(p.Close(context.Background())); told.close() }}
}

func redisScenario(s *servers, c command, callers int) scenario {
	gates := []gate{throughput(our, goRedis, unbound), cpu(our, goRedis, unbound), latency(our, goOTel, unbound)}
	if callers == 64 && c.op == getCommand.op {
		gates = []gate{throughput(our, goRedis, 0.88), cpu(our, goRedis, 1.25), latency(our, goOTel, 1)}
	}
	gates = append(gates, throughput(goOTel, goRedis, unbound), throughput(goFS, goRedis, unbound), throughput(ourPlain, goRedis, unbound),
		cpu(goOTel, goRedis, unbound), cpu(goFS, goRedis, unbound), cpu(ourPlain, goRedis, unbound), added(our), added(goOTel), added(goFS))
	about := fmt.Sprintf("To redis-server on loopback, %d sockets each; the caller's context can be cancelled and has a request's span, "+
		"sampled at 1 %%. Ours is the full standard stack with metrics and spans; redisotel has the same, without statements; failsafe-go has "+
		"the timeouts, the retries and the breaker. CPU is this process's. A p50 below redisotel's means less added latency.", sockets)
	return compare(fmt.Sprintf("Redis %s, %d goroutines", c.op.Name, callers), about, func() []contestant {
		return []contestant{
			bareRedis(s, goRedis, c, callers), otelRedis(s, c, callers), failsafeRedis(s, c, callers),
			ourRedis(s, telemetryVariant{our, func(p *providers) middleware.Options { return telling(p, true) }, oneIn, nil}, c, callers),
			ourRedis(s, telemetryVariant{ourPlain, func(*providers) middleware.Options { return unwatched() }, oneIn, nil}, c, callers),
		}
	}, gates...)
}

// added reports the median time added to a go-redis call.
func added(name string) gate {
	return gate{
		what: "p50 added by " + name + ", µs", limit: unbound,
		figure: func(r round) float64 { return (r[name].p50 - r[goRedis].p50) / 1e3 },
	}
}

// newGoRedis returns a go-redis client with limited sockets and with context timeouts. All other
// options are defaults, unless tune changes them.
func newGoRedis(s *servers, tune ...func(*redis.Options)) *redis.Client {
	o := &redis.Options{Addr: s.redis, PoolSize: sockets, MaxActiveConns: sockets, ContextTimeoutEnabled: true}
	for _, f := range tune {
		f(o)
	}
	return redis.NewClient(o)
}

// clientCalls returns calls of a go-redis client.
func clientCalls(name string, callers int, told *providers, c *redis.Client, call func(ctx context.Context) error) contestant {
	all := calls(name, callers, longer, func() *requests { return newRequests(told, oneIn) }, call)
	return contestant{all.subject, func() { all.close(); check(c.Close()); told.close() }}
}

func bareRedis(s *servers, name string, do command, callers int) contestant {
	c := newGoRedis(s)
	return clientCalls(name, callers, newProviders(), c, func(ctx context.Context) error {
		_, err := do.run(ctx, c)
		return err
	})
}

func otelRedis(s *servers, do command, callers int) contestant {
	c, told := newGoRedis(s), newProviders()
	check(redisotel.InstrumentTracing(c, redisotel.WithTracerProvider(told.traces), redisotel.WithDBStatement(false)))
	check(redisotel.InstrumentMetrics(c, redisotel.WithMeterProvider(told.meters)))
	return clientCalls(goOTel, callers, told, c, func(ctx context.Context) error {
		_, err := do.run(ctx, c)
		return err
	})
}

// failsafeRedis runs failsafe-go's policies around a client without the client's own retries. The
// order of the policies is the order of our layers.
func failsafeRedis(s *servers, do command, callers int) contestant {
	c := newGoRedis(s, func(o *redis.Options) { o.MaxRetries = -1 })
	around := failsafe.With[string](append(failsafePolicies[string](patience, false), timeout.New[string](attemptPatience))...)
	inner := func(x failsafe.Execution[string]) (string, error) { return do.run(x.Context(), c) }
	return clientCalls(goFS, callers, newProviders(), c, func(ctx context.Context) error {
		_, err := around.WithContext(ctx).GetWithExecution(inner)
		return err
	})
}

// busyPool returns the configuration of a pool with every feature on.
func busyPool() pool.Config {
	return pool.Config{
		MaxSize: sockets, MinIdle: 2, MaxWaiters: 1 << 20, AcquireTimeout: patience,
		MaxLifetime: time.Hour, MaxIdleTime: 10 * time.Minute, CheckAfter: time.Second, KeepAlive: time.Minute,
	}
}

// ourRedis returns calls through the standard stack over redispool.
func ourRedis(s *servers, v telemetryVariant, do command, callers int) contestant {
	told := newProviders()
	layers := standard(v.options(told), patience, attemptPatience)
	if v.around != nil {
		layers = append(v.around(told), layers...)
	}
	p, err := redispool.New(redispool.Options{Address: s.redis}, busyPool(), layers...)
	check(err)
	check(p.Warm(context.Background(), sockets))
	use := func(ctx context.Context, c *redispool.Conn) (string, error) { return do.run(ctx, c) }
	next := do.ops()
	all := calls(v.name, callers, longer, func() *requests { return newRequests(told, v.every) }, func(ctx context.Context) error {
		_, err := pool.Get(ctx, p, next(), use)
		return err
	})
	return contestant{all.subject, func() { all.close(); check(p.Close(context.Background())); told.close() }}
}
