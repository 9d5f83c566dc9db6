package logging

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/earnorm/poolstack/pool"
)

const (
	defaultInterval = 10 * time.Second
	defaultEvery    = 1000
)

// Config says where the lines go, and how many. The zero Config works.
type Config struct {
	// Logger writes the lines. nil stands for slog.Default() at the time of each. A level that it is not enabled for costs nothing but
	// to find that out; with slog.DiscardHandler the layer installs nothing.
	Logger *slog.Logger
	// Interval is how long lines that are about the same are counted before the next is written as if it were the first. 0 means 10 s.
	Interval time.Duration
	// Every is how many of them, after the first, come to one that is written. 0 means 1000; 1 writes all.
	Every int
	// ErrorText asks for the texts of the errors of uses. They are what borrowers, clients and servers made them, and may hold keys,
	// values and worse. Without it such an error is told by its type, and the pool's own by how things stood.
	ErrorText bool
}

// Validate says what is wrong with c, or returns nil.
func (c Config) Validate() error {
	var errs []error
	if c.Interval < 0 {
		errs = append(errs, fmt.Errorf("logging: Interval is %v: must be 0 (default %v) or more", c.Interval, defaultInterval))
	}
	if c.Every < 0 {
		errs = append(errs, fmt.Errorf("logging: Every is %d: must be 0 (default %d) or more", c.Every, defaultEvery))
	}
	return errors.Join(errs...)
}

// Logging is the layer. It may be used for several pools, concurrently, and needs no closing.
type Logging struct {
	writer *writer // nil when there is nothing to do
	cfg    Config  // with defaults
}

// New makes the layer. It fails when cfg is not valid.
func New(cfg Config) (*Logging, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Interval == 0 {
		cfg.Interval = defaultInterval
	}
	if cfg.Every == 0 {
		cfg.Every = defaultEvery
	}
	l := &Logging{cfg: cfg}
	if cfg.Logger == nil || cfg.Logger.Handler() != slog.DiscardHandler {
		l.writer = &writer{fixed: cfg.Logger, sampler: newSampler(cfg.Interval, cfg.Every), errorText: cfg.ErrorText}
	}
	return l, nil
}

// Wrap is called by [pool.New].
func (l *Logging) Wrap(next pool.Handler) pool.Handler {
	if l.writer == nil {
		return next
	}
	return pool.Bracket(&layer{l.writer}).Wrap(next)
}

// Unwrap shows [pool.New] the optional faces of the layer: it observes only if there is something to do.
func (l *Logging) Unwrap() []any {
	if l.writer == nil {
		return nil
	}
	return []any{l.writer}
}

// Describe is called by [pool.New].
func (l *Logging) Describe() pool.LayerInfo {
	return pool.LayerInfo{Kind: "logging", Role: pool.RoleObserve, Settings: map[string]string{
		"interval": l.cfg.Interval.String(), "every": strconv.Itoa(l.cfg.Every), "error_text": strconv.FormatBool(l.cfg.ErrorText),
	}}
}

// layer is what the uses pass through.
type layer struct{ w *writer }

// Begin has the time read, if a failure would be logged.
func (l *layer) Begin(ctx context.Context, c *pool.Call) (context.Context, struct{}, error) {
	if l.w.logger().Enabled(ctx, slog.LevelError) {
		c.Started()
	}
	return ctx, struct{}{}, nil
}

// End logs a failure.
func (l *layer) End(ctx context.Context, c *pool.Call, _ struct{}, err error) {
	if err == nil || !l.w.logger().Enabled(ctx, slog.LevelError) {
		return
	}
	class := c.Classify(err)
	level := levelOf(class, err)
	if class.Miss || !l.w.logger().Enabled(ctx, level) {
		return
	}
	name := c.Identity().Name
	fault, cause := class.Fault, ""
	if root, ok := pool.Because(err); ok && fault == pool.FaultLocal {
		fault, cause = root.Fault, root.Type
	}
	suppressed, ok := l.w.sampler.admit(about{pool: name, kind: useFailed, reason: class.Type, level: level, fault: fault})
	if !ok {
		return
	}
	attrs := l.w.begin(name, c.Op(), c.Attempt())
	attrs = append(attrs, slog.String("error_type", class.Type), slog.String("fault", fault.String()))
	attrs = appendNonEmpty(attrs, "cause", cause)
	attrs = append(attrs, slog.Duration(took, time.Since(c.Started())))
	attrs = append(attrs, l.w.why(err)...)
	l.w.write(ctx, level, useFailed, attrs, suppressed)
}

const useFailed = "use failed"

// why returns what may be said of the error of a use.
func (w *writer) why(err error) (attrs []slog.Attr) {
	if refused := (*pool.Error)(nil); errors.As(err, &refused) {
		s := refused.State
		attrs = append(attrs, slog.Group("state", slog.Int("in_use", s.InUse), slog.Int("max", s.Max), slog.Int("idle", s.Idle),
			slog.Int("opening", s.Opening), slog.Int("waiters", s.Waiters), slog.Duration("oldest_lease", s.OldestLease)))
	}
	if w.errorText {
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	return attrs
}

// levelOf says how much a failed use matters to those who run the program: what the server or this process did wrong, not what the
// caller did or is to deal with.
func levelOf(class pool.Class, err error) slog.Level {
	switch {
	case class.Fault == pool.FaultServer:
		return slog.LevelError
	case class.Fault == pool.FaultLocal, errors.Is(err, pool.ErrAborted):
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

// writer writes lines.
type writer struct {
	fixed     *slog.Logger // nil: the default one
	sampler   *sampler
	errorText bool
}

func (w *writer) logger() *slog.Logger {
	if w.fixed != nil {
		return w.fixed
	}
	return slog.Default()
}

// begin returns the attributes that lines begin with.
func (w *writer) begin(name string, op pool.Op, attempt int) []slog.Attr {
	attrs := make([]slog.Attr, 0, 12)
	attrs = append(attrs, slog.String("pool", name))
	attrs = appendNonEmpty(attrs, "operation", op.Name)
	attrs = appendNonEmpty(attrs, "target", op.Target)
	if attempt > 1 {
		attrs = append(attrs, slog.Int("attempt", attempt))
	}
	return attrs
}

func appendNonEmpty(attrs []slog.Attr, key, value string) []slog.Attr {
	if value == "" {
		return attrs
	}
	return append(attrs, slog.String(key, value))
}

// write writes a line, with what all of them end with.
func (w *writer) write(ctx context.Context, level slog.Level, message string, attrs []slog.Attr, suppressed int) {
	if suppressed > 0 {
		attrs = append(attrs, slog.Int("suppressed", suppressed))
	}
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		attrs = append(attrs, slog.String("trace_id", span.TraceID().String()), slog.String("span_id", span.SpanID().String()))
	}
	w.logger().LogAttrs(ctx, level, message, attrs...)
}
