package main

import (
	"context"
	"log/slog"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/earnorm/poolstack/backends/mongopool"
	"github.com/earnorm/poolstack/backends/redispool"
	"github.com/earnorm/poolstack/examples/servers/control"
	"github.com/earnorm/poolstack/middleware"
	"github.com/earnorm/poolstack/middleware/breaker"
	"github.com/earnorm/poolstack/middleware/logging"
	"github.com/earnorm/poolstack/middleware/metrics"
	"github.com/earnorm/poolstack/middleware/timeout"
	"github.com/earnorm/poolstack/middleware/tracing"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/telemetry"
)

// deadline is how long the stack lets an operation take.
const deadline = 900 * time.Millisecond

// poolConfig is the same for both pools, but for the name.
func poolConfig(name string) pool.Config {
	return pool.Config{Name: name, MaxSize: 16, MinIdle: 8, MaxWaiters: 64}
}

// The limits of an attempt. The driver for MongoDB looks every 500 ms for a server that it has lost: an attempt lasts longer.
const (
	redisAttempt = 300 * time.Millisecond
	mongoAttempt = 600 * time.Millisecond
)

// layerOptions are the settings of the layers that are not the defaults. Everything else is a default, the breaker and retry included.
func layerOptions(attempt time.Duration) middleware.Options {
	return middleware.Options{Total: timeout.Config{Limit: deadline}, Attempt: timeout.Config{Limit: attempt}}
}

// newStack makes the layers for one pool.
func newStack(o middleware.Options, tel *telemetry.Telemetry, log *slog.Logger) (*middleware.Stack, error) {
	o.Tracing = tracing.Config{TracerProvider: tel.TracerProvider()}
	o.Metrics = metrics.Config{MeterProvider: tel.MeterProvider()}
	o.Logging = logging.Config{Logger: log}
	return middleware.Standard(o)
}

// A managed client is a pool with the standard stack around it.
type managed struct {
	name     string
	pool     managedPool
	stack    *middleware.Stack
	tally    *tally
	settings string // those that are not the defaults

	run     func(ctx context.Context, op operation) (string, error)
	sockets func() *mongopool.Stats // nil where each resource of the pool is a socket
}

// managedPool is the side of a pool that is the same for all.
type managedPool interface {
	Stat() pool.Stat
	Warm(ctx context.Context, size int) error
	Check(ctx context.Context) pool.Health
	Close(ctx context.Context) error
}

func (m *managed) do(ctx context.Context, op operation) (string, error) { return m.run(ctx, op) }

func (m *managed) close(ctx context.Context) error { return m.pool.Close(ctx) }

// whole says whether the pool is as it was before any fault: the breaker closed, nobody kept waiting, and as many connections open as
// are to be kept ready.
func (m *managed) whole() bool {
	s := m.pool.Stat()
	return s.Idle+s.InUse >= s.MinIdle && s.Waiters == 0 && m.stack.Breaker.State() == breaker.StateClosed &&
		m.serverSeen()
}

// serverSeen says whether the sockets beneath the pool are well, where they are not the pool's own.
func (m *managed) serverSeen() bool {
	if m.sockets == nil {
		return true
	}
	s := m.sockets()
	return s.ServersUp > 0 && s.Sockets > 0
}

// newManagedRedis makes the pool for Redis.
func newManagedRedis(url string, keys redisKeys, w *wire, tel *telemetry.Telemetry, log *slog.Logger) (*managed, error) {
	opts, err := redispool.ParseURL(url)
	if err != nil {
		return nil, err
	}
	cfg, layers := poolConfig(control.Redis), layerOptions(redisAttempt)
	stack, err := newStack(layers, tel, log)
	if err != nil {
		return nil, err
	}
	m := &managed{name: cfg.Name, stack: stack, tally: newTally(), settings: changedSettings(cfg, layers)}
	m.tally.dialled = w.dialled // each opening is one dial
	p, err := redispool.New(opts, cfg, append([]pool.Middleware{pool.Bracket(m.tally)}, stack.Layers()...)...)
	if err != nil {
		return nil, err
	}
	m.pool = p
	m.run = func(ctx context.Context, op operation) (string, error) {
		return pool.Get(ctx, p, redisOps[op.kind], func(ctx context.Context, c *redispool.Conn) (string, error) {
			w.sent()
			return keys.do(ctx, c, op)
		})
	}
	return m, nil
}

// newManagedMongo makes the pool for MongoDB.
func newManagedMongo(uri string, names mongoNames, w *wire, tel *telemetry.Telemetry, log *slog.Logger) (*managed, error) {
	opts, err := mongopool.ParseURI(uri)
	if err != nil {
		return nil, err
	}
	opts.Database = mongoDatabase
	opts.Tune = func(o *options.ClientOptions) { o.SetDialer(wiredDialer{w}) }
	driver, err := mongopool.NewDriver(opts)
	if err != nil {
		return nil, err
	}
	cfg, layers := poolConfig(control.MongoDB), layerOptions(mongoAttempt)
	stack, err := newStack(layers, tel, log)
	if err != nil {
		return nil, err
	}
	m := &managed{name: cfg.Name, stack: stack, tally: newTally(), settings: changedSettings(cfg, layers)}
	p, err := driver.NewPool(cfg, append([]pool.Middleware{pool.Bracket(m.tally)}, stack.Layers()...)...)
	if err != nil {
		return nil, err
	}
	m.pool = p
	m.sockets = func() *mongopool.Stats { s := driver.Stats(); return &s } // leases are rights to use a client, and outlive its sockets
	m.run = func(ctx context.Context, op operation) (string, error) {
		return pool.Get(ctx, p, mongoOps[op.kind], func(ctx context.Context, c *mongopool.Conn) (string, error) {
			w.sent()
			return names.do(ctx, c.Database(), op)
		})
	}
	return m, nil
}

// What the layers are told about the operations. An add is not idempotent.
var (
	redisOps = map[kind]pool.Op{
		read: {Name: "HGET", Target: "puts", Idempotent: true},
		put:  {Name: "HSET", Target: "puts", Idempotent: true},
		add:  {Name: "RPUSH", Target: "adds"},
	}
	mongoOps = map[kind]pool.Op{
		read: {Name: "find", Target: "puts", Idempotent: true},
		put:  {Name: "insert", Target: "puts", Idempotent: true},
		add:  {Name: "update", Target: "adds"},
	}
)
