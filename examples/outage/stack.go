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

// deadline is the stack's total timeout for an operation.
const deadline = 900 * time.Millisecond

// poolConfig returns the configuration of a pool. The pools differ only in the name.
func poolConfig(name string) pool.Config {
	return pool.Config{Name: name, MaxSize: 16, MinIdle: 8, MaxWaiters: 64}
}

// The timeouts of an attempt. The MongoDB driver looks for a lost server every 500 ms, so the
// timeout for MongoDB is longer than 500 ms.
const (
	redisAttempt = 300 * time.Millisecond
	mongoAttempt = 600 * time.Millisecond
)

// layerOptions returns the settings of the layers that differ from the default. All other settings
// are defaults, including the settings of breaker and retry.
func layerOptions(attempt time.Duration) middleware.Options {
	return middleware.Options{Total: timeout.Config{Limit: deadline}, Attempt: timeout.Config{Limit: attempt}}
}

// newStack creates the layers of a pool.
func newStack(o middleware.Options, tel *telemetry.Telemetry, log *slog.Logger) (*middleware.Stack, error) {
	o.Tracing = tracing.Config{TracerProvider: tel.TracerProvider()}
	o.Metrics = metrics.Config{MeterProvider: tel.MeterProvider()}
	o.Logging = logging.Config{Logger: log}
	return middleware.Standard(o)
}

// A managed client is a pool with the standard stack.
type managed struct {
	name     string
	pool     managedPool
	stack    *middleware.Stack
	tally    *tally
	settings string // settings other than defaults

	run     func(ctx context.Context, op operation) (string, error)
	sockets func() *mongopool.Stats // nil if each resource is a socket
}

// managedPool has the methods common to all pools.
type managedPool interface {
	Stat() pool.Stat
	Warm(ctx context.Context, size int) error
	Check(ctx context.Context) pool.Health
	Close(ctx context.Context) error
}

func (m *managed) do(ctx context.Context, op operation) (string, error) { return m.run(ctx, op) }

func (m *managed) close(ctx context.Context) error { return m.pool.Close(ctx) }

// whole reports whether the pool has recovered from a fault: the breaker is closed, no caller
// waits, at least MinIdle connections are open, and the driver has a connection to the server.
func (m *managed) whole() bool {
	s := m.pool.Stat()
	return s.Idle+s.InUse >= s.MinIdle && s.Waiters == 0 && m.stack.Breaker.State() == breaker.StateClosed &&
		m.serverSeen()
}

// serverSeen reports whether the driver sees the server and has a socket. It is always true if the
// pool's resources are the sockets.
func (m *managed) serverSeen() bool {
	if m.sockets == nil {
		return true
	}
	s := m.sockets()
	return s.ServersUp > 0 && s.Sockets > 0
}

// newManagedRedis creates the pool for Redis.
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
	m.tally.dialled = w.dialled // each open is a single dial
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

// newManagedMongo creates the pool for MongoDB.
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
	// A lease is a permission to use a client, and outlives the client's sockets.
	m.sockets = func() *mongopool.Stats { s := driver.Stats(); return &s }
	m.run = func(ctx context.Context, op operation) (string, error) {
		return pool.Get(ctx, p, mongoOps[op.kind], func(ctx context.Context, c *mongopool.Conn) (string, error) {
			w.sent()
			return names.do(ctx, c.Database(), op)
		})
	}
	return m, nil
}

// The descriptions of the operations for the layers. An add is not idempotent.
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
