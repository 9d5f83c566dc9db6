package main

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"time"

	metricnoop "go.opentelemetry.io/otel/metric/noop"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/earnorm/poolstack/middleware"
	"github.com/earnorm/poolstack/middleware/breaker"
	"github.com/earnorm/poolstack/middleware/logging"
	"github.com/earnorm/poolstack/middleware/metrics"
	"github.com/earnorm/poolstack/middleware/tracing"
	"github.com/earnorm/poolstack/pool"
)

// The sides of the comparison.
const (
	stacked = "stack"     // poolstack's default stack
	bare    = "bare"      // the client with its defaults
	bareCtx = "bare, ctx" // go-redis with ContextTimeoutEnabled: obeys the context during a command
)

// kind is the work of a use.
type kind int

const (
	read    kind = iota // of an existing value
	write               // may be repeated
	add                 // must not be repeated: an increment of a counter that no other use touches
	several             // three reads in one use
	miss                // a read of a missing value
	mistake             // a command with the caller's error
	nested              // a read, and within the same use a read from another server
)

// repeatable reports whether uses of the kind are declared as idempotent.
func (k kind) repeatable() bool { return k != add }

// A use is a piece of a caller's work.
type use struct {
	kind kind
	id   int // unique in a lane
}

// A client is a pool or a bare client. The method do returns nil if the server answered as
// expected. All methods may be called concurrently.
type client interface {
	do(ctx context.Context, u use) error
	// warm opens the maximum number of connections. It returns false if the client has no such
	// operation.
	warm(ctx context.Context) (asked bool, err error)
	// twice returns the ids of the adds which the server has executed more than once.
	twice(ctx context.Context, adds []int) (map[int]bool, error)
	close()
}

// where holds the address of a client's server and the client's settings.
type where struct {
	addr   string             // of the proxy
	inner  string             // of the proxy before another server; "" when the scenario has none
	direct string             // of the server itself
	db     string             // the database of MongoDB
	lane   string             // part of the names of what is written
	size   int                // connections, for all sides alike
	preset middleware.Options // of the stack
}

// newStack makes the stack, without telemetry. The zero Options make the default stack.
func newStack(o middleware.Options) (*middleware.Stack, error) {
	o.Tracing = tracing.Config{TracerProvider: tracenoop.NewTracerProvider()}
	o.Metrics = metrics.Config{MeterProvider: metricnoop.NewMeterProvider()}
	o.Logging = logging.Config{Logger: slog.New(slog.DiscardHandler)}
	return middleware.Standard(o)
}

// poolConfig is the default but for the size. The size belongs to the load.
func poolConfig(w where, name string) pool.Config {
	return pool.Config{Name: name + " " + w.lane, MaxSize: w.size}
}

// refused reports whether the stack rejected the use without the server.
func refused(err error) bool {
	for _, reason := range []error{breaker.ErrOpen, pool.ErrOpen, pool.ErrExhausted, pool.ErrPaused} {
		if errors.Is(err, reason) {
			return true
		}
	}
	return false
}

// closeLimit bounds the close of a client.
const closeLimit = 2 * time.Second

func closing(end func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
	defer cancel()
	_ = end(ctx)
}

func text(id int) string { return strconv.Itoa(id) }
