package middleware

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/earnorm/poolstack/middleware/breaker"
	"github.com/earnorm/poolstack/middleware/logging"
	"github.com/earnorm/poolstack/middleware/metrics"
	"github.com/earnorm/poolstack/middleware/retry"
	"github.com/earnorm/poolstack/middleware/timeout"
	"github.com/earnorm/poolstack/middleware/tracing"
	"github.com/earnorm/poolstack/pool"
)

// The kinds of the layers of the standard stack: what they are called in [Options.Without], in descriptions and in events.
const (
	KindTracing = "tracing"
	KindMetrics = "metrics"
	KindLogging = "logging"
	KindTotal   = "timeout.total"
	KindRetry   = "retry"
	KindBreaker = "breaker"
	KindAttempt = "timeout.attempt"
)

// Kinds returns the kinds of the layers of the standard stack, outermost first.
func Kinds() []string {
	return []string{KindTracing, KindMetrics, KindLogging, KindTotal, KindRetry, KindBreaker, KindAttempt}
}

// Options are the settings of the layers of a standard stack. The zero Options work: every layer with its defaults, telemetry to the
// process's global providers and default logger.
type Options struct {
	Tracing tracing.Config
	Metrics metrics.Config
	Logging logging.Config
	// Total bounds the whole use.
	Total   timeout.Config
	Retry   retry.Config
	Breaker breaker.Config
	// Attempt bounds each attempt. Its Limit should be well below that of Total, or an attempt that hangs leaves no time for another.
	Attempt timeout.Config

	// Without names the layers to leave out, by their kinds. nil means none.
	Without []string
}

// Queue returns the Options for work that has to be done and can wait, such as the consumer of a queue or a job at night: a use is attempted
// up to twelve times within a second or so, however many uses fail. Everything else is the default.
//
// The default retries are budgeted: in the long run one retry for two successes. The budget protects an overloaded server from callers that
// all repeat at once, and suffices while less than about a third of the attempts fail. A server that quickly answers 60 % of the attempts
// with failures serves more than 99 % of the uses in twelve attempts, and about 60 % within the budget. Change the returned Options as you like.
func Queue() Options {
	return Options{Retry: retry.Config{MaxAttempts: 12, MaxDelay: 100 * time.Millisecond, Budget: -1}}
}

// Stack is a standard stack. Its fields are the handles through which the layers are looked at and tuned while the pool is in use; those
// of layers that were left out are nil. A Stack is for one pool: its breaker refuses to serve a second, for the failures of one server
// say nothing about another. Its methods may be called concurrently; there is nothing to close.
type Stack struct {
	Tracing *tracing.Tracing
	Metrics *metrics.Metrics
	Logging *logging.Logging
	Total   *timeout.Timeout
	Retry   *retry.Retry
	Breaker *breaker.Breaker
	Attempt *timeout.Timeout

	layers []pool.Middleware
}

// Standard makes the recommended stack. The error names every layer whose settings are not valid, with what is wrong with them, and
// every entry of Without that names no layer.
func Standard(o Options) (*Stack, error) {
	b := &builder{without: o.Without}
	for _, kind := range o.Without {
		if !slices.Contains(Kinds(), kind) {
			b.errs = append(b.errs, fmt.Errorf("middleware: Options.Without names %q: must be among %s", kind, strings.Join(Kinds(), ", ")))
		}
	}
	s := &Stack{
		Tracing: add(b, KindTracing, "Tracing", tracing.New, o.Tracing), // outermost first: the order in which they are evaluated
		Metrics: add(b, KindMetrics, "Metrics", metrics.New, o.Metrics),
		Logging: add(b, KindLogging, "Logging", logging.New, o.Logging),
		Total:   add(b, KindTotal, "Total", timeout.NewTotal, o.Total),
		Retry:   add(b, KindRetry, "Retry", retry.New, o.Retry),
		Breaker: add(b, KindBreaker, "Breaker", breaker.New, o.Breaker),
		Attempt: add(b, KindAttempt, "Attempt", timeout.NewAttempt, o.Attempt),
	}
	if err := errors.Join(b.errs...); err != nil {
		return nil, err
	}
	s.layers = b.layers
	return s, nil
}

// Layers returns the layers in order, outermost first, for [pool.New].
func (s *Stack) Layers() []pool.Middleware { return slices.Clone(s.layers) }

// builder collects the layers and what is wrong with them.
type builder struct {
	without []string
	layers  []pool.Middleware
	errs    []error
}

// add makes a layer of the settings in a field of Options and puts it inside of those there are, unless it is to be left out.
func add[L pool.Middleware, C any](b *builder, kind, field string, construct func(C) (L, error), cfg C) (none L) {
	if slices.Contains(b.without, kind) {
		return none
	}
	l, err := construct(cfg)
	if err != nil {
		b.errs = append(b.errs, fmt.Errorf("middleware: Options.%s: %w", field, err))
		return none
	}
	b.layers = append(b.layers, l)
	return l
}
