package middleware

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/earnorm/poolstack/middleware/breaker"
	"github.com/earnorm/poolstack/middleware/logging"
	"github.com/earnorm/poolstack/middleware/metrics"
	"github.com/earnorm/poolstack/middleware/retry"
	"github.com/earnorm/poolstack/middleware/timeout"
	"github.com/earnorm/poolstack/middleware/tracing"
	"github.com/earnorm/poolstack/pool"
)

// The kinds of the layers in the standard stack. A kind is the name of its layer in
// [Options.Without], in descriptions and in events.
const (
	KindTracing = "tracing"
	KindMetrics = "metrics"
	KindLogging = "logging"
	KindTotal   = "timeout.total"
	KindRetry   = "retry"
	KindBreaker = "breaker"
	KindAttempt = "timeout.attempt"
)

// Kinds returns the kinds of the layers in the standard stack, outermost first.
func Kinds() []string {
	return []string{KindTracing, KindMetrics, KindLogging, KindTotal, KindRetry, KindBreaker, KindAttempt}
}

// Options holds the settings of the layers in a standard stack. The zero Options are valid: all
// layers have their defaults, and telemetry uses the global providers and the default logger of the
// process.
type Options struct {
	Tracing tracing.Config
	Metrics metrics.Config
	Logging logging.Config
	// Total bounds the whole use.
	Total   timeout.Config
	Retry   retry.Config
	Breaker breaker.Config
	// Attempt bounds each attempt. Its Limit should be well below the Limit of Total, or an attempt
	// without an answer leaves no time for another attempt.
	Attempt timeout.Config

	// Without lists the kinds of the layers to leave out. nil means none.
	Without []string
}

// Queue returns the Options for work that must be done and can wait, for example the consumer of a
// queue or a nightly job. A use has up to twelve attempts within about a second, however many uses
// fail. All other settings have their defaults. The caller may change the returned Options.
//
// The default retries have a budget: in the long run 1 retry for 2 successes. The budget protects
// an overloaded server from callers that all retry at the same time. The budget is enough while
// less than about a third of the attempts fail. Example: a server quickly answers 60 % of the
// attempts with failures. Then more than 99 % of the uses succeed with twelve attempts, and about
// 60 % succeed within the budget.
func Queue() Options {
	return Options{Retry: retry.Config{MaxAttempts: 12, MaxDelay: 100 * time.Millisecond, Budget: -1}}
}

// Stack is a standard stack. Its fields are the layers, for inspection and tuning while the pool is
// in use. The field of a layer left out is nil. A Stack serves a single pool: its breaker returns
// an error for a second pool, because the failures of a server say nothing about another server.
// [Stack.Insert] and [Stack.Append] add layers of other packages before the pool is made. All
// methods may be called concurrently. There is nothing to close.
type Stack struct {
	Tracing *tracing.Tracing
	Metrics *metrics.Metrics
	Logging *logging.Logging
	Total   *timeout.Timeout
	Retry   *retry.Retry
	Breaker *breaker.Breaker
	Attempt *timeout.Timeout

	mu     sync.Mutex
	layers []pool.Middleware
}

// Standard returns the recommended stack. The error names each layer with invalid settings, the
// reason for each setting, and each entry of Without that is not a kind.
func Standard(o Options) (*Stack, error) {
	b := &assembly{without: o.Without}
	for _, kind := range o.Without {
		if !slices.Contains(Kinds(), kind) {
			b.errs = append(b.errs, fmt.Errorf("middleware: Options.Without names %q: must be among %s", kind, strings.Join(Kinds(), ", ")))
		}
	}
	s := &Stack{
		Tracing: add(b, KindTracing, "Tracing", tracing.New, o.Tracing), // outermost first
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

// Layers returns the layers for [pool.New], outermost first. The slice is a copy.
func (s *Stack) Layers() []pool.Middleware {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.layers)
}

// assembly collects the layers of Options and the errors of their settings.
type assembly struct {
	without []string
	layers  []pool.Middleware
	errs    []error
}

// add constructs a layer from a field of Options, and puts the layer inside of the layers added
// before. If the layer is to be left out or its settings are invalid, add returns the zero value.
func add[L pool.Middleware, C any](b *assembly, kind, field string, construct func(C) (L, error), cfg C) (none L) {
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
